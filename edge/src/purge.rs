//! Purges: an owner has the edges forget what they hold of an object, or of all its objects.
//!
//! Memory forgets at once. The disk is swept behind it, because its entries are named by object and stripe, which takes
//! the record to know; in order of the orders, one at a time.
//!
//! Keeps true: only a record that the owner of the order signed says what leaves the disk. Anybody can file one under a
//! locator with keys of their own.

use std::{collections::HashSet, sync::Arc, time::Duration};

use client::{ReadError, Transport, TransportError};
use format::{Locator, OwnerId, PublicManifest, wire::LocatorPage};
use tokio::{
    sync::mpsc,
    task::spawn_blocking,
    time::{sleep, timeout},
};

use crate::{node::Node, objects::Opened};

/// Orders whose objects are still on the disk; of more the disk is not swept.
pub(crate) const SWEEPS_MAX: usize = 10_000;
/// Between tries when no origin could be asked, and how many.
const RETRY: Duration = Duration::from_secs(1);
const TRIES_MAX: u32 = 60;
/// One question of a sweep.
const ASK_DEADLINE: Duration = Duration::from_secs(10);
/// Between looks whether a predecessor gave the disk up.
const DISK_RETRY: Duration = Duration::from_secs(1);

/// What is to leave the disk.
pub(crate) enum Sweep {
    /// An object that was open.
    Opened(Arc<Opened>),
    /// An owner's object of which only the name is known.
    Object(OwnerId, Locator),
    /// All objects of an owner.
    Owner(OwnerId),
}

/// Has memory forget, or look up again what is open, and returns what is to leave the disk.
pub(crate) async fn purge(node: &Node, owner: OwnerId, locator: Option<Locator>, hard: bool) -> Vec<Sweep> {
    node.metrics.purges.inc();
    let (open, names) = match locator {
        Some(locator) => (HashSet::from([locator]), HashSet::from([locator])),
        None => (node.objects.of(&owner), node.names.of(&owner)),
    };
    // A name holds no bytes: it is looked up again.
    for name in names {
        node.names.changed(name).await;
    }
    if !hard {
        for locator in open {
            node.objects.changed(locator).await;
        }
        return Vec::new();
    }
    let mut sweeps = Vec::new();
    for locator in &open {
        let opened = node.objects.purged(*locator, &owner).await;
        sweeps.push(opened.map_or(Sweep::Object(owner, *locator), Sweep::Opened));
    }
    node.forget(open).await;
    if locator.is_none() {
        sweeps.push(Sweep::Owner(owner));
    }
    sweeps
}

/// Why a sweep ended early.
#[derive(Debug, thiserror::Error)]
enum SweepError {
    #[error("no origin gives the record")]
    Record(#[from] ReadError),
    #[error("no origin lists the owner's objects")]
    List(#[from] TransportError),
    #[error("no origin answers in time")]
    Slow,
}

/// Sweeps the disk.
pub(crate) struct Sweeper {
    node: Arc<Node>,
    transport: Arc<dyn Transport>,
}

impl Sweeper {
    pub(crate) fn new(node: Arc<Node>, transport: Arc<dyn Transport>) -> Self {
        Self { node, transport }
    }

    /// Sweeps for ever; without a disk there is nothing to do.
    pub(crate) async fn run(self, mut sweeps: mpsc::Receiver<Sweep>) {
        while self.node.config.cache.disk.is_some() && !self.node.fills.has_disk() {
            sleep(DISK_RETRY).await;
        }
        while let Some(sweep) = sweeps.recv().await {
            if !self.node.fills.has_disk() {
                continue;
            }
            let swept = match sweep {
                Sweep::Opened(opened) => {
                    self.forget(opened.record.public.clone()).await;
                    Ok(())
                }
                Sweep::Object(owner, locator) => self.object(&owner, &locator).await,
                Sweep::Owner(owner) => self.all(&owner).await,
            };
            if let Err(error) = swept {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "what was purged may still lie on the disk, encrypted");
            }
        }
    }

    async fn object(&self, owner: &OwnerId, locator: &Locator) -> Result<(), SweepError> {
        let mut tries = 1;
        let record = loop {
            let failure = match timeout(ASK_DEADLINE, self.node.objects.record_of(owner, locator)).await {
                Ok(Ok(record)) => break record,
                // Nobody can read it any more, whatever lies here.
                Ok(Err(ReadError::NotFound { .. })) => return Ok(()),
                Ok(Err(error)) => error.into(),
                Err(_) => SweepError::Slow,
            };
            pause(&mut tries, failure).await?;
        };
        self.forget(record.public).await;
        Ok(())
    }

    async fn all(&self, owner: &OwnerId) -> Result<(), SweepError> {
        let mut after = None;
        loop {
            let page = self.page(owner, after.as_ref()).await?;
            for locator in &page.locators {
                self.object(owner, locator).await?;
            }
            match page.next {
                None => return Ok(()),
                next => after = next,
            }
        }
    }

    async fn page(&self, owner: &OwnerId, after: Option<&Locator>) -> Result<LocatorPage, SweepError> {
        let mut tries = 1;
        loop {
            let mut failure = SweepError::Slow;
            for origin in self.node.topology.origins_by_distance(&self.node.config.place) {
                match timeout(ASK_DEADLINE, self.transport.locators(&origin, owner, after)).await {
                    Ok(Ok(page)) => return Ok(page),
                    Ok(Err(error)) => failure = error.into(),
                    Err(_) => {}
                }
            }
            pause(&mut tries, failure).await?;
        }
    }

    async fn forget(&self, public: PublicManifest) {
        let fills = Arc::clone(&self.node.fills);
        // Millions of stripes at the worst.
        let _ = spawn_blocking(move || fills.forget(&public)).await;
    }
}

/// Waits before the next try, or gives the failure back after the last.
async fn pause(tries: &mut u32, failure: SweepError) -> Result<(), SweepError> {
    if *tries == TRIES_MAX {
        return Err(failure);
    }
    *tries += 1;
    sleep(RETRY).await;
    Ok(())
}
