//! How long the steps to an answer took, for the field Server-Timing.

use std::{fmt::Write as _, time::Instant};

/// The steps so far.
pub(super) struct Timing {
    last: Instant,
    pub(super) text: String,
}

impl Timing {
    pub(super) fn new() -> Self {
        Self { last: Instant::now(), text: String::new() }
    }

    pub(super) fn step(&mut self, name: &str) {
        let now = Instant::now();
        let hundredths = now.duration_since(self.last).as_micros() / 10;
        self.last = now;
        let comma = if self.text.is_empty() { "" } else { ", " };
        // Milliseconds. Formatting a float was a fortieth of a small answer.
        let written = write!(self.text, "{comma}{name};dur={}.{:02}", hundredths / 100, hundredths % 100);
        written.expect("a string takes what is written");
    }
}
