//! Objects that are open.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::SystemTime,
};

use async_trait::async_trait;
use client::{Known, ReadError, Reader};
use format::{Capability, Object, Record};

use super::{
    presence::Claim,
    records::{Content, Look, Records},
};
use crate::{clock, error::Fault};

/// All open objects.
pub(crate) type Objects = Records<Opened>;

/// An object with the record it was opened from.
pub(crate) struct Opened {
    pub(crate) object: Arc<Object>,
    pub(crate) record: Record,
    look: Look,
    /// How often its beginning was asked for; one with its next record.
    begun: Arc<AtomicU64>,
    /// Whether its index, as that of a film, was fetched for who began it.
    is_film_begun: Arc<AtomicBool>,
}

impl Opened {
    /// Takes note that somebody asked for the object from its first byte on.
    pub(crate) fn begin(&self) {
        self.begun.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether more than one did.
    pub(crate) fn is_wanted(&self) -> bool {
        self.begun.load(Ordering::Relaxed) > 1
    }

    /// Returns true once: for the first viewer of a film.
    pub(crate) fn begin_film(&self) -> bool {
        !self.is_film_begun.swap(true, Ordering::Relaxed)
    }

    /// Has the next viewer of a film be the first, because nothing was done for this one.
    pub(crate) fn leave_film(&self) {
        self.is_film_begun.store(false, Ordering::Relaxed);
    }

    /// Returns what opens it.
    pub(crate) fn capability(&self) -> &Capability {
        &self.look.capability
    }

    /// Returns by what it learns of its owner's orders.
    pub(crate) fn claim(&self) -> &Claim {
        &self.look.claim
    }

    /// Returns the second since 1970 from which the object may no longer be read; none where its lease does not end.
    pub(crate) fn ends(&self) -> Option<u64> {
        Some(self.record.lease.retention.expires).filter(|end| *end > 0)
    }

    /// Returns the fault of an object that may no longer be read.
    pub(crate) fn check_lease(&self, now: SystemTime) -> Result<(), Fault> {
        if self.record.lease.is_alive(clock::unix_seconds(now)) { Ok(()) } else { Err(Fault::Erased) }
    }
}

#[async_trait]
impl Content for Opened {
    async fn look_up(reader: &Reader, look: Look, known: Option<Known>) -> Result<Self, ReadError> {
        let (object, record) = reader.object_after(&look.capability, known).await?;
        Ok(Self { object, record, look, begun: Arc::default(), is_film_begun: Arc::default() })
    }

    fn after(&mut self, earlier: &Self) {
        self.begun = Arc::clone(&earlier.begun);
        self.is_film_begun = Arc::clone(&earlier.is_film_begun);
    }

    fn look(&self) -> &Look {
        &self.look
    }

    fn record(&self) -> &Record {
        &self.record
    }
}
