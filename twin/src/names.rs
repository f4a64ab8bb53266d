//! Stable names: where the owner's names point, and moving them.
//!
//! A name is in the index before nodes take its record, as an object is. Two machines of one owner may move one name at
//! the same time: the nodes take one of the two, and the other reads it and moves the name once more.
//!
//! Nodes may show less than the index knows: their catalog was restored from an older backup, or they hold news back.
//! What is signed next is newer than both, and a renewal stands for what the index says.

use client::{Known, ReadError, TransportError, UploadError, file_record};
use format::{
    Label, Lease, Locator, Mode, Moment, NameError, NotePlace, OpenError, OwnerNote, Pointer, StableName,
    limits::POINTER_SECONDS_MAX,
};
use tokio::task::spawn_blocking;

use crate::{
    clock::ClockError,
    get::{Found, GetError},
    index::{Batch, Entry, Index, IndexError, Move, NameState, Position, State, Tenure},
    put::new_batch,
    twin::Twin,
};

/// How often a name that another machine moves meanwhile is read and moved again.
const TRIES_MAX: usize = 3;
/// How long an answer under a new name may be kept, in seconds, unless the owner says otherwise.
const SECONDS_DEFAULT: u32 = 60;
/// For how long a pointer is followed unless the owner says otherwise, in seconds: a quarter of a year.
const FRESH_SECONDS_DEFAULT: u64 = 90 * 86_400;

/// What is to become of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameChange {
    /// A name that is not there yet is to stand for this object.
    New(Label),
    /// A name that is there is to stand for this object.
    Move(Label),
    /// The name is to stand for this object, whether it is there or not.
    Set(Label),
    /// The name is to stand for what it stands for, for longer.
    Renew,
}

/// How long pointers and answers count. `None` leaves what the name has, or the default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NameTerms {
    /// Seconds since 1970 after which no edge follows the pointer. By default 90 days from now, or what the name has
    /// when that is later.
    pub fresh_until: Option<u64>,
    /// Seconds for which DNS and browsers may keep an answer. By default 60.
    pub seconds: Option<u32>,
}

/// A name after a change.
#[derive(Debug, Clone)]
pub struct Renamed {
    /// Its label.
    pub label: Label,
    /// Its entry in the index.
    pub entry: Entry,
    /// The state that the entry has.
    pub state: NameState,
    /// The name was not there before.
    pub is_new: bool,
    /// How many nodes took the record.
    pub nodes: usize,
    /// The version that the nodes had when it is older than that of the index; zero when they had none.
    pub behind: Option<u64>,
}

/// Why a name was not made, moved or renewed.
#[derive(Debug, thiserror::Error)]
pub enum NameChangeError {
    /// The text cannot be a name.
    #[error("the owner cannot have such a name")]
    Name(#[from] NameError),
    /// There is such a name.
    #[error("there is a name {text:?} already")]
    Exists {
        /// What the owner calls it.
        text: String,
    },
    /// There is no such name.
    #[error("there is no name {text:?}")]
    Unknown {
        /// What the owner calls it.
        text: String,
    },
    /// The owner ended the name, and what is erased never comes back.
    #[error("the name {text:?} was removed, and its label with it: it cannot come back")]
    Ended {
        /// What the owner calls it.
        text: String,
    },
    /// A removal of the name was cut short, and some nodes may have ended it.
    #[error("a removal of the name {text:?} has begun, which cannot be taken back")]
    Ending {
        /// What the owner calls it.
        text: String,
    },
    /// The same of what it was to stand for.
    #[error("a removal of what the name is to stand for has begun, which cannot be taken back")]
    TargetEnding,
    /// A name was to stand for a name.
    #[error("the label is a stable name's: a name stands for an object")]
    Chain,
    /// The answers would be kept for too long.
    #[error("answers under a name may be kept for {POINTER_SECONDS_MAX} s at most, not {found}")]
    Seconds {
        /// What was asked.
        found: u32,
    },
    /// The pointer would end before it counts.
    #[error("the pointer would end at {}, which is past", Moment(*fresh_until))]
    Past {
        /// Seconds since 1970.
        fresh_until: u64,
    },
    /// A renewal would end the name sooner than it does now.
    #[error("the name would end at {}, and it ends at {} now", Moment(*end), Moment(*held))]
    Sooner {
        /// Seconds since 1970 at which it ends now.
        held: u64,
        /// Seconds since 1970 at which it would end.
        end: u64,
    },
    /// This machine's clock is wrong.
    #[error("the name would end at a wrong time")]
    Clock(#[from] ClockError),
    /// The object cannot be opened.
    #[error("what the name is to stand for cannot be opened")]
    Target(#[source] GetError),
    /// The name's record cannot be read.
    #[error("where the name points now cannot be read")]
    Read(#[source] ReadError),
    /// Too few nodes took the record. A retry is safe (idempotent).
    #[error("the name was not moved")]
    File(#[from] UploadError),
    /// The index cannot be written. Repeat the call.
    #[error("the index of uploads cannot be written")]
    Index(#[from] IndexError),
    /// The system has no randomness.
    #[error("the system gives no random bytes")]
    Random(#[from] getrandom::Error),
}

impl Twin {
    /// Makes, moves or renews the stable name that the owner calls `text`. Edges that serve it follow within two
    /// seconds; resolvers and browsers when what they keep ends.
    ///
    /// # Errors
    /// [`NameChangeError`]; but for [`NameChangeError::File`], after which some nodes may have the change, the name is
    /// as it was.
    pub async fn point(&self, text: &str, change: &NameChange, terms: NameTerms) -> Result<Renamed, NameChangeError> {
        let name = StableName::derive(&self.secret, text)?;
        self.check_clock()?;
        let mut tries = 1;
        loop {
            match self.point_once(&name, change, terms).await {
                // Another machine of the owner was faster.
                Err(NameChangeError::File(error)) if tries < TRIES_MAX && is_overtaken(&error) => tries += 1,
                done => return done,
            }
        }
    }

    async fn point_once(
        &self,
        name: &StableName,
        change: &NameChange,
        terms: NameTerms,
    ) -> Result<Renamed, NameChangeError> {
        // As it was derived, so that it fits into the note however it was written.
        let (text, now, locator) = (name.text().to_owned(), self.now(), name.locator());
        let entry = self.entry_of_name(name).await?;
        let state = entry.as_ref().and_then(|entry| entry.name.clone());
        let begun = entry.as_ref().map_or(0, |entry| entry.tenure.version);
        let held = match self.network.reader.pointer(name.capability(), Some(self.anything_own())).await {
            Ok((pointer, record)) => Some((pointer, record.lease)),
            Err(ReadError::NotFound { .. }) => None,
            Err(ReadError::Open(OpenError::Erased)) => return Err(NameChangeError::Ended { text }),
            Err(error) => return Err(NameChangeError::Read(error)),
        };
        let at_nodes = held.as_ref().map_or(0, |(_, lease)| lease.version);
        // The index knows what this machine filed: nodes that show less are behind, or would have it signed again.
        let filed = state.as_ref().and_then(|state| state.moves.last()).copied();
        let ahead = filed.filter(|filed| filed.version > at_nodes);
        // What an attempt to make the name left at too few nodes is no name yet. Its note has the batch of the entry.
        let is_begun = entry.as_ref().is_some_and(|entry| entry.state == State::Committing) && filed.is_none();
        let is_own = |lease: &Lease| {
            let note = lease.note.as_ref().and_then(|note| note.open(&self.note_key, &locator));
            note.map(|note| Batch(note.batch)) == entry.as_ref().map(|entry| entry.batch)
        };
        let is_new = held.as_ref().is_none_or(|(_, lease)| is_begun && is_own(lease)) && ahead.is_none();
        let target = match (change, &held, ahead) {
            (NameChange::New(_), ..) if !is_new => return Err(NameChangeError::Exists { text }),
            (NameChange::Move(_) | NameChange::Renew, None, None) => return Err(NameChangeError::Unknown { text }),
            (NameChange::New(target) | NameChange::Move(target) | NameChange::Set(target), ..) => target.clone(),
            (NameChange::Renew, _, Some(Move { target, .. })) => {
                let of_target = move |index: &mut Index| index.entry(&target).map(Entry::label);
                self.with_index(of_target).await.ok_or(NameChangeError::Read(ReadError::Old { locator }))?
            }
            (NameChange::Renew, Some((pointer, _)), None) => Label::open(pointer.target.clone()),
        };
        if target.mode() == Mode::Name {
            return Err(NameChangeError::Chain);
        }
        let described = match &entry {
            // What a name stands for may be gone, and the name goes on.
            Some(entry) if *change == NameChange::Renew => entry.clone(),
            _ => {
                let of_target = target.capability().locator();
                let is_ending = move |index: &mut Index| index.entry(&of_target).map(|entry| entry.state);
                if self.with_index(is_ending).await == Some(State::Ending) {
                    return Err(NameChangeError::TargetEnding);
                }
                let found = self.network.find(target.capability(), &[]).await.map_err(NameChangeError::Target)?;
                let batch = entry.as_ref().map_or_else(new_batch, |entry| Ok(entry.batch))?;
                entry_of(name, &text, &found, batch, now)
            }
        };
        let had = match (&held, &state) {
            (_, Some(state)) if ahead.is_some() => Some((state.fresh_until, state.seconds)),
            (held, _) => held.as_ref().map(|(pointer, _)| (pointer.fresh_until, pointer.seconds)),
        };
        let (had_until, had_seconds) = had.unwrap_or((0, SECONDS_DEFAULT));
        let seconds = match terms.seconds {
            Some(found) if found > POINTER_SECONDS_MAX => return Err(NameChangeError::Seconds { found }),
            seconds => seconds.unwrap_or(had_seconds),
        };
        let by_default = || now.saturating_add(FRESH_SECONDS_DEFAULT).max(had_until);
        let fresh_until = terms.fresh_until.unwrap_or_else(by_default);
        if fresh_until <= now {
            return Err(NameChangeError::Past { fresh_until });
        }
        if *change == NameChange::Renew && fresh_until < had_until {
            return Err(NameChangeError::Sooner { held: had_until, end: fresh_until });
        }
        // A move that the index began and too few nodes took may be at some of them.
        let version = at_nodes.max(begun).saturating_add(1);
        let mut moves = state.map(|state| state.moves).unwrap_or_default();
        let none = NameState { fresh_until, seconds, moves: Vec::new() };
        moves.push(Move { version, at: now, target: target.capability().locator() });
        let state = NameState { fresh_until, seconds, moves };
        let tenure = Tenure { version, ..described.tenure.clone() };
        // The move counts once nodes have it. Until then the index says what it said, and the version that may be out.
        let before = entry.unwrap_or_else(|| Entry { name: Some(none), ..described.clone() });
        let before = Entry { state: State::Committing, tenure: Tenure { version, ..before.tenure }, ..before };
        let entry = Entry { state: State::Stored, tenure, name: Some(state.clone()), ..described };

        // By its note the name is found again without this index.
        let note = OwnerNote {
            capability: name.capability().clone(),
            batch: entry.batch.0,
            place: NotePlace::Top,
            name: Some(entry.path.clone()),
        };
        let note = note.seal(&self.note_key);
        let pointer = Pointer { target: target.capability().clone(), fresh_until, seconds };
        let (keys, name, label) = (self.keys.clone(), name.clone(), name.label());
        let sign = move || name.record(&keys, &pointer, version, Some(note));
        let record = spawn_blocking(sign).await.expect("signing does not panic");
        self.record(before).await?;
        let filed = file_record(&self.network.transport, &record, &self.network.topology).await?;
        let nodes = filed.nodes.len();
        self.record(entry.clone()).await?;
        let behind = ahead.map(|_| at_nodes);
        Ok(Renamed { label, entry, state, is_new, nodes, behind })
    }

    /// Returns what the index knows of a name.
    async fn entry_of_name(&self, name: &StableName) -> Result<Option<Entry>, NameChangeError> {
        let locator = name.locator();
        match self.with_index(move |index| index.entry(&locator).cloned()).await {
            Some(entry) if entry.state == State::Ending => {
                Err(NameChangeError::Ending { text: name.text().to_owned() })
            }
            entry => Ok(entry),
        }
    }

    /// What a reader knows of a name whatever its version: only this owner ends it.
    fn anything_own(&self) -> Known {
        Known { owner: self.owner(), version: 0 }
    }

    /// Refuses a name that cannot be set, before anything is stored for it.
    ///
    /// # Errors
    /// [`NameChangeError`].
    pub async fn check_name(&self, text: &str) -> Result<(), NameChangeError> {
        self.check_clock()?;
        let name = StableName::derive(&self.secret, text)?;
        self.entry_of_name(&name).await?;
        match self.network.reader.pointer(name.capability(), Some(self.anything_own())).await {
            Ok(_) | Err(ReadError::NotFound { .. }) => Ok(()),
            Err(ReadError::Open(OpenError::Erased)) => Err(NameChangeError::Ended { text: text.to_owned() }),
            Err(error) => Err(NameChangeError::Read(error)),
        }
    }

    /// Returns the locator of the name that the owner calls `text`, whether there is one or not.
    ///
    /// # Errors
    /// [`NameError`] for a text that cannot be a name.
    pub fn name_locator(&self, text: &str) -> Result<Locator, NameError> {
        Ok(StableName::derive(&self.secret, text)?.locator())
    }

    /// Returns the stable names of the index that were filed, by what the owner calls them.
    pub async fn names(&self) -> Vec<(Entry, NameState)> {
        let names = |entry: &Entry| {
            let name = entry.name.clone().filter(|name| !name.moves.is_empty());
            name.map(|name| (entry.clone(), name))
        };
        let mut all: Vec<_> =
            self.with_index(move |index| index.entries().filter_map(|(_, entry)| names(entry)).collect()).await;
        all.sort_by(|(a, _): &(Entry, _), (b, _)| a.path.cmp(&b.path));
        all
    }
}

/// Whether a node holds a newer record, or another of this version.
fn is_overtaken(error: &UploadError) -> bool {
    match error {
        UploadError::Record { failed, .. } => failed.iter().any(TransportError::is_conflict),
        error => matches!(error, UploadError::Outlived { .. }),
    }
}

/// Describes a name by the object that it is to stand for.
fn entry_of(name: &StableName, text: &str, found: &Found, batch: Batch, now: u64) -> Entry {
    let object = &found.object;
    Entry {
        capability: name.capability().clone(),
        state: State::Committing,
        path: text.to_owned(),
        length: object.length(),
        mime: object.manifest().mime.clone(),
        kind: object.kind(),
        created: now,
        tags: object.manifest().tags.keys().cloned().collect(),
        tenure: Tenure::default(),
        batch,
        position: Position::Top,
        hashes: None,
        name: None,
    }
}
