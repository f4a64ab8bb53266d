//! The change feed as callers wait on it: one look at the catalog every 200 ms for all of them, within 20 ms after a
//! write here.

use std::{sync::Arc, time::Duration};

use format::{limits::PAGE_ENTRIES_MAX, wire::ChangePage};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::catalog::{Catalog, CatalogError};

/// Writes of other processes are seen this late; edges must know of an erasure within two seconds.
const POLL: Duration = Duration::from_millis(200);
/// The writes of this time are seen by one look, and told on one page.
const GATHER: Duration = Duration::from_millis(20);

/// Where callers wait for changes.
pub(crate) struct Feed {
    catalog: Arc<dyn Catalog>,
    newest: watch::Sender<u64>,
    written: Notify,
}

impl Feed {
    pub(crate) fn new(catalog: Arc<dyn Catalog>) -> Self {
        Self { catalog, newest: watch::Sender::new(0), written: Notify::new() }
    }

    /// Tells the feed that this process wrote something.
    pub(crate) fn written(&self) {
        self.written.notify_one();
    }

    /// Looks at the catalog until `stop`.
    pub(crate) async fn run(&self, stop: &CancellationToken) {
        let mut failing = false;
        while !stop.is_cancelled() {
            match self.catalog.newest_change().await {
                Ok(newest) => {
                    self.newest.send_if_modified(|held| std::mem::replace(held, newest) != newest);
                    failing = false;
                }
                Err(error) if !failing => {
                    tracing::warn!(%error, "the change feed cannot be read");
                    failing = true;
                }
                Err(_) => {}
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                _ = async {
                    sleep(GATHER).await;
                    timeout(POLL - GATHER, self.written.notified()).await
                } => {}
            }
        }
    }

    /// Returns the page after `since`, waiting up to `wait` for one with news. Cancel safe.
    pub(crate) async fn page(
        &self,
        since: u64,
        wait: Duration,
        stop: &CancellationToken,
    ) -> Result<ChangePage, CatalogError> {
        let deadline = Instant::now() + wait;
        // Before the look at the catalog, so that what is written after it wakes us.
        let mut newest = self.newest.subscribe();
        loop {
            newest.mark_unchanged();
            let page = self.catalog.changes(since, PAGE_ENTRIES_MAX).await?;
            if !page.changes.is_empty() || page.reset {
                return Ok(page);
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(page),
                news = timeout_at(deadline, newest.changed()) => if !matches!(news, Ok(Ok(()))) {
                    return Ok(page);
                },
            }
        }
    }
}
