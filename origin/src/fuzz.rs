//! The decoders of foreign bytes, each as one function of bytes: none may panic, loop or allocate beyond its bound.
//! Fuzz targets are one line each; the normal tests feed them random and cut bytes.

use std::sync::LazyLock;

use bytes::Bytes;
use client::tls::Authority;
use format::{Cell, Lease, PolicyManifest, PublicManifest, Record, wire::read_cells};

use crate::{Config, api};

/// One decoder and its name.
pub type Target = (&'static str, fn(&[u8]));

/// All decoders.
pub const TARGETS: [Target; 9] = [
    ("append", append),
    ("public_manifest", public_manifest),
    ("record", record),
    ("lease", lease),
    ("policy", policy),
    ("announcement", announcement),
    ("note", note),
    ("refused_list", refused_list),
    ("config", config),
];

/// The body of an append.
pub fn append(bytes: &[u8]) {
    if let Ok(cells) = read_cells(Bytes::copy_from_slice(bytes), 2, 0, 64) {
        assert_eq!(cells.iter().map(Cell::size).sum::<usize>(), bytes.len());
    }
}

/// The body of a commit.
pub fn public_manifest(bytes: &[u8]) {
    if let Ok(public) = PublicManifest::decode(Bytes::copy_from_slice(bytes)) {
        for column in 0..=public.columns() {
            // What a read computes of a manifest that some uploader wrote.
            let _ = (public.column_strips(column), public.shard_bytes(column));
        }
    }
}

/// The body of a filed record.
pub fn record(bytes: &[u8]) {
    let _ = Record::decode(&Bytes::copy_from_slice(bytes));
}

/// The body of a renewed lease.
pub fn lease(bytes: &[u8]) {
    let _ = Lease::open(bytes);
}

/// The body of a published policy.
pub fn policy(bytes: &[u8]) {
    let _ = PolicyManifest::open(bytes);
}

/// The body of an announcement.
pub fn announcement(bytes: &[u8]) {
    let _ = api::read_entry(bytes);
}

/// The body of a note.
pub fn note(bytes: &[u8]) {
    let _ = api::read_note(bytes);
}

/// A list of refused certificates: it is read before it is known who signed it.
pub fn refused_list(bytes: &[u8]) {
    static AUTHORITY: LazyLock<Authority> = LazyLock::new(|| Authority::create().expect("a key can be made"));
    let read = AUTHORITY.open_refused(Bytes::copy_from_slice(bytes));
    assert!(read.is_err(), "nobody else signs for an authority of this moment");
}

/// A configuration file.
pub fn config(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = Config::from_toml(text);
    }
}
