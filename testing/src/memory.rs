//! The transport without a network: nodes that keep shards and records in memory and answer as an origin does.
//!
//! Keeps true: what a node promises is written down in `conformance`, and these nodes keep it as real ones do. They do
//! no work by themselves: nothing is repaired, swept, or ended because its lease did.

mod catalog;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use client::{ShardAsk, Transport, TransportError};
use format::{
    BlobId, Cell, Locator, NodeName, NoteId, ObjectId, OwnerId, PolicyName, PublicManifest, Row, RowList, StripeIndex,
    limits::{CHANGES_WAIT_SECONDS_MAX, COLUMNS_MAX, PUBLIC_MANIFEST_BYTES_MAX, SHARD_READ_STRIPS_MAX},
    wire::{
        ChangePage, ColumnHealth, ColumnState, LocatorPage, NodeEntry, Note, ObjectHealth, RepairStatus, Role,
        ShardSlice, Ticket, frame_cells,
    },
};

use self::catalog::{Catalog, ensure, malformed, now, within};

#[derive(Debug, Default)]
struct Shard {
    cells: Vec<Cell>,
    rows: RowList,
}

/// An upload session and who opened it.
#[derive(Debug)]
struct Upload {
    of: NodeName,
    column: usize,
    columns: usize,
    cells: Vec<Cell>,
}

#[derive(Debug, Default)]
struct Node {
    uploads: HashMap<String, Upload>,
    shards: HashMap<(ObjectId, usize), Shard>,
}

#[derive(Debug, Default)]
struct Cluster {
    /// None: the node is down.
    nodes: Mutex<BTreeMap<NodeName, Option<Node>>>,
    catalog: Mutex<Catalog>,
    uploads: AtomicU64,
}

/// Why a node says no.
#[derive(Debug)]
struct Refusal {
    status: u16,
    reason: String,
}

impl Refusal {
    fn of(self, node: &NodeName) -> TransportError {
        let (node, Self { status, reason }) = (node.clone(), self);
        if matches!(status, 408 | 429) || status >= 500 {
            TransportError::Failed { node, status, reason }
        } else {
            TransportError::Refused { node, status, reason }
        }
    }
}

/// What a caller may want; `origin::peer` has the table.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Action {
    Any,
    Write,
    Share,
}

/// A caller's way to nodes in memory.
#[derive(Debug, Clone)]
pub struct MemoryTransport {
    cluster: Arc<Cluster>,
    caller: NodeName,
    role: Role,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MemoryTransport {
    /// Uploads that a node has open at once, as an origin whose operator does not say otherwise.
    pub const UPLOADS_MAX: usize = 1024;

    /// Makes nodes that are all up and empty. The caller is an owner's.
    #[must_use]
    pub fn new(nodes: &[NodeEntry]) -> Self {
        let cluster = Cluster::default();
        for entry in nodes {
            lock(&cluster.nodes).insert(entry.name.clone(), Some(Node::default()));
            lock(&cluster.catalog).found(entry.clone());
        }
        let caller = "twin".parse().unwrap();
        Self { cluster: Arc::new(cluster), caller, role: Role::Twin }
    }

    /// Returns another caller's way to the same nodes.
    #[must_use]
    pub fn caller(&self, name: &str, role: Role) -> Self {
        Self { cluster: self.cluster.clone(), caller: name.parse().unwrap(), role }
    }

    /// Takes a node away with all it holds.
    pub fn remove(&self, node: &NodeName) {
        lock(&self.cluster.nodes).insert(node.clone(), None);
    }

    /// Flips one bit of a stored strip. Returns whether there is such a strip.
    #[must_use]
    pub fn flip(&self, node: &NodeName, ask: ShardAsk, bit: usize) -> bool {
        let mut nodes = lock(&self.cluster.nodes);
        let shard = nodes.get_mut(node).and_then(|node| node.as_mut()?.shards.get_mut(&(ask.object, ask.column)));
        let cell = shard.and_then(|shard| shard.cells.get_mut(usize::try_from(ask.first).ok()?));
        let Some(strip) = cell.and_then(|cell| cell.strip.as_mut()) else { return false };
        let mut bytes = strip.to_vec();
        let bit = bit % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        *strip = bytes.into();
        true
    }

    /// Returns all stored strip bytes of a node, for tests that search them.
    #[must_use]
    pub fn stored(&self, node: &NodeName) -> Vec<Bytes> {
        let nodes = lock(&self.cluster.nodes);
        let shards = nodes.get(node).into_iter().flatten().flat_map(|node| node.shards.values());
        shards.flat_map(|shard| &shard.cells).filter_map(|cell| cell.strip.clone()).collect()
    }

    /// Returns how many uploads are open at a node.
    #[must_use]
    pub fn uploads(&self, node: &NodeName) -> usize {
        lock(&self.cluster.nodes).get(node).and_then(Option::as_ref).map_or(0, |node| node.uploads.len())
    }

    /// Returns what readers reported.
    #[must_use]
    pub fn tickets(&self) -> Vec<Ticket> {
        lock(&self.cluster.catalog).tickets()
    }

    /// Has everybody who follows the feed start anew, as after a catalog was made again.
    pub fn restart_feed(&self, node: &NodeName) {
        lock(&self.cluster.catalog).restart_feed(node);
    }

    /// Does something with a node that is up, if the caller's role allows it.
    fn at<T>(
        &self,
        node: &NodeName,
        action: Action,
        act: impl FnOnce(&mut Node) -> Result<T, Refusal>,
    ) -> Result<T, TransportError> {
        let mut nodes = lock(&self.cluster.nodes);
        let there = nodes.get_mut(node).ok_or_else(|| TransportError::Unknown { node: node.clone() })?;
        let down = || TransportError::Unreachable { node: node.clone(), reason: "it is down".to_owned() };
        let there = there.as_mut().ok_or_else(down)?;
        let may = match action {
            Action::Any => true,
            Action::Write => self.role != Role::Edge,
            Action::Share => self.role == Role::Edge,
        };
        ensure(may, 403, "the role may not do this").and_then(|()| act(there)).map_err(|refusal| refusal.of(node))
    }

    /// Does something with the catalog, through a node.
    fn shared<T>(
        &self,
        node: &NodeName,
        action: Action,
        act: impl FnOnce(&mut Catalog) -> Result<T, Refusal>,
    ) -> Result<T, TransportError> {
        self.at(node, action, |_| act(&mut lock(&self.cluster.catalog)))
    }

    /// An upload of the caller's own.
    fn upload<'n>(&self, node: &'n mut Node, upload: &str) -> Result<&'n mut Upload, Refusal> {
        let own = node.uploads.get_mut(upload).filter(|upload| upload.of == self.caller);
        own.ok_or_else(|| Refusal { status: 404, reason: "no such upload".to_owned() })
    }
}

/// Checks an upload against its manifest.
fn shard(upload: Upload, column: usize, public: &PublicManifest) -> Result<Shard, Refusal> {
    let Upload { column: begun, columns, cells, .. } = upload;
    ensure((begun, columns) == (column, public.row_columns()), 400, "no such column")?;
    let mut rows = RowList::default();
    cells.iter().for_each(|cell| rows.push(cell.row.hash()));
    let bytes: usize = cells.iter().map(Cell::size).sum();
    let is_tail = |cell: &Cell| public.fits(StripeIndex(public.stripes() - 1), &cell.row);
    let fits = cells.len() as u64 == public.stripes() && bytes as u64 == public.shard_bytes(column);
    let fits = fits && cells.last().is_some_and(is_tail);
    ensure(fits && public.root() == Some(&rows.root()), 422, "not the cells of the manifest")?;
    Ok(Shard { cells, rows })
}

#[async_trait]
impl Transport for MemoryTransport {
    async fn read_shard(&self, node: &NodeName, ask: ShardAsk) -> Result<Bytes, TransportError> {
        self.at(node, Action::Any, |it| {
            let missing = || Refusal { status: 404, reason: "no such shard".to_owned() };
            let shard = it.shards.get(&(ask.object, ask.column)).ok_or_else(missing)?;
            let outside = || Refusal { status: 416, reason: "no such strips".to_owned() };
            let end = ask.first.checked_add(ask.count).filter(|_| (1..=SHARD_READ_STRIPS_MAX).contains(&ask.count));
            let range = usize::try_from(ask.first).ok().zip(end.and_then(|end| usize::try_from(end).ok()));
            let (first, end) = range.ok_or_else(outside)?;
            let cells = shard.cells.get(first..end).ok_or_else(outside)?;
            let proof = shard.rows.prove(first..end).ok_or_else(outside)?;
            Ok([vec![ShardSlice::head(&proof)], frame_cells(cells)].concat().concat().into())
        })
    }

    /// Every edge is a neighbour, and brings what the node has.
    async fn strip(
        &self,
        _neighbour: &NodeName,
        _public: &Bytes,
        ask: ShardAsk,
        node: &NodeName,
        _within: Duration,
    ) -> Result<Bytes, TransportError> {
        self.read_shard(node, ask).await
    }

    async fn record(&self, node: &NodeName, locator: &Locator) -> Result<Option<Bytes>, TransportError> {
        let Some(mut record) = self.shared(node, Action::Any, |it| Ok(it.record(locator)))? else { return Ok(None) };
        // Where shards lie counts more than where they were sent.
        let nodes = lock(&self.cluster.nodes);
        for (column, hint) in record.placement.iter_mut().enumerate() {
            let holds = |node: &Option<Node>| {
                node.as_ref().is_some_and(|node| node.shards.contains_key(&(record.public.id(), column)))
            };
            if hint.as_ref().and_then(|hint| nodes.get(hint)).is_none_or(|node| !holds(node)) {
                let holder = nodes.iter().find(|(_, node)| holds(node)).map(|(name, _)| name);
                *hint = holder.cloned().or_else(|| hint.take());
            }
        }
        Ok(Some(record.encode().into()))
    }

    async fn put_record(&self, node: &NodeName, locator: &Locator, record: Bytes) -> Result<(), TransportError> {
        self.shared(node, Action::Write, |it| it.put_record(locator, &record))
    }

    async fn put_lease(&self, node: &NodeName, locator: &Locator, envelope: Bytes) -> Result<(), TransportError> {
        self.shared(node, Action::Write, |it| it.put_lease(locator, envelope))
    }

    async fn locators(
        &self,
        node: &NodeName,
        owner: &OwnerId,
        after: Option<&Locator>,
    ) -> Result<LocatorPage, TransportError> {
        self.shared(node, Action::Any, |it| Ok(it.locators(Some(owner), after)))
    }

    async fn all_locators(&self, node: &NodeName, after: Option<&Locator>) -> Result<LocatorPage, TransportError> {
        // What edges share is theirs alone too.
        self.shared(node, Action::Share, |it| Ok(it.locators(None, after)))
    }

    async fn create_upload(&self, node: &NodeName, column: usize, columns: usize) -> Result<String, TransportError> {
        let upload = self.cluster.uploads.fetch_add(1, Ordering::Relaxed).to_string();
        self.at(node, Action::Write, |it| {
            ensure(column < columns && (1..=COLUMNS_MAX).contains(&columns), 400, "no such column")?;
            ensure(it.uploads.len() < Self::UPLOADS_MAX, 503, "too many uploads are open")?;
            let own = it.uploads.values().filter(|upload| upload.of == self.caller).count();
            ensure(own < Self::UPLOADS_MAX - it.uploads.len(), 503, "too many uploads of this caller are open")?;
            it.uploads.insert(upload.clone(), Upload { of: self.caller.clone(), column, columns, cells: Vec::new() });
            Ok(upload)
        })
    }

    async fn append(&self, node: &NodeName, upload: &str, first: u64, cells: &[Cell]) -> Result<(), TransportError> {
        self.at(node, Action::Write, |it| {
            let held = self.upload(it, upload)?;
            ensure(cells.len() as u64 <= SHARD_READ_STRIPS_MAX, 413, "too many cells at once")?;
            let first = usize::try_from(first).unwrap_or(usize::MAX);
            // The acknowledgement of an earlier append may have been lost on its way.
            let is_held = |(cell, held): (&Cell, &Cell)| cell.row == held.row;
            let there = held.cells.get(first..).filter(|there| !there.is_empty() && there.len() >= cells.len());
            if there.is_some_and(|there| cells.iter().zip(there).all(is_held)) {
                return Ok(());
            }
            ensure(held.cells.len() == first, 409, "out of order")?;
            let rows: Vec<&Row> = held.cells.last().into_iter().chain(cells).map(|cell| &cell.row).collect();
            ensure(rows.iter().rev().skip(1).all(|row| row.is_full()), 422, "a row after an empty column")?;
            let is_intact = |cell: &Cell| cell.row.columns() == held.columns && cell.is_intact(held.column);
            ensure(cells.iter().all(is_intact), 422, "a strip is not the one of its row")?;
            held.cells.extend_from_slice(cells);
            Ok(())
        })
    }

    async fn upload_cells(&self, node: &NodeName, upload: &str) -> Result<u64, TransportError> {
        self.at(node, Action::Write, |it| Ok(self.upload(it, upload)?.cells.len() as u64))
    }

    async fn commit(&self, node: &NodeName, upload: &str, column: usize, public: Bytes) -> Result<(), TransportError> {
        self.at(node, Action::Write, |it| {
            within(&public, PUBLIC_MANIFEST_BYTES_MAX)?;
            let public = PublicManifest::decode(public).map_err(malformed)?;
            let id = (public.id(), column);
            match self.upload(it, upload) {
                // The acknowledgement of an earlier commit may have been lost on its way.
                Err(unknown) => return if it.shards.contains_key(&id) { Ok(()) } else { Err(unknown) },
                Ok(upload) if (upload.column, upload.columns) == (column, public.row_columns()) => {
                    ensure(upload.cells.len() as u64 >= public.stripes(), 409, "cells are missing")?;
                }
                Ok(_) => {}
            }
            if let Some(upload) = it.uploads.remove(upload) {
                it.shards.insert(id, shard(upload, column, &public)?);
            }
            Ok(())
        })
    }

    async fn abort(&self, node: &NodeName, upload: &str) -> Result<(), TransportError> {
        self.at(node, Action::Write, |it| {
            self.upload(it, upload)?;
            it.uploads.remove(upload);
            Ok(())
        })
    }

    async fn policy(
        &self,
        node: &NodeName,
        owner: &OwnerId,
        name: &PolicyName,
    ) -> Result<Option<Bytes>, TransportError> {
        self.shared(node, Action::Any, |it| Ok(it.policy(owner, name)))
    }

    async fn put_policy(
        &self,
        node: &NodeName,
        owner: &OwnerId,
        name: &PolicyName,
        envelope: Bytes,
    ) -> Result<(), TransportError> {
        self.shared(node, Action::Write, |it| it.put_policy(owner, name, envelope))
    }

    async fn purge(&self, node: &NodeName, envelope: Bytes) -> Result<(), TransportError> {
        self.shared(node, Action::Write, |it| it.purge(&envelope))
    }

    async fn blob(&self, node: &NodeName, id: &BlobId) -> Result<Option<Bytes>, TransportError> {
        self.shared(node, Action::Any, |it| Ok(it.blob(id)))
    }

    async fn put_blob(&self, node: &NodeName, id: &BlobId, blob: Bytes) -> Result<(), TransportError> {
        self.shared(node, Action::Write, |it| it.put_blob(id, blob))
    }

    async fn note(&self, node: &NodeName, id: &NoteId) -> Result<Option<Note>, TransportError> {
        self.shared(node, Action::Share, |it| Ok(it.note(id)))
    }

    async fn put_note(&self, node: &NodeName, id: &NoteId, note: &Note) -> Result<bool, TransportError> {
        self.shared(node, Action::Share, |it| it.put_note(id, note))
    }

    async fn nodes(&self, node: &NodeName) -> Result<Vec<NodeEntry>, TransportError> {
        let mut entries = self.shared(node, Action::Any, |it| Ok(it.nodes()))?;
        let nodes = lock(&self.cluster.nodes);
        // What is up says so all the time.
        let up = entries.iter_mut().filter(|entry| nodes.get(&entry.name).is_some_and(Option::is_some));
        up.for_each(|entry| entry.seen = now());
        Ok(entries)
    }

    async fn announce(&self, node: &NodeName, entry: &NodeEntry) -> Result<(), TransportError> {
        self.shared(node, Action::Any, |it| {
            let is_own = entry.name == self.caller && entry.role == self.role;
            ensure(is_own, 403, "a node announces only itself").and_then(|()| it.announce(entry))
        })
    }

    /// Nodes in memory have no certificates, so none is refused.
    async fn refused(&self, node: &NodeName, _after: u64) -> Result<Option<Bytes>, TransportError> {
        self.shared(node, Action::Any, |_| Ok(None))
    }

    async fn put_refused(&self, node: &NodeName, _list: Bytes) -> Result<(), TransportError> {
        self.shared(node, Action::Any, |_| ensure(false, 404, "nodes in memory have no certificates"))
    }

    /// A column is where a node that is up has it; these nodes know of no place where it should not be.
    async fn health(&self, node: &NodeName, locator: &Locator) -> Result<Option<ObjectHealth>, TransportError> {
        let Some(record) = self.shared(node, Action::Any, |it| Ok(it.record(locator)))? else { return Ok(None) };
        let (public, object, nodes) = (&record.public, record.public.id(), lock(&self.cluster.nodes));
        let holders = |column| -> Vec<NodeName> {
            let holds = |node: &Node| node.shards.contains_key(&(object, column));
            let up = nodes.iter().filter(|(_, node)| node.as_ref().is_some_and(holds));
            up.map(|(name, _)| name.clone()).collect()
        };
        let columns = (0..public.columns()).map(|column| {
            let (nodes, bytes) = (holders(column), public.shard_bytes(column));
            let state = match (public.column_strips(column), nodes.is_empty()) {
                (0, _) => ColumnState::Empty,
                (_, true) => ColumnState::Lost,
                (_, false) => ColumnState::Healthy,
            };
            ColumnHealth { state, nodes, bytes }
        });
        let columns: Vec<_> = columns.collect();
        let there = columns.iter().filter(|column| column.state != ColumnState::Lost).count();
        let redundancy = public.redundancy();
        let margin = redundancy.map_or(0, |it| i32::try_from(there).unwrap() - i32::try_from(it.data()).unwrap());
        let redundancy = redundancy.map(|redundancy| redundancy.to_string());
        let columns = if redundancy.is_some() { columns } else { Vec::new() };
        Ok(Some(ObjectHealth { object, redundancy, margin, columns, repair: None }))
    }

    /// Nothing is repaired here.
    async fn repairs(&self, node: &NodeName) -> Result<RepairStatus, TransportError> {
        self.at(node, Action::Any, |_| {
            Ok(RepairStatus {
                waiting: 0,
                running: 0,
                dead: 0,
                balancing: 0,
                waiting_bytes: 0,
                running_bytes: 0,
                repaired_bytes: 0,
                repair_read_bytes: 0,
                scrubbed_since: 0,
                given_up: Vec::new(),
                obstacles: Vec::new(),
                survey: None,
            })
        })
    }

    async fn report(&self, node: &NodeName, ticket: &Ticket) -> Result<(), TransportError> {
        self.shared(node, Action::Any, |it| it.report(&self.caller, ticket))
    }

    async fn changes(&self, node: &NodeName, since: u64, wait_seconds: u32) -> Result<ChangePage, TransportError> {
        const LOOK_EVERY: Duration = Duration::from_millis(20);
        let mut looks = u64::from(wait_seconds.min(CHANGES_WAIT_SECONDS_MAX)) * 50;
        loop {
            let page = self.shared(node, Action::Any, |it| Ok(it.changes(since)))?;
            if looks == 0 || page.reset || !page.changes.is_empty() {
                return Ok(page);
            }
            tokio::time::sleep(LOOK_EVERY).await;
            looks -= 1;
        }
    }
}
