//! One column on its way to its node: a bounded queue of cells, and the task that fills the shard with them.
//!
//! ```text
//! open a session, or go on with an earlier one -> append what the node does not have -> commit
//!    ^                                               |
//!    +---- another node, while all cells are kept ---+
//! ```
//!
//! Every call may be made again: the node takes what comes twice once.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use format::{Cell, NodeName, limits::UPLOAD_KEPT_SECONDS};
use futures::{FutureExt, future::Shared};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{
    Session,
    spread::{Spread, lock},
};
use crate::{
    Transport, TransportError,
    again::{AGAIN_FIRST, AGAIN_FOR, again},
};

/// Number of strips that may wait for one node. An upload holds these, the stripe being encoded, and [`KEPT_CELLS`] for
/// each node at its beginning in memory.
pub(super) const LANE_STRIPS: usize = 2;
/// Cells that a lane keeps after they were sent. While these are all, another node can take the place of one that
/// fails.
const KEPT_CELLS: usize = 4;
/// Nodes that are tried in place of one, for one column.
const OTHERS_MAX: usize = 3;
/// What `AGAIN_FOR` is for other calls, for a session that cannot be opened where no other node can take over: a gap in
/// the network ends no upload, and a node that is gone holds up nobody for a minute.
const OPEN_FOR: Duration = Duration::from_secs(10);
/// How long the node of an earlier session may be away while another one can take its column. It is shorter than what
/// the other columns wait for a straggler (`PATIENCE`).
const RETURN_FOR: Duration = Duration::from_secs(30);
/// A session whose producer pauses is asked for after this time, again and again: a node drops what nobody asks for,
/// and lets those give way first whose caller's connection ended.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
const _: () = assert!(KEEP_ALIVE.as_secs() < UPLOAD_KEPT_SECONDS);

/// Hears of each session that is opened, with its column.
pub type Note = Arc<dyn Fn(usize, &Session) + Send + Sync>;

/// The public manifest, which a lane gets when all its cells are there; an error once the upload was given up.
type Public = Shared<oneshot::Receiver<Bytes>>;

/// One column on its way to its node.
pub(super) struct Lane {
    pub(super) cells: mpsc::Sender<(u64, Cell)>,
    /// Takes the public manifest once all cells are there.
    pub(super) commit: oneshot::Sender<Bytes>,
    /// Ends once the shard is durable.
    pub(super) task: JoinHandle<Result<(), TransportError>>,
}

/// What fills a shard.
pub(super) struct Filling {
    pub(super) transport: Arc<dyn Transport>,
    pub(super) spread: Arc<Mutex<Spread>>,
    pub(super) node: NodeName,
    pub(super) column: usize,
    pub(super) columns: usize,
    /// The session of an earlier attempt at this node.
    pub(super) earlier: Option<String>,
    /// The public manifest, if the earlier attempt came to its commit.
    pub(super) committed: Option<Bytes>,
    /// Whoever hears of sessions goes on with them later, so those that fail are not ended.
    pub(super) note: Option<Note>,
}

impl Filling {
    pub(super) fn start(self) -> Lane {
        let (cells, waiting) = mpsc::channel(LANE_STRIPS);
        let (commit, public) = oneshot::channel();
        let is_bound = self.earlier.is_some();
        let (kept, session) = (Some(Vec::new()), None);
        let work = Work { of: self, waiting, public: public.shared(), kept, is_bound, is_last: false, session };
        Lane { cells, commit, task: tokio::spawn(work.run()) }
    }
}

struct Work {
    of: Filling,
    waiting: mpsc::Receiver<(u64, Cell)>,
    public: Public,
    /// The cells that came, while they are few.
    kept: Option<Vec<Cell>>,
    /// The node has cells of an earlier attempt, which another one would have to be sent again.
    is_bound: bool,
    /// There is no other node.
    is_last: bool,
    /// The session at the node.
    session: Option<String>,
}

/// Why a lane leaves a node.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leaving {
    /// Another node takes the shard.
    ForAnother,
    /// The column is given up.
    Given,
}

/// How a session begins.
enum Begun {
    /// The node has so many cells.
    Open(String, u64),
    /// The node has the shard.
    Durable,
}

impl Work {
    /// Fills the shard at the node, or, as long as all of it is kept, at another one. Where there is no other, the
    /// session goes on at the same one, as it does once the first cells are no longer kept.
    async fn run(mut self) -> Result<(), TransportError> {
        let mut others = 0..OTHERS_MAX;
        loop {
            let Err(error) = self.fill().await else { return Ok(()) };
            // Once the column or the upload was given up, the manifest never comes.
            let is_given_up = matches!(self.public.clone().now_or_never(), Some(Err(_)));
            if self.kept.is_none() || is_given_up {
                self.leave(Leaving::Given);
                return Err(error);
            }
            let (node, column) = (&self.of.node, self.of.column);
            let next = others.next().and_then(|_| lock(&self.of.spread).replace(column));
            match next {
                Some(next) => {
                    tracing::info!(%node, %next, column, %error, "another origin takes a shard");
                    self.leave(Leaving::ForAnother);
                    (self.of.node, self.is_bound) = (next, false);
                }
                None if error.is_retryable() && !self.is_last => {
                    (self.is_last, self.of.earlier) = (true, self.session.take());
                    sleep(AGAIN_FIRST).await;
                }
                None => {
                    self.leave(Leaving::Given);
                    return Err(error);
                }
            }
        }
    }

    /// Ends a session that nobody goes on with. If the node is down, it collects the session itself.
    fn leave(&mut self, leaving: Leaving) {
        let is_resumed = leaving == Leaving::Given && self.of.note.is_some();
        if let Some(upload) = self.session.take().filter(|_| !is_resumed) {
            let (transport, node) = (self.of.transport.clone(), self.of.node.clone());
            tokio::spawn(async move { transport.abort(&node, &upload).await });
        }
    }

    async fn fill(&mut self) -> Result<(), TransportError> {
        match self.begin().await? {
            Begun::Open(upload, held) => {
                self.session = Some(upload.clone());
                self.send(&upload, held).await
            }
            Begun::Durable => {
                while self.waiting.recv().await.is_some() {}
                Ok(())
            }
        }
    }

    /// Goes on with the session of an earlier attempt, if the node still has it, or else opens one.
    async fn begin(&mut self) -> Result<Begun, TransportError> {
        if let Some(upload) = self.of.earlier.take() {
            if let Some(begun) = self.begin_earlier(upload).await? {
                return Ok(begun);
            }
            self.is_bound = false;
        }
        let Filling { transport, node, column, columns, note, .. } = &self.of;
        // One whose answer was lost is collected by the node.
        let upload = self.again(OPEN_FOR, || transport.create_upload(node, *column, *columns)).await?;
        if let Some(note) = note {
            note(*column, &Session { node: node.clone(), upload: upload.clone() });
        }
        Ok(Begun::Open(upload, 0))
    }

    /// Asks what the node has of an earlier session; none when it has nothing.
    async fn begin_earlier(&mut self, upload: String) -> Result<Option<Begun>, TransportError> {
        // Whatever comes of it: if there is no other node, this one is asked again.
        self.session = Some(upload.clone());
        let Filling { transport, node, column, committed, .. } = &self.of;
        let asked = self.again(AGAIN_FOR, || transport.upload_cells(node, &upload));
        let asked = match self.is_last {
            true => asked.await,
            false => timeout(RETURN_FOR, asked)
                .await
                .unwrap_or_else(|_| Err(TransportError::TimedOut { node: node.clone() })),
        };
        match asked {
            Ok(cells) => return Ok(Some(Begun::Open(upload, cells))),
            Err(error) if error.status() != Some(404) => return Err(error),
            Err(error) => tracing::debug!(%node, column, %error, "a session has ended"),
        }
        self.session = None;
        // A session ends when its shard is durable.
        let Some(public) = committed else { return Ok(None) };
        let is_durable = transport.commit(node, &upload, *column, public.clone()).await.is_ok();
        Ok(is_durable.then_some(Begun::Durable))
    }

    /// Sends what the node does not have of the cells.
    async fn send(&mut self, upload: &str, held: u64) -> Result<(), TransportError> {
        for (first, cell) in (0..).zip(self.kept.iter().flatten()) {
            self.append(upload, held, first, cell).await?;
        }
        while let Some((first, cell)) = self.next(upload).await {
            match &mut self.kept {
                Some(kept) if kept.len() < KEPT_CELLS => kept.push(cell.clone()),
                kept => *kept = None,
            }
            self.append(upload, held, first, &cell).await?;
        }
        let Filling { transport, node, column, .. } = &self.of;
        let public = self.public.clone().await.map_err(|_| unfinished(node))?;
        self.again(AGAIN_FOR, || transport.commit(node, upload, *column, public.clone())).await
    }

    /// Waits for the next cell. While the producer pauses, the session is kept alive.
    async fn next(&mut self, upload: &str) -> Option<(u64, Cell)> {
        loop {
            if let Ok(next) = timeout(KEEP_ALIVE, self.waiting.recv()).await {
                return next;
            }
            let Filling { transport, node, column, .. } = &self.of;
            if let Err(error) = transport.upload_cells(node, upload).await {
                tracing::debug!(%node, column, %error, "a session cannot be kept alive");
            }
        }
    }

    async fn append(&self, upload: &str, held: u64, first: u64, cell: &Cell) -> Result<(), TransportError> {
        let Filling { transport, node, .. } = &self.of;
        if first < held {
            return Ok(());
        }
        self.again(AGAIN_FOR, || transport.append(node, upload, first, std::slice::from_ref(cell))).await
    }

    /// Returns whether the node is worth a wait: no other can take over.
    fn may_wait(&self) -> bool {
        self.is_bound || self.is_last || self.kept.is_none()
    }

    /// Makes a call again that an interruption of the network, or a restart of the node, may have failed; but not while
    /// another node can take over, nor where the node has no room.
    async fn again<T, F: Future<Output = Result<T, TransportError>>>(
        &self,
        paused_max: Duration,
        call: impl Fn() -> F,
    ) -> Result<T, TransportError> {
        let paused_max = if self.may_wait() { paused_max } else { Duration::ZERO };
        let is_passing = |error: &TransportError| {
            tracing::debug!(node = %self.of.node, column = self.of.column, %error, "a call failed");
            error.is_passing()
        };
        again(paused_max, is_passing, call).await
    }
}

pub(super) fn unfinished(node: &NodeName) -> TransportError {
    TransportError::Unreachable { node: node.clone(), reason: "its lane was cancelled".to_owned() }
}
