//! The index made again from the owner secret, by the notes that leases carry; and two indexes of one owner made equal.
//!
//! ```text
//! locators of the owner, by several origins -> record -> note: capability, batch, place
//!                                                     -> M: name, type, length, time, tags; the lease: tenure
//! directories -> paths of what is in them             -> index
//! ```
//!
//! Nothing of a node is believed: a lease is the owner's or nobody's, and a note opens under the owner's key alone.
//! What a node can do is withhold; so several are asked.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use client::{ReadError, TransportError};
use format::{
    Capability, Kind, Lease, Locator, NotePlace, Object, OpenError, OwnerNote, Pointer, Record,
    limits::PATH_SEGMENTS_MAX,
};
use futures::StreamExt;

use crate::{
    get::{Found, GetError},
    index::{Batch, Change, Entry, IndexError, Move, NameState, PATH_BYTES_MAX, Position, State, Tenure},
    progress::Progress,
    twin::{Twin, now},
};

/// Origins whose lists are put together. They share a catalog or feed each other, so one would do if all were honest.
const NODES_ASKED: usize = 3;
/// Records read concurrently.
const OBJECTS_AT_ONCE: usize = 64;
/// First part of the path of what belongs to a folder that did not end, whose name nobody knows.
const UNFINISHED: &str = "unfinished";

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Objects of this owner that nodes list.
    pub found: usize,
    /// Uploads that the index did not list.
    pub added: usize,
    /// Uploads whose lease was renewed elsewhere.
    pub updated: usize,
    /// Uploads that were erased elsewhere, and that the index lists no more.
    pub forgotten: usize,
    /// Objects that cannot be read now: too few nodes answer. Repeat the call.
    pub unread: BTreeSet<Locator>,
    /// Objects of this owner without a note that opens: nothing but their label reads them.
    pub without_note: BTreeSet<Locator>,
}

/// Why nothing was recovered.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// No origin lists the owner's objects.
    #[error("no origin lists what this owner stored")]
    NoNode {
        /// The last failure.
        source: Option<TransportError>,
    },
    /// The index cannot be written.
    #[error("the index of uploads cannot be written")]
    Index(#[from] IndexError),
}

/// What became of one locator.
enum Seen {
    /// The index has it, or nothing is left of it.
    Nothing,
    Erased,
    Renewed(Tenure),
    /// A stable name that the index has, moved elsewhere.
    Moved(Box<Entry>),
    New(Box<Entry>, BTreeMap<Locator, String>),
    WithoutNote,
    Unread,
}

impl Twin {
    /// Adds to the index what the network has of this owner, and takes over what other machines of this owner renewed
    /// or erased.
    ///
    /// # Errors
    /// [`RecoverError`].
    pub async fn recover(&self, progress: &Arc<dyn Progress>) -> Result<Recovered, RecoverError> {
        let mut locators = self.owned().await?;
        let known = self.list().await;
        let mut recovered = Recovered { found: locators.len(), ..Recovered::default() };
        // Erased objects are in no list.
        locators.extend(known.keys());
        progress.leases(locators.len());
        let look = |locator: Locator| {
            let entry = known.get(&locator);
            async move {
                let seen = self.see(&locator, entry).await;
                progress.lease();
                (locator, seen)
            }
        };
        let mut looks = futures::stream::iter(locators.into_iter().map(look)).buffer_unordered(OBJECTS_AT_ONCE);
        let (mut fresh, mut renewed, mut erased) = (BTreeMap::new(), Vec::new(), BTreeSet::new());
        let mut parents: BTreeMap<Locator, (Locator, String)> = BTreeMap::new();
        while let Some((locator, seen)) = looks.next().await {
            match seen {
                Seen::Nothing => {}
                Seen::Erased => drop(erased.insert(locator)),
                Seen::Renewed(tenure) => {
                    renewed.push(Entry { tenure, state: State::Stored, ..known[&locator].clone() });
                }
                Seen::Moved(entry) => renewed.push(*entry),
                Seen::New(entry, names) => {
                    parents.extend(names.into_iter().map(|(child, name)| (child, (locator, name))));
                    fresh.insert(locator, *entry);
                }
                Seen::WithoutNote => drop(recovered.without_note.insert(locator)),
                Seen::Unread => drop(recovered.unread.insert(locator)),
            }
        }
        drop(looks);
        let paths: Vec<_> = fresh.keys().map(|locator| path_of(locator, &parents, &fresh, &known)).collect();
        let added: Vec<_> = fresh.into_values().zip(paths).map(|(entry, path)| Entry { path, ..entry }).collect();
        (recovered.added, recovered.updated, recovered.forgotten) = (added.len(), renewed.len(), erased.len());
        self.with_index(move |index| {
            index.record_all(added.into_iter().map(Change::Put).chain(renewed.into_iter().map(Change::Lease)))?;
            if erased.is_empty() { Ok(()) } else { index.forget(&erased) }
        })
        .await?;
        Ok(recovered)
    }

    /// Asks origins for the locators of this owner.
    async fn owned(&self) -> Result<BTreeSet<Locator>, RecoverError> {
        let (mut locators, mut answered, mut source) = (BTreeSet::new(), 0, None);
        for node in self.network.topology.origins() {
            let mut after = None;
            let listed = loop {
                match self.network.transport.locators(&node.name, &self.owner(), after.as_ref()).await {
                    Err(error) => break Err(error),
                    Ok(page) => {
                        locators.extend(page.locators);
                        // A list that goes back would never end.
                        match page.next.filter(|next| after.is_none_or(|after| after < *next)) {
                            Some(next) => after = Some(next),
                            None => break Ok(()),
                        }
                    }
                }
            };
            match listed {
                Ok(()) => answered += 1,
                Err(error) => {
                    tracing::warn!(node = %node.name, %error, "an origin does not list what this owner stored");
                    source = Some(error);
                }
            }
            if answered == NODES_ASKED {
                break;
            }
        }
        if answered == 0 { Err(RecoverError::NoNode { source }) } else { Ok(locators) }
    }

    async fn see(&self, locator: &Locator, known: Option<&Entry>) -> Seen {
        let record = match self.network.reader.record(locator).await {
            Ok(record) if record.lease.owner == self.owner() => record,
            Ok(_) | Err(ReadError::NotFound { .. }) => return Seen::Nothing,
            Err(_) => return Seen::Unread,
        };
        let (lease, now) = (&record.lease, now());
        // Whether a lease has ended the nodes decide, which destroy the manifest then: this machine's clock may be
        // wrong.
        if lease.erased {
            return if known.is_some() { Seen::Erased } else { Seen::Nothing };
        }
        if record.public.is_name() {
            return self.see_name(&record, known, now).await;
        }
        if let Some(entry) = known {
            let is_old = entry.tenure.version < lease.version || entry.state == State::Committing;
            return if is_old { Seen::Renewed(tenure_of(lease)) } else { Seen::Nothing };
        }
        let Some(note) = lease.note.as_ref().and_then(|note| note.open(&self.note_key, locator)) else {
            return Seen::WithoutNote;
        };
        let position = match note.place {
            NotePlace::Top => Position::Top,
            NotePlace::Inner => Position::Inner,
        };
        let object = match Object::open(&note.capability, &record, now) {
            Ok(object) => object,
            Err(OpenError::Erased) => return Seen::Nothing,
            Err(_) => return Seen::Unread,
        };
        let manifest = object.manifest();
        let entry = Entry {
            capability: note.capability.clone(),
            state: State::Stored,
            path: manifest.name.clone(),
            length: object.length(),
            mime: manifest.mime.clone(),
            kind: object.kind(),
            created: manifest.created,
            tags: manifest.tags.keys().cloned().collect(),
            tenure: tenure_of(lease),
            batch: Batch(note.batch),
            position,
            name: None,
        };
        match self.names_in(Found { capability: note.capability, object: Arc::new(object), record }).await {
            Ok(names) => Seen::New(Box::new(entry), names),
            Err(_) => Seen::Unread,
        }
    }

    /// Describes a stable name as it stands now. Where it stood before, only the index of the machine that moved it
    /// knows.
    async fn see_name(&self, record: &Record, known: Option<&Entry>, now: u64) -> Seen {
        let locator = record.locator();
        let mut moves = known.and_then(|entry| entry.name.as_ref()).map(|name| name.moves.clone()).unwrap_or_default();
        if moves.last().is_some_and(|last| last.version >= record.lease.version) {
            return Seen::Nothing;
        }
        let note = record.lease.note.as_ref().and_then(|note| note.open(&self.note_key, &locator));
        let Some((note, name)) = note.and_then(|note| Some((note.clone(), note.name?))) else {
            return Seen::WithoutNote;
        };
        let Ok(pointer) = Pointer::open(&note.capability, record, now) else { return Seen::Unread };
        let version = record.lease.version;
        moves.push(Move { version, at: now, target: pointer.target.locator() });
        // What it stands for may be gone, and the name goes on.
        let object = self.network.find(&pointer.target, &[]).await.ok().map(|found| found.object);
        let entry = Entry {
            capability: note.capability,
            state: State::Stored,
            path: name,
            length: object.as_ref().map_or(0, |object| object.length()),
            mime: object.as_ref().map(|object| object.manifest().mime.clone()).unwrap_or_default(),
            kind: object.as_ref().map_or(Kind::File, |object| object.kind()),
            created: known.map_or(now, |entry| entry.created),
            tags: object.map(|object| object.manifest().tags.keys().cloned().collect()).unwrap_or_default(),
            tenure: tenure_of(&record.lease),
            batch: Batch(note.batch),
            position: Position::Top,
            name: Some(NameState { fresh_until: pointer.fresh_until, seconds: pointer.seconds, moves }),
        };
        match known {
            Some(_) => Seen::Moved(Box::new(entry)),
            None => Seen::New(Box::new(entry), BTreeMap::new()),
        }
    }

    /// Returns the names in a directory, by the locators of what they name.
    async fn names_in(&self, found: Found) -> Result<BTreeMap<Locator, String>, GetError> {
        if found.object.kind() == Kind::File {
            return Ok(BTreeMap::new());
        }
        let directory = self.network.directory(&found).await?;
        Ok(directory.entries().map(|(name, entry)| (entry.capability.locator(), name.to_owned())).collect())
    }
}

fn tenure_of(lease: &Lease) -> Tenure {
    Tenure {
        version: lease.version,
        profile: lease.profile,
        policy: lease.policy.clone(),
        wanted: lease.wanted.clone(),
        refused: lease.refused.clone(),
        caps: lease.caps.clone(),
        retention: lease.retention,
    }
}

/// Returns the path of an entry that the index does not have: that of its folder and its name there, or, of a top, its
/// own name.
fn path_of(
    locator: &Locator,
    parents: &BTreeMap<Locator, (Locator, String)>,
    fresh: &BTreeMap<Locator, Entry>,
    known: &BTreeMap<Locator, Entry>,
) -> String {
    let (mut names, mut at) = (Vec::new(), *locator);
    let top = loop {
        let is_top = |entry: &&Entry| entry.position == Position::Top;
        if let Some(top) = known.get(&at).or(fresh.get(&at).filter(is_top)) {
            break Some(&top.path);
        }
        // Directories cannot lie in themselves, because capabilities are hashes. The bound holds whatever they do.
        match parents.get(&at) {
            Some((parent, name)) if names.len() <= PATH_SEGMENTS_MAX => {
                names.push(name.as_str());
                at = *parent;
            }
            _ => break None,
        }
    };
    let of_its_own = |at: &Locator| format!("{UNFINISHED}/{}", fresh.get(at).map_or("", |entry| &entry.path));
    names.reverse();
    let path = match top {
        Some(top) => std::iter::once(top.as_str()).chain(names).collect::<Vec<_>>().join("/"),
        None => [&[of_its_own(&at).as_str()][..], &names].concat().join("/"),
    };
    if path.len() <= PATH_BYTES_MAX { path } else { of_its_own(locator) }
}

/// Returns the note of an object's lease.
pub(crate) fn note(capability: &Capability, batch: Batch, position: Position) -> OwnerNote {
    let place = match position {
        Position::Top => NotePlace::Top,
        Position::Inner => NotePlace::Inner,
    };
    OwnerNote { capability: capability.clone(), batch: batch.0, place, name: None }
}
