//! The thread that advances the epoch of an engine, by which runs check their time.
//!
//! Keeps true: the epoch advances while a run is under way. When there was none for a while the thread sleeps, so an
//! edge that runs nothing is not woken 400 times a second.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// The interval at which the epoch advances. At each tick, runs check their time.
const TICK: Duration = Duration::from_micros(2500);
/// After so many ticks without a run the thread sleeps. To wake it costs a run more than most runs take.
const IDLE_TICKS_MAX: u32 = 40;

/// The clock of an engine. Its thread ends with it.
pub(crate) struct Clock {
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    runs: AtomicUsize,
    sleeps: AtomicBool,
    ends: AtomicBool,
}

/// Keeps the clock ticking until it is dropped.
pub(crate) struct Ticking<'c>(&'c State);

impl Clock {
    /// Starts the thread, which calls `tick` at each tick.
    pub(crate) fn start(tick: impl Fn() + Send + 'static) -> std::io::Result<Self> {
        let state = Arc::new(State::default());
        let of_thread = Arc::clone(&state);
        let thread = thread::Builder::new().name("policy-clock".to_owned()).spawn(move || of_thread.tick(tick))?;
        Ok(Self { state, thread: Some(thread) })
    }

    /// Lets the clock tick for a run.
    pub(crate) fn run(&self) -> Ticking<'_> {
        self.state.runs.fetch_add(1, Ordering::SeqCst);
        // The thread says that it sleeps before it looks for runs a last time: one of the two sees the other.
        if self.state.sleeps.swap(false, Ordering::SeqCst) {
            self.wake();
        }
        Ticking(&self.state)
    }

    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl State {
    fn tick(&self, tick: impl Fn()) {
        let mut idle = 0;
        while !self.ends.load(Ordering::SeqCst) {
            idle = if self.runs.load(Ordering::SeqCst) > 0 { 0 } else { idle + 1 };
            if idle > IDLE_TICKS_MAX {
                self.sleeps.store(true, Ordering::SeqCst);
                if self.runs.load(Ordering::SeqCst) == 0 && !self.ends.load(Ordering::SeqCst) {
                    thread::park();
                }
                self.sleeps.store(false, Ordering::SeqCst);
                idle = 0;
            }
            thread::park_timeout(TICK);
            tick();
        }
    }
}

impl Drop for Ticking<'_> {
    fn drop(&mut self) {
        self.0.runs.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        self.state.ends.store(true, Ordering::SeqCst);
        self.wake();
        if let Some(thread) = self.thread.take() {
            // The thread cannot have panicked: it only waits and counts.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, RecvTimeoutError};

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(20);

    #[test]
    fn it_ticks_while_something_runs_and_sleeps_when_nothing_does() {
        let (ticks, told) = mpsc::sync_channel(10_000);
        let clock = Clock::start(move || ticks.send(()).unwrap()).unwrap();
        let asleep = || {
            // Forty ticks more at most; then none for as long as two hundred would take.
            let still = |_: &u32| told.recv_timeout(TICK * 200) != Err(RecvTimeoutError::Timeout);
            let after = (0..10_000).take_while(still).count();
            assert!(after <= 2 * IDLE_TICKS_MAX as usize, "{after}");
        };
        asleep();
        for _ in 0..3 {
            let runs = [clock.run(), clock.run()];
            for _ in 0..2 * IDLE_TICKS_MAX {
                told.recv_timeout(DEADLINE).unwrap();
            }
            drop(runs);
            while told.try_recv().is_ok() {}
            asleep();
        }
    }

    #[test]
    fn a_clock_that_sleeps_ends() {
        let clock = Clock::start(|| {}).unwrap();
        while !clock.state.sleeps.load(Ordering::SeqCst) {
            thread::yield_now();
        }
        drop(clock);
    }
}
