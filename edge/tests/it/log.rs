//! The log of all edges in this process: warnings as lines, for tests of what an operator is told.

use std::{
    io,
    sync::{Mutex, PoisonError},
};

use tracing_subscriber::filter::LevelFilter;

static HEARD: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Ear;

impl io::Write for Ear {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        HEARD.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Begins to listen. Only the first call does something.
pub(crate) fn listen() {
    let log = tracing_subscriber::fmt().with_ansi(false).with_max_level(LevelFilter::WARN).with_writer(|| Ear);
    let _ = log.try_init();
}

/// All lines since the first test began.
pub(crate) fn lines() -> Vec<String> {
    let heard = HEARD.lock().unwrap_or_else(PoisonError::into_inner);
    String::from_utf8_lossy(&heard).lines().map(str::to_owned).collect()
}
