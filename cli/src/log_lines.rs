//! The log of a node: threads leave their lines in memory, and one thread writes them in batches. A busy edge logs
//! thousands of lines per second, and one system call for each was a tenth of the cost of a small answer.
//!
//! Keeps true: no thread waits for the log, but for an error, and that at most [`PATIENCE`]. While the log takes
//! nothing, a bound of lines waits in memory, and what is more is lost and counted. No line waits longer than
//! [`PATIENCE`] for others; a warning is written at once, and an error before its thread goes on, which may be to end
//! the process.

use std::{
    io::{self, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    thread,
    time::Duration,
};

use client::{LOG_LINES_LOST, thread_number};
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// How long a line waits for others at most.
const PATIENCE: Duration = Duration::from_millis(100);
/// How long the end of the process waits for the last lines at most.
const ENDING: Duration = Duration::from_secs(1);
/// Threads whose lines do not wait for each other's; of more threads some share a place.
const PLACES: usize = 16;
/// How many bytes wait at each place at most.
const PLACE_BYTES_MAX: usize = 256 * 1024;

/// The log, for those who write into it.
pub(crate) struct LogLines(Arc<Shared>);

#[derive(Default)]
struct Shared {
    places: [Place; PLACES],
    rounds: Mutex<Rounds>,
    changed: Condvar,
}

/// Lines that wait. Places lie apart, so that no core takes the memory of one from another.
#[derive(Default)]
#[repr(align(128))]
struct Place(Mutex<Vec<u8>>);

/// The writer's rounds: in each it takes all lines that wait, and writes them.
#[derive(Default)]
struct Rounds {
    begun: u64,
    ended: u64,
    /// Whether the next one is to begin at once.
    is_due: bool,
}

/// Has the lines that wait written when it is dropped.
pub(crate) struct Ending(Arc<Shared>);

/// One line that is being written.
pub(crate) struct Line<'l> {
    shared: &'l Shared,
    level: Level,
}

impl LogLines {
    /// Starts the thread that writes the lines.
    ///
    /// # Errors
    /// When the system cannot start a thread.
    pub(crate) fn start(out: impl Write + Send + 'static) -> io::Result<(Self, Ending)> {
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        thread::Builder::new().name("log".to_owned()).spawn(move || of_thread.write(out))?;
        Ok((Self(Arc::clone(&shared)), Ending(shared)))
    }
}

impl Shared {
    /// Writes all lines, for as long as the process lives.
    fn write(&self, mut out: impl Write) {
        let mut lines = Vec::new();
        loop {
            let waited = self.changed.wait_timeout_while(held(&self.rounds), PATIENCE, |rounds| !rounds.is_due);
            let mut rounds = waited.unwrap_or_else(PoisonError::into_inner).0;
            rounds.is_due = false;
            rounds.begun += 1;
            drop(rounds);
            for place in &self.places {
                lines.append(&mut held(&place.0));
            }
            // A failure to write the log is ignored, as it could not be reported either.
            let _ = out.write_all(&lines);
            lines.clear();
            let mut rounds = held(&self.rounds);
            rounds.ended = rounds.begun;
            self.changed.notify_all();
        }
    }

    fn add(&self, line: &[u8], level: Level) {
        let mut place = held(&self.places[thread_number() % PLACES].0);
        let before = place.len();
        if before + line.len() > PLACE_BYTES_MAX {
            LOG_LINES_LOST.fetch_add(1, Ordering::Relaxed);
        } else {
            place.extend_from_slice(line);
        }
        let fills = before < PLACE_BYTES_MAX / 2 && place.len() >= PLACE_BYTES_MAX / 2;
        drop(place);
        if level == Level::ERROR {
            self.flush(PATIENCE);
        } else if fills || level == Level::WARN {
            drop(self.hurry());
        }
    }

    /// Has the next round begin at once, and returns its number.
    fn hurry(&self) -> (MutexGuard<'_, Rounds>, u64) {
        let mut rounds = held(&self.rounds);
        rounds.is_due = true;
        self.changed.notify_all();
        let next = rounds.begun + 1;
        (rounds, next)
    }

    /// Waits until all lines up to now are written, or for so long.
    fn flush(&self, patience: Duration) {
        let (rounds, next) = self.hurry();
        drop(self.changed.wait_timeout_while(rounds, patience, |rounds| rounds.ended < next));
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.flush(ENDING);
    }
}

impl<'l> MakeWriter<'l> for LogLines {
    type Writer = Line<'l>;

    fn make_writer(&'l self) -> Self::Writer {
        Line { shared: &self.0, level: Level::WARN }
    }

    fn make_writer_for(&'l self, metadata: &Metadata<'_>) -> Self::Writer {
        Line { shared: &self.0, level: *metadata.level() }
    }
}

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.shared.add(line, self.level);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn held<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tracing::Subscriber;
    use tracing_subscriber::{Registry, fmt, layer::SubscriberExt};

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(60);

    /// A log that is read when the test wants it.
    struct Heard(mpsc::SyncSender<String>);

    impl Write for Heard {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if !bytes.is_empty() {
                self.0.send(String::from_utf8(bytes.to_vec()).unwrap()).map_err(io::Error::other)?;
            }
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logs(lines: LogLines) -> impl Subscriber + Send + Sync {
        let layer = fmt::layer().with_writer(lines).with_ansi(false).without_time().with_target(false);
        Registry::default().with(layer)
    }

    #[test]
    fn lines_leave_in_their_order_and_none_is_left_behind() {
        let (heard, said) = mpsc::sync_channel(1024);
        let (lines, ending) = LogLines::start(Heard(heard)).unwrap();
        tracing::subscriber::with_default(logs(lines), || {
            let mut all = String::new();
            let mut expected = String::new();
            for number in 0..PLACE_BYTES_MAX / 100 {
                tracing::info!("line {number}");
                expected += &format!(" INFO line {number}\n");
                if number % 1000 == 0 {
                    tracing::warn!("look");
                    expected += " WARN look\n";
                }
            }
            while all.len() < expected.len() {
                all += &said.recv_timeout(DEADLINE).unwrap();
            }
            assert_eq!(all, expected);
            tracing::error!("an error");
            tracing::info!("last");
            ending.0.flush(DEADLINE);
            let last: String = said.try_iter().collect();
            assert_eq!(last, "ERROR an error\n INFO last\n");
        });
    }

    #[test]
    fn a_log_that_takes_nothing_loses_lines_and_keeps_nobody() {
        // Nobody reads, so the writer waits in its first line.
        let (heard, said) = mpsc::sync_channel(0);
        let (lines, _ending) = LogLines::start(Heard(heard)).unwrap();
        let before = LOG_LINES_LOST.load(Ordering::Relaxed);
        let written = 4 * PLACE_BYTES_MAX / 100;
        tracing::subscriber::with_default(logs(lines), || {
            (0..written).for_each(|number| tracing::info!("{number:093}"));
        });
        let lost = usize::try_from(LOG_LINES_LOST.load(Ordering::Relaxed) - before).unwrap();
        // One place is full, and at most as much is in the writer's hands.
        assert!(lost >= written / 4, "{lost}");
        let mut left = written - lost;
        while left > 0 {
            left -= said.recv_timeout(DEADLINE).expect("what is not lost is written").lines().count();
        }
    }
}
