//! Objects of a hostile owner who wants some readers to get other bytes than others.

use bytes::Bytes;
use format::{
    Capability, Compression, EncodedStripe, EncoderOptions, OwnerId, Profile, PublicManifest, Redundancy, Row, RowList,
    Sealed, StripHash, Suite, cbor::FieldsWriter, hazmat::Sealer,
};

use crate::{Encoded, attributes};

const KEY: [u8; 32] = [0x5e; 32];
const SUITE: Suite = Suite::ChaCha20Poly1305;

/// Makes an object of one stripe whose strips come from two contents of one length: those of the columns that `is_of_b`
/// names from the second, the others from the first. Both are sealed under one key, so that every strip opens, and
/// every strip is the one of its row; but the strips are no codeword.
#[must_use]
pub fn equivocal(redundancy: Redundancy, owner: OwnerId, is_of_b: impl Fn(usize) -> bool) -> Encoded {
    // Each block has 64 KiB and compresses to some 60 bytes, those of both contents to as many.
    let options =
        EncoderOptions { profile: Profile::Custom(redundancy), suite: SUITE, compression: Compression::Auto, owner };
    let length = redundancy.data() * 64 * 1024;
    let [a, b] = [b'a', b'b'].map(|byte| Encoded::of(&[&vec![byte; length]], options, KEY, attributes(), [0x7a; 32]));
    let of = |column: usize| if is_of_b(column) { &b } else { &a };
    let strips: Vec<Option<Bytes>> =
        (0..redundancy.columns()).map(|column| of(column).stripes[0].strips[column].clone()).collect();
    let strip_bytes = a.stripes[0].row.strip_bytes();
    assert!(strips.iter().flatten().all(|strip| strip.len() == strip_bytes), "both compress alike");

    // docs/format.md, sections 10, 4, 5 and 2.
    let mut row = u32::try_from(strip_bytes).unwrap().to_le_bytes().to_vec();
    strips.iter().flatten().for_each(|strip| row.extend(StripHash::of(strip).0));
    let row = Row::take(&mut row.into(), redundancy.columns()).unwrap();
    let mut rows = RowList::default();
    rows.push(row.hash());
    let p = FieldsWriter::default()
        .uint(0, 1u8)
        .uint(1, SUITE.id())
        .bytes(2, &owner.0)
        .uint(3, 1u8)
        .uint(4, redundancy.data() as u64)
        .uint(5, redundancy.parity() as u64)
        .uint(6, a.sealed.public.tail_columns() as u64)
        .uint(7, 0u8)
        .uint(8, strip_bytes as u64)
        .bytes(9, &rows.root().0)
        .finish();
    let public = PublicManifest::decode(p.into()).unwrap();
    let m = FieldsWriter::default()
        .uint(0, 1u8)
        .uint(1, SUITE.id())
        .bytes(2, &KEY)
        .bytes(3, public.id().as_bytes())
        .uint(4, length as u64)
        .bytes(5, blake3::hash(&vec![b'a'; length]).as_bytes())
        .text(6, "text/plain")
        .text(7, "two.txt")
        .uint(8, 0u8)
        .uint(9, 0u8)
        .bytes(11, &[1; 32])
        .finish();
    let capability = Capability::of_manifest(&m);
    let locator = capability.locator();
    let key = blake3::derive_key("evernear 2026 v1 manifest", capability.expose());
    let aad = [locator.as_bytes().as_slice(), public.id().as_bytes()].concat();
    let mut sealed = m;
    let tag = Sealer::new(SUITE, &key).seal([0; 12], &aad, &mut sealed);
    sealed.extend(tag);
    let stripe = EncodedStripe { index: a.stripes[0].index, redundancy, row, strips };
    let sealed = Sealed { public, sealed: sealed.into(), capability, locator, length: length as u64, rows };
    Encoded { sealed, stripes: vec![stripe] }
}
