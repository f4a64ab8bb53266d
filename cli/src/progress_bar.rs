//! The progress bar of long work on a terminal. Elsewhere it is silent.

use std::{
    io::IsTerminal,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use indicatif::{ProgressBar, ProgressStyle};
use origin::catalog::{Moving, Stage};
use twin::Progress;

use crate::output::shown;

const OF_BYTES: &str = "{bar:30} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} eta {eta} {wide_msg}";
const OF_ROWS: &str = "{bar:30} {pos}/{len} {wide_msg}";
const OF_LEASES: &str = "{bar:30} {pos}/{len} objects {per_sec} eta {eta}";

/// A bar that shows how many of the bytes, or objects, announced so far are done.
struct Bar {
    bar: ProgressBar,
    objects: AtomicU64,
}

/// Returns the receiver of the progress of bytes, and the bar to be cleared at the end.
pub(crate) fn of_bytes(json: bool) -> (Arc<dyn Progress>, ProgressBar) {
    start(json, OF_BYTES)
}

/// Returns the receiver of the progress of leases, and the bar to be cleared at the end.
pub(crate) fn of_leases(json: bool) -> (Arc<dyn Progress>, ProgressBar) {
    start(json, OF_LEASES)
}

/// Returns the bar of a catalog that is made again from disks, or moves.
pub(crate) fn of_rows(json: bool) -> ProgressBar {
    if json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    ProgressBar::new(0).with_style(ProgressStyle::with_template(OF_ROWS).expect("the template is fixed and right"))
}

/// Shows how far the move of a catalog is.
pub(crate) fn show_move(bar: &ProgressBar, Moving { stage, rows, of }: Moving) {
    bar.set_length(of);
    bar.set_position(rows);
    bar.set_message(match stage {
        Stage::Copying => "rows copied",
        Stage::Comparing => "rows copied and compared",
        Stage::Copied | Stage::Left => "rows handed over",
    });
}

fn start(json: bool, style: &'static str) -> (Arc<dyn Progress>, ProgressBar) {
    if json || !std::io::stderr().is_terminal() {
        return (Arc::new(()), ProgressBar::hidden());
    }
    let bar = ProgressBar::new(0);
    bar.set_style(ProgressStyle::with_template(style).expect("the template is fixed and right"));
    (Arc::new(Bar { bar: bar.clone(), objects: AtomicU64::new(0) }), bar)
}

impl Bar {
    fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
        // A stream announces no length, so its length is what was read of it so far.
        if self.bar.length().is_some_and(|length| length < self.bar.position()) {
            self.bar.set_length(self.bar.position());
        }
    }
}

impl Progress for Bar {
    fn file(&self, path: &Path, length: Option<u64>) {
        self.bar.inc_length(length.unwrap_or(0));
        self.bar.set_message(shown(path));
    }

    fn sent(&self, bytes: u64) {
        self.advance(bytes);
    }

    fn durable(&self, _: &Path, nodes: usize) {
        let objects = self.objects.fetch_add(1, Ordering::Relaxed) + 1;
        self.bar.set_message(format!("{objects} objects durable, the last on {nodes} nodes"));
    }

    fn fetched(&self, bytes: u64) {
        self.advance(bytes);
    }

    fn leases(&self, objects: usize) {
        self.bar.inc_length(objects as u64);
    }

    fn lease(&self) {
        self.bar.inc(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_are_right() {
        for style in [OF_BYTES, OF_LEASES, OF_ROWS] {
            assert!(ProgressStyle::with_template(style).is_ok(), "{style}");
        }
    }
}
