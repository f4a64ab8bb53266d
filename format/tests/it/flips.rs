//! Flips every single bit of a small object's record, lists and strips. Each flip is detected; none gives wrong bytes.

use crate::noise::noise;
use bytes::Bytes;
use format::{
    Kind, Label, Lease, Object, OwnerSecret, Profile, Record, RecordError, Row, RowList, Suite, cbor::CborError,
};

use crate::made::{Made, make, options};

fn flipped(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[bit / 8] ^= 1 << (bit % 8);
    bytes
}

/// Makes an object and its record. The object is encoded for the owner who signs the lease, not for the one in
/// `options`.
pub(crate) fn recorded(length: usize) -> (Made, Record) {
    let keys = OwnerSecret::from_bytes([1; 32]).keys();
    let options = format::EncoderOptions { owner: keys.id(), ..options(Profile::Standard, Suite::Aes256Gcm) };
    let made = make(&noise(length), options, Kind::File);
    let lease = Lease::new(&made.sealed, Profile::Standard);
    let placement = (0..made.sealed.public.columns()).map(|c| Some(format!("o{c}").parse().unwrap())).collect();
    let record =
        Record::new(made.sealed.public.clone(), Some(made.sealed.sealed.clone()), lease.sign(&keys).into(), placement)
            .unwrap();
    (made, record)
}

#[test]
fn every_bit_of_a_record_counts() {
    for length in [300, 20_000] {
        let (made, record) = recorded(length);
        let encoded = record.encode();
        let back = Record::decode(&Bytes::from(encoded.clone())).unwrap();
        assert_eq!(Object::open(&made.sealed.capability, &back, 0).unwrap().length(), length as u64);
        for bit in 0..encoded.len() * 8 {
            let bytes = Bytes::from(flipped(&encoded, bit));
            let Ok(bad) = Record::decode(&bytes) else { continue };
            match Object::open(&made.sealed.capability, &bad, 0) {
                Err(_) => {}
                // Only the unsigned placement may change unnoticed. It decides where to ask, never what is accepted.
                Ok(_) => assert_ne!(bad.placement, record.placement, "bit {bit}"),
            }
        }
    }
}

#[test]
fn a_record_with_a_part_that_nobody_signed_is_refused() {
    let (_, record) = recorded(300);
    let mut bytes = record.encode();
    assert_eq!(bytes[0], 0xa4, "a map of four");
    bytes[0] += 1;
    bytes.extend([0x18, 99, 0x01]);
    assert!(matches!(Record::decode(&bytes.into()), Err(RecordError::Cbor(CborError::Value { key: 99, .. }))));
}

#[test]
fn a_lease_counts_for_its_own_manifests_alone() {
    let keys = OwnerSecret::from_bytes([1; 32]).keys();
    let (_, record) = recorded(20_000);
    let with = |change: &dyn Fn(&mut Lease)| {
        let mut lease = record.lease.clone();
        change(&mut lease);
        let envelope = lease.sign(&keys).into();
        Record::new(record.public.clone(), record.sealed.clone(), envelope, record.placement.clone()).map(|_| ())
    };
    assert_eq!(with(&|_| {}), Ok(()));
    assert_eq!(with(&|lease| lease.object.0[0] ^= 1), Err(RecordError::Object));
    assert_eq!(with(&|lease| lease.manifest.0[0] ^= 1), Err(RecordError::Manifest));
}

#[test]
fn every_bit_of_a_label_counts() {
    let (made, record) = recorded(300);
    let text = Label::open(made.sealed.capability.clone()).to_string();
    for bit in 0..text.len() * 8 {
        let bad = flipped(text.as_bytes(), bit);
        // Flipping the case bit of a letter gives another spelling of the same label.
        match Label::parse(&bad) {
            Ok(label) => assert!(bad.eq_ignore_ascii_case(text.as_bytes()) && record.belongs_to(label.capability())),
            Err(_) => assert!(!bad.eq_ignore_ascii_case(text.as_bytes())),
        }
    }
}

#[test]
fn every_bit_of_every_strip_row_and_list_counts() {
    let made = make(&noise(20_000), options(Profile::Standard, Suite::ChaCha20Poly1305), Kind::File);
    let (public, rows, row) = (&made.sealed.public, &made.sealed.rows, &made.stripes[0].row);
    assert_eq!((Some(&rows.root()), rows.hash(0)), (public.root(), Some(row.hash())));
    for bit in 0..rows.as_bytes().len() * 8 {
        let bad = RowList::from_bytes(flipped(rows.as_bytes(), bit)).unwrap();
        assert_ne!(bad.root(), rows.root());
    }
    for bit in 0..row.as_bytes().len() * 8 {
        let bad = Row::take(&mut flipped(row.as_bytes(), bit).into(), public.row_columns());
        assert!(bad.is_err() || bad.is_ok_and(|bad| bad.hash() != row.hash()));
    }
    let strip = made.stripes[0].strips[0].as_ref().unwrap();
    for bit in 0..strip.len() * 8 {
        assert!(!row.proves(0, Some(&flipped(strip, bit))));
    }
}

#[test]
fn a_strip_with_a_forged_hash_still_does_not_give_wrong_bytes() {
    let made = make(&noise(20_000), options(Profile::Standard, Suite::ChaCha20Poly1305), Kind::File);
    let object = made.open();
    let strip = made.stripes[0].strips[0].as_ref().unwrap();
    let block = made.blocks().next().unwrap();
    let plain = object.decode(block, strip).unwrap();
    for bit in (0..strip.len() * 8).filter(|bit| *bit < 600 || bit % 101 == 0) {
        if let Ok(other) = object.decode(block, &flipped(strip, bit)) {
            assert_eq!(other, plain, "only padding may change: bit {bit}");
        }
    }
    for length in [0, 1, 7, 8, 23, 24, strip.len() - 1] {
        assert!(object.decode(block, &strip[..length]).is_err(), "{length}");
    }
}
