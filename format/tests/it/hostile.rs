//! Foreign bytes: any input gives a value or a typed error, in bounded memory. A value that was read is written back
//! unchanged.

use std::sync::LazyLock;

use crate::noise::noise;
use bytes::Bytes;
use format::{
    Directory, Kind, Label, Lease, ListProof, PolicyManifest, Profile, PublicManifest, Record, Root, Suite, cbor,
    wire::{FrameError, ShardSlice, read_cells},
};
use proptest::prelude::*;

use crate::made::{make, options};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_are_a_value_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let shared = Bytes::from(bytes.clone());
        let _ = (Label::parse(&bytes), cbor::check(&bytes), Lease::open(&bytes), PolicyManifest::open(&bytes));
        let _ = (Record::decode(&shared), read_cells(shared.clone(), 3, 1, 64), ShardSlice::read(shared.clone(), 2, 0, 64));
        if let Ok(directory) = Directory::decode(&bytes) {
            prop_assert_eq!(&*directory.encode(), &bytes);
        }
        if let Some(proof) = ListProof::from_bytes(bytes) {
            let _ = proof.verify(&Root([0; 32]), 100, 3..50);
        }
        let _ = PublicManifest::decode(shared);
    }

    #[test]
    fn a_mutated_manifest_is_itself_or_an_error(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
        // Made once: two thousand objects would take most of a minute.
        static MADE: LazyLock<PublicManifest> = LazyLock::new(|| {
            make(&noise(3_000_000), options(Profile::Eco, Suite::Aes256Gcm), Kind::File).sealed.public
        });
        let good = MADE.encoded();
        let mut bad = good.to_vec();
        bad[at.index(good.len())] = byte;
        if let Ok(public) = PublicManifest::decode(bad.clone().into()) {
            prop_assert!(public.id() != MADE.id() || bad == good[..]);
            // Whatever the manifest says, its arithmetic stays in bounds.
            for column in 0..public.columns() + 1 {
                let _ = (public.shard_bytes(column), public.column_strips(column));
            }
        }
        prop_assert!(PublicManifest::decode(good.slice(..cut.index(good.len()))).is_err());
    }
}

#[test]
fn announced_lengths_allocate_nothing() {
    // A map of 2^32 entries, an array of 2^63, a byte string of 2^40: each a few bytes long.
    for bytes in [
        &[0xba, 0xff, 0xff, 0xff, 0xff][..],
        &[0xa1, 0x06, 0x9b, 0x80, 0, 0, 0, 0, 0, 0, 0],
        &[0xa1, 0, 0x5b, 0, 0, 1, 0, 0, 0, 0, 0],
    ] {
        assert!(PublicManifest::decode(Bytes::copy_from_slice(bytes)).is_err());
        assert!(Directory::decode(bytes).is_err());
    }
    let frame = Bytes::from_static(&[0xff, 0xff, 0xff, 0x7f, 1, 2, 3]);
    assert!(read_cells(frame.clone(), 2, 0, 64).is_err() && ShardSlice::read(frame, 2, 0, 64).is_err());
    // 17 MB of rows without a strip: refused after as many as were asked for.
    let rows = Bytes::from([&25u32.to_le_bytes()[..], &[0; 64]].concat().repeat(250_000));
    assert_eq!(read_cells(rows, 2, 0, 64), Err(FrameError::TooMany { max: 64 }));
}
