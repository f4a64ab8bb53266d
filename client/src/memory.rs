//! The transport without a network, for tests: nodes that keep shards and records in memory and check what they take.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use format::{
    BlobId, Lease, Locator, NodeName, NoteId, ObjectId, OwnerId, PolicyManifest, PolicyName, PublicManifest, Purge,
    Purged, Record, StripHash, StripList,
    limits::SHARD_READ_STRIPS_MAX,
    wire::{Change, ChangeKind, ChangePage, LocatorPage, NodeEntry, Note, ShardSlice, Ticket},
};

use crate::{ShardAsk, Transport, TransportError};

/// The time by which leases end here: none does.
const NOTHING_ENDS: u64 = 0;

#[derive(Debug, Default)]
struct Shard {
    strips: Vec<Bytes>,
    list: StripList,
}

#[derive(Debug, Default)]
struct Node {
    uploads: HashMap<String, Vec<Bytes>>,
    shards: HashMap<(ObjectId, usize), Shard>,
}

/// What origins share through the catalog.
#[derive(Debug, Default)]
struct Catalog {
    records: BTreeMap<Locator, Record>,
    policies: HashMap<(OwnerId, PolicyName), (u64, Bytes)>,
    blobs: HashMap<BlobId, Bytes>,
    notes: HashMap<NoteId, Note>,
    nodes: BTreeMap<NodeName, NodeEntry>,
    changes: Vec<Change>,
    tickets: Vec<Ticket>,
}

impl Catalog {
    fn note(&mut self, kind: ChangeKind) {
        let sequence = self.changes.len() as u64 + 1;
        self.changes.push(Change { sequence, kind });
    }
}

/// Nodes in memory that behave as the node API says.
#[derive(Debug, Default)]
pub struct MemoryTransport {
    nodes: Mutex<HashMap<NodeName, Node>>,
    catalog: Mutex<Catalog>,
    uploads: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn refused(node: &NodeName, reason: &str) -> TransportError {
    TransportError::Refused { node: node.clone(), status: 400, reason: reason.to_owned() }
}

impl MemoryTransport {
    /// Makes nodes that are all up and empty.
    #[must_use]
    pub fn new(nodes: &[NodeEntry]) -> Self {
        let it = Self::default();
        for entry in nodes {
            lock(&it.nodes).insert(entry.name.clone(), Node::default());
            lock(&it.catalog).nodes.insert(entry.name.clone(), entry.clone());
        }
        it
    }

    /// Takes a node away with all it holds.
    pub fn remove(&self, node: &NodeName) {
        lock(&self.nodes).remove(node);
    }

    /// Flips one bit of a stored strip. Returns whether there is such a strip.
    pub fn flip(&self, node: &NodeName, ask: ShardAsk, bit: usize) -> bool {
        let mut nodes = lock(&self.nodes);
        let shard = nodes.get_mut(node).and_then(|node| node.shards.get_mut(&(ask.object, ask.column)));
        let strip = shard.and_then(|shard| shard.strips.get_mut(usize::try_from(ask.first).ok()?));
        let Some(strip) = strip else { return false };
        let mut bytes = strip.to_vec();
        let bit = bit % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        *strip = bytes.into();
        true
    }

    /// Returns all stored strip bytes of a node, for tests that search them.
    #[must_use]
    pub fn stored(&self, node: &NodeName) -> Vec<Bytes> {
        let nodes = lock(&self.nodes);
        nodes
            .get(node)
            .into_iter()
            .flat_map(|node| node.shards.values().flat_map(|shard| shard.strips.clone()))
            .collect()
    }

    /// Returns what readers reported.
    #[must_use]
    pub fn tickets(&self) -> Vec<Ticket> {
        lock(&self.catalog).tickets.clone()
    }

    fn at<T>(
        &self,
        node: &NodeName,
        act: impl FnOnce(&mut Node) -> Result<T, TransportError>,
    ) -> Result<T, TransportError> {
        let gone = || TransportError::Unreachable { node: node.clone(), reason: "it is down".to_owned() };
        act(lock(&self.nodes).get_mut(node).ok_or_else(gone)?)
    }

    fn up(&self, node: &NodeName) -> Result<MutexGuard<'_, Catalog>, TransportError> {
        self.at(node, |_| Ok(()))?;
        Ok(lock(&self.catalog))
    }
}

#[async_trait]
impl Transport for MemoryTransport {
    async fn read_shard(&self, node: &NodeName, ask: ShardAsk) -> Result<Bytes, TransportError> {
        self.at(node, |it| {
            let shard = it.shards.get(&(ask.object, ask.column)).ok_or_else(|| refused(node, "no such shard"))?;
            let first = usize::try_from(ask.first).map_err(|_| refused(node, "no such strip"))?;
            let count = usize::try_from(ask.count.min(SHARD_READ_STRIPS_MAX)).map_err(|_| refused(node, "too many"))?;
            let strips = shard.strips.get(first..first + count).ok_or_else(|| refused(node, "no such strip"))?;
            let proof = shard.list.prove(first..first + count).ok_or_else(|| refused(node, "no such strip"))?;
            let mut body = ShardSlice::head(&proof).to_vec();
            strips.iter().for_each(|strip| body.extend_from_slice(strip));
            Ok(body.into())
        })
    }

    async fn record(&self, node: &NodeName, locator: &Locator) -> Result<Option<Bytes>, TransportError> {
        let Some(mut record) = self.up(node)?.records.get(locator).cloned() else { return Ok(None) };
        // Where shards lie counts more than where they were sent.
        let nodes = lock(&self.nodes);
        for (column, hint) in record.placement.iter_mut().enumerate() {
            let holds = |node: &Node| node.shards.contains_key(&(record.public.id(), column));
            if hint.as_ref().and_then(|hint| nodes.get(hint)).is_none_or(|node| !holds(node)) {
                let holder = nodes.iter().filter(|(_, node)| holds(node)).map(|(name, _)| name).min();
                *hint = holder.cloned().or_else(|| hint.take());
            }
        }
        Ok(Some(record.encode().into()))
    }

    async fn put_record(&self, node: &NodeName, locator: &Locator, record: Bytes) -> Result<(), TransportError> {
        let record = Record::decode(&record).map_err(|error| refused(node, &error.to_string()))?;
        if record.locator() != *locator {
            return Err(refused(node, "another locator"));
        }
        let mut catalog = self.up(node)?;
        if record.is_stripped(NOTHING_ENDS) {
            return Err(refused(node, "no sealed manifest"));
        }
        let kept = match catalog.records.get(locator) {
            None => record,
            Some(held) if held.public.id() != record.public.id() => return Err(refused(node, "another object")),
            Some(held) if held.lease.version > record.lease.version => return Err(refused(node, "an older lease")),
            Some(held) if held.lease.erased && !record.lease.erased => return Err(refused(node, "it was erased")),
            Some(held) if !record.lease.erased && held.sealed != record.sealed => {
                return Err(refused(node, "another sealed manifest"));
            }
            Some(held) if held.lease_envelope == record.lease_envelope => return Ok(()),
            Some(held) if held.lease.version == record.lease.version => {
                return Err(refused(node, "another lease of this version"));
            }
            Some(held) => held.followed_by(&record, NOTHING_ENDS),
        };
        let (locator, erased) = (*locator, kept.lease.erased);
        catalog.records.insert(locator, kept);
        catalog.note(if erased { ChangeKind::Erased { locator } } else { ChangeKind::Record { locator } });
        Ok(())
    }

    async fn put_lease(&self, node: &NodeName, locator: &Locator, envelope: Bytes) -> Result<(), TransportError> {
        let lease = Lease::open(&envelope).map_err(|error| refused(node, &error.to_string()))?;
        let mut catalog = self.up(node)?;
        let held = catalog.records.get_mut(locator).ok_or_else(|| refused(node, "no such record"))?;
        if lease.owner != held.lease.owner || lease.locator != *locator || lease.version <= held.lease.version {
            return Err(refused(node, "an older lease, or another's"));
        }
        if held.lease.erased && !lease.erased {
            return Err(refused(node, "it was erased"));
        }
        let erased = lease.erased;
        held.sealed = held.sealed.take().filter(|_| !erased);
        held.lease_envelope = envelope;
        held.lease = lease;
        let locator = *locator;
        catalog.note(if erased { ChangeKind::Erased { locator } } else { ChangeKind::Record { locator } });
        Ok(())
    }

    async fn locators(
        &self,
        node: &NodeName,
        owner: &OwnerId,
        after: Option<&Locator>,
    ) -> Result<LocatorPage, TransportError> {
        let catalog = self.up(node)?;
        let own = catalog.records.values().filter(|record| record.lease.owner == *owner).map(Record::locator);
        Ok(LocatorPage { locators: own.filter(|locator| Some(locator) > after).collect(), next: None })
    }

    async fn create_upload(&self, node: &NodeName) -> Result<String, TransportError> {
        let upload = self.uploads.fetch_add(1, Ordering::Relaxed).to_string();
        self.at(node, |it| {
            it.uploads.insert(upload.clone(), Vec::new());
            Ok(upload)
        })
    }

    async fn append(&self, node: &NodeName, upload: &str, first: u64, strips: &[Bytes]) -> Result<(), TransportError> {
        self.at(node, |it| {
            let held = it.uploads.get_mut(upload).ok_or_else(|| refused(node, "no such upload"))?;
            if held.len() as u64 != first {
                return Err(refused(node, "out of order"));
            }
            held.extend_from_slice(strips);
            Ok(())
        })
    }

    async fn commit(&self, node: &NodeName, upload: &str, column: usize, public: Bytes) -> Result<(), TransportError> {
        let public = PublicManifest::decode(public).map_err(|error| refused(node, &error.to_string()))?;
        self.at(node, |it| {
            let strips = it.uploads.remove(upload).ok_or_else(|| refused(node, "no such upload"))?;
            let mut list = StripList::default();
            strips.iter().for_each(|strip| list.push(StripHash::of(strip)));
            if public.root(column) != Some(&list.root()) {
                return Err(refused(node, "another root"));
            }
            it.shards.insert((public.id(), column), Shard { strips, list });
            Ok(())
        })
    }

    async fn abort(&self, node: &NodeName, upload: &str) -> Result<(), TransportError> {
        self.at(node, |it| {
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
        Ok(self.up(node)?.policies.get(&(*owner, name.clone())).map(|(_, envelope)| envelope.clone()))
    }

    async fn put_policy(
        &self,
        node: &NodeName,
        owner: &OwnerId,
        name: &PolicyName,
        envelope: Bytes,
    ) -> Result<(), TransportError> {
        let manifest = PolicyManifest::open(&envelope).map_err(|error| refused(node, &error.to_string()))?;
        let mut catalog = self.up(node)?;
        let key = (*owner, name.clone());
        let older = catalog.policies.get(&key).is_some_and(|(sequence, _)| *sequence >= manifest.sequence);
        if older || manifest.owner != *owner || manifest.name != *name {
            return Err(refused(node, "an older policy, or another's"));
        }
        catalog.policies.insert(key, (manifest.sequence, envelope));
        catalog.note(ChangeKind::Policy { owner: *owner, name: name.clone() });
        Ok(())
    }

    async fn purge(&self, node: &NodeName, envelope: Bytes) -> Result<(), TransportError> {
        let Purge { owner, issued, hard, what } =
            Purge::open(&envelope).map_err(|error| refused(node, &error.to_string()))?;
        let mut catalog = self.up(node)?;
        let objects = match what {
            Purged::All => vec![None],
            Purged::Objects(objects) => objects.into_iter().map(Some).collect(),
        };
        for locator in objects {
            catalog.note(ChangeKind::Purge { owner, locator, hard, issued });
        }
        Ok(())
    }

    async fn blob(&self, node: &NodeName, id: &BlobId) -> Result<Option<Bytes>, TransportError> {
        Ok(self.up(node)?.blobs.get(id).cloned())
    }

    async fn put_blob(&self, node: &NodeName, id: &BlobId, blob: Bytes) -> Result<(), TransportError> {
        if BlobId::of(&blob) != *id {
            return Err(refused(node, "another hash"));
        }
        self.up(node)?.blobs.insert(*id, blob);
        Ok(())
    }

    async fn note(&self, node: &NodeName, id: &NoteId) -> Result<Option<Note>, TransportError> {
        Ok(self.up(node)?.notes.get(id).cloned())
    }

    async fn put_note(&self, node: &NodeName, id: &NoteId, note: &Note) -> Result<bool, TransportError> {
        let mut catalog = self.up(node)?;
        let fits = catalog.notes.get(id).map_or(0, |held| held.version) + 1 == note.version;
        if fits {
            catalog.notes.insert(*id, note.clone());
        }
        Ok(fits)
    }

    async fn nodes(&self, node: &NodeName) -> Result<Vec<NodeEntry>, TransportError> {
        Ok(self.up(node)?.nodes.values().cloned().collect())
    }

    async fn announce(&self, node: &NodeName, entry: &NodeEntry) -> Result<(), TransportError> {
        let mut catalog = self.up(node)?;
        catalog.nodes.insert(entry.name.clone(), entry.clone());
        catalog.note(ChangeKind::Node { name: entry.name.clone() });
        Ok(())
    }

    async fn report(&self, node: &NodeName, ticket: &Ticket) -> Result<(), TransportError> {
        self.up(node)?.tickets.push(ticket.clone());
        Ok(())
    }

    async fn changes(&self, node: &NodeName, since: u64, wait_seconds: u32) -> Result<ChangePage, TransportError> {
        const LOOK_EVERY: Duration = Duration::from_millis(20);
        for _ in 0..=u64::from(wait_seconds) * 50 {
            let changes: Vec<Change> =
                self.up(node)?.changes.iter().filter(|change| change.sequence > since).cloned().collect();
            if let Some(last) = changes.last() {
                return Ok(ChangePage { next: last.sequence, changes, reset: false });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(ChangePage { changes: Vec::new(), next: since, reset: false })
    }
}
