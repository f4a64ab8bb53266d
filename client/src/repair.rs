//! Repairs: rebuilds lost shards and moves shards, over any [`Transport`]. A repair reads k columns in windows of
//! stripes, computes the lost strips, and appends them to upload sessions on their new nodes. Everything read is proven
//! under its root. The node that takes a shard checks everything written. No key is needed anywhere.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use format::{
    Cell, NodeName, PublicManifest, Rebuild, RebuildError, StripeIndex,
    limits::{SHARD_BODY_BYTES_MAX, SHARD_READ_STRIPS_MAX, STRIP_BYTES_MAX},
    row_bytes,
};
use futures::future::join_all;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    ShardAsk, Transport, TransportError,
    offload::offload,
    rebuild::{RebuildSource, SourceChoice, TooFewSources},
    slice::verify_slice,
};

/// Maximum bytes of strips read for one window of stripes. About as much again is computed and sent.
const WINDOW_BYTES: usize = 16 << 20;
const _: () = assert!(WINDOW_BYTES <= SHARD_BODY_BYTES_MAX);

/// Pauses before an append that could not reach its node is made again: a connection that stalls is given up after 10
/// s, and hours of work are not to end with it. A node that did not answer until the deadline is not asked again.
const AGAIN_AFTER: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(8)];
/// Maximum wait for the aborts of a repair. A node that cannot be told collects its session by itself.
const ABORT: Duration = Duration::from_secs(5);

/// What to rebuild or move, and from which nodes.
#[derive(Debug, Clone)]
pub struct RepairPlan {
    /// The object.
    pub public: PublicManifest,
    /// Columns that can be read, best first. A target that is also a source is moved: only its own column is read.
    pub sources: Vec<(usize, NodeName)>,
    /// Columns to store, each with its new node.
    pub targets: Vec<(usize, NodeName)>,
    /// Maximum bytes read and written per second; `None` for no limit.
    pub bytes_per_second: Option<u64>,
}

/// The result of a repair.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Repaired {
    /// Columns that are durable on their new nodes.
    pub durable: Vec<(usize, NodeName)>,
    /// Columns that their new node did not take, each with the reason.
    pub failed: Vec<(usize, TransportError)>,
    /// Bytes of strips read.
    pub read_bytes: u64,
    /// Bytes of strips written.
    pub written_bytes: u64,
    /// Columns for which a node sent wrong bytes.
    pub wrong: Vec<(usize, NodeName)>,
    /// Columns that a node did not return, each with the reason.
    pub absent: Vec<(usize, NodeName, TransportError)>,
}

/// Why an object cannot be repaired now.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// Too few columns can be read.
    #[error("too few columns can be read")]
    Sources {
        /// How many.
        #[from]
        source: TooFewSources,
    },
    /// The plan or the strips do not fit the object. Our own software is at fault.
    #[error("the rebuild went wrong")]
    Rebuild(#[from] RebuildError),
    /// The process is stopping, so the repair ends early.
    #[error("the rebuild was cut short")]
    Stopped,
}

/// One repair under way.
struct Repair<'r> {
    transport: &'r Arc<dyn Transport>,
    public: PublicManifest,
    done: Repaired,
    sessions: Vec<Session>,
    /// Sessions that failed. Their nodes may still hold what they have of them.
    broken: Vec<Session>,
    bytes_per_second: Option<u64>,
}

/// An upload session: a column on its way to its new node.
struct Session {
    column: usize,
    node: NodeName,
    upload: String,
}

/// Repairs one object. If the future is dropped, upload sessions remain until their nodes collect them, and shards that
/// are already durable stay.
///
/// # Errors
/// [`RepairError`]. If only some targets fail, they are in [`Repaired::failed`] instead.
pub async fn repair(transport: &Arc<dyn Transport>, ask: RepairPlan) -> Result<Repaired, RepairError> {
    let RepairPlan { public, mut sources, targets, bytes_per_second } = ask;
    let (done, sessions, broken) = (Repaired::default(), Vec::new(), Vec::new());
    let mut repair = Repair { transport, public, done, sessions, broken, bytes_per_second };
    let is_source = |column: usize| sources.iter().any(|(source, _)| *source == column);
    let (moved, mut lost): (Vec<_>, Vec<_>) = targets.into_iter().partition(|(column, _)| is_source(*column));
    for (column, to) in moved {
        let from = sources.iter().find(|(source, _)| *source == column).map(|(_, node)| node.clone());
        if let Some(from) = from
            && !repair.copy(column, from, to.clone()).await
        {
            sources.retain(|(source, _)| *source != column);
            lost.push((column, to));
        }
    }
    let rebuilt = if lost.is_empty() { Ok(()) } else { repair.rebuild(&sources, lost).await };
    // What ends here would hold its sessions, and the room that they take, until the nodes collect them.
    repair.abandon().await;
    rebuilt.map(|()| repair.done)
}

impl Repair<'_> {
    /// Moves one column. Returns false if its node does not return it: the column then counts as lost.
    async fn copy(&mut self, column: usize, from: NodeName, to: NodeName) -> bool {
        self.open(vec![(column, to)]).await;
        let stripes = self.public.stripes();
        let mut first = 0;
        while first < stripes && !self.sessions.is_empty() {
            let started = Instant::now();
            let count = self.window(first, 1);
            let source = RebuildSource { column, node: Some(from.clone()) };
            let Ok(read) = self.fetch(&source, first, count).await else {
                self.abandon().await;
                return false;
            };
            let moved = size(&read);
            self.append(first, vec![(column, read)]).await;
            self.pace(moved, started).await;
            first += count;
        }
        self.commit().await;
        true
    }

    /// Rebuilds all lost columns in one pass over k others.
    async fn rebuild(
        &mut self,
        sources: &[(usize, NodeName)],
        lost: Vec<(usize, NodeName)>,
    ) -> Result<(), RepairError> {
        let mut choice = SourceChoice::new(&self.public, sources)?;
        self.open(lost).await;
        let mut first = 0;
        while first < self.public.stripes() && !self.sessions.is_empty() {
            let started = Instant::now();
            let count = self.window(first, choice.chosen().len());
            let cells = self.read(&mut choice, first, count).await?;
            let read = cells.iter().map(|column| size(column)).sum();
            let columns: Vec<usize> = choice.chosen().iter().map(|source| source.column).collect();
            let wanted: Vec<usize> = self.sessions.iter().map(|session| session.column).collect();
            let public = self.public.clone();
            let work = move || compute(public, &columns, &wanted, first, &cells);
            let made = offload(work).await.map_err(|_| RepairError::Stopped)??;
            self.append(first, made).await;
            self.pace(read, started).await;
            first += count;
        }
        self.commit().await;
        Ok(())
    }

    /// Returns how many stripes from `first` on fit a window that reads `columns` cells of each, at the longest.
    fn window(&self, first: u64, columns: usize) -> u64 {
        let cell = STRIP_BYTES_MAX + row_bytes(self.public.row_columns());
        let fit = (WINDOW_BYTES / (cell * columns.max(1))).max(1) as u64;
        (self.public.stripes() - first).min(fit).min(SHARD_READ_STRIPS_MAX)
    }

    /// Reads a window of all chosen columns; replaces those that fail. Each column's cells stand in stripe order.
    async fn read(&mut self, choice: &mut SourceChoice, first: u64, count: u64) -> Result<Vec<Vec<Cell>>, RepairError> {
        let mut cells: Vec<Option<Vec<Cell>>> = vec![None; choice.chosen().len()];
        loop {
            let missing: Vec<usize> = (0..cells.len()).filter(|at| cells[*at].is_none()).collect();
            if missing.is_empty() {
                return Ok(cells.into_iter().flatten().collect());
            }
            let this = &*self;
            let asked = missing.iter().map(|at| {
                let source = choice.chosen()[*at].clone();
                async move { (*at, this.ask(&source, first, count).await, source) }
            });
            for (at, answer, source) in join_all(asked).await {
                match self.note(&source, answer) {
                    Ok(read) => cells[at] = Some(read),
                    Err(()) => choice.replace(source.column)?,
                }
            }
        }
    }

    async fn fetch(&mut self, source: &RebuildSource, first: u64, count: u64) -> Result<Vec<Cell>, ()> {
        let answer = self.ask(source, first, count).await;
        self.note(source, answer)
    }

    /// Asks a column for its cells of a window. A column without strips has nothing but rows, and is not asked.
    async fn ask(&self, source: &RebuildSource, first: u64, count: u64) -> Result<Option<Vec<Cell>>, TransportError> {
        let Some(node) = &source.node else { return Ok(Some(Vec::new())) };
        let ask = ShardAsk { object: self.public.id(), column: source.column, first, count };
        let body = self.transport.read_shard(node, ask).await?;
        let public = self.public.clone();
        let verified = offload(move || verify_slice(&public, ask, body)).await;
        Ok(verified.ok().flatten())
    }

    /// Records what an answer tells about its node.
    fn note(
        &mut self,
        source: &RebuildSource,
        answer: Result<Option<Vec<Cell>>, TransportError>,
    ) -> Result<Vec<Cell>, ()> {
        let (column, node) = (source.column, &source.node);
        match answer {
            Ok(Some(cells)) => {
                self.done.read_bytes += size(&cells);
                return Ok(cells);
            }
            Ok(None) => {
                tracing::warn!(?node, column, "a node sent wrong strips to a repair");
                self.done.wrong.extend(node.clone().map(|node| (column, node)));
            }
            Err(error) => {
                tracing::warn!(?node, column, %error, "a repair cannot read a column");
                self.done.absent.extend(node.clone().map(|node| (column, node, error)));
            }
        }
        Err(())
    }

    async fn open(&mut self, targets: Vec<(usize, NodeName)>) {
        let (transport, columns) = (self.transport, self.public.row_columns());
        let opened = targets.into_iter().map(async |(column, node)| {
            let upload = transport.create_upload(&node, column, columns).await;
            (column, node, upload)
        });
        for (column, node, upload) in join_all(opened).await {
            match upload {
                Ok(upload) => self.sessions.push(Session { column, node, upload }),
                Err(error) => self.done.failed.push((column, error)),
            }
        }
    }

    /// Hands each column its cells; a node that does not take them is given up.
    async fn append(&mut self, first: u64, made: Vec<(usize, Vec<Cell>)>) {
        let transport = self.transport;
        let sent = self.sessions.drain(..).map(|session| {
            let cells = made.iter().find(|(column, _)| *column == session.column).map(|(_, cells)| &cells[..]);
            let cells = cells.unwrap_or_default();
            async move {
                let done = append(&**transport, &session, first, cells).await.map(|()| size(cells));
                (session, done)
            }
        });
        for (session, done) in join_all(sent).await {
            match done {
                Ok(bytes) => {
                    self.done.written_bytes += bytes;
                    self.sessions.push(session);
                }
                Err(error) => self.fail(session, error),
            }
        }
    }

    async fn commit(&mut self) {
        let (transport, public) = (self.transport, self.public.encoded());
        let committed = self.sessions.drain(..).map(async |session| {
            let done = transport.commit(&session.node, &session.upload, session.column, public.clone()).await;
            (session, done)
        });
        for (session, done) in join_all(committed).await {
            match done {
                Ok(()) => self.done.durable.push((session.column, session.node)),
                Err(error) => self.fail(session, error),
            }
        }
    }

    fn fail(&mut self, session: Session, error: TransportError) {
        self.done.failed.push((session.column, error));
        self.broken.push(session);
    }

    /// Aborts the sessions, those that failed among them.
    async fn abandon(&mut self) {
        let transport = self.transport;
        let ended = self.sessions.drain(..).chain(self.broken.drain(..));
        let aborts = ended.map(async |session| transport.abort(&session.node, &session.upload).await);
        // Not even the deadline of a node that answers nothing holds up the next repair.
        drop(timeout(ABORT, join_all(aborts)).await);
    }

    /// Waits until the bytes of a window are worth its time.
    async fn pace(&self, bytes: u64, started: Instant) {
        let Some(rate) = self.bytes_per_second else { return };
        #[expect(clippy::cast_precision_loss, reason = "a pause; a rounding of it does not matter")]
        let worth = Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64);
        sleep(worth.saturating_sub(started.elapsed())).await;
    }
}

/// Hands a node cells of its column. What it has of them already it takes once.
async fn append(
    transport: &dyn Transport,
    Session { node, upload, .. }: &Session,
    first: u64,
    cells: &[Cell],
) -> Result<(), TransportError> {
    for pause in AGAIN_AFTER {
        match transport.append(node, upload, first, cells).await {
            Err(error @ TransportError::Unreachable { .. }) => tracing::debug!(%error, "an append is made again"),
            done => return done,
        }
        sleep(pause).await;
    }
    transport.append(node, upload, first, cells).await
}

fn size(cells: &[Cell]) -> u64 {
    cells.iter().map(|cell| cell.size() as u64).sum()
}

/// Makes the lost cells of a window from the cells of `sources`, each column's in stripe order from `first` on. CPU
/// work.
fn compute(
    public: PublicManifest,
    sources: &[usize],
    lost: &[usize],
    first: u64,
    cells: &[Vec<Cell>],
) -> Result<Vec<(usize, Vec<Cell>)>, RebuildError> {
    let rebuild = Rebuild::new(public, sources, lost)?;
    let mut made: Vec<(usize, Vec<Cell>)> = lost.iter().map(|column| (*column, Vec::new())).collect();
    let count = cells.iter().map(Vec::len).max().unwrap_or_default();
    for at in 0..count {
        let stripe = StripeIndex(first + at as u64);
        let of_stripe = |column: &Vec<Cell>| column.get(at).cloned();
        let here: Vec<Option<Cell>> = cells.iter().map(of_stripe).collect();
        // All are proven under one root, so each has the same row.
        let Some(row) = here.iter().flatten().map(|cell| cell.row.clone()).next() else { break };
        let strips: Vec<Option<Bytes>> = here.into_iter().map(|cell| cell.and_then(|cell| cell.strip)).collect();
        for ((_, made), (_, cell)) in made.iter_mut().zip(rebuild.stripe(stripe, &row, &strips)?) {
            made.push(cell);
        }
    }
    Ok(made)
}
