//! Removals that were cut short, brought to their end while the twin runs. A removal that too few nodes could be told
//! of, as on full disks, stays in the index as ending, and nothing takes it back.
//!
//! Each is tried again after a minute, and after twice as long whenever it fails, up to an hour. What an earlier
//! process left is tried at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use format::Locator;
use tokio::time::{Instant, sleep};
use twin::{Family, LeaseChangeError};

use crate::{
    refusal::{Refusal, causes},
    service::Service,
    store::Write,
};

/// How often it is looked what is ending. A command that removes something right now has so long to do it itself.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// The longest pause between two tries of one removal.
const PAUSE_MAX: Duration = Duration::from_secs(3600);

/// When each removal that was cut short is tried next.
#[derive(Default)]
struct Backlog {
    looked: bool,
    waits: BTreeMap<Locator, Wait>,
}

#[derive(Clone, Copy)]
struct Wait {
    due: Instant,
    pause: Duration,
}

/// What came of some tries.
#[derive(PartialEq, Eq)]
enum Tried {
    Done,
    /// No node answers.
    Away,
}

impl Backlog {
    /// Takes what is ending at `now`, and returns which of it are to be tried.
    fn due(&mut self, ending: &BTreeSet<Locator>, now: Instant) -> BTreeSet<Locator> {
        let first = if self.looked { LOOK_EVERY } else { Duration::ZERO };
        self.looked = true;
        self.waits.retain(|locator, _| ending.contains(locator));
        let new = Wait { due: now + first, pause: LOOK_EVERY };
        ending.iter().copied().filter(|locator| self.waits.entry(*locator).or_insert(new).due <= now).collect()
    }

    fn failed(&mut self, locator: &Locator, now: Instant) {
        if let Some(wait) = self.waits.get_mut(locator) {
            *wait = Wait { due: now + wait.pause, pause: (wait.pause * 2).min(PAUSE_MAX) };
        }
    }
}

impl Service {
    /// Goes on with removals that were cut short, until the twin stops.
    pub(crate) async fn end_removals_often(self: Arc<Self>) {
        let mut backlog = Backlog::default();
        loop {
            match self.stop.run_until_cancelled(Box::pin(self.end_removals(&mut backlog))).await {
                Some(Ok(())) => {}
                Some(Err(refusal)) => {
                    tracing::warn!(reason = refusal.message, "removals that were cut short cannot be gone on with yet");
                }
                None => return,
            }
            if self.stop.run_until_cancelled(sleep(LOOK_EVERY)).await.is_none() {
                return;
            }
        }
    }

    /// Tries those that are due. Cancel safe: what was cut short stays so.
    async fn end_removals(&self, backlog: &mut Backlog) -> Result<(), Refusal> {
        let mut ending = self.twin.ending().await?;
        // What this process stores just now it ends itself where that breaks.
        ending.retain(|_, family| !family.values().any(|entry| self.is_under_way(entry.batch)));
        let due = backlog.due(&ending.keys().copied().collect(), Instant::now());
        ending.retain(|locator, _| due.contains(locator));
        // One alone first: while no node answers, nothing else is begun.
        let Some(first) = ending.pop_first() else { return Ok(()) };
        let tried = self.end_again([first].into(), backlog).await?;
        if tried == Tried::Done && !ending.is_empty() {
            self.end_again(ending, backlog).await?;
        }
        Ok(())
    }

    async fn end_again(&self, ending: BTreeMap<Locator, Family>, backlog: &mut Backlog) -> Result<Tried, Refusal> {
        let tops: Vec<Locator> = ending.keys().copied().collect();
        let (_, failed) = self.twin.end_again(ending).await?;
        for locator in tops.iter().filter(|locator| !failed.contains_key(locator)) {
            // A row that counted against a token's quota.
            if let Some(upload) = self.store.upload(locator).await? {
                self.write(Write::Drop(upload.batch)).await?;
            }
        }
        failed.keys().for_each(|locator| backlog.failed(locator, Instant::now()));
        let Some((locator, error)) = failed.first_key_value() else { return Ok(Tried::Done) };
        tracing::warn!(waiting = failed.len(), %locator, reason = causes(error), "removals wait for their nodes");
        let is_away = |error: &LeaseChangeError| matches!(error, LeaseChangeError::Read(_));
        Ok(if failed.values().any(is_away) { Tried::Away } else { Tried::Done })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removal_that_fails_is_tried_after_twice_as_long_up_to_an_hour() {
        let (mut backlog, start) = (Backlog::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let (old, new) = (Locator([1; 32]), Locator([2; 32]));
        assert_eq!(backlog.due(&[old].into(), start), [old].into(), "what was left before is tried at once");
        backlog.failed(&old, start);
        assert_eq!(backlog.due(&[old, new].into(), at(59)), [].into(), "whoever began the new one has a minute for it");
        assert_eq!(backlog.due(&[old, new].into(), at(60)), [old].into());
        assert_eq!(backlog.due(&[old, new].into(), at(119)), [old, new].into());
        let (mut now, mut pauses) = (at(119), Vec::new());
        for _ in 0..8 {
            backlog.failed(&new, now);
            let before = now;
            while backlog.due(&[new].into(), now).is_empty() {
                now += Duration::from_secs(1);
            }
            pauses.push((now - before).as_secs());
        }
        assert_eq!(pauses, [60, 120, 240, 480, 960, 1920, 3600, 3600]);
        // One that came to its end, and was begun for another object of the same name.
        assert_eq!(backlog.due(&[].into(), now), [].into());
        assert_eq!(backlog.due(&[new].into(), now), [].into());
        assert_eq!(backlog.due(&[new].into(), now + LOOK_EVERY), [new].into());
    }
}
