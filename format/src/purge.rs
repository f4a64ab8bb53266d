//! A purge: an owner's order to the edges' caches to forget some or all of the owner's objects, or to look them up
//! again.

use std::collections::BTreeSet;

use crate::{
    Locator, OwnerId, OwnerKeys,
    cbor::{CborError, Fields, FieldsWriter},
    limits::{PURGE_BYTES_MAX, PURGE_OBJECTS_MAX},
    signed::{self, Signed, SignedError},
};

/// Keys of the CBOR map; `docs/format.md` section 17.
mod key {
    pub(super) const OWNER: u64 = 0;
    pub(super) const ISSUED: u64 = 1;
    pub(super) const HARD: u64 = 2;
    pub(super) const OBJECTS: u64 = 3;
}

/// The objects of a purge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purged {
    /// All objects of the owner.
    All,
    /// These objects: 1 to [`PURGE_OBJECTS_MAX`].
    Objects(BTreeSet<Locator>),
}

/// A purge order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purge {
    /// The owner of the purged objects.
    pub owner: OwnerId,
    /// When the order was signed, in seconds since 1970. Nodes accept it only near that time, so nobody can replay it
    /// later.
    pub issued: u64,
    /// Hard: the cached bytes are dropped. Soft: they stay, and the record and the policy are looked up again.
    pub hard: bool,
    /// The objects to purge.
    pub what: Purged,
}

/// Why a purge order is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PurgeError {
    /// The payload is not a purge order.
    #[error("not a purge")]
    Cbor(#[from] CborError),
    /// The envelope is malformed, or a signature does not verify.
    #[error("not a signed purge")]
    Signed(#[from] SignedError),
    /// The order names one owner, but another signed it.
    #[error("names owner {named} but is signed by {signed}")]
    Owner {
        /// The owner named in the order.
        named: OwnerId,
        /// The owner who signed.
        signed: OwnerId,
    },
}

impl Purge {
    /// Signs the order and returns the envelope.
    ///
    /// # Panics
    /// If it names no object, or more than [`PURGE_OBJECTS_MAX`].
    #[must_use]
    pub fn sign(&self, keys: &OwnerKeys) -> Vec<u8> {
        let fields = FieldsWriter::default()
            .bytes(key::OWNER, &self.owner.0)
            .uint(key::ISSUED, self.issued)
            .uint(key::HARD, u8::from(self.hard));
        let payload = match &self.what {
            Purged::All => fields.finish(),
            Purged::Objects(objects) => {
                assert!((1..=PURGE_OBJECTS_MAX).contains(&objects.len()), "{} objects in a purge", objects.len());
                let ids: Vec<u8> = objects.iter().flat_map(|locator| locator.0).collect();
                fields.bytes(key::OBJECTS, &ids).finish()
            }
        };
        Signed::seal(keys, signed::Domain::Purge, &payload)
    }

    /// Verifies an envelope and returns the order in it.
    ///
    /// # Errors
    /// [`PurgeError`].
    pub fn open(envelope: &[u8]) -> Result<Self, PurgeError> {
        let signed = Signed::open(envelope, signed::Domain::Purge, PURGE_BYTES_MAX)?;
        let purge = Self::decode(&signed.payload)?;
        if purge.owner == signed.owner {
            Ok(purge)
        } else {
            Err(PurgeError::Owner { named: purge.owner, signed: signed.owner })
        }
    }

    /// Unknown fields are refused, because a later version could use them to narrow what is purged.
    fn decode(payload: &[u8]) -> Result<Self, CborError> {
        let mut fields = Fields::read(payload, PURGE_BYTES_MAX)?;
        let what = if fields.has(key::OBJECTS) {
            read_objects(fields.bytes(key::OBJECTS)?)
                .ok_or(CborError::Value { key: key::OBJECTS, expected: "1 to 256 ascending locators" })?
        } else {
            Purged::All
        };
        let hard = match fields.uint::<u8>(key::HARD)? {
            0 => false,
            1 => true,
            _ => return Err(CborError::Value { key: key::HARD, expected: "0 or 1" }),
        };
        let purge = Self { owner: OwnerId(fields.array32(key::OWNER)?), issued: fields.uint(key::ISSUED)?, hard, what };
        match fields.unknown().first_key() {
            Some(key) => Err(CborError::Value { key, expected: "known" }),
            None => Ok(purge),
        }
    }
}

fn read_objects(ids: &[u8]) -> Option<Purged> {
    let (ids, rest) = ids.as_chunks::<32>();
    let ascend = ids.is_sorted_by(|one, next| one < next);
    let is_one = rest.is_empty() && (1..=PURGE_OBJECTS_MAX).contains(&ids.len()) && ascend;
    is_one.then(|| Purged::Objects(ids.iter().copied().map(Locator).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OwnerSecret;

    fn purge(what: Purged) -> (OwnerKeys, Purge) {
        let keys = OwnerSecret::from_bytes([7; 32]).keys();
        let owner = keys.id();
        (keys, Purge { owner, issued: 1_800_000_000, hard: true, what })
    }

    #[test]
    fn what_is_signed_is_what_is_read() {
        let most = (0..PURGE_OBJECTS_MAX).map(|n| Locator([u8::try_from(n).unwrap(); 32])).collect();
        for what in [Purged::All, Purged::Objects([Locator([3; 32])].into()), Purged::Objects(most)] {
            let (keys, purge) = purge(what);
            let envelope = purge.sign(&keys);
            assert!(envelope.len() <= PURGE_BYTES_MAX);
            assert_eq!(Purge::open(&envelope).unwrap(), purge);
        }
    }

    #[test]
    fn nobody_purges_in_anothers_name() {
        let (keys, mut purge) = purge(Purged::All);
        purge.owner = OwnerId([1; 32]);
        let refused = Purge::open(&purge.sign(&keys)).unwrap_err();
        assert_eq!(refused, PurgeError::Owner { named: purge.owner, signed: keys.id() });
    }

    #[test]
    fn lists_that_are_empty_cut_out_of_order_or_twice_the_same_are_refused() {
        let two = |a: u8, b: u8| [[a; 32], [b; 32]].concat();
        for ids in [vec![], vec![1; 31], vec![1; 33], two(2, 1), two(1, 1), vec![0; 32 * (PURGE_OBJECTS_MAX + 1)]] {
            assert_eq!(read_objects(&ids), None);
        }
        assert!(read_objects(&two(1, 2)).is_some());
    }

    #[test]
    fn a_field_that_is_not_known_is_refused() {
        let payload = FieldsWriter::default()
            .bytes(key::OWNER, &[0; 32])
            .uint(key::ISSUED, 1_u8)
            .uint(key::HARD, 0_u8)
            .uint(9, 0_u8)
            .finish();
        assert_eq!(Purge::decode(&payload).unwrap_err(), CborError::Value { key: 9, expected: "known" });
    }
}
