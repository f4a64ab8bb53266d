//! How a command gets access to the owner's keys and to the cluster: the state folder, the passphrase, `twin.toml`.

use std::{
    io::{self, BufRead, IsTerminal, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, bail};
use clap::Args;
use tokio::task::spawn_blocking;
use twin::{Index, LockKind, Network, Operator, OwnerStore, Twin, TwinConfig, Unlock};
use zeroize::Zeroizing;

/// How many bytes of a passphrase file are read.
const PASSPHRASE_FILE_BYTES_MAX: u64 = 64 * 1024;

/// Where a command finds the cluster.
#[derive(Debug, Args)]
pub(crate) struct ClusterAccess {
    /// The twin's configuration [default: twin.toml in the state folder]
    #[arg(long, env = "EVERNEAR_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// Where a command finds the owner's keys.
#[derive(Debug, Args)]
pub(crate) struct KeyAccess {
    /// The first line of this file is the passphrase [default: asked for on the terminal]
    #[arg(long, env = "EVERNEAR_PASSPHRASE_FILE", value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// This file of 32 random bytes opens the owner key
    #[arg(long, env = "EVERNEAR_KEY_FILE", value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
}

/// The state folder.
#[derive(Debug, Clone)]
pub(crate) struct StateFolder(PathBuf);

impl StateFolder {
    /// Uses the folder that was named, or `~/.evernear`.
    pub(crate) fn new(named: Option<&Path>) -> anyhow::Result<Self> {
        match (named, std::env::home_dir()) {
            (Some(named), _) => Ok(Self(named.to_owned())),
            (None, Some(home)) => Ok(Self(home.join(".evernear"))),
            (None, None) => bail!("there is no home folder for the owner's state; name a folder with --state"),
        }
    }

    pub(crate) fn owner_key(&self) -> OwnerStore {
        OwnerStore::at(self.0.join("owner.key"))
    }

    pub(crate) fn index(&self) -> PathBuf {
        self.0.join("index")
    }

    fn config(&self, access: &ClusterAccess) -> anyhow::Result<TwinConfig> {
        let path = access.config.clone().unwrap_or_else(|| self.0.join("twin.toml"));
        Ok(TwinConfig::read(&path)?)
    }
}

impl KeyAccess {
    /// Returns what opens the owner key: the file that was named for this kind of lock, or a passphrase from the
    /// prompt.
    pub(crate) fn unlock(&self, lock: LockKind) -> anyhow::Result<Unlock> {
        match (lock, &self.passphrase_file, &self.key_file) {
            (LockKind::Passphrase, Some(path), _) => read_passphrase(path),
            (LockKind::Passphrase, None, _) => ask("Passphrase: "),
            (LockKind::KeyFile, _, Some(path)) => read_key_file(path),
            (LockKind::KeyFile, _, None) => bail!("this owner key is opened by a key file; name it with --key-file"),
        }
    }

    /// Returns what will lock a new owner key: the file that was named, or a passphrase that the prompt asks for twice.
    pub(crate) fn new_lock(&self) -> anyhow::Result<Unlock> {
        match (&self.key_file, &self.passphrase_file) {
            (Some(path), _) => return read_key_file(path),
            (None, Some(path)) => return read_passphrase(path),
            (None, None) => {}
        }
        let (first, second) = (ask("New passphrase: ")?, ask("Once more: ")?);
        match (&first, &second) {
            (Unlock::Passphrase(a), Unlock::Passphrase(b)) if a == b => Ok(first),
            _ => bail!("the two passphrases differ; nothing was changed"),
        }
    }
}

/// Reads `twin.toml` and asks the cluster for its nodes.
pub(crate) async fn connect(state: &StateFolder, access: &ClusterAccess) -> anyhow::Result<(TwinConfig, Network)> {
    let config = state.config(access)?;
    let network = Network::connect(&config).await?;
    Ok((config, network))
}

/// Reads `twin.toml` and connects to the cluster as its operator.
pub(crate) async fn connect_operator(state: &StateFolder, access: &ClusterAccess) -> anyhow::Result<Operator> {
    Ok(Operator::connect(&state.config(access)?).await?)
}

/// Opens the owner key and the index, and connects.
pub(crate) async fn open_twin(
    state: &StateFolder,
    keys: &KeyAccess,
    access: &ClusterAccess,
) -> anyhow::Result<(TwinConfig, Twin)> {
    // The prompt comes before the network, so that a user who types a passphrase waits for nothing else.
    let config = state.config(access)?;
    let (secret, index) = open_index(state, keys).await?;
    let network = Network::connect(&config).await?;
    Ok((config, Twin::new(&secret, index, Arc::new(network))))
}

/// Opens the owner key and the index, without any network.
pub(crate) async fn open_index(state: &StateFolder, keys: &KeyAccess) -> anyhow::Result<(format::OwnerSecret, Index)> {
    let store = state.owner_key();
    let unlock = keys.unlock(store.card()?.lock)?;
    let path = state.index();
    let open = move || {
        let secret = store.open(&unlock)?;
        let index = Index::open(path, &secret)?;
        Ok((secret, index))
    };
    spawn_blocking(open).await.context("opening the owner key was cut short")?
}

fn ask(prompt: &str) -> anyhow::Result<Unlock> {
    if !io::stdin().is_terminal() {
        bail!("there is no terminal to ask for the passphrase; use --passphrase-file or EVERNEAR_PASSPHRASE_FILE");
    }
    rpassword::prompt_password(prompt)
        .map(Unlock::passphrase)
        .context("the passphrase cannot be read from the terminal")
}

fn read_key_file(path: &Path) -> anyhow::Result<Unlock> {
    Unlock::read_key_file(path).with_context(|| format!("the key file {}", path.display()))
}

fn read_passphrase(path: &Path) -> anyhow::Result<Unlock> {
    let read = || -> io::Result<String> {
        let mut line = Zeroizing::new(String::new());
        let file = std::fs::File::open(path)?;
        io::BufReader::new(file.take(PASSPHRASE_FILE_BYTES_MAX)).read_line(&mut line)?;
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    };
    read().map(Unlock::passphrase).with_context(|| format!("the passphrase file {} cannot be read", path.display()))
}
