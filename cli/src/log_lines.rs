//! Buffers the lines of a node's log and writes them in batches. A busy edge logs thousands of lines per second, and
//! one system call for each was a tenth of the cost of a small answer. No line waits longer than 100 ms; a warning is
//! written at once.

use std::{
    io::{self, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// How long a line waits for others at most.
const PATIENCE: Duration = Duration::from_millis(100);
/// How many bytes wait at most.
const HELD_BYTES_MAX: usize = 64 * 1024;

/// The buffer of lines.
pub(crate) struct LogLines<W>(Arc<Shared<W>>);

struct Shared<W> {
    state: Mutex<State<W>>,
    changed: Condvar,
}

struct State<W> {
    held: Vec<u8>,
    out: W,
    ended: bool,
}

/// Writes the buffered lines when it is dropped.
pub(crate) struct Ending<W: Write>(Arc<Shared<W>>);

/// One line that is being written into the buffer.
pub(crate) struct Line<'a, W: Write> {
    state: MutexGuard<'a, State<W>>,
    changed: &'a Condvar,
    is_urgent: bool,
}

impl<W: Write + Send + 'static> LogLines<W> {
    /// Starts the thread that writes buffered lines.
    ///
    /// # Errors
    /// When the system cannot start a thread.
    pub(crate) fn start(out: W) -> io::Result<(Self, Ending<W>)> {
        let state = State { held: Vec::new(), out, ended: false };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let of_thread = Arc::clone(&shared);
        thread::Builder::new().name("log".to_owned()).spawn(move || of_thread.write_in_time())?;
        Ok((Self(Arc::clone(&shared)), Ending(shared)))
    }
}

impl<W: Write> Shared<W> {
    fn state(&self) -> MutexGuard<'_, State<W>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_in_time(&self) {
        let mut state = self.state();
        while !state.ended {
            if state.held.is_empty() {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let ended = |state: &mut State<W>| !state.ended;
            let waited = self.changed.wait_timeout_while(state, PATIENCE, ended);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            state.write();
        }
    }
}

impl<W: Write> State<W> {
    fn write(&mut self) {
        // A failure to write the log is ignored, as it could not be reported either.
        let _ = self.out.write_all(&self.held);
        self.held.clear();
    }
}

impl<W: Write> Drop for Ending<W> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.ended = true;
        state.write();
        self.0.changed.notify_all();
    }
}

impl<'a, W: Write + 'a> MakeWriter<'a> for LogLines<W> {
    type Writer = Line<'a, W>;

    fn make_writer(&'a self) -> Self::Writer {
        Line { state: self.0.state(), changed: &self.0.changed, is_urgent: true }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Self::Writer {
        Line { is_urgent: *metadata.level() <= Level::WARN, ..self.make_writer() }
    }
}

impl<W: Write> Write for Line<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.state.held.is_empty() {
            self.changed.notify_all();
        }
        self.state.held.extend_from_slice(bytes);
        if self.is_urgent || self.state.ended || self.state.held.len() > HELD_BYTES_MAX {
            self.state.write();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Instant};

    use tracing_subscriber::{Registry, fmt, layer::SubscriberExt};

    use super::*;

    struct Heard(mpsc::SyncSender<String>);

    impl Write for Heard {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(String::from_utf8(bytes.to_vec()).unwrap()).unwrap();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_leave_together_in_their_order_and_none_is_left_behind() {
        let (heard, said) = mpsc::sync_channel(64);
        let (lines, ending) = LogLines::start(Heard(heard)).unwrap();
        let logs = Registry::default()
            .with(fmt::layer().with_writer(lines).with_ansi(false).without_time().with_target(false));
        tracing::subscriber::with_default(logs, || {
            (0..3).for_each(|number| tracing::info!("line {number}"));
            assert_eq!(said.recv().unwrap(), " INFO line 0\n INFO line 1\n INFO line 2\n");
            tracing::info!("before");
            tracing::warn!("at once");
            assert_eq!(said.recv().unwrap(), " INFO before\n WARN at once\n");
            (0..HELD_BYTES_MAX / 10).for_each(|_| tracing::info!("much"));
            let start = Instant::now();
            let mut much = 0;
            while much < HELD_BYTES_MAX / 10 {
                much += said.recv().unwrap().lines().count();
            }
            assert!(start.elapsed() < Duration::from_secs(60));
            tracing::info!("last");
            drop(ending);
            assert_eq!(said.recv().unwrap(), " INFO last\n");
            tracing::info!("after the last");
            assert_eq!(said.recv().unwrap(), " INFO after the last\n");
        });
    }
}
