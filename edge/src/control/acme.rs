//! The zone's certificate from an ACME authority (RFC 8555): ordered by one edge, answered for by the DNS door of every
//! edge (DNS-01, RFC 8555 section 8.4), shared sealed through the origins, renewed when the authority says so (RFC
//! 9773).
//!
//! Every edge looks at the shared note each `look_seconds`; when something is due, the first to write its name into it
//! does it. Keeps true: an edge that dies, an authority that refuses, origins that are away cost time and never the
//! certificate in use, not over a restart either: with a `state_dir` the newest note lies there too, sealed as it is.

mod order;
mod restart;
mod shared;
mod sight;
mod times;

use std::{cmp::Ordering, path::PathBuf, sync::Arc, time::Duration};

use client::Transport;
use tokio::time::{sleep, timeout};

use self::{
    order::{ORDER_DEADLINE, OrderError, account_url},
    shared::{Board, Holder, NoteError, Shared},
    times::{counts_until, now, now_after, retry_seconds, times},
};
use crate::{
    config::AcmeConfig,
    listen::certificate::Certificate,
    node::{Node, Published},
    secret::ZoneSecret,
};

/// Nobody else orders for so long, though the one at work died.
const HOLD_SECONDS: u64 = 2 * ORDER_DEADLINE.as_secs();

/// Keeps one edge's certificate.
pub(crate) struct Keeper {
    node: Arc<Node>,
    certificate: Arc<Certificate>,
    config: AcmeConfig,
    board: Board,
    /// The newest version seen, and what it says.
    version: u64,
    shared: Shared,
    /// Where it is kept over a restart, and the version that lies there.
    file: Option<PathBuf>,
    kept: u64,
    is_forgetful: bool,
    /// The configuration, read at the start, may name another authority than the certificate's. Edges that run under
    /// the one before it leave the new certificate alone, or two configurations would order against each other.
    moves: bool,
}

impl Keeper {
    pub(crate) fn new(
        node: Arc<Node>,
        certificate: Arc<Certificate>,
        config: AcmeConfig,
        secret: &ZoneSecret,
        transport: Arc<dyn Transport>,
    ) -> Self {
        let board =
            Board::new(transport, Arc::clone(&node.topology), node.config.place.clone(), secret, &node.config.zone);
        let file = node.config.state_dir.as_ref().map(|folder| folder.join("certificate.note"));
        let (version, shared) = (0, Shared::default());
        Self { node, certificate, config, board, version, shared, file, kept: 0, is_forgetful: false, moves: true }
    }

    /// Keeps the certificate for ever. Dropped in the middle of an order, it leaves a hold that ends by itself.
    pub(crate) async fn run(mut self) {
        // instant-acme takes the process's provider; where two are built in, one has to be named. Set already: the
        // same.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut failing = String::new();
        loop {
            match self.look().await {
                Ok(()) => failing.clear(),
                Err(error) => {
                    self.node.metrics.certificate_faults.inc();
                    let said = error.to_string();
                    if said != failing {
                        tracing::warn!(error = client::causes(&error), "the certificate waits");
                        failing = said;
                    }
                }
            }
            self.keep().await;
            sleep(Duration::from_secs(self.config.look_seconds)).await;
        }
    }

    async fn look(&mut self) -> Result<(), NoteError> {
        let (version, shared) = self.board.read().await?;
        if self.goes_before(version, &shared, now()) {
            let mut kept = self.shared.clone();
            kept.holder = None;
            kept.challenges.clear();
            if self.board.write(version + 1, &kept).await? {
                self.take_in(version + 1, kept);
            }
            return Ok(());
        }
        self.take_in(version, shared);
        let (now, own) = (now(), &self.node.config.name);
        // Its own name is there when this edge ended in the middle of an order.
        let is_held = self.shared.holder.as_ref().is_some_and(|holder| holder.until > now && holder.edge != *own);
        self.moves &= self.shared.certified.as_ref().is_some_and(|held| held.directory != self.config.directory);
        if is_held || (now < self.shared.due && !(self.moves && self.shared.failures == 0)) {
            return Ok(());
        }
        let holder = Holder { edge: self.node.config.name.clone(), until: now + HOLD_SECONDS };
        if !self.write(|shared| shared.holder = Some(holder)).await? {
            return Ok(());
        }
        let done = timeout(ORDER_DEADLINE, self.act()).await.unwrap_or(Err(OrderError::TooSlow));
        let failed = done.err();
        if let Some(error) = &failed {
            self.node.metrics.certificate_faults.inc();
            match self.shared.certified {
                Some(_) => tracing::error!(error = client::causes(error), "no new certificate; the old one stays"),
                None => tracing::error!(error = client::causes(error), "there is no certificate yet"),
            }
        }
        let first = self.config.retry_seconds;
        let end = |shared: &mut Shared| {
            shared.holder = None;
            shared.challenges.clear();
            shared.failures = match &failed {
                None => 0,
                // Nobody counts what no authority was asked.
                Some(OrderError::Unseen(_)) => shared.failures.max(1),
                Some(_) => shared.failures.saturating_add(1),
            };
            if failed.is_some() {
                shared.due = now_after(retry_seconds(first, shared.failures));
            }
        };
        self.write(end).await.map(drop)
    }

    /// Whether what is known here goes before a version at the origins. Versions say nothing of certificates once the
    /// catalog was made anew, or an older one put in its place, and an edge that was off knows of none of that: of two
    /// certificates the one that ends later wins then, and one that has ended never wins. A later version that counts
    /// wins though it ends sooner, as where the zone moved to an authority that certifies for some days.
    fn goes_before(&self, version: u64, shared: &Shared, now: u64) -> bool {
        let (ours, theirs) = (counts_until(&self.shared, now), counts_until(shared, now));
        match ours.cmp(&theirs) {
            Ordering::Less => false,
            // All is lost there, the account too.
            Ordering::Equal => version == 0 && self.version > 0,
            Ordering::Greater => theirs == 0 || version <= self.version,
        }
    }

    /// Makes what a version says true here.
    fn take_in(&mut self, version: u64, shared: Shared) {
        if let Some(certified) = shared.certified.as_ref().filter(|new| self.shared.certified.as_ref() != Some(*new)) {
            match self.certificate.install(certified.chain.as_bytes(), certified.key.as_bytes()) {
                Ok(()) => {
                    let ends = times(&certified.chain).map_or(0, |(_, ends)| ends);
                    self.node.metrics.certificate_ends.set(ends);
                    tracing::info!(version, ends, "certificate taken up");
                }
                Err(error) => {
                    tracing::error!(error = client::causes(&error), "the shared certificate is no use");
                }
            }
        }
        let account = account_url(&shared.account);
        self.node.published.store(Arc::new(Published { challenges: shared.challenges.clone(), account }));
        (self.version, self.shared) = (version, shared);
    }

    /// Writes the next version. False: another edge was first, and its word will be read.
    async fn write(&mut self, change: impl FnOnce(&mut Shared)) -> Result<bool, NoteError> {
        let mut next = self.shared.clone();
        change(&mut next);
        let written = self.board.write(self.version + 1, &next).await?;
        if written {
            self.take_in(self.version + 1, next);
        }
        Ok(written)
    }
}
