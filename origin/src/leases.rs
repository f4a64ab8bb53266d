//! Leases that were verified lately. A lease comes to a node in the owner's call, again out of the catalog, again from
//! the copy on the disk and again in each look at it, and both signatures cost 0.1 ms or more each time; the hash of an
//! envelope costs some microseconds.
//!
//! What is remembered is the hash of the whole envelope, keys and signatures included: one other bit anywhere is
//! another envelope, and is verified (invariant 1).

use std::{
    collections::HashMap,
    mem,
    sync::{LazyLock, Mutex, PoisonError},
};

use bytes::Bytes;
use format::{Lease, LeaseError, Record, RecordError};

/// Leases after which the older half is forgotten. Twice as many are kept, 8 MB.
const GENERATION: usize = 4_096;
/// Longer envelopes, of owners who name hundreds of places, are verified each time: no lease in memory is much longer.
const ENVELOPE_BYTES_MAX: usize = 6 * 1024;

/// Of the process, and not of a node: a signature that is good is good everywhere.
static VERIFIED: LazyLock<Mutex<Verified>> = LazyLock::new(Mutex::default);

/// Verifies an envelope, unless just this one was verified lately, and returns the lease in it.
///
/// # Errors
/// [`LeaseError`].
pub(crate) fn open(envelope: &Bytes) -> Result<Lease, LeaseError> {
    open_by(&VERIFIED, envelope, Lease::open)
}

/// Decodes a record as [`Record::decode`] does, with [`open`] for its lease.
///
/// # Errors
/// [`RecordError`].
pub(crate) fn decode(bytes: &Bytes) -> Result<Record, RecordError> {
    Record::decode_with(bytes, open)
}

fn open_by(
    verified: &Mutex<Verified>,
    envelope: &Bytes,
    verify: impl FnOnce(&[u8]) -> Result<Lease, LeaseError>,
) -> Result<Lease, LeaseError> {
    if envelope.len() > ENVELOPE_BYTES_MAX {
        return verify(envelope);
    }
    let hash = *blake3::hash(envelope).as_bytes();
    let lock = || verified.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(lease) = lock().find(&hash) {
        return Ok(lease);
    }
    // Not under the lock: others verify theirs meanwhile.
    let lease = verify(envelope)?;
    lock().keep(hash, lease.clone());
    Ok(lease)
}

/// Two generations: what is used goes to the younger one, and the older one goes when that is full.
#[derive(Default)]
struct Verified {
    young: HashMap<[u8; 32], Lease>,
    old: HashMap<[u8; 32], Lease>,
}

impl Verified {
    fn find(&mut self, hash: &[u8; 32]) -> Option<Lease> {
        if let Some(lease) = self.young.get(hash) {
            return Some(lease.clone());
        }
        let lease = self.old.remove(hash)?;
        self.keep(*hash, lease.clone());
        Some(lease)
    }

    fn keep(&mut self, hash: [u8; 32], lease: Lease) {
        if self.young.len() == GENERATION {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(hash, lease);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use format::{Locator, OwnerId};

    use super::*;

    fn lease(number: u64) -> Lease {
        testing::lease(Locator([1; 32]), OwnerId([2; 32]), number)
    }

    #[test]
    fn an_envelope_is_verified_once_and_each_bit_of_it_makes_it_another() {
        let (verified, calls) = (Mutex::default(), Cell::new(0));
        let open = |envelope: &[u8]| {
            open_by(&verified, &Bytes::copy_from_slice(envelope), |envelope| {
                calls.set(calls.get() + 1);
                Lease::open(envelope)
            })
        };
        let sample = testing::Sample::new(1, 9);
        let good = sample.sign(&sample.lease(1));
        let first = open(&good).unwrap();
        assert_eq!((open(&good).unwrap(), calls.get()), (first, 1));
        for at in (0..good.len()).step_by(101) {
            let mut bad = good.to_vec();
            bad[at] ^= 1;
            // What was refused is refused again, and not for what is remembered of it.
            assert!(open(&bad).is_err() && open(&bad).is_err(), "{at}");
        }
        assert_eq!(calls.get(), 1 + 2 * good.len().div_ceil(101));
    }

    #[test]
    fn what_is_used_stays_and_the_rest_is_bounded() {
        let mut verified = Verified::default();
        let hash = |number: usize| *blake3::hash(&number.to_le_bytes()).as_bytes();
        verified.keep(hash(0), lease(0));
        for number in 1..5 * GENERATION {
            verified.keep(hash(number), lease(1));
            assert_eq!(verified.find(&hash(0)).map(|lease| lease.version), Some(0), "{number}");
        }
        assert!(verified.find(&hash(1)).is_none());
        assert!(verified.young.len() + verified.old.len() <= 2 * GENERATION);
    }

    #[test]
    fn a_long_envelope_takes_no_memory() {
        let (verified, calls) = (Mutex::default(), Cell::new(0));
        for _ in 0..2 {
            let verify = |_: &[u8]| {
                calls.set(calls.get() + 1);
                Ok(lease(1))
            };
            open_by(&verified, &Bytes::from(vec![0; ENVELOPE_BYTES_MAX + 1]), verify).unwrap();
        }
        assert_eq!(calls.get(), 2);
    }
}
