//! What a node keeps of its own intact copy of a record when another copy arrives.

use format::{Lease, OwnerSecret, Record, Retention};

use crate::flips::recorded;

/// Returns the record with a changed lease, signed by its owner.
fn under(record: &Record, change: impl FnOnce(Lease) -> Lease) -> Record {
    let lease = change(record.lease.clone()).sign(&OwnerSecret::from_bytes([1; 32]).keys());
    Record::new(record.public.clone(), record.sealed.clone(), lease.into(), record.placement.clone()).unwrap()
}

fn version(record: &Record, version: u64) -> Record {
    under(record, |lease| Lease { version, ..lease })
}

#[test]
fn manifests_stay_whatever_comes_and_only_the_owners_newer_lease_follows() {
    let (_, held) = recorded(300);
    for sealed in [held.sealed.clone(), None] {
        for sent in [1, 2, 3] {
            let elsewhere = vec![Some("elsewhere".parse().unwrap()); held.placement.len()];
            let came = Record { sealed: sealed.clone(), placement: elsewhere, ..version(&held, sent) };
            let own = version(&held, 2);
            let kept = own.followed_by(&came, u64::MAX);
            let lease = if sent > 2 { &came } else { &own };
            assert_eq!(kept.lease_envelope, lease.lease_envelope, "{sent} after 2");
            assert_eq!(kept.sealed, held.sealed);
            assert_eq!(kept.placement, held.placement);
        }
    }
    // The owner signs one locator twice.
    let (_, other) = recorded(20_000);
    let other = under(&other, |lease| Lease { locator: held.locator(), version: 9, ..lease });
    assert!(held.followed_by(&other, 0).encode() == held.encode(), "another object");
}

#[test]
fn the_sealed_manifest_goes_only_when_its_owner_signed_so_and_never_comes_back() {
    let (_, held) = recorded(300);
    let erased = |version| under(&held, |lease| Lease { version, erased: true, ..lease });
    for sent in [1, 2] {
        let dead = held.followed_by(&erased(sent), 0);
        assert!(dead.sealed.is_none() && dead.lease.erased);
        assert!(dead.followed_by(&version(&held, 9), 0).encode() == dead.encode(), "what is erased stays erased");
    }
    assert!(version(&held, 3).followed_by(&erased(2), 0).sealed.is_some(), "an older word");

    let ends =
        under(&held, |lease| Lease { retention: Retention { keep_until: 20, expires: 10 }, version: 2, ..lease });
    let stripped = Record { sealed: None, ..ends.clone() };
    assert!(ends.followed_by(&stripped, 19).sealed.is_some() && stripped.is_stripped(19));
    assert!(ends.followed_by(&stripped, 20).sealed.is_none() && !stripped.is_stripped(20));
    let renewed = version(&held, 3);
    assert!(renewed.followed_by(&stripped, u64::MAX).sealed.is_some(), "the older lease ended, not the newer one");
}

#[test]
fn a_copy_that_lacks_its_sealed_manifest_takes_one() {
    let (_, whole) = recorded(300);
    let stripped = Record { sealed: None, ..whole.clone() };
    assert!(stripped.is_stripped(u64::MAX) && !whole.is_stripped(0));
    assert!(stripped.followed_by(&whole, 0).encode() == whole.encode());
}
