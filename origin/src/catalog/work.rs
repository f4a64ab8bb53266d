//! What repair, scrub and retention say to the catalog and hear from it.
//!
//! Origins share this work without a leader: whoever takes a piece holds it for a while, says now and then that it is
//! still at it, and loses it to the next one when it falls silent. Holds are told apart by the holder's name and
//! measured by the catalog's clock alone.

use std::{fmt, str::FromStr, time::Duration};

use format::{Lease, Locator, NodeName, ObjectId, PublicManifest};

/// Living records of one object that [`ObjectRow`] names; de-duplicated uploads may have more.
pub const LOCATORS_MAX: usize = 16;
/// Objects of one page; a page also ends at [`PAGE_BYTES_MAX`].
pub const OBJECTS_MAX: usize = 256;
/// Bytes of manifests and leases after which a page ends: objects with 16 leases of 16 KiB are rare, 256 of them would
/// not fit.
pub const PAGE_BYTES_MAX: usize = 16 << 20;
/// Tickets that wait at once, hours of looking. More are refused: who reads the same bad shard again reports it again.
pub const TICKETS_MAX: usize = 1_000;
/// Tickets of one reader that wait at once: none keeps the others from being heard.
pub const TICKETS_PER_READER_MAX: usize = TICKETS_MAX / 10;
/// An operator's word makes no repair due sooner after it failed: who says it in a loop keeps no others waiting.
pub const RETRY_PAUSE: Duration = Duration::from_secs(60);
/// After so many attempts a repair is given up until a node comes back or an operator says so. One that was begun more
/// often ends the processes that make it: the last one told nothing.
pub const ATTEMPTS_MAX: u32 = 8;
/// A repair that was given up is tried again when a walk asks for it after this time: what it lacked may be there.
pub const GIVEN_UP_REST: Duration = Duration::from_secs(3600);
/// The margin of a repair that comes after all others that can be read.
pub const MARGIN_LAST: i32 = i32::MAX;
/// Bytes of a work's cursor.
pub const CURSOR_BYTES_MAX: usize = 1024;
/// No hold and no pause between attempts is longer. What ends later was written before the catalog's clock was set
/// back, and has ended.
pub const AHEAD_MAX: Duration = Duration::from_secs(2 * 3600);
/// Characters of an error that are kept with a repair.
pub const ERROR_CHARS_MAX: usize = 500;

/// A living object: what it is, what its owner wants, and where its shards are.
#[derive(Debug, Clone)]
pub struct ObjectRow {
    /// The public manifest, with the parity that the lease wants.
    pub public: PublicManifest,
    /// The lease; of several living records of one object the one with the highest version.
    pub lease: Lease,
    /// Locators of its living records, that of `lease` first, at most [`LOCATORS_MAX`].
    pub locators: Vec<Locator>,
    /// Columns in order and the nodes that hold them, who got it last first; a column may be on several nodes or on
    /// none.
    pub shards: Vec<(usize, NodeName)>,
}

impl ObjectRow {
    /// Returns the object's id.
    #[must_use]
    pub fn id(&self) -> ObjectId {
        self.public.id()
    }
}

/// One page of objects in order of their ids.
#[derive(Debug, Clone, Default)]
pub struct ObjectPage {
    /// The objects; those whose rows are damaged are left out and logged, so that one bad row does not end a scan.
    pub objects: Vec<ObjectRow>,
    /// What to ask `after` next; none when there are no more.
    pub next: Option<ObjectId>,
}

/// Why an object is to be repaired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RepairCause {
    /// The scan over all objects found columns missing.
    Scan,
    /// A reader reported a bad strip and it proved true.
    Ticket,
    /// A node is to be emptied.
    Drain,
    /// Its shards lie where the lease does not want them, or too many in one place.
    Place,
    /// All is well with it, and one of its columns goes from a fuller to an emptier node.
    Balance,
}

impl RepairCause {
    const NAMES: [(Self, &'static str); 5] = [
        (Self::Scan, "scan"),
        (Self::Ticket, "ticket"),
        (Self::Drain, "drain"),
        (Self::Place, "place"),
        (Self::Balance, "balance"),
    ];

    /// Returns the name in rows, logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::NAMES.iter().find(|(cause, _)| *cause == self).expect("every cause has a name").1
    }
}

impl fmt::Display for RepairCause {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(self.as_str())
    }
}

/// Not the name of a cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a repair's cause is scan, ticket, drain, place or balance")]
pub struct UnknownCause;

impl FromStr for RepairCause {
    type Err = UnknownCause;

    fn from_str(text: &str) -> Result<Self, UnknownCause> {
        Self::NAMES.iter().find(|(_, name)| *name == text).map(|(cause, _)| *cause).ok_or(UnknownCause)
    }
}

/// An object that somebody found in need of repair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepairAsk {
    /// The object.
    pub object: ObjectId,
    /// Healthy columns above k: how many may still be lost. Below zero it cannot be read. What can wait has
    /// [`MARGIN_LAST`].
    pub margin: i32,
    /// Bytes of the shards to make again or to move.
    pub bytes: u64,
    /// Why.
    pub cause: RepairCause,
    /// The column to move, and to which node; none: the diagnosis says what is to be done.
    pub target: Option<(usize, NodeName)>,
    /// The lost columns, when nothing but these is to be made: in vain where they are known as hopeless. Empty:
    /// something is to be moved.
    pub only_lost: Vec<usize>,
}

/// A repair that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repair {
    /// The object.
    pub object: ObjectId,
    /// The lowest margin it was asked with.
    pub margin: i32,
    /// Bytes asked with that margin.
    pub bytes: u64,
    /// The cause asked with that margin.
    pub cause: RepairCause,
    /// The target asked with that margin.
    pub target: Option<(usize, NodeName)>,
    /// How often it was taken since it last succeeded, this time included; so it also counts holders that died of it.
    pub attempts: u32,
    /// Why the last attempt failed that said so.
    pub error: Option<String>,
    /// The node that said so.
    pub failed_by: Option<NodeName>,
    /// The lost columns with which the repair was hopeless; empty: it was not.
    pub unmakable: Vec<usize>,
}

/// How a repair ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RepairEnd {
    /// The object is whole. Asked for again since it was taken, it waits once more.
    Done,
    /// It did not work; somebody tries again.
    Again {
        /// Why; the first [`ERROR_CHARS_MAX`] characters are kept.
        error: String,
        /// Not before so long.
        after: Duration,
    },
    /// It will not work as things are; an operator must look.
    Dead {
        /// Why; the first [`ERROR_CHARS_MAX`] characters are kept.
        error: String,
    },
    /// These columns cannot be made again: they are given up until others are lost, or an operator says so. The
    /// object's other columns may still move.
    Hopeless {
        /// Why; the first [`ERROR_CHARS_MAX`] characters are kept.
        error: String,
        /// The lost columns; never empty.
        lost: Vec<usize>,
    },
}

/// Who says that repairs that were given up, or that rest after a failure, are worth another try.
#[derive(Debug, Clone, Copy)]
pub enum Revival<'o> {
    /// A node that came: all begin anew, at once.
    Node,
    /// The owner of an object, by a new lease: its repair is due at once. One that was given up keeps half of its
    /// attempts, rounded up.
    Lease(&'o ObjectId),
    /// An operator: all are due, also those that are hopeless, each [`RETRY_PAUSE`] after it failed. Those that were
    /// given up keep half of their attempts, rounded up. An operator has a twin's certificate, so any twin may say so.
    Operator,
}

/// How much repair there is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RepairQueue {
    /// Objects that wait, also those not due yet.
    pub waiting: u64,
    /// Objects under repair.
    pub running: u64,
    /// Objects given up.
    pub dead: u64,
    /// Bytes of those that wait.
    pub waiting_bytes: u64,
    /// Bytes of those under repair; how much of them is done is not known.
    pub running_bytes: u64,
    /// Objects among the waiting and the running that are well and only make nodes equally full.
    pub balancing: u64,
}

/// A repair given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadRepair {
    /// The object.
    pub object: ObjectId,
    /// How often it was tried.
    pub attempts: u32,
    /// Why the last time failed.
    pub error: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_read_as_they_are_written() {
        for (cause, name) in RepairCause::NAMES {
            assert_eq!((cause.to_string().as_str(), name.parse()), (name, Ok(cause)));
        }
        assert_eq!("Scan".parse::<RepairCause>(), Err(UnknownCause));
    }
}
