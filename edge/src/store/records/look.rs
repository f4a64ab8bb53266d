//! One look-up of a record at the nodes: from a capability to what the record opens as.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use client::{Known, ReadError, Reader, Said, Span};
use format::{Capability, Locator, Record};
use tokio::time::timeout;

use super::Records;
use crate::{error::Fault, store::presence::Claim};

/// A record must be found by then, over all nodes asked.
pub(super) const OPEN_DEADLINE: Duration = Duration::from_secs(10);

/// What a record opens as.
#[async_trait]
pub(crate) trait Content: Sized + Send + Sync + 'static {
    /// Looks the content up at the nodes.
    async fn look_up(reader: &Reader, look: Look, known: Option<Known>) -> Result<Self, ReadError>;

    /// Takes over what counts on from the same content as it was looked up before.
    fn after(&mut self, _earlier: &Self) {}

    /// Returns how it was looked up.
    fn look(&self) -> &Look;

    /// Returns the record that it was opened from.
    fn record(&self) -> &Record;

    /// Whether it serves nobody any more: its end was told since, it was purged, or a later lease was open.
    fn is_over(&self) -> bool {
        let claim = &self.look().claim;
        claim.is_ended() || claim.is_forgotten() || claim.newest() > self.record().lease.version
    }
}

/// One look-up.
pub(crate) struct Look {
    pub(crate) capability: Capability,
    /// When it began.
    pub(super) since: Instant,
    /// The next one is under way.
    pub(super) refreshing: AtomicBool,
    /// How often everything had been doubted when it began.
    pub(super) doubts: u64,
    /// The same when the next one failed, because no node could be asked.
    pub(super) excused: AtomicU64,
    /// By which its owner's orders find what came of it, and what came of it learns of them.
    pub(crate) claim: Claim,
}

impl Look {
    pub(super) fn is_excused(&self, doubts: u64) -> bool {
        self.excused.load(Ordering::Relaxed) >= doubts
    }
}

impl<T: Content> Records<T> {
    pub(super) async fn look_up(&self, capability: &Capability) -> Result<T, Fault> {
        let span = Span::within("record");
        let found = span.scope().around(self.ask(capability)).await;
        if let Err(fault) = &found {
            span.say("evernear.status", Said::Number(fault.status().as_u16().into()));
            if fault.status().is_server_error() {
                span.fail("the nodes");
            }
        }
        found
    }

    async fn ask(&self, capability: &Capability) -> Result<T, Fault> {
        let locator = capability.locator();
        let known = self.known.get(&locator);
        let look = Look {
            capability: capability.clone(),
            since: Instant::now(),
            refreshing: AtomicBool::new(false),
            doubts: self.doubts(),
            excused: AtomicU64::new(0),
            claim: self.presences.claim(locator),
        };
        let found = timeout(OPEN_DEADLINE, T::look_up(&self.reader, look, known)).await.map_err(|_| Fault::Slow)?;
        let found = found.map_err(|error| {
            let fault = Fault::from(&error);
            if !matches!(fault, Fault::Unknown | Fault::Erased) {
                tracing::warn!(%locator, error = client::causes(&error), "record cannot be opened");
            }
            fault
        })?;
        // A node that is behind, or lies, still gives a record that was erased; one that has the owner's word is
        // enough.
        let claim = &found.look().claim;
        if self.ends.contains_key(&locator) {
            let newest = self.reader.newest_record(&locator, &found.record().lease.owner);
            let newest = timeout(OPEN_DEADLINE, newest).await.map_err(|_| Fault::Slow)?;
            let newest = newest.map_err(|error| Fault::from(&error))?;
            self.learn(locator, Known::of(&newest));
            if newest.lease.erased {
                return Err(Fault::Erased);
            }
        }
        claim.belongs_to(found.record().public.owner());
        // Two look-ups may have been under way, and the other one found more.
        let seen = Known::of(found.record());
        let is_newest = self.learn(locator, seen) == seen && claim.newest() <= seen.version;
        if is_newest { Ok(found) } else { Err(Fault::Outdated) }
    }

    /// Remembers what was seen of a record, and returns the newest that was.
    fn learn(&self, locator: Locator, seen: Known) -> Known {
        let newest = self.known.entry(locator).and_upsert_with(|held| {
            let held = held.map(moka::Entry::into_value).filter(|held| held.owner == seen.owner);
            held.filter(|held| held.version > seen.version).unwrap_or(seen)
        });
        newest.into_value()
    }
}
