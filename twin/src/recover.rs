//! The index made again from the owner secret, by the notes that leases carry; and two indexes of one owner made equal.
//!
//! ```text
//! locators of the owner, by several origins -> record -> note: capability, batch, place
//!                                                     -> M: name, type, length, time, tags; the lease: tenure
//! directories -> paths of what is in them             -> index
//! ```
//!
//! Nothing of a node is believed: a lease is the owner's or nobody's, and a note opens under the owner's key alone.
//! What a node can do is withhold, or give an old lease; so several are asked, and the newest lease counts.
//!
//! What is found is written as it is found, and a directory after all that lies in it: a recovery that was cut short
//! leaves directories to look into again, and no object whose path is forgotten.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use client::{ReadError, TransportError};
use format::{
    Capability, Kind, Lease, Locator, NodeName, NotePlace, Object, OpenError, OwnerNote, Pointer, Record,
    limits::{PAGE_ENTRIES_MAX, PATH_SEGMENTS_MAX},
    wire::{LocatorPage, NodeEntry},
};
use futures::{StreamExt, stream::FuturesUnordered};
use tokio::time::timeout;

use crate::{
    get::{Found, GetError},
    index::{Batch, Change, Entry, Hashes, IndexError, Move, NameState, PATH_BYTES_MAX, Position, State, Tenure},
    leases::{LeaseChangeError, Patience},
    progress::Progress,
    twin::Twin,
};

/// Origins whose lists are put together, and whose records are compared. They share a catalog or feed each other, so
/// one would do if all were honest.
const NODES_ASKED: usize = 3;
/// Pages that one origin's list has at most: four million objects, above what an index of 1 GiB has room for. A list
/// that goes on for ever is a lie.
const PAGES_MAX: usize = 4096;
/// Time of one origin to give its list: four million locators over 5 Mbit/s.
const LIST_TIME: Duration = Duration::from_secs(600);
/// Locators that one origin may tell of alone, however few all others do.
const ALONE_MIN: usize = 1000;
/// A recovery that is cut short has written all that it found but the last of so many parts.
const PARTS: usize = 16;
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
    /// Origins that were asked and did not answer, or told of far more than all others. What they alone know is not
    /// here.
    pub silent: BTreeSet<NodeName>,
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
    /// And which node failed last.
    Unread(Option<NodeName>),
}

/// What was found and is not written yet.
#[derive(Default)]
struct Sight {
    added: BTreeMap<Locator, Entry>,
    /// The folder of what lies in one that is not written yet, and its name there.
    parents: BTreeMap<Locator, (Locator, String)>,
    updated: Vec<Entry>,
    erased: BTreeSet<Locator>,
}

impl Twin {
    /// Adds to the index what the network has of this owner, and takes over what other machines of this owner renewed
    /// or erased.
    ///
    /// # Errors
    /// [`RecoverError`].
    pub async fn recover(&self, progress: &Arc<dyn Progress>) -> Result<Recovered, RecoverError> {
        let (locators, silent) = self.owned().await?;
        let known = self.list().await;
        let tops = known.values().filter(|it| it.position == Position::Top && it.state == State::Stored);
        let finished: BTreeSet<Batch> = tops.map(|entry| entry.batch).collect();
        let mut recovered = Recovered { found: locators.len(), silent, ..Recovered::default() };
        // Erased objects are in no list.
        let listed: BTreeSet<Locator> = locators.iter().copied().collect();
        let unlisted = known.keys().filter(|locator| !listed.contains(locator)).copied();
        let locators: Vec<Locator> = unlisted.chain(locators).collect();
        progress.leases(locators.len());
        let patience = &Patience::begin();
        let part = locators.len().div_ceil(PARTS).max(OBJECTS_AT_ONCE);
        let look = |locator: Locator| {
            let entry = known.get(&locator);
            async move {
                let seen = self.see(&locator, entry, patience).await;
                progress.lease();
                (locator, seen)
            }
        };
        let looks = futures::stream::iter(locators.into_iter().map(look)).buffer_unordered(OBJECTS_AT_ONCE);
        let (mut looks, mut sight) = (std::pin::pin!(looks.enumerate()), Sight::default());
        while let Some((at, (locator, seen))) = looks.next().await {
            match seen {
                Seen::Nothing => {}
                Seen::Erased => drop(sight.erased.insert(locator)),
                Seen::Renewed(tenure) => {
                    let held = known[&locator].clone();
                    let state = match held.state {
                        // Beside a folder that was stored it is left over, and stays so: nothing else tells of it.
                        State::Committing if finished.contains(&held.batch) => State::Committing,
                        // Nothing takes a removal back, and no lease of another machine that did not know of it.
                        State::Ending => State::Ending,
                        State::Committing | State::Stored => State::Stored,
                    };
                    if state == State::Stored || held.tenure != tenure {
                        sight.updated.push(Entry { tenure, state, ..held });
                    }
                }
                Seen::Moved(entry) => {
                    let is_ending = known.get(&locator).is_some_and(|held| held.state == State::Ending);
                    let state = if is_ending { State::Ending } else { entry.state };
                    sight.updated.push(Entry { state, ..*entry });
                }
                Seen::New(entry, names) => {
                    sight.parents.extend(names.into_iter().map(|(child, name)| (child, (locator, name))));
                    sight.added.insert(locator, *entry);
                }
                Seen::WithoutNote => drop(recovered.without_note.insert(locator)),
                Seen::Unread(node) => {
                    recovered.unread.insert(locator);
                    recovered.silent.extend(node);
                }
            }
            if (at + 1) % part == 0 {
                let files = sight.placed_files(&known);
                self.take_in(files, &mut sight, &mut recovered).await?;
            }
        }
        for entries in sight.rest(&known) {
            self.take_in(entries, &mut sight, &mut recovered).await?;
        }
        Ok(recovered)
    }

    /// Writes new entries, and what became of known ones.
    async fn take_in(&self, added: Vec<Entry>, sight: &mut Sight, recovered: &mut Recovered) -> Result<(), IndexError> {
        let (updated, erased) = (std::mem::take(&mut sight.updated), std::mem::take(&mut sight.erased));
        let counts = (added.len(), updated.len(), erased.len());
        self.with_index(move |index| {
            index.record_all(added.into_iter().map(Change::Put).chain(updated.into_iter().map(Change::Lease)))?;
            if erased.is_empty() { Ok(()) } else { index.forget(&erased) }
        })
        .await?;
        recovered.added += counts.0;
        recovered.updated += counts.1;
        recovered.forgotten += counts.2;
        Ok(())
    }

    /// Asks origins side by side for the locators of this owner. Returns those that several know first, and the origins
    /// that did not answer too.
    pub(crate) async fn owned(&self) -> Result<(Vec<Locator>, BTreeSet<NodeName>), RecoverError> {
        let (mut whole, mut broken, mut silent, mut source) = (Vec::new(), Vec::new(), BTreeSet::new(), None);
        let ask = |node: NodeEntry| async move {
            let (transport, name, owner) = (&self.network.transport, &node.name, &self.owner());
            let page = |after: Option<Locator>| async move { transport.locators(name, owner, after.as_ref()).await };
            let mut of_it = BTreeSet::new();
            let listed = timeout(LIST_TIME, take_list(name, &mut of_it, PAGES_MAX, page)).await;
            let listed = listed.unwrap_or_else(|_| Err(TransportError::TimedOut { node: name.clone() }));
            (node.name, of_it, listed)
        };
        let mut origins = self.network.topology.origins().into_iter();
        let mut asked: FuturesUnordered<_> = origins.by_ref().take(NODES_ASKED).map(ask).collect();
        while let Some((name, of_it, listed)) = asked.next().await {
            let Err(error) = listed else {
                whole.push((name, of_it));
                continue;
            };
            tracing::warn!(node = %name, %error, "an origin does not list what this owner stored");
            // What it listed until it fell silent is as good as the list of another; the list of a liar is nothing.
            if !matches!(error, TransportError::Nonsense { .. }) {
                broken.push(of_it);
            }
            silent.insert(name);
            source = Some(error);
            asked.extend(origins.next().map(ask));
        }
        if whole.is_empty() {
            return Err(RecoverError::NoNode { source });
        }
        let (locators, alone) = put_together(whole, broken);
        silent.extend(alone);
        Ok((locators, silent))
    }

    async fn see(&self, locator: &Locator, known: Option<&Entry>, patience: &Patience) -> Seen {
        let record = match self.own_record_of(locator, patience, |own| own.len() >= NODES_ASKED).await {
            Ok(record) => record,
            Err(LeaseChangeError::NotOurs | LeaseChangeError::Unknown) => return Seen::Nothing,
            Err(LeaseChangeError::Read(ReadError::Unavailable { source: Some(source), .. })) => {
                return Seen::Unread(Some(source.node().clone()));
            }
            Err(_) => return Seen::Unread(None),
        };
        let (lease, now) = (&record.lease, self.now());
        // Whether a lease has ended the nodes decide, which destroy the manifest then: this machine's clock may be
        // wrong.
        if lease.erased {
            if known.is_none() {
                return Seen::Nothing;
            }
            // Few nodes may know of it, as after a restore from a backup. The others serve the object until they do.
            return match self.tell_signed(&record, record.signed(), &BTreeSet::new(), patience).await {
                Ok(_) => Seen::Erased,
                Err(LeaseChangeError::TooFew { source, .. }) => Seen::Unread(source.map(|it| it.node().clone())),
                Err(_) => Seen::Unread(None),
            };
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
            Err(_) => return Seen::Unread(None),
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
            hashes: Hashes::of_inline(&record),
            name: None,
        };
        match self.names_in(Found { capability: note.capability, object: Arc::new(object), record }).await {
            Ok(names) => Seen::New(Box::new(entry), names),
            Err(_) => Seen::Unread(None),
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
        let Ok(pointer) = Pointer::open(&note.capability, record, now) else { return Seen::Unread(None) };
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
            hashes: None,
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

/// Puts the lists of origins together, those that were given to their ends and those that broke off: first what several
/// tell, then what one does. Where enough origins gave whole lists, the others bear witness: of what one tells alone so
/// many are looked at as all others tell. Returns the origins too that tell of more.
fn put_together(
    whole: Vec<(NodeName, BTreeSet<Locator>)>,
    broken: Vec<BTreeSet<Locator>>,
) -> (Vec<Locator>, BTreeSet<NodeName>) {
    let mut told: BTreeMap<Locator, usize> = BTreeMap::new();
    for locator in whole.iter().map(|(_, list)| list).chain(&broken).flatten() {
        *told.entry(*locator).or_default() += 1;
    }
    let is_alone = |locator: &Locator| told[locator] == 1;
    let mut locators: Vec<Locator> = told.keys().filter(|locator| !is_alone(locator)).copied().collect();
    let alone_max = if whole.len() < NODES_ASKED { usize::MAX } else { locators.len().max(ALONE_MIN) };
    let mut boastful = BTreeSet::new();
    for (node, list) in whole {
        let alone = list.iter().filter(|locator| is_alone(locator));
        if alone.clone().nth(alone_max).is_some() {
            tracing::warn!(%node, "an origin lists far more than all others; most of that is not looked at");
            boastful.insert(node);
        }
        locators.extend(alone.take(alone_max));
    }
    locators.extend(broken.into_iter().flatten().filter(is_alone));
    (locators, boastful)
}

/// Takes the list of one origin, page by page, each behind the one before.
///
/// # Errors
/// [`TransportError::Nonsense`] when it is no list: it does not go forward, or not to an end.
async fn take_list<P: Future<Output = Result<LocatorPage, TransportError>>>(
    node: &NodeName,
    into: &mut BTreeSet<Locator>,
    pages_max: usize,
    page: impl Fn(Option<Locator>) -> P,
) -> Result<(), TransportError> {
    let nonsense = |reason: &str| TransportError::Nonsense { node: node.clone(), reason: reason.to_owned() };
    let mut after = None;
    for _ in 0..pages_max {
        let LocatorPage { locators, next } = page(after).await?;
        let is_forward = locators.is_sorted_by(|one, other| one < other)
            && locators.first().is_none_or(|first| after.is_none_or(|after| after < *first));
        if locators.len() > PAGE_ENTRIES_MAX || !is_forward {
            return Err(nonsense("a page of locators that is too long, or not in order behind the one before"));
        }
        if next.is_some() && (next != locators.last().copied() || locators.len() < PAGE_ENTRIES_MAX) {
            return Err(nonsense(
                "a page of locators that goes on though it is not full, or elsewhere than behind its last",
            ));
        }
        into.extend(locators);
        match next {
            Some(next) => after = Some(next),
            None => return Ok(()),
        }
    }
    Err(nonsense("a list of locators that has no end"))
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

impl Sight {
    /// Takes the new files whose paths are known by now.
    fn placed_files(&mut self, known: &BTreeMap<Locator, Entry>) -> Vec<Entry> {
        let files = self.added.iter().filter(|(_, entry)| entry.kind == Kind::File);
        let placed = files.filter_map(|(locator, _)| Some((*locator, self.path_of(locator, known).ok()?)));
        let placed: Vec<_> = placed.collect();
        let take = |(locator, path)| self.added.remove(&locator).map(|entry| Entry { path, ..entry });
        placed.into_iter().filter_map(take).collect()
    }

    /// Takes the other new entries, in the order in which they are to be written: the files, and then the directories,
    /// the deepest first.
    fn rest(&mut self, known: &BTreeMap<Locator, Entry>) -> Vec<Vec<Entry>> {
        let mut layers: BTreeMap<_, Vec<Entry>> = BTreeMap::new();
        // What is not new is written with the first of them.
        layers.insert(Reverse(usize::MAX), Vec::new());
        for (locator, entry) in &self.added {
            let path = self.path_of(locator, known).unwrap_or_else(|path| path);
            let depth = if entry.kind == Kind::File { usize::MAX } else { path.matches('/').count() };
            layers.entry(Reverse(depth)).or_default().push(Entry { path, ..entry.clone() });
        }
        layers.into_values().collect()
    }

    /// Returns the path of a new entry: that of its folder and its name there, or, of a top, its own name.
    ///
    /// # Errors
    /// The path of what is not seen to lie below a top: its folder did not end, or was not looked at yet.
    fn path_of(&self, locator: &Locator, known: &BTreeMap<Locator, Entry>) -> Result<String, String> {
        let (mut names, mut at) = (Vec::new(), *locator);
        let top = loop {
            let is_top = |entry: &&Entry| entry.position == Position::Top;
            if let Some(top) = known.get(&at).or(self.added.get(&at).filter(is_top)) {
                break Some(&top.path);
            }
            // Directories cannot lie in themselves, because capabilities are hashes. The bound holds whatever they do.
            match self.parents.get(&at) {
                Some((parent, name)) if names.len() <= PATH_SEGMENTS_MAX => {
                    names.push(name.as_str());
                    at = *parent;
                }
                _ => break None,
            }
        };
        let of_its_own = |at: &Locator| format!("{UNFINISHED}/{}", self.added.get(at).map_or("", |entry| &entry.path));
        let fitting = |path: String| if path.len() <= PATH_BYTES_MAX { path } else { of_its_own(locator) };
        names.reverse();
        match top {
            Some(top) => Ok(fitting(std::iter::once(top.as_str()).chain(names).collect::<Vec<_>>().join("/"))),
            None => Err(fitting([&[of_its_own(&at).as_str()][..], &names].concat().join("/"))),
        }
    }
}

/// Returns the note of an object's lease.
pub(crate) fn note(capability: &Capability, batch: Batch, position: Position) -> OwnerNote {
    let place = match position {
        Position::Top => NotePlace::Top,
        Position::Inner => NotePlace::Inner,
    };
    OwnerNote { capability: capability.clone(), batch: batch.0, place, name: None }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn locator(number: u64) -> Locator {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        Locator(bytes)
    }

    /// Takes a list whose pages are made by their number, and returns how many were asked for.
    async fn take(page: impl Fn(u64) -> LocatorPage) -> (Result<usize, String>, u64) {
        let (asked, mut listed) = (Cell::new(0), BTreeSet::new());
        let node = "o1".parse().unwrap();
        let taken = take_list(&node, &mut listed, 9, |_| {
            asked.set(asked.get() + 1);
            std::future::ready(Ok(page(asked.get() - 1)))
        });
        let taken = taken.await.map(|()| listed.len()).map_err(|error| error.to_string());
        (taken, asked.get())
    }

    #[tokio::test]
    async fn a_list_without_an_end_or_an_order_is_a_lie() {
        let whole = |number: u64, count: u64| (number * count..(number + 1) * count).map(locator).collect::<Vec<_>>();
        let pages = |count, end| {
            move |number: u64| {
                let locators = whole(number, count);
                LocatorPage { next: locators.last().copied().filter(|_| number < end), locators }
            }
        };
        assert_eq!(take(pages(1000, 2)).await, (Ok(3000), 3));
        assert_eq!(take(|_| LocatorPage { locators: vec![], next: None }).await, (Ok(0), 1));
        let is_lie = |(taken, asked): (Result<usize, String>, u64), pages: u64| {
            assert_eq!(asked, pages);
            assert!(taken.unwrap_err().contains("nonsense"));
        };
        is_lie(take(pages(1000, u64::MAX)).await, 9);
        is_lie(take(pages(999, u64::MAX)).await, 1);
        is_lie(take(|_| pages(1000, 1)(0)).await, 2);
        is_lie(take(|_| pages(1001, 0)(0)).await, 1);
        is_lie(take(|_| LocatorPage { locators: vec![], next: Some(locator(1)) }).await, 1);
        is_lie(take(|_| LocatorPage { locators: vec![locator(2), locator(1)], next: None }).await, 1);
        is_lie(take(|_| LocatorPage { locators: vec![locator(1)], next: Some(locator(9)) }).await, 1);
    }

    #[test]
    fn what_one_origin_tells_alone_comes_last_and_within_a_bound() {
        let list = |from: u64, to: u64| (from..to).map(locator).collect::<BTreeSet<_>>();
        let named = |number: usize, list| (format!("o{number}").parse::<NodeName>().unwrap(), list);
        let lists = |third| vec![named(1, list(5000, 5010)), named(2, list(5000, 5011)), named(3, third)];
        let (locators, boastful) = put_together(lists(list(0, 4000)), vec![]);
        assert_eq!(locators[..10], list(5000, 5010).into_iter().collect::<Vec<_>>());
        assert_eq!(locators.len(), 10 + 1 + ALONE_MIN);
        assert_eq!(boastful, ["o3".parse().unwrap()].into());
        let (locators, boastful) = put_together(lists(list(0, 900)), vec![list(6000, 9000)]);
        assert_eq!((locators.len(), boastful.len()), (10 + 1 + 900 + 3000, 0), "one that fell silent has no bound");
        // Of two that differ nobody knows which is right.
        let (locators, boastful) = put_together(lists(list(0, 4000)).split_off(1), vec![]);
        assert_eq!((locators.len(), boastful.len()), (4011, 0));
    }
}
