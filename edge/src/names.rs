//! Stable names that are open: what each stands for now.
//!
//! Keeps true: a name never goes back to a pointer older than one seen, and none is followed past its end.

use std::time::SystemTime;

use async_trait::async_trait;
use client::{Known, ReadError, Reader};
use format::{Pointer, Record};

use crate::{
    clock,
    error::Fault,
    records::{Content, Look, Records},
};

/// All open names.
pub(crate) type Names = Records<Named>;

/// A name with the record it was opened from.
pub(crate) struct Named {
    pointer: Pointer,
    record: Record,
    look: Look,
}

impl Named {
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
