//! Counters of what was done and seen in a torture, and the table that shows them.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::keeper::Looked;

/// A counter.
#[derive(Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, number: u64) {
        self.0.fetch_add(number, Ordering::Relaxed);
    }

    pub(super) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The longest of some durations.
#[derive(Default)]
pub(super) struct Longest(Mutex<Duration>);

impl Longest {
    pub(super) fn raise(&self, time: Duration) {
        let mut longest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *longest = time.max(*longest);
    }

    pub(super) fn get(&self) -> Duration {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was done and seen.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) puts: Counter,
    pub(super) refused_puts: Counter,
    pub(super) put_bytes: Counter,
    pub(super) removals: Counter,
    pub(super) refused_removals: Counter,
    pub(super) reads: Counter,
    pub(super) failed_reads: Counter,
    pub(super) wrong_reads: Counter,
    pub(super) kills: Counter,
    pub(super) kills_at_calls: Counter,
    pub(super) flips: Counter,
    pub(super) wipes: Counter,
    pub(super) restart_max: Longest,
    pub(super) heal_max: Longest,
}

impl Tally {
    #[expect(clippy::print_stdout, reason = "the table is what the torture is for")]
    pub(super) fn print(&self, looked: &Looked, made_bytes: u64) {
        let rows = [
            ("objects acknowledged", self.puts.count().to_string()),
            ("bytes acknowledged", self.put_bytes.count().to_string()),
            ("uploads that failed and said so", self.refused_puts.count().to_string()),
            ("removals acknowledged", self.removals.count().to_string()),
            ("removals that failed and said so", self.refused_removals.count().to_string()),
            ("reads under harm", self.reads.count().to_string()),
            ("  that failed and said so", self.failed_reads.count().to_string()),
            ("  that were wrong", self.wrong_reads.count().to_string()),
            ("processes killed (SIGKILL)", self.kills.count().to_string()),
            ("  of them entering a call that writes", self.kills_at_calls.count().to_string()),
            ("longest restart", format!("{:.2} s", self.restart_max.get().as_secs_f64())),
            ("bits flipped on disks", self.flips.count().to_string()),
            ("data folders deleted", self.wipes.count().to_string()),
            ("longest healing", format!("{:.1} s", self.heal_max.get().as_secs_f64())),
            ("bytes made again since the last restarts", made_bytes.to_string()),
            ("at the end: objects exact", looked.exact.to_string()),
            ("objects lost", looked.lost.len().to_string()),
            ("objects wrong", looked.wrong.len().to_string()),
            ("removed objects gone", looked.gone.to_string()),
            ("removed objects that came back", looked.revived.len().to_string()),
        ];
        for (name, value) in rows {
            println!("{name:<44}{value:>14}");
        }
    }
}
