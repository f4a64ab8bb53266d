//! Every seed of `fuzz/corpus` runs through its fuzz target, so every test run repeats the inputs that once broke a
//! decoder.
//!
//! `EVERNEAR_BLESS=1 cargo test -p format corpus` writes missing seeds. Existing seeds stay.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::replay::replay;
use format::{
    BlobId, Capability, Directory, Entry, Kind, Label, Lease, Locator, PolicyLink, PolicyManifest, Purge, Purged,
    Record, Retention, Signed, SigningDomain, cbor::FieldsWriter, hazmat::Sealer, wire::ShardSlice, wire::frame_cells,
};

#[expect(unreachable_pub, reason = "public for the fuzz targets, which are another crate")]
#[path = "../../../fuzz/src/decoders.rs"]
mod decoders;

use decoders::{BODIES, fixed, list, name, owner};

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus")
}

#[test]
fn every_seed_is_survived_and_every_decoder_has_seeds() {
    if std::env::var_os("EVERNEAR_BLESS").is_some() {
        write_missing_seeds();
    }
    for (target, body) in BODIES {
        replay(target, body);
    }
}

fn lease() -> Lease {
    Lease {
        version: 3,
        wanted: vec!["country:BE".parse().unwrap()],
        refused: vec!["region:eu-west".parse().unwrap(), "zone:bru1".parse().unwrap()],
        retention: Retention { keep_until: 1_800_000_000, expires: 1_900_000_000 },
        unknown: [(70, [0x01])].into_iter().collect(),
        ..Lease::new(&fixed().sealed, "2+1".parse().unwrap())
    }
}

fn capped() -> Lease {
    Lease { caps: vec!["zone=2".parse().unwrap(), "operator=4".parse().unwrap()], ..lease() }
}

fn policy() -> PolicyManifest {
    let link =
        PolicyLink { component: BlobId([1; 32]), component_bytes: 3000, config: BlobId([2; 32]), config_bytes: 70 };
    PolicyManifest {
        owner: owner().id(),
        name: "geo".parse().unwrap(),
        sequence: 3,
        links: vec![link; 2],
        not_before: 1_795_000_000,
        expires: 0,
        parent: Some(BlobId([3; 32])),
        unknown: Default::default(),
    }
}

fn payload(envelope: &[u8], domain: SigningDomain) -> Vec<u8> {
    Signed::open(envelope, domain, envelope.len()).unwrap().payload
}

/// A lease with its profile spelled `02+1`. This was once read as 2+1, so one meaning had two spellings.
fn zero_before_the_profile() -> Vec<u8> {
    let payload = payload(&lease().sign(owner()), SigningDomain::Lease);
    let at = payload.windows(4).position(|window| window == b"\x632+1").unwrap();
    [&payload[..at], b"\x6402+1", &payload[at + 4..]].concat()
}

fn directory() -> Vec<u8> {
    let mut directory = Directory::default();
    for (name, byte, kind) in [("index.html", 1, Kind::File), ("a", 2, Kind::Directory), ("é.png", 3, Kind::File)] {
        let capability = Capability::from_bytes([byte; 32]);
        let is_folder = kind == Kind::Directory;
        let below = is_folder.then(|| ("b/c".to_owned(), Capability::from_bytes([4; 32]))).into_iter().collect();
        let entry = Entry { capability, length: 5, mime: "text/html".into(), kind, below, unknown: Default::default() };
        directory.insert(name, entry).unwrap();
    }
    directory.encode().to_vec()
}

fn record(placement: &[&str]) -> Vec<u8> {
    let sealed = if placement.is_empty() { &fixed().inline } else { &fixed().sealed };
    let lease = Lease::new(sealed, "2+1".parse().unwrap()).sign(owner());
    let placement = placement.iter().map(|name| name.parse().ok()).collect();
    Record::new(sealed.public.clone(), Some(sealed.sealed.clone()), lease.into(), placement).unwrap().encode()
}

/// The plain manifest M of a sealed object: a hostile owner has it.
fn manifest(sealed: &format::Sealed) -> Vec<u8> {
    let key = blake3::derive_key("evernear 2026 v1 manifest", sealed.capability.expose());
    let aad = [sealed.locator.as_bytes().as_slice(), sealed.public.id().as_bytes()].concat();
    let mut plain = vec![0; sealed.sealed.len() - 16];
    Sealer::new(format::Suite::ChaCha20Poly1305, &key).open([0; 12], &aad, &sealed.sealed, &mut plain).unwrap();
    plain
}

/// The plain pointer of a name, with changed numbers.
fn pointer(change: &[(u64, u64)]) -> Vec<u8> {
    let numbers = [(0, 1), (3, 1_900_000_000), (4, 60)];
    let kept = numbers.iter().filter(|(key, _)| change.iter().all(|(changed, _)| changed != key));
    let to = FieldsWriter::default().bytes(1, &[1; 32]).bytes(2, fixed().sealed.capability.expose());
    kept.chain(change).fold(to, |to, (key, value)| to.uint(*key, *value)).finish()
}

fn proof(count: u8, first: u8, asked: u8) -> Vec<u8> {
    let (from, to) = (usize::from(first), usize::from(first) + usize::from(asked));
    let proof = list(usize::from(count) + 1).prove(from..to).unwrap();
    [&[count, first, asked], proof.as_bytes()].concat()
}

fn seeds() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let label = Label::open(fixed().sealed.capability.clone()).to_string().into_bytes();
    let cells = &fixed().cells;
    let strip = |column: usize| cells[column].strip.clone().unwrap().to_vec();
    let framed = frame_cells(&cells[..1]).concat();
    let slice = [&ShardSlice::head(&fixed().sealed.rows.prove(0..1).unwrap())[..], &framed].concat();
    let half = b"A block that compresses. ".repeat(3000)[37_504..].to_vec();
    let purge = |what| Purge { owner: owner().id(), issued: 1_800_000_000, hard: true, what };
    let two_objects = Purged::Objects([Locator([1; 32]), Locator([2; 32])].into());
    vec![
        ("directory", "three-names", directory()),
        ("directory", "empty", Directory::default().encode().to_vec()),
        ("label", "good", label.clone()),
        ("label", "upper-case", label.to_ascii_uppercase()),
        ("label", "wrong-check", [b"aa", &label[2..]].concat()),
        ("lease", "all-fields", payload(&lease().sign(owner()), SigningDomain::Lease)),
        (
            "lease",
            "erased",
            payload(
                &Lease { erased: true, wanted: vec![], refused: vec![], unknown: Default::default(), ..lease() }
                    .sign(owner()),
                SigningDomain::Lease,
            ),
        ),
        ("lease", "caps", payload(&capped().sign(owner()), SigningDomain::Lease)),
        ("lease", "zero-before-the-profile", zero_before_the_profile()),
        ("list_proof", "one-chunk", proof(19, 3, 2)),
        ("list_proof", "three-chunks-middle", proof(79, 40, 1)),
        ("list_proof", "across-chunks", proof(255, 30, 64)),
        ("pointer", "whole", pointer(&[])),
        ("pointer", "unknown-key", pointer(&[(5, 1)])),
        ("pointer", "two-days", pointer(&[(4, 172_800)])),
        ("policy_manifest", "two-links", payload(&policy().sign(owner()), SigningDomain::Policy)),
        ("policy_manifest", "whole-envelope", policy().sign(owner())),
        ("public_manifest", "two-plus-one", fixed().sealed.public.encoded().to_vec()),
        ("public_manifest", "inline", fixed().inline.public.encoded().to_vec()),
        ("public_manifest", "name", name().public().encoded().to_vec()),
        ("purge", "all", payload(&purge(Purged::All).sign(owner()), SigningDomain::Purge)),
        ("purge", "two-objects", payload(&purge(two_objects).sign(owner()), SigningDomain::Purge)),
        ("purge", "whole-envelope", purge(Purged::All).sign(owner())),
        ("record", "with-shards", record(&["o1", "", "o3"])),
        ("record", "inline", record(&[])),
        ("sealed_block", "stored", [&[0], &half[..]].concat()),
        ("sealed_block", "not-a-frame", b"\x01not a frame".to_vec()),
        ("sealed_block", "frame", [&[1], &zstd::bulk::compress(&half, 3).unwrap()[..]].concat()),
        ("sealed_manifest", "with-shards", manifest(&fixed().sealed)),
        ("sealed_manifest", "inline", manifest(&fixed().inline)),
        ("shard_slice", "one-cell", slice),
        ("strip", "first-block", strip(0)),
        ("strip", "second-block", strip(1)),
        ("cells", "two", [&framed[..], &framed].concat()),
        ("cells", "longest-announced", [&[0x18, 0x00, 0x04, 0x00][..], &framed[4..100]].concat()),
        ("whole_lease", "all-fields", lease().sign(owner())),
    ]
}

fn write_missing_seeds() {
    for (target, name, bytes) in seeds() {
        let folder = corpus().join(target);
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join(format!("{name}.seed"));
        if !path.exists() {
            fs::write(path, bytes).unwrap();
        }
    }
}
