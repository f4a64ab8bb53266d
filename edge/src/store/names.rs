//! Stable names that are open: what each stands for now.
//!
//! Keeps true: a name never goes back to a pointer older than one seen, and none is followed past its end.

use std::time::SystemTime;

use async_trait::async_trait;
use client::{Known, ReadError, Reader};
use format::{Locator, Pointer, Record};

use super::records::{Content, Look, Records};
use crate::{clock, error::Fault};

/// All open names.
pub(crate) type Names = Records<Named>;

/// A name with the record it was opened from.
pub(crate) struct Named {
    pointer: Pointer,
    record: Record,
    look: Look,
}

/// For how long a name stands for an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hold {
    /// Seconds that its owner lets an answer be kept.
    pub(crate) seconds: u32,
    /// The second since 1970 from which the name is not followed.
    pub(crate) ends: u64,
}

impl Hold {
    /// Returns the seconds for which an answer may be kept.
    pub(crate) fn seconds_at(self, now: u64) -> u32 {
        self.seconds.min(u32::try_from(self.ends.saturating_sub(now)).unwrap_or(u32::MAX))
    }
}

impl Named {
    /// Returns the locator of the name.
    pub(crate) fn locator(&self) -> Locator {
        self.record.locator()
    }

    /// Returns for how long the name stands for what its pointer says, if nothing newer comes.
    pub(crate) fn hold(&self) -> Hold {
        let lease_ends = Some(self.record.lease.retention.expires).filter(|end| *end > 0);
        let ends = lease_ends.map_or(self.pointer.fresh_until, |end| end.min(self.pointer.fresh_until));
        Hold { seconds: self.pointer.seconds, ends }
    }

    /// Returns the pointer while it may be followed.
    ///
    /// # Errors
    /// [`Fault::NameEnded`] past its end: newer ones may be withheld from this edge. [`Fault::Erased`] when the name's
    /// lease ended.
    pub(crate) fn pointer(&self, now: SystemTime) -> Result<&Pointer, Fault> {
        let now = clock::unix_seconds(now);
        if !self.record.lease.is_alive(now) {
            return Err(Fault::Erased);
        }
        if self.pointer.is_fresh(now) { Ok(&self.pointer) } else { Err(Fault::NameEnded) }
    }
}

#[async_trait]
impl Content for Named {
    async fn look_up(reader: &Reader, look: Look, known: Option<Known>) -> Result<Self, ReadError> {
        let (pointer, record) = reader.pointer(&look.capability, known).await?;
        Ok(Self { pointer, record, look })
    }

    fn look(&self) -> &Look {
        &self.look
    }

    fn record(&self) -> &Record {
        &self.record
    }
}
