//! The disks of a network that runs: which are in, with their origins, and which are out, and why.

use std::{
    error::Error,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use client::IdentityFiles;
use format::wire::Role;
use futures::future::join_all;
use origin::{StartError, StrangeCatalog};
use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::{Instant, timeout},
};

use crate::{
    disk::{Gone, Look},
    keys::Keys,
    seat::{self, Seated},
    settings::{Disk, Seat},
};

/// A disk that left is taken in again after this time at the earliest: whoever deletes its folder may not be done.
const REST: Duration = Duration::from_secs(5);
/// A disk that takes longer to say whose it is does not answer.
const CALL_DEADLINE: Duration = Duration::from_secs(10);
/// An origin that takes longer to start has a disk that does not answer.
const START_DEADLINE: Duration = Duration::from_secs(120);

/// What a disk needs of the network.
pub(crate) struct Around {
    /// The id on the marks.
    pub(crate) network: String,
    /// The file of the catalog.
    pub(crate) catalog: PathBuf,
    pub(crate) keys: Arc<Keys>,
}

/// The disks, in the order of the settings.
pub(crate) struct Disks {
    around: Around,
    all: Vec<Held>,
}

struct Held {
    disk: Disk,
    state: State,
    /// A call into the disk that did not come back in time.
    call: Option<JoinHandle<Found>>,
}

/// The files of the identities of a disk's origins, when they are to be started, or why the disk is out.
type Found = Result<Vec<IdentityFiles>, Gone>;

enum State {
    In(Vec<Seated>),
    /// Since when; none before the first look.
    Out(Gone, Option<Instant>),
}

impl Disks {
    /// Holds disks of which none is in yet.
    pub(crate) fn new(around: Around, disks: Vec<Disk>) -> Self {
        let out = |disk| Held { disk, state: State::Out(Gone::Absent, None), call: None };
        Self { around, all: disks.into_iter().map(out).collect() }
    }

    /// Makes the catalog again where it is not there and disks have what was in it, before any origin runs: one that
    /// runs would take for lost, and repair, what is not filed yet.
    pub(crate) async fn save_catalog(&self) {
        let catalog = self.around.catalog.clone();
        if client::offload(move || catalog.exists()).await.unwrap_or(true) {
            return;
        }
        for Held { disk, .. } in &self.all {
            let (looked, network) = (disk.clone(), self.around.network.clone());
            let has = move || {
                let is_ready = matches!(looked.look(&network), Look::Ready);
                looked.origins.iter().map(|seat| is_ready && looked.has_data_of(seat.name.as_str())).collect()
            };
            let has: Vec<bool> = match timeout(CALL_DEADLINE, client::offload(has)).await {
                Ok(Ok(has)) => has,
                // It brings what it has when it answers.
                Ok(Err(_)) | Err(_) => continue,
            };
            for (seat, _) in disk.origins.iter().zip(has).filter(|(_, has)| *has) {
                if let Err(error) = seat::rebuild(disk, seat, &self.around.catalog).await {
                    tracing::error!(node = %seat.name, error = causes(&error), "what it has is not in the catalog");
                }
            }
        }
    }

    /// Looks at every disk: takes those in that are there, leaves those out that are not. Returns whether that changed
    /// which are in.
    pub(crate) async fn look(&mut self) -> bool {
        let around = &self.around;
        let looks = join_all(self.all.iter_mut().map(|held| held.look(around))).await;
        looks.contains(&true)
    }

    /// Returns the origins on disks that are in.
    pub(crate) fn seats(&self) -> impl Iterator<Item = &Seat> {
        self.all.iter().filter(|held| held.is_in()).flat_map(|held| &held.disk.origins)
    }

    /// Returns how many origins lie on each disk that is in.
    pub(crate) fn origins(&self) -> Vec<usize> {
        self.all.iter().filter(|held| held.is_in()).map(|held| held.disk.origins.len()).collect()
    }

    /// Returns the folders of the disks that are in.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        self.all.iter().filter(|held| held.is_in()).map(|held| held.disk.path.clone()).collect()
    }

    /// Returns each disk, and why it is out, if it is.
    pub(crate) fn states(&self) -> impl Iterator<Item = (&Disk, Option<&Gone>)> {
        self.all.iter().map(|held| match &held.state {
            State::In(_) => (&held.disk, None),
            State::Out(why, _) => (&held.disk, Some(why)),
        })
    }

    /// Stops all origins at once.
    pub(crate) async fn stop(self) {
        let seated = self.all.into_iter().flat_map(|held| match held.state {
            State::In(seated) => seated,
            State::Out(..) => Vec::new(),
        });
        join_all(seated.map(Seated::stop)).await;
    }
}

impl Held {
    fn is_in(&self) -> bool {
        matches!(self.state, State::In(_))
    }

    /// Returns whether the disk came or left.
    async fn look(&mut self, around: &Around) -> bool {
        match &self.state {
            State::In(seated) => {
                let has_failed = seated.iter().any(Seated::has_failed);
                let (disk, network) = (self.disk.clone(), around.network.clone());
                let why = match self.ask(move || is_whole(&disk, &network).map(|()| Vec::new())).await {
                    Ok(_) if !has_failed => return false,
                    Ok(_) => Gone::Failed,
                    Err(why) => why,
                };
                tracing::warn!(disk = %self.disk.name, path = %self.disk.path.display(), %why, "a disk is left out");
                let seated = std::mem::replace(&mut self.state, State::Out(why, Some(Instant::now())));
                if let State::In(seated) = seated {
                    join_all(seated.into_iter().map(Seated::stop)).await;
                }
                true
            }
            // What an fsync failed on is looked at by people first.
            State::Out(Gone::Failed, Some(_)) => false,
            State::Out(_, Some(since)) if since.elapsed() < REST => false,
            State::Out(why, since) => {
                let (before, is_news) = (why.to_string(), since.is_none());
                let (taken, path) = (self.take_in(around).await, self.disk.path.display());
                match taken {
                    Ok(seated) => {
                        if !is_news {
                            // It says the opposite of a warning, and is to be heard where that was.
                            tracing::warn!(disk = %self.disk.name, %path, "a disk is there again");
                        }
                        self.state = State::In(seated);
                        true
                    }
                    Err(why) => {
                        if is_news || why.to_string() != before {
                            tracing::warn!(disk = %self.disk.name, %path, %why, "a disk is left out");
                        }
                        self.state = State::Out(why, Some(Instant::now()));
                        false
                    }
                }
            }
        }
    }

    /// Starts the origins of a disk that is there.
    async fn take_in(&mut self, around: &Around) -> Result<Vec<Seated>, Gone> {
        let (disk, network, keys) = (self.disk.clone(), around.network.clone(), around.keys.clone());
        let prepared = self.ask(move || prepare(&disk, &network, &keys)).await?;
        let mut seated = Vec::new();
        for (seat, files) in self.disk.origins.iter().zip(prepared) {
            let why = match timeout(START_DEADLINE, start(&self.disk, seat, &around.catalog, files)).await {
                Ok(Ok(one)) => {
                    seated.push(one);
                    continue;
                }
                Ok(Err(error)) => Gone::Refused { why: causes(&error) },
                Err(_) => Gone::Silent,
            };
            join_all(seated.into_iter().map(Seated::stop)).await;
            return Err(why);
        }
        Ok(seated)
    }

    /// Calls into the disk. While an earlier call is not back no other begins: a disk that hangs takes one thread.
    async fn ask(&mut self, work: impl FnOnce() -> Found + Send + 'static) -> Found {
        let lost = |_| Gone::Faulty { source: io::Error::other("a call into it did not come back") };
        if let Some(earlier) = &mut self.call {
            // What it found is old.
            let _ = timeout(CALL_DEADLINE, earlier).await.map_err(|_| Gone::Silent)?;
        }
        let call = self.call.insert(spawn_blocking(work));
        let found = timeout(CALL_DEADLINE, call).await.map_err(|_| Gone::Silent)?;
        self.call = None;
        found.map_err(lost)?
    }
}

/// Says what is wrong with a disk that is in. Blocks on it.
fn is_whole(disk: &Disk, network: &str) -> Result<(), Gone> {
    match disk.look(network) {
        Look::Gone(why) => Err(why),
        Look::Ready if disk.origins.iter().all(|seat| disk.has_data_of(seat.name.as_str())) => Ok(()),
        Look::Ready | Look::Blank => Err(Gone::Emptied),
    }
}

/// Starts an origin. One that was away when the lost catalog was made again brings what it has first.
async fn start(disk: &Disk, seat: &Seat, catalog: &Path, files: IdentityFiles) -> Result<Seated, StartError> {
    match Seated::start(disk, seat, catalog, files.clone()).await {
        Err(StartError::OtherCatalog(StrangeCatalog::Other { .. } | StrangeCatalog::Empty { .. })) => {
            if let Err(error) = seat::rebuild(disk, seat, catalog).await {
                tracing::error!(node = %seat.name, error = causes(&error), "what it has is not in the catalog");
            }
            Seated::start(disk, seat, catalog, files).await
        }
        started => started,
    }
}

/// Marks a blank disk, and returns the files of its origins' identities. Blocks on both disks.
fn prepare(disk: &Disk, network: &str, keys: &Keys) -> Found {
    match disk.look(network) {
        Look::Gone(why) => return Err(why),
        Look::Blank => disk.mark(network).map_err(|source| Gone::Faulty { source })?,
        Look::Ready => {}
    }
    let files = |seat: &Seat| keys.files(&seat.name, Role::Origin, SystemTime::now());
    let files: Result<_, _> = disk.origins.iter().map(files).collect();
    files.map_err(|error| Gone::Refused { why: causes(&error) })
}

/// Formats an error with its causes, in one line.
pub(crate) fn causes(error: &dyn Error) -> String {
    let mut said = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        said += &format!(": {cause}");
        next = cause.source();
    }
    said
}
