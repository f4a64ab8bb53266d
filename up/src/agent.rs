//! The owner's agent: the twin's API in the process of the network, opened by the owner's key file.
//!
//! Viewers are served whether the twin answers or not: what keeps it from starting is told, and ends nothing else.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use api::{Api, StartError, StoreError};
use format::{OwnerSecret, Profile};
use sandbox::guard::ChildCommand;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use twin::{
    ApiConfig, ConfigError, Index, IndexError, LockKind, Network, NetworkError, OwnerError, OwnerStore, Twin,
    TwinConfig, Unlock, UnlockError,
};

/// The first and the longest pause before a twin that did not start is tried again.
const RETRY_FIRST: Duration = Duration::from_secs(5);
const RETRY_MAX: Duration = Duration::from_secs(300);

/// The twin's API while it runs.
pub(crate) struct Agent {
    running: api::Running,
    stop: CancellationToken,
}

/// Why the twin is left out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AgentFault {
    /// Nobody is there to type the passphrase.
    #[error("a passphrase opens the owner key; `evernear twin run` in another terminal asks for it")]
    Passphrase,
    /// Some key file opens the owner key, and nobody says which.
    #[error("{} names no `key_file` that opens the owner key; write it there", config.display())]
    NoKeyFile { config: PathBuf },
    /// The key file cannot be read.
    #[error("the key file {} cannot be used; put back a copy of it", path.display())]
    KeyFile { path: PathBuf, source: UnlockError },
    /// The owner key does not open.
    #[error(transparent)]
    Owner(#[from] OwnerError),
    /// The owner wrote what is none.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The index does not open.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The origins do not answer.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// What the API remembers is damaged.
    #[error(
        "{} is damaged: move it away, with the files whose names begin as its own does, and make tokens again. What was stored stays", path.display()
    )]
    Damaged { path: PathBuf },
    /// The API does not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Work off the reactor did not come back.
    #[error("opening the owner key was cut short")]
    Lost(#[from] tokio::task::JoinError),
}

impl AgentFault {
    /// Returns whether another start may do, without anybody changing what the owner chose.
    pub(crate) fn may_pass(&self) -> bool {
        !matches!(self, Self::Passphrase)
    }
}

/// When a twin that did not start is tried again: after pauses that double.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Retry {
    at: Instant,
    pause: Duration,
}

impl Retry {
    pub(crate) fn first(now: Instant) -> Self {
        Self { at: now + RETRY_FIRST, pause: RETRY_FIRST }
    }

    pub(crate) fn is_due(self, now: Instant) -> bool {
        now >= self.at
    }

    /// Returns the one after this.
    pub(crate) fn next(self, now: Instant) -> Self {
        let pause = (self.pause * 2).min(RETRY_MAX);
        Self { at: now + pause, pause }
    }
}

impl Agent {
    /// Starts to answer at an address for the owner whose state lies in a folder. The network is there already.
    pub(crate) async fn start(state: &Path, listen: SocketAddr, compiler: ChildCommand) -> Result<Self, AgentFault> {
        let folder = state.to_owned();
        let (mut config, secret, index) = client::offload(move || open(&folder)).await??;
        let said = std::mem::replace(&mut config.api.listen, listen);
        if said != listen && said != ApiConfig::default().listen {
            tracing::warn!(
                %said, %listen, "`listen` of [api] in twin.toml is for `evernear twin run` alone: --twin says where this twin answers"
            );
        }
        let network = Network::connect(&config).await?;
        let twin = Arc::new(Twin::new(&secret, index, Arc::new(network)));
        drop(secret);
        let stop = CancellationToken::new();
        match Api::start(&config, state, twin, compiler, stop.clone()).await {
            Ok(running) => Ok(Self { running, stop }),
            Err(StartError::Store(StoreError::NoDatabase { path, .. })) => Err(AgentFault::Damaged { path }),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.running.local_addr
    }

    /// Returns where this machine reaches it.
    pub(crate) fn url(&self) -> &str {
        &self.running.url
    }

    /// Stores in this profile what wishes for none.
    pub(crate) fn set_profile(&self, profile: Profile) {
        self.running.set_profile(profile);
    }

    /// Stops it: uploads under way end first, as long as `drain_seconds` of [api] allows.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.running.stopped().await {
            tracing::error!(%error, "the twin did not stop in order");
        }
    }
}

/// Reads the configuration, and opens the owner key and the index. Blocks on the disk.
fn open(state: &Path) -> Result<(TwinConfig, OwnerSecret, Index), AgentFault> {
    let path = state.join("twin.toml");
    let (config, store) = (TwinConfig::read(&path)?, OwnerStore::at(state.join("owner.key")));
    if store.card()?.lock == LockKind::Passphrase {
        return Err(AgentFault::Passphrase);
    }
    let key_file = config.key_file.clone().ok_or(AgentFault::NoKeyFile { config: path })?;
    let unlock = Unlock::read_key_file(&key_file).map_err(|source| AgentFault::KeyFile { path: key_file, source })?;
    let secret = store.open(&unlock)?;
    let index = Index::open(state.join("index"), &secret)?;
    Ok((config, secret, index))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pauses_grow_to_five_minutes_and_a_passphrase_is_not_waited_for() {
        let now = Instant::now();
        let mut retry = Retry::first(now);
        assert!(!retry.is_due(now + RETRY_FIRST - Duration::from_millis(1)) && retry.is_due(now + RETRY_FIRST));
        let mut pauses = Vec::new();
        for _ in 0..8 {
            retry = retry.next(now);
            pauses.push(retry.pause.as_secs());
        }
        assert_eq!(pauses, [10, 20, 40, 80, 160, 300, 300, 300]);
        assert!(!AgentFault::Passphrase.may_pass() && AgentFault::NoKeyFile { config: "c".into() }.may_pass());
    }
}
