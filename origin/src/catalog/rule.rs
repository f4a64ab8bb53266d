//! The rules of the catalog as pure functions: which lease replaces which, whatever the engine.

use client::{Bug, planted};
use format::{BlobId, Lease, ManifestHash, Moment, ObjectId, OwnerId, PolicyName, Record, wire::Role};

/// Why a write is refused; the writer's fault, and sending it again will not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No record is filed under the locator.
    #[error("no record is filed under this locator; file the record first")]
    NoRecord,
    /// Another object is filed under the locator.
    #[error("the locator belongs to object {held}")]
    OtherObject {
        /// The object filed.
        held: ObjectId,
    },
    /// The lease names another sealed manifest than is filed under the locator; a name has one for ever.
    #[error("the lease names another sealed manifest than is filed under this locator; the one filed first stays")]
    OtherManifest,
    /// The sealed manifest is left out.
    #[error(
        "the record lacks its sealed manifest, and its lease says neither that the object is erased nor that it has ended"
    )]
    NoManifest,
    /// Another owner's object is filed under the locator.
    #[error("the object belongs to owner {held}")]
    OtherOwner {
        /// The owner of the object filed.
        held: OwnerId,
    },
    /// The held version is newer.
    #[error("version {asked} is older than version {held}, which is held; read the record and sign a higher version")]
    Older {
        /// The version held.
        held: u64,
        /// The version sent.
        asked: u64,
    },
    /// Another text of the same version is held.
    #[error("version {held} is held with other bytes; sign a higher version")]
    SameVersion {
        /// The version.
        held: u64,
    },
    /// The version cannot be stored.
    #[error("version {asked} is above 2^63 - 1")]
    VersionTooLarge {
        /// The version sent.
        asked: u64,
    },
    /// The object was erased for good.
    #[error("the object was erased; what is erased never comes back")]
    Erased,
    /// The owner promised to keep the object.
    #[error("the lease promises to keep the object until {}; it can neither be erased nor shortened before", Moment(*until))]
    Kept {
        /// Seconds since 1970.
        until: u64,
    },
    /// The lease has ended already: whoever signed it has another clock, or took too long.
    #[error(
        "the lease ended at {}, and it is {} by the clock of these nodes: filed, it would erase the object at once. Name a later \
         end, or set the clock that is wrong",
        Moment(*end), Moment(*now)
    )]
    Ended {
        /// Seconds since 1970.
        end: u64,
        /// Seconds since 1970, by the catalog's clock.
        now: u64,
    },
    /// A node of another role has the name; the cluster's operator gave it twice.
    #[error("the name belongs to a node of role {held:?}; names are unique in a cluster")]
    OtherRole {
        /// The role of the node known.
        held: Role,
    },
    /// A policy names a blob that is not there.
    #[error("policy {policy} needs blob {blob}, which is not here; send the blobs first")]
    NoBlob {
        /// The policy.
        policy: PolicyName,
        /// The blob.
        blob: BlobId,
    },
    /// The note has another version by now.
    #[error("the note was written by another edge meanwhile; read it again")]
    OtherNote,
    /// There is no room for another note.
    #[error(
        "{max} notes of edges are held already, one for each zone; has some `https.secret` been changed very often?"
    )]
    TooManyNotes {
        /// The bound.
        max: usize,
    },
    /// So many reports of bad shards wait already, of this reader or of all.
    #[error("{max} tickets wait already; report the shard again when it is read again")]
    TooManyTickets {
        /// Tickets that may wait.
        max: usize,
    },
}

/// What the catalog holds of a record when a lease arrives.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) object: ObjectId,
    pub(crate) sealed: Option<Vec<u8>>,
    pub(crate) owner: OwnerId,
    pub(crate) version: u64,
    pub(crate) envelope: Vec<u8>,
    pub(crate) keep_until: u64,
    pub(crate) erased: bool,
    /// Second at which the first record under its locator came; 0: before that was noted.
    pub(crate) filed_at: u64,
    /// Whether its object has columns: one that lies inline in its manifest has none.
    pub(crate) has_columns: bool,
}

/// What a lease that is not refused means for the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The held lease, byte for byte.
    Same,
    /// A newer lease of a living record.
    Renew,
    /// The record dies, or has died before.
    Erase,
}

/// Decides whether a verified lease may follow the held one. `now` in seconds since 1970.
pub(crate) fn judge(held: &Held, lease: &Lease, envelope: &[u8], now: u64) -> Result<Verdict, Refused> {
    of_it(held, lease)?;
    if held.sealed.as_ref().is_some_and(|sealed| ManifestHash::of(sealed) != lease.manifest) {
        return Err(Refused::OtherManifest);
    }
    follows(held, lease, envelope, now)
}

/// Refuses a lease of another owner or object than is filed under its locator.
fn of_it(held: &Held, lease: &Lease) -> Result<(), Refused> {
    if lease.owner != held.owner {
        return Err(Refused::OtherOwner { held: held.owner });
    }
    if lease.object != held.object {
        return Err(Refused::OtherObject { held: held.object });
    }
    Ok(())
}

/// Decides by the versions.
fn follows(held: &Held, lease: &Lease, envelope: &[u8], now: u64) -> Result<Verdict, Refused> {
    if lease.version < held.version && !planted(Bug::LeaseVersion) {
        return Err(Refused::Older { held: held.version, asked: lease.version });
    }
    if lease.version == held.version {
        return match held.envelope == envelope {
            // It ended by itself: under the lease it had, which therefore brings nothing back either.
            true if held.erased && !lease.erased => Err(Refused::Erased),
            true => Ok(Verdict::Same),
            false => Err(Refused::SameVersion { held: held.version }),
        };
    }
    if lease.version > MAX_STORED {
        return Err(Refused::VersionTooLarge { asked: lease.version });
    }
    if held.erased && !planted(Bug::Erasure) {
        return if lease.erased { Ok(Verdict::Erase) } else { Err(Refused::Erased) };
    }
    let promised = held.keep_until > now;
    if promised && (lease.erased || lease.retention.keep_until < held.keep_until) {
        return Err(Refused::Kept { until: held.keep_until });
    }
    Ok(if lease.erased { Verdict::Erase } else { Verdict::Renew })
}

/// Refuses a lease that has ended at `now`, seconds since 1970. Its owner would take the object for stored, and the
/// next sweep destroys it.
pub(crate) fn check_end(lease: &Lease, now: u64) -> Result<(), Refused> {
    match lease.retention.end() {
        Some(end) if end <= now => Err(Refused::Ended { end, now }),
        _ => Ok(()),
    }
}

/// Decides whether the first record under a locator is filed: alive, or as a tombstone. `now` in seconds since 1970.
pub(crate) fn judge_first(record: &Record, now: u64) -> Result<Verdict, Refused> {
    match record.sealed {
        Some(_) => Ok(Verdict::Renew),
        None if record.is_stripped(now) => Err(Refused::NoManifest),
        None => Ok(Verdict::Erase),
    }
}

/// Decides whether a record may follow what is held. `now` in seconds since 1970.
///
/// Its lease names its manifests, so a lease that may follow brings no others; but for a stable name, whose sealed part
/// comes with each newer lease.
pub(crate) fn judge_record(held: &Held, record: &Record, now: u64) -> Result<Verdict, Refused> {
    let (lease, envelope) = (&record.lease, &record.lease_envelope);
    let verdict = if record.public.is_name() {
        of_it(held, lease)?;
        follows(held, lease, envelope, now)?
    } else {
        judge(held, lease, envelope, now)?
    };
    if verdict != Verdict::Erase && record.is_stripped(now) { Err(Refused::NoManifest) } else { Ok(verdict) }
}

/// SQL engines have signed integers of 64 bits.
const MAX_STORED: u64 = i64::MAX.unsigned_abs();

/// Decides whether a policy's sequence may follow the held one.
pub(crate) fn judge_sequence(held: Option<(u64, &[u8])>, asked: u64, envelope: &[u8]) -> Result<Verdict, Refused> {
    match held {
        Some((held, _)) if asked < held => Err(Refused::Older { held, asked }),
        Some((held, bytes)) if asked == held && bytes != envelope => Err(Refused::SameVersion { held }),
        Some((held, _)) if asked == held => Ok(Verdict::Same),
        _ if asked > MAX_STORED => Err(Refused::VersionTooLarge { asked }),
        _ => Ok(Verdict::Renew),
    }
}

/// Refuses a first version that cannot be stored.
pub(crate) fn storable(version: u64) -> Result<i64, Refused> {
    i64::try_from(version).map_err(|_| Refused::VersionTooLarge { asked: version })
}

#[cfg(test)]
mod tests {
    use format::{Locator, OwnerSecret, Retention};

    use super::*;

    fn lease(owner: OwnerId, version: u64) -> Lease {
        testing::lease(Locator([1; 32]), owner, version)
    }

    #[test]
    fn only_a_higher_version_of_the_same_owner_follows() {
        let owner = OwnerSecret::from_bytes([1; 32]).keys().id();
        let held = Held {
            object: ObjectId([2; 32]),
            sealed: None,
            owner,
            version: 5,
            envelope: vec![5],
            keep_until: 0,
            erased: false,
            filed_at: 0,
            has_columns: true,
        };
        let ask = |version, envelope: &[u8]| judge(&held, &lease(owner, version), envelope, 100);
        assert_eq!(ask(4, &[4]), Err(Refused::Older { held: 5, asked: 4 }));
        assert_eq!(ask(5, &[5]), Ok(Verdict::Same));
        assert_eq!(ask(5, &[6]), Err(Refused::SameVersion { held: 5 }));
        assert_eq!(ask(6, &[6]), Ok(Verdict::Renew));
        assert_eq!(ask(MAX_STORED, &[6]), Ok(Verdict::Renew));
        assert_eq!(ask(MAX_STORED + 1, &[6]), Err(Refused::VersionTooLarge { asked: MAX_STORED + 1 }));
        let thief = OwnerId([9; 32]);
        assert_eq!(judge(&held, &lease(thief, 6), &[6], 100), Err(Refused::OtherOwner { held: owner }));
    }

    #[test]
    fn a_lease_is_taken_until_the_second_at_which_it_ends() {
        let ending = |keep_until, expires| {
            let retention = Retention { keep_until, expires };
            check_end(&Lease { retention, ..lease(OwnerId([1; 32]), 1) }, 100)
        };
        for (keep_until, expires) in [(0, 0), (99, 0), (0, 101), (101, 99)] {
            assert_eq!(ending(keep_until, expires), Ok(()), "{keep_until} {expires}");
        }
        for (keep_until, expires, end) in [(0, 100, 100), (0, 1, 1), (100, 99, 100)] {
            assert_eq!(ending(keep_until, expires), Err(Refused::Ended { end, now: 100 }));
        }
    }

    #[test]
    fn the_erased_stay_dead_and_the_promised_stay() {
        let owner = OwnerId([1; 32]);
        let held = Held {
            object: ObjectId([2; 32]),
            sealed: None,
            owner,
            version: 5,
            envelope: vec![5],
            keep_until: 200,
            erased: false,
            filed_at: 0,
            has_columns: true,
        };
        let erase = Lease { erased: true, retention: Retention { keep_until: 200, expires: 0 }, ..lease(owner, 6) };
        assert_eq!(judge(&held, &erase, &[6], 199), Err(Refused::Kept { until: 200 }));
        assert_eq!(judge(&held, &erase, &[6], 200), Ok(Verdict::Erase));
        assert_eq!(judge(&held, &lease(owner, 6), &[6], 199), Err(Refused::Kept { until: 200 }));
        let dead = Held { erased: true, ..held };
        assert_eq!(judge(&dead, &lease(owner, 6), &[6], 200), Err(Refused::Erased));
        assert_eq!(judge(&dead, &erase, &[6], 200), Ok(Verdict::Erase));
        assert_eq!(judge(&dead, &lease(owner, 5), &[5], 200), Err(Refused::Erased), "it ended by itself");
        let erased = Lease { version: 5, ..erase };
        assert_eq!(judge(&dead, &erased, &[5], 200), Ok(Verdict::Same));
    }
}
