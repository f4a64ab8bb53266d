//! Flips every single bit of a small object's record, lists and strips. Each flip is detected; none gives wrong bytes.

use bytes::Bytes;
use format::{Kind, Label, Lease, Object, OwnerSecret, Profile, Record, StripHash, StripList, Suite};
use testing::{lease, noise};

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
    let lease = Lease { profile: Profile::Standard, ..lease(made.locator(), keys.id(), 1) };
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
        assert_eq!(Object::open(&made.sealed.capability, &back).unwrap().length(), length as u64);
        for bit in 0..encoded.len() * 8 {
            let bytes = Bytes::from(flipped(&encoded, bit));
            let Ok(bad) = Record::decode(&bytes) else { continue };
            match Object::open(&made.sealed.capability, &bad) {
                Err(_) => {}
                // Only the unsigned placement may change unnoticed. It decides where to ask, never what is accepted.
                Ok(_) => assert_ne!(bad.placement, record.placement, "bit {bit}"),
            }
        }
    }
}

#[test]
fn what_a_later_version_says_of_an_object_survives_until_it_is_erased() {
    let (_, record) = recorded(300);
    let later = vec![(4, vec![0x01]), (99, vec![0x63, b'n', b'e', b'w'])];
    let bytes = Bytes::from(Record { unknown: later.clone(), ..record.clone() }.encode());
    let read = Record::decode(&bytes).unwrap();
    assert_eq!(read.unknown, later);
    assert_eq!(read.encode(), bytes);

    let keys = OwnerSecret::from_bytes([1; 32]).keys();
    let ended = Lease { version: 2, erased: true, ..record.lease.clone() }.sign(&keys);
    let erased = Record { lease_envelope: ended.into(), ..read };
    assert_eq!(Record::decode(&erased.encode().into()).unwrap().unknown, []);
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
fn every_bit_of_every_strip_and_list_counts() {
    let made = make(&noise(20_000), options(Profile::Standard, Suite::ChaCha20Poly1305), Kind::File);
    for (column, list) in made.sealed.lists.iter().enumerate() {
        let root = *made.sealed.public.root(column).unwrap();
        assert_eq!(list.root(), root);
        for bit in 0..list.as_bytes().len() * 8 {
            let bad = StripList::from_bytes(flipped(list.as_bytes(), bit)).unwrap();
            assert_ne!(bad.root(), root);
        }
    }
    let strip = made.stripes[0].strips[0].as_ref().unwrap();
    let hash = made.sealed.lists[0].hash(0).unwrap();
    for bit in 0..strip.len() * 8 {
        assert!(StripHash::of(&flipped(strip, bit)) != hash);
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
