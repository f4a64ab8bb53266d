//! Where a pass over all shards is, and one step of it. Blocks, decides nothing.

use std::{collections::VecDeque, time::Duration};

use format::ObjectId;
use serde::{Deserialize, Serialize};

use crate::store::{Found, Harm, HeldShard, ShardId, Store, StoreError};

/// Shards of one step, however small: opening a file costs more than hashing a little one.
const STEP_SHARDS: usize = 64;

/// Where a pass is: what a restart must know. Times are seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    /// When the pass began, or will begin.
    pub(super) started: u64,
    /// Since when every shard was hashed at least once: the start of the last pass that came to its end.
    pub(super) all_since: Option<u64>,
    /// The last shard that is done.
    after: Option<(ObjectId, usize)>,
    /// The first strip that is not done, of the shard after it.
    strip: u64,
    /// Bytes hashed in this pass.
    pub(super) bytes: u64,
}

/// What one step did.
#[derive(Debug, Default)]
pub(super) struct Step {
    /// Bytes hashed.
    pub(super) bytes: u64,
    /// The shard at which the step stopped, because it is damaged. The pass goes on behind it after [`Pass::advance`].
    pub(super) damaged: Option<(HeldShard, Harm)>,
    /// There is no shard after the position.
    pub(super) ended: bool,
}

/// A pass under way.
#[derive(Debug, Clone)]
pub(super) struct Pass {
    pub(super) position: Position,
    /// The shards after the position, as far as they were looked up.
    page: VecDeque<HeldShard>,
}

impl Position {
    /// The start of a pass.
    pub(super) fn at(started: u64) -> Self {
        Self { started, all_since: None, after: None, strip: 0, bytes: 0 }
    }

    /// The start of the pass after this one: once the time of this one is over, or now if it took longer.
    pub(super) fn next(self, now: u64, length: Duration) -> Self {
        let started = self.started.saturating_add(length.as_secs()).max(now);
        Self { all_since: Some(self.started), ..Self::at(started) }
    }

    /// A clock that went wrong and was set right must not put the scrub off for years.
    pub(super) fn set_clock(&mut self, now: u64, length: Duration) {
        self.started = self.started.min(now.saturating_add(length.as_secs()));
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("numbers and ids are JSON")
    }

    pub(super) fn decode(note: &[u8]) -> Option<Self> {
        serde_json::from_slice(note).ok()
    }
}

impl Pass {
    pub(super) fn new(position: Position) -> Self {
        Self { position, page: VecDeque::new() }
    }

    /// Hashes about `budget_bytes`, or up to the first damaged shard.
    ///
    /// # Errors
    /// [`StoreError::Io`]; the shard that cannot be read is passed over then, it must not hold up all others.
    pub(super) fn step(&mut self, store: &Store, budget_bytes: u64) -> Result<Step, StoreError> {
        let mut step = Step::default();
        for _ in 0..STEP_SHARDS {
            if step.bytes >= budget_bytes {
                break;
            }
            let Some(held) = self.front(store)? else {
                step.ended = true;
                break;
            };
            let ShardId { object, column } = held.shard;
            let checked = store.verify_shard(&object, column, self.position.strip, budget_bytes - step.bytes);
            if checked.is_err() {
                self.advance();
            }
            let checked = match checked {
                // Removed since the page was looked up.
                Err(StoreError::NoShard { .. }) => continue,
                other => other?,
            };
            step.bytes += checked.bytes;
            self.position.bytes += checked.bytes;
            match checked.found {
                Found::More { next } => self.position.strip = next,
                Found::Intact => self.advance(),
                Found::Damaged(harm) => {
                    step.damaged = Some((held, harm));
                    break;
                }
            }
        }
        Ok(step)
    }

    /// Leaves the first shard that is not done behind.
    pub(super) fn advance(&mut self) {
        if let Some(HeldShard { shard, .. }) = self.page.pop_front() {
            self.position.after = Some((shard.object, shard.column));
            self.position.strip = 0;
        }
    }

    fn front(&mut self, store: &Store) -> Result<Option<HeldShard>, StoreError> {
        if self.page.is_empty() {
            let after = self.position.after.map(|(object, column)| ShardId { object, column });
            self.page = store.shards(after.as_ref(), STEP_SHARDS)?.into();
        }
        let front = self.page.front().copied();
        // The shard in which an earlier run stopped may be gone.
        if front.is_none() {
            self.position.strip = 0;
        }
        Ok(front)
    }
}
