//! What the nodes in memory share: the rules of the origins' catalog, over maps.

use std::{
    collections::{BTreeMap, HashMap},
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use format::{
    BlobId, Lease, Locator, NodeName, NoteId, OwnerId, PolicyManifest, PolicyName, Purge, Purged, Record,
    limits::{
        COLUMNS_MAX, LEASE_BYTES_MAX, NOTE_BYTES_MAX, PAGE_ENTRIES_MAX, POLICY_COMPONENT_BYTES_MAX,
        POLICY_MANIFEST_BYTES_MAX, PURGE_BYTES_MAX, PURGE_SKEW_SECONDS_MAX, RECORD_BYTES_MAX, STRIPES_MAX,
    },
    wire::{Change, ChangeKind, ChangePage, LocatorPage, NodeEntry, Note, Ticket},
};

use super::Refusal;

/// Bounds of an origin that nobody else must know.
const NOTES_MAX: usize = 256;
const TICKETS_MAX: usize = 1_000;
const TICKETS_PER_READER_MAX: usize = TICKETS_MAX / 10;
const PUBLIC_MAX: usize = 64;
/// Versions are numbers of SQL.
const VERSION_MAX: u64 = i64::MAX.unsigned_abs();

#[derive(Debug, Default)]
pub(super) struct Catalog {
    records: BTreeMap<Locator, Record>,
    policies: HashMap<(OwnerId, PolicyName), (u64, Bytes)>,
    blobs: HashMap<BlobId, Bytes>,
    notes: HashMap<NoteId, Note>,
    nodes: BTreeMap<NodeName, NodeEntry>,
    changes: Vec<Change>,
    /// The number before the first change.
    before: u64,
    tickets: Vec<(NodeName, Ticket)>,
}

/// What an accepted lease means for the record.
#[derive(PartialEq, Eq)]
enum Verdict {
    Same,
    Renew,
    Erase,
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

pub(super) fn within(body: &Bytes, max: usize) -> Result<(), Refusal> {
    ensure(body.len() <= max, 413, "the body is too long")
}

pub(super) fn ensure(holds: bool, status: u16, reason: &'static str) -> Result<(), Refusal> {
    if holds { Ok(()) } else { Err(Refusal { status, reason: reason.to_owned() }) }
}

pub(super) fn malformed(error: impl std::error::Error) -> Refusal {
    Refusal { status: 400, reason: error.to_string() }
}

impl Catalog {
    pub(super) fn record(&self, locator: &Locator) -> Option<Record> {
        self.records.get(locator).cloned()
    }

    pub(super) fn put_record(&mut self, locator: &Locator, body: &Bytes) -> Result<(), Refusal> {
        within(body, RECORD_BYTES_MAX)?;
        let record = Record::decode(body).map_err(malformed)?;
        ensure(record.locator() == *locator, 400, "another locator")?;
        let Some(held) = self.records.get(locator) else {
            ensure(!record.is_stripped(now()), 409, "no sealed manifest")?;
            self.records.insert(*locator, record);
            self.tell_record(*locator);
            return Ok(());
        };
        ensure(held.public.id() == record.public.id(), 409, "another object")?;
        // A stable name brings another sealed part with each newer lease.
        let verdict = if record.public.is_name() {
            follows(held, &record.lease, &record.lease_envelope)?
        } else {
            judge(held, &record.lease, &record.lease_envelope)?
        };
        if verdict != Verdict::Erase {
            ensure(!record.is_stripped(now()), 409, "no sealed manifest")?;
        }
        if verdict == Verdict::Renew && record.public.is_name() {
            self.records.entry(*locator).and_modify(|held| held.sealed.clone_from(&record.sealed));
        }
        self.follow(*locator, &verdict, record.lease, record.lease_envelope);
        Ok(())
    }

    pub(super) fn put_lease(&mut self, locator: &Locator, envelope: Bytes) -> Result<(), Refusal> {
        within(&envelope, LEASE_BYTES_MAX)?;
        let lease = Lease::open(&envelope).map_err(malformed)?;
        ensure(lease.locator == *locator, 400, "another locator")?;
        let missing = || Refusal { status: 404, reason: "no such record".to_owned() };
        let verdict = judge(self.records.get(locator).ok_or_else(missing)?, &lease, &envelope)?;
        self.follow(*locator, &verdict, lease, envelope);
        Ok(())
    }

    /// Puts an accepted lease in place of the held one.
    fn follow(&mut self, locator: Locator, verdict: &Verdict, lease: Lease, envelope: Bytes) {
        let held = self.records.get_mut(&locator).filter(|_| *verdict != Verdict::Same);
        let Some(held) = held else { return };
        (held.lease, held.lease_envelope) = (lease, envelope);
        if *verdict == Verdict::Erase {
            held.sealed = None;
        }
        self.tell_record(locator);
    }

    fn tell_record(&mut self, locator: Locator) {
        let is_dead = self.records.get(&locator).is_none_or(|record| record.sealed.is_none());
        self.tell(if is_dead { ChangeKind::Erased { locator } } else { ChangeKind::Record { locator } });
    }

    pub(super) fn locators(&self, owner: Option<&OwnerId>, after: Option<&Locator>) -> LocatorPage {
        let is_of = |record: &&Record| owner.is_none_or(|owner| record.lease.owner == *owner);
        let living = self.records.values().filter(|record| is_of(record) && record.sealed.is_some());
        let after = living.map(Record::locator).filter(|locator| Some(locator) > after);
        let locators: Vec<_> = after.take(PAGE_ENTRIES_MAX).collect();
        let next = locators.last().copied().filter(|_| locators.len() == PAGE_ENTRIES_MAX);
        LocatorPage { locators, next }
    }

    pub(super) fn policy(&self, owner: &OwnerId, name: &PolicyName) -> Option<Bytes> {
        self.policies.get(&(*owner, name.clone())).map(|(_, envelope)| envelope.clone())
    }

    pub(super) fn put_policy(&mut self, owner: &OwnerId, name: &PolicyName, envelope: Bytes) -> Result<(), Refusal> {
        within(&envelope, POLICY_MANIFEST_BYTES_MAX)?;
        let manifest = PolicyManifest::open(&envelope).map_err(malformed)?;
        ensure(manifest.owner == *owner && manifest.name == *name, 400, "another owner or name")?;
        let key = (*owner, name.clone());
        if let Some((sequence, held)) = self.policies.get(&key) {
            ensure(manifest.sequence >= *sequence, 409, "an older policy")?;
            if manifest.sequence == *sequence {
                return ensure(*held == envelope, 409, "another policy of this version");
            }
        }
        ensure(manifest.sequence <= VERSION_MAX, 400, "too large a version")?;
        let blobs = manifest.links.iter().flat_map(|link| [link.component, link.config]);
        ensure(blobs.into_iter().all(|blob| self.blobs.contains_key(&blob)), 409, "a blob is missing")?;
        self.policies.insert(key, (manifest.sequence, envelope));
        self.tell(ChangeKind::Policy { owner: *owner, name: name.clone() });
        Ok(())
    }

    pub(super) fn purge(&mut self, envelope: &Bytes) -> Result<(), Refusal> {
        within(envelope, PURGE_BYTES_MAX)?;
        let Purge { owner, issued, hard, what } = Purge::open(envelope).map_err(malformed)?;
        ensure(now().abs_diff(issued) <= PURGE_SKEW_SECONDS_MAX, 400, "signed too long ago, or in the future")?;
        let objects: Vec<Option<Locator>> = match what {
            Purged::All => vec![None],
            Purged::Objects(objects) => {
                let known: Vec<&Record> = objects.iter().filter_map(|object| self.records.get(object)).collect();
                ensure(known.iter().all(|record| record.lease.owner == owner), 409, "another owner's object")?;
                known.into_iter().map(|record| Some(record.locator())).collect()
            }
        };
        for locator in objects {
            let order = ChangeKind::Purge { owner, locator, hard, issued };
            if !self.changes.iter().any(|change| change.kind == order) {
                self.tell(order);
            }
        }
        Ok(())
    }

    pub(super) fn blob(&self, id: &BlobId) -> Option<Bytes> {
        self.blobs.get(id).cloned()
    }

    pub(super) fn put_blob(&mut self, id: &BlobId, blob: Bytes) -> Result<(), Refusal> {
        within(&blob, POLICY_COMPONENT_BYTES_MAX)?;
        ensure(BlobId::of(&blob) == *id, 422, "another hash")?;
        self.blobs.insert(*id, blob);
        Ok(())
    }

    pub(super) fn note(&self, id: &NoteId) -> Option<Note> {
        self.notes.get(id).cloned()
    }

    pub(super) fn put_note(&mut self, id: &NoteId, note: &Note) -> Result<bool, Refusal> {
        ensure(note.version > 0 && note.sealed.len() <= NOTE_BYTES_MAX, 400, "no version, or too long")?;
        let held = self.notes.get(id).map_or(0, |held| held.version);
        if held + 1 != note.version {
            return Ok(false);
        }
        ensure(held > 0 || self.notes.len() < NOTES_MAX, 507, "too many notes")?;
        self.notes.insert(*id, note.clone());
        Ok(true)
    }

    pub(super) fn nodes(&self) -> Vec<NodeEntry> {
        self.nodes.values().cloned().collect()
    }

    pub(super) fn announce(&mut self, entry: &NodeEntry) -> Result<(), Refusal> {
        entry.place.check().map_err(malformed)?;
        ensure(entry.public.len() <= PUBLIC_MAX && entry.load <= 100, 400, "too many addresses, or too much load")?;
        let planned_by =
            |entry: &NodeEntry| NodeEntry { capacity_bytes: 0, free_bytes: 0, load: 0, seen: 0, ..entry.clone() };
        let held = self.nodes.insert(entry.name.clone(), NodeEntry { seen: now(), ..entry.clone() });
        if let Some(held) = held {
            if held.role != entry.role {
                self.nodes.insert(held.name.clone(), held);
                return ensure(false, 409, "the name is taken by a node of another role");
            }
            if planned_by(&held) == planned_by(entry) {
                return Ok(());
            }
        }
        self.tell(ChangeKind::Node { name: entry.name.clone() });
        Ok(())
    }

    pub(super) fn report(&mut self, reader: &NodeName, ticket: &Ticket) -> Result<(), Refusal> {
        ensure(ticket.column < COLUMNS_MAX && ticket.stripe < STRIPES_MAX, 400, "no such column or stripe")?;
        let key = |ticket: &Ticket| (ticket.node.clone(), ticket.object, ticket.column);
        if self.tickets.iter().any(|(_, held)| key(held) == key(ticket)) {
            return Ok(());
        }
        let of_reader = self.tickets.iter().filter(|(of, _)| of == reader).count();
        let has_room = self.tickets.len() < TICKETS_MAX && of_reader < TICKETS_PER_READER_MAX;
        ensure(has_room, 429, "too many tickets wait")?;
        self.tickets.push((reader.clone(), ticket.clone()));
        Ok(())
    }

    pub(super) fn tickets(&self) -> Vec<Ticket> {
        self.tickets.iter().map(|(_, ticket)| ticket.clone()).collect()
    }

    pub(super) fn changes(&self, since: u64) -> ChangePage {
        let newest = self.newest();
        if since < self.before || since > newest {
            return ChangePage { changes: Vec::new(), next: newest, reset: true };
        }
        let news = self.changes.iter().filter(|change| change.sequence > since);
        let changes: Vec<Change> = news.take(PAGE_ENTRIES_MAX).cloned().collect();
        ChangePage { next: changes.last().map_or(since, |change| change.sequence), changes, reset: false }
    }

    /// Empties the feed and numbers what follows far above everything before, as for a catalog made again.
    pub(super) fn restart_feed(&mut self, node: &NodeName) {
        self.before = self.newest() + 1_000_000;
        self.changes.clear();
        self.tell(ChangeKind::Node { name: node.clone() });
    }

    fn newest(&self) -> u64 {
        self.changes.last().map_or(self.before, |change| change.sequence)
    }

    fn tell(&mut self, kind: ChangeKind) {
        let sequence = self.newest() + 1;
        self.changes.push(Change { sequence, kind });
    }

    /// A node that is there from the beginning, without a change in the feed.
    pub(super) fn found(&mut self, entry: NodeEntry) {
        self.nodes.insert(entry.name.clone(), entry);
    }
}

/// Decides whether a verified lease may follow what is held. A record without its sealed manifest is dead.
fn judge(held: &Record, lease: &Lease, envelope: &Bytes) -> Result<Verdict, Refusal> {
    let names_ours = (lease.object, lease.manifest) == (held.lease.object, held.lease.manifest);
    ensure(names_ours, 409, "another object or another sealed manifest")?;
    follows(held, lease, envelope)
}

fn follows(held: &Record, lease: &Lease, envelope: &Bytes) -> Result<Verdict, Refusal> {
    let is_dead = held.sealed.is_none();
    ensure(lease.owner == held.lease.owner, 409, "another owner's object")?;
    ensure(lease.version >= held.lease.version, 409, "an older lease")?;
    if lease.version == held.lease.version {
        ensure(held.lease_envelope == *envelope, 409, "another lease of this version")?;
        ensure(!is_dead || lease.erased, 410, "its lease ended")?;
        return Ok(Verdict::Same);
    }
    ensure(lease.version <= VERSION_MAX, 400, "too large a version")?;
    ensure(!is_dead || lease.erased, 410, "it was erased")?;
    let kept = held.lease.retention.keep_until;
    let is_kept = !is_dead && kept > now() && (lease.erased || lease.retention.keep_until < kept);
    ensure(!is_kept, 409, "the lease promises to keep it")?;
    Ok(if lease.erased { Verdict::Erase } else { Verdict::Renew })
}
