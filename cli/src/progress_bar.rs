//! The progress bar of an upload on a terminal. Elsewhere it is silent.

use std::{
    io::IsTerminal,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use indicatif::{ProgressBar, ProgressStyle};
use twin::Progress;

/// A bar that shows how many of the bytes announced so far are on nodes.
struct Bar {
    bar: ProgressBar,
    objects: AtomicU64,
}

/// Returns the receiver of an upload's progress, and the bar to be cleared at the end.
pub(crate) fn start(json: bool) -> (Arc<dyn Progress>, ProgressBar) {
    if json || !std::io::stderr().is_terminal() {
        return (Arc::new(()), ProgressBar::hidden());
    }
    let bar = ProgressBar::new(0);
    let style = "{bar:30} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} eta {eta} {wide_msg}";
    bar.set_style(ProgressStyle::with_template(style).expect("the template is fixed and right"));
    (Arc::new(Bar { bar: bar.clone(), objects: AtomicU64::new(0) }), bar)
}

impl Progress for Bar {
    fn file(&self, path: &Path, length: Option<u64>) {
        self.bar.inc_length(length.unwrap_or(0));
        self.bar.set_message(path.display().to_string());
    }

    fn sent(&self, bytes: u64) {
        self.bar.inc(bytes);
        // A stream announces no length, so its length is what was read of it so far.
        if self.bar.length().is_some_and(|length| length < self.bar.position()) {
            self.bar.set_length(self.bar.position());
        }
    }

    fn durable(&self, _: &Path, nodes: usize) {
        let objects = self.objects.fetch_add(1, Ordering::Relaxed) + 1;
        self.bar.set_message(format!("{objects} objects durable, the last on {nodes} nodes"));
    }
}
