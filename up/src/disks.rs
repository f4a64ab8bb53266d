//! The disks of a network that runs: which are in, with their origins, and which are out, and why.

use std::{
    collections::BTreeSet,
    io,
    net::IpAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use client::{IdentityFiles, causes};
use format::wire::Role;
use futures::future::join_all;
use origin::{
    StartError, StrangeCatalog,
    catalog::{CatalogUrl, Found as FoundCatalog},
};
use tokio::{
    sync::watch,
    task::{JoinHandle, spawn_blocking},
    time::{Instant, sleep, timeout},
};

use crate::{
    catalog_place::Known,
    disk::{CALL_DEADLINE, Gone, Look},
    keys::Keys,
    lost_catalog::{CatalogFault, LostCatalog},
    pulse::{Pulse, Wait},
    seat::{self, Seated},
    settings::{Disk, Seat},
};

/// A disk that left is taken in again after this time at the earliest: whoever deletes its folder may not be done.
const REST: Duration = Duration::from_secs(5);
/// A start waits so long for a disk of which nothing is heard, and then goes on without it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// Origins that do nothing for so long while they start have a disk that does not answer.
pub(crate) const HUNG: Duration = Duration::from_secs(15 * 60);
/// How often a start looks at what is not in yet.
const PAUSE: Duration = Duration::from_millis(20);

/// What a disk needs of the network.
pub(crate) struct Around {
    /// The id on the marks.
    pub(crate) network: String,
    /// The address of all origins.
    pub(crate) host: IpAddr,
    /// Where the catalog is.
    pub(crate) catalog: Known,
    /// The file that is there while the catalog is made again.
    pub(crate) unfinished: PathBuf,
    pub(crate) keys: Arc<Keys>,
    /// Hear how far is what takes long.
    pub(crate) readers: watch::Sender<Wait>,
}

/// The disks, in the order of the settings.
pub(crate) struct Disks {
    around: Arc<Around>,
    all: Vec<Held>,
}

struct Held {
    disk: Disk,
    state: State,
    /// A call into the disk that did not come back in time.
    call: Option<JoinHandle<Found>>,
    /// Why it is out, as it was told.
    told: Option<String>,
}

/// The files of the identities of a disk's origins, when they are to be started, or why the disk is out.
type Found = Result<Vec<IdentityFiles>, Gone>;

/// The origins of a disk, or why it is out.
type Taken = Result<Vec<Seated>, Gone>;

enum State {
    In(Vec<Seated>),
    /// Its origins start; before that, what they have may go into the catalog, for hours.
    Coming {
        task: JoinHandle<Taken>,
        pulse: Arc<Pulse>,
    },
    /// Since when; none before the first look.
    Out(Gone, Option<Instant>),
}

impl Disks {
    /// Holds disks of which none is in yet.
    pub(crate) fn new(around: Around, disks: Vec<Disk>) -> Self {
        let out = |disk| Held { disk, state: State::Out(Gone::Absent, None), call: None, told: None };
        Self { around: Arc::new(around), all: disks.into_iter().map(out).collect() }
    }

    /// Makes the catalog again where its file was lost, before any origin runs. A database is not ours to make again.
    /// Returns whether it is whole.
    ///
    /// # Errors
    /// [`CatalogFault`]: then no origin may run.
    pub(crate) async fn save_catalog(&self, now: u64) -> Result<bool, CatalogFault> {
        let CatalogUrl::Sqlite(file) = &self.around.catalog.url else { return Ok(true) };
        let disks: Vec<&Disk> = self.all.iter().map(|held| &held.disk).collect();
        LostCatalog { around: &self.around, file, disks: &disks }.make_again(now).await
    }

    /// Looks at every disk until each is in or out, or nothing was heard of it for too long.
    pub(crate) async fn settle(&mut self) {
        loop {
            self.look().await;
            let is_coming = |held: &Held| match &held.state {
                State::Coming { pulse, .. } => pulse.silence() < PATIENCE,
                _ => false,
            };
            if !self.all.iter().any(is_coming) {
                return;
            }
            sleep(PAUSE).await;
        }
    }

    /// Looks at every disk: takes those in that are there, leaves those out that are not. Returns whether that changed
    /// which are in. Takes some seconds at most. Cancel safe, but then a change is not told.
    pub(crate) async fn look(&mut self) -> bool {
        let around = &self.around;
        let looks = join_all(self.all.iter_mut().map(|held| held.look(around))).await;
        looks.contains(&true)
    }

    /// Returns the names of the disks that are in.
    pub(crate) fn names(&self) -> BTreeSet<String> {
        self.all.iter().filter(|held| held.is_in()).map(|held| held.disk.name.clone()).collect()
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
            State::Coming { .. } => (&held.disk, Some(&Gone::Starting)),
            State::Out(why, _) => (&held.disk, Some(why)),
        })
    }

    /// Stops all origins at once.
    pub(crate) async fn stop(self) {
        let stop = async |held: Held| {
            let seated = match held.state {
                State::In(seated) => seated,
                State::Coming { task, .. } => {
                    task.abort();
                    task.await.ok().and_then(Result::ok).unwrap_or_default()
                }
                State::Out(..) => Vec::new(),
            };
            join_all(seated.into_iter().map(Seated::stop)).await;
        };
        join_all(self.all.into_iter().map(stop)).await;
    }
}

impl Held {
    fn is_in(&self) -> bool {
        matches!(self.state, State::In(_))
    }

    /// Returns whether the disk came or left.
    async fn look(&mut self, around: &Arc<Around>) -> bool {
        match &mut self.state {
            State::In(seated) => {
                let has_failed = seated.iter().any(Seated::has_failed);
                let (disk, network) = (self.disk.clone(), around.network.clone());
                let why = match self.ask(move || is_whole(&disk, &network).map(|()| Vec::new())).await {
                    Ok(_) if !has_failed => return false,
                    Ok(_) => Gone::Failed,
                    Err(why) => why,
                };
                if let State::In(seated) = self.leave_out(why) {
                    join_all(seated.into_iter().map(Seated::stop)).await;
                }
                true
            }
            State::Coming { task, pulse } if !task.is_finished() => {
                if pulse.silence() > HUNG {
                    task.abort();
                    self.leave_out(Gone::Silent);
                }
                false
            }
            State::Coming { task, .. } => match task.await.unwrap_or_else(|_| Err(lost())) {
                Ok(seated) => {
                    self.take_in(seated);
                    true
                }
                Err(why) => {
                    self.leave_out(why);
                    false
                }
            },
            // What an fsync failed on is looked at by people first.
            State::Out(Gone::Failed, Some(_)) => false,
            State::Out(_, Some(since)) if since.elapsed() < REST => false,
            State::Out(..) => {
                let (disk, network, keys) = (self.disk.clone(), around.network.clone(), around.keys.clone());
                match self.ask(move || prepare(&disk, &network, &keys)).await {
                    Err(why) => drop(self.leave_out(why)),
                    Ok(files) => {
                        let pulse = Arc::new(Pulse::new(around.readers.clone()));
                        let start = start_all(self.disk.clone(), files, around.clone(), pulse.clone());
                        self.state = State::Coming { task: tokio::spawn(start), pulse };
                    }
                }
                false
            }
        }
    }

    fn take_in(&mut self, seated: Vec<Seated>) {
        if self.told.take().is_some() {
            // It says the opposite of a warning, and is to be heard where that was.
            tracing::warn!(disk = %self.disk.name, path = %self.disk.path.display(), "a disk is there again");
        }
        // What it was named for is done.
        self.disk.is_new = false;
        self.state = State::In(seated);
    }

    /// Leaves the disk out, tells why where that is news, and returns what it was before.
    fn leave_out(&mut self, why: Gone) -> State {
        let said = why.to_string();
        if self.told.as_ref() != Some(&said) {
            tracing::warn!(disk = %self.disk.name, path = %self.disk.path.display(), %why, "a disk is left out");
        }
        self.told = Some(said);
        std::mem::replace(&mut self.state, State::Out(why, Some(Instant::now())))
    }

    /// Calls into the disk. While an earlier call is not back no other begins: a disk that hangs takes one thread.
    async fn ask(&mut self, work: impl FnOnce() -> Found + Send + 'static) -> Found {
        if let Some(earlier) = &mut self.call {
            // What it found is old.
            let _ = timeout(CALL_DEADLINE, earlier).await.map_err(|_| Gone::Silent)?;
        }
        let call = self.call.insert(spawn_blocking(work));
        let found = timeout(CALL_DEADLINE, call).await.map_err(|_| Gone::Silent)?;
        self.call = None;
        found.map_err(|_| lost())?
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

fn lost() -> Gone {
    Gone::Faulty { source: io::Error::other("a call into it did not come back") }
}

/// Starts the origins of a disk that is there.
async fn start_all(disk: Disk, files: Vec<IdentityFiles>, around: Arc<Around>, pulse: Arc<Pulse>) -> Taken {
    let mut seated = Vec::new();
    for (seat, files) in disk.origins.iter().zip(files) {
        match start(&disk, seat, &around, files, &pulse).await {
            Ok(one) => seated.push(one),
            Err(error) => {
                join_all(seated.into_iter().map(Seated::stop)).await;
                return Err(Gone::Refused { why: causes(&error) });
            }
        }
        pulse.beat();
    }
    Ok(seated)
}

/// Starts an origin. One that was away when the lost catalog was made again brings what it has first.
async fn start(
    disk: &Disk,
    seat: &Seat,
    around: &Around,
    files: IdentityFiles,
    pulse: &Pulse,
) -> Result<Seated, StartError> {
    let Around { host, catalog: Known { url, id }, .. } = around;
    // In a database there may be another network's by now.
    let is_ours = |strange: &StrangeCatalog| match (strange, id) {
        (StrangeCatalog::Note { .. }, _) => false,
        (_, None) => true,
        (StrangeCatalog::Other { found, .. }, Some(id)) => *found == FoundCatalog::Id(*id),
        (StrangeCatalog::Empty { .. }, Some(_)) => false,
    };
    match Seated::start(disk, seat, *host, url, files.clone()).await {
        Err(StartError::OtherCatalog(strange)) if is_ours(&strange) => {
            if let Err(error) = seat::rebuild(disk, seat, url, pulse).await {
                tracing::error!(node = %seat.name, error = causes(&error), "what it has is not in the catalog");
            }
            Seated::start(disk, seat, *host, url, files).await
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
