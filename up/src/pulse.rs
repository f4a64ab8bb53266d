//! Whether work that may take long goes on: each step of it is a beat. A disk of ten terabytes is read for hours, and
//! one that hangs does nothing.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use origin::catalog::Moving;
use tokio::{sync::watch, time::Instant};

/// What a start takes long for, and how far it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Wait {
    /// Nothing so far.
    #[default]
    Nothing,
    /// A disk is read into a catalog that was lost.
    Reading(Reading),
    /// The catalog moves to another database.
    Moving(Moving),
}

/// How far the reading of a disk into the catalog is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reading {
    /// The disk.
    pub disk: PathBuf,
    /// Copies of records that were read.
    pub records: u64,
    /// How many there are.
    pub of: u64,
    /// Shards that were compared.
    pub shards: u64,
}

/// The beats of one piece of work.
#[derive(Debug)]
pub(crate) struct Pulse {
    begun: Instant,
    last_ms: AtomicU64,
    readers: watch::Sender<Wait>,
}

impl Pulse {
    /// Begins with a beat.
    pub(crate) fn new(readers: watch::Sender<Wait>) -> Self {
        Self { begun: Instant::now(), last_ms: AtomicU64::new(0), readers }
    }

    pub(crate) fn beat(&self) {
        let ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.fetch_max(ms, Relaxed);
    }

    /// Counts a step of reading.
    pub(crate) fn read(&self, reading: Reading) {
        self.beat();
        self.readers.send_replace(Wait::Reading(reading));
    }

    /// Returns for how long nothing was done.
    pub(crate) fn silence(&self) -> Duration {
        self.begun.elapsed().saturating_sub(Duration::from_millis(self.last_ms.load(Relaxed)))
    }

    /// Does work until nothing of it is done for so long. Returns none then.
    pub(crate) async fn limit<T>(&self, most: Duration, work: impl Future<Output = T>) -> Option<T> {
        let silent = async {
            loop {
                match most.checked_sub(self.silence()).filter(|left| !left.is_zero()) {
                    Some(left) => tokio::time::sleep(left).await,
                    None => return,
                }
            }
        };
        tokio::select! {
            done = work => Some(done),
            () = silent => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn work_that_goes_on_is_waited_for_and_work_that_hangs_is_not() {
        let (most, step) = (Duration::from_secs(10), Duration::from_secs(9));
        let pulse = Pulse::new(watch::Sender::default());
        let slow = async {
            for _ in 0..5 {
                tokio::time::sleep(step).await;
                pulse.beat();
            }
            7
        };
        assert_eq!(pulse.limit(most, slow).await, Some(7));
        let pulse = Pulse::new(watch::Sender::default());
        let hung = async {
            tokio::time::sleep(step).await;
            pulse.beat();
            std::future::pending::<()>().await;
        };
        let begun = Instant::now();
        assert_eq!(pulse.limit(most, hung).await, None);
        assert_eq!(begun.elapsed().as_secs(), 19);
        assert!(pulse.silence() >= most);
    }
}
