//! An owner who remembers the hash of every acknowledged object. After any harm it can tell which objects are lost,
//! which are wrong and which lack redundancy.

use std::{
    io::Cursor,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use fastrand::Rng;
use format::{
    Label, Locator, OwnerSecret, Profile, Retention,
    wire::{ColumnState, ObjectHealth},
};
use futures::{StreamExt, stream};
use tokio::time::sleep;
use twin::{Index, Operator, PutOptions, Tenure, Twin, TwinConfig};

use crate::processes::Processes;

/// How many objects are asked for concurrently.
const ASKED_AT_ONCE: usize = 16;

/// An acknowledged object.
#[derive(Clone)]
pub struct Kept {
    /// Its name.
    pub label: Label,
    /// Hash of its bytes.
    pub hash: blake3::Hash,
    /// How many bytes.
    pub length: u64,
}

/// An owner of a cluster of processes, and its operator.
pub struct Keeper {
    /// The owner.
    pub twin: Twin,
    /// The operator.
    pub operator: Operator,
    profile: Profile,
    kept: Mutex<Vec<Kept>>,
    gone: Mutex<Vec<Kept>>,
}

impl Keeper {
    /// Makes a new owner of a cluster, who stores with `profile`.
    ///
    /// # Errors
    /// When no node answers.
    pub async fn open(processes: &Processes, profile: Profile) -> Result<Self> {
        let config = TwinConfig::read(Path::new(&processes.path("state/twin.toml")))?;
        let network = Arc::new(twin::Network::connect(&config).await?);
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).context("the system gives no random bytes")?;
        let secret = OwnerSecret::from_bytes(secret);
        let index = Index::open(processes.path("keeper-index"), &secret)?;
        Ok(Self {
            twin: Twin::new(&secret, index, network),
            operator: Operator::connect(&config).await?,
            profile,
            kept: Mutex::default(),
            gone: Mutex::default(),
        })
    }

    /// Stores random bytes and remembers them once they are acknowledged.
    ///
    /// # Errors
    /// When they are not.
    pub async fn put(&self, rng: &mut Rng, length: usize) -> Result<Kept> {
        self.put_until(rng, length, Retention::default()).await
    }

    /// The same as [`Self::put`], for a limited time.
    ///
    /// # Errors
    /// When they are not acknowledged.
    pub async fn put_until(&self, rng: &mut Rng, length: usize, retention: Retention) -> Result<Kept> {
        let tenure = Tenure { profile: self.profile, retention, ..Tenure::default() };
        let options = PutOptions { tenure, name: Some("kept".to_owned()), ..PutOptions::default() };
        let mut bytes = vec![0; length];
        rng.fill(&mut bytes);
        let (hash, length) = (blake3::hash(&bytes), length as u64);
        let progress: Arc<dyn twin::Progress> = Arc::new(());
        let stored = self.twin.put_stream(Box::new(Cursor::new(bytes)), &options, &progress).await?;
        let kept = Kept { label: stored.label, hash, length };
        lock(&self.kept).push(kept.clone());
        Ok(kept)
    }

    /// Removes one acknowledged object, if there is any. From the attempt on, nothing is promised about the object.
    /// Once the removal is acknowledged, the object must never come back.
    ///
    /// # Errors
    /// When the removal is not acknowledged.
    pub async fn remove_any(&self, rng: &mut Rng) -> Result<()> {
        let kept = {
            let mut kept = lock(&self.kept);
            if kept.is_empty() {
                return Ok(());
            }
            let number = rng.usize(..kept.len());
            kept.swap_remove(number)
        };
        self.twin.remove(&kept.label.capability().locator()).await?;
        lock(&self.gone).push(kept);
        Ok(())
    }

    /// Returns all objects that were acknowledged and not removed.
    #[must_use]
    pub fn kept(&self) -> Vec<Kept> {
        lock(&self.kept).clone()
    }

    /// Returns how many objects were acknowledged and not removed.
    #[must_use]
    pub fn count(&self) -> usize {
        lock(&self.kept).len()
    }

    /// Returns a random object that was acknowledged and not removed.
    #[must_use]
    pub fn any(&self, rng: &mut Rng) -> Option<Kept> {
        rng.choice(lock(&self.kept).iter()).cloned()
    }

    /// Reads a whole object from the origins and returns whether its bytes are exact.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn is_exact(&self, kept: &Kept) -> Result<bool> {
        let network = self.twin.network();
        let found = network.find(kept.label.capability(), &[]).await?;
        let (bytes, _) = network.read(&found, 0..kept.length, Vec::new(), Path::new("memory")).await?;
        Ok(blake3::hash(&bytes) == kept.hash)
    }

    /// Reads all objects that were acknowledged, and tries to read all that were removed.
    pub async fn look(&self) -> Looked {
        let mut it = Looked::default();
        let mut kept = stream::iter(self.kept())
            .map(async |kept| (self.is_exact(&kept).await, kept))
            .buffer_unordered(ASKED_AT_ONCE);
        while let Some((exact, kept)) = kept.next().await {
            match exact {
                Ok(true) => it.exact += 1,
                Ok(false) => it.wrong.push(kept.label.capability().locator()),
                Err(error) => it.lost.push((kept.label.capability().locator(), error)),
            }
        }
        let gone = lock(&self.gone).clone();
        let mut gone =
            stream::iter(gone).map(async |gone| (self.is_exact(&gone).await, gone)).buffer_unordered(ASKED_AT_ONCE);
        while let Some((found, gone)) = gone.next().await {
            match found {
                Ok(_) => it.revived.push(gone.label.capability().locator()),
                Err(_) => it.gone += 1,
            }
        }
        it
    }

    /// Reads all objects that were acknowledged, and tries to read all that were removed.
    ///
    /// # Errors
    /// When one object cannot be read or is wrong, or one that was removed can be read.
    pub async fn all_exact(&self) -> Result<()> {
        let looked = self.look().await;
        ensure!(looked.is_well(), "{looked:?}");
        Ok(())
    }

    /// Returns the health of each object, in the order of [`Self::kept`].
    ///
    /// # Errors
    /// When no origin answers for one object.
    pub async fn healths(&self) -> Result<Vec<ObjectHealth>> {
        let kept = self.kept();
        let asked = stream::iter(kept).map(async |kept| {
            let locator = kept.label.capability().locator();
            self.operator.health(&locator).await.with_context(|| format!("health of {locator} is unknown"))
        });
        let asked: Vec<Result<ObjectHealth>> = asked.buffered(ASKED_AT_ONCE).collect().await;
        asked.into_iter().collect()
    }

    /// Waits until every column of every object was healthy or empty, and returns how long it took. No further harm may
    /// be done meanwhile: an object that was whole once is not asked for again.
    ///
    /// # Errors
    /// When that takes longer than `deadline`; an object that lacks something is in the error.
    pub async fn until_whole(&self, deadline: Duration) -> Result<Duration> {
        let start = Instant::now();
        let mut left = self.kept();
        loop {
            let mut asked = stream::iter(std::mem::take(&mut left))
                .map(async |kept| (self.operator.health(&kept.label.capability().locator()).await, kept))
                .buffered(ASKED_AT_ONCE);
            let mut broken = None;
            while let Some((health, kept)) = asked.next().await {
                if !health.as_ref().is_ok_and(is_whole) {
                    broken.get_or_insert(health);
                    left.push(kept);
                }
            }
            drop(asked);
            let Some(broken) = broken else { return Ok(start.elapsed()) };
            if start.elapsed() > deadline {
                bail!("{} objects lack redundancy after {deadline:?}; one of them: {broken:?}", left.len());
            }
            sleep(Duration::from_millis(500)).await;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The result of reading everything that was promised.
#[derive(Debug, Default)]
pub struct Looked {
    /// Objects whose bytes were exact.
    pub exact: usize,
    /// Objects that were read, but whose bytes are not those that were stored.
    pub wrong: Vec<Locator>,
    /// Objects that cannot be read, and why.
    pub lost: Vec<(Locator, anyhow::Error)>,
    /// Removed objects that cannot be read.
    pub gone: usize,
    /// Removed objects that can be read.
    pub revived: Vec<Locator>,
}

impl Looked {
    /// Returns whether every promise holds.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.wrong.is_empty() && self.lost.is_empty() && self.revived.is_empty()
    }
}

/// Returns whether every column of an object is healthy or empty.
#[must_use]
pub fn is_whole(health: &ObjectHealth) -> bool {
    health.columns.iter().all(|column| matches!(column.state, ColumnState::Healthy | ColumnState::Empty))
}
