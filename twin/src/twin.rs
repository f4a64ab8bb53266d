//! The twin itself: one owner's keys and index, and the cluster they are used in.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use format::{Locator, OwnerId, OwnerKeys, OwnerSecret};
use tokio::task::spawn_blocking;
use zeroize::Zeroizing;

use crate::{
    index::{Entry, Index, IndexError},
    network::Network,
};

/// Acts for one owner in one cluster. `owner` and `network` return at once, `list` and `whole` use only the index, and
/// all other calls talk to nodes.
pub struct Twin {
    pub(crate) secret: OwnerSecret,
    pub(crate) keys: Arc<OwnerKeys>,
    pub(crate) dedup_key: Zeroizing<[u8; 32]>,
    index: Arc<Mutex<Index>>,
    pub(crate) network: Arc<Network>,
}

impl Twin {
    /// Puts an owner, its index and a cluster together.
    #[must_use]
    pub fn new(secret: &OwnerSecret, index: Index, network: Arc<Network>) -> Self {
        let (keys, dedup_key) = (Arc::new(secret.keys()), secret.dedup_key());
        Self { secret: secret.clone(), keys, dedup_key, index: Arc::new(Mutex::new(index)), network }
    }

    /// Returns the owner.
    #[must_use]
    pub fn owner(&self) -> OwnerId {
        self.keys.id()
    }

    /// Returns the cluster.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Runs `act` on the index, on a blocking thread: it reads and writes the disk and may wait for another program.
    pub(crate) async fn with_index<T: Send + 'static>(&self, act: impl FnOnce(&mut Index) -> T + Send + 'static) -> T {
        let index = self.index.clone();
        // A poisoned lock can be used: the index changes its memory only after the disk, so after a panic it is as it
        // was before.
        let run = spawn_blocking(move || act(&mut index.lock().unwrap_or_else(PoisonError::into_inner)));
        run.await.expect("acts on the index neither panic nor are cancelled")
    }

    /// Records an upload in the index.
    pub(crate) async fn record(&self, entry: Entry) -> Result<(), IndexError> {
        self.with_index(move |index| index.record(entry)).await
    }

    /// Forgets uploads.
    pub(crate) async fn forget(&self, locators: BTreeSet<Locator>) -> Result<(), IndexError> {
        self.with_index(move |index| index.forget(&locators)).await
    }
}

/// Returns the seconds since 1970 by this machine's clock, or zero when the clock is before 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
