//! How a command gets access to the owner's keys and to the cluster: the state folder, the passphrase, `twin.toml`.

use std::{
    io::{self, BufRead, IsTerminal, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, bail};
use clap::{ArgMatches, Args, Command, FromArgMatches, parser::ValueSource};
use format::OwnerSecret;
use tokio::task::spawn_blocking;
use twin::{Index, LockKind, Network, Operator, OwnerStore, Twin, TwinConfig, Unlock, UrlTemplate};
use zeroize::Zeroizing;

use crate::fault::Usage;

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
#[derive(Debug, Clone, Args)]
struct KeyFiles {
    /// The first line of this file is the passphrase [default: asked for on the terminal]
    #[arg(long, env = "EVERNEAR_PASSPHRASE_FILE", value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// This file of 32 random bytes opens the owner key
    #[arg(long, env = "EVERNEAR_KEY_FILE", value_name = "FILE")]
    key_file: Option<PathBuf>,
}

/// What opens or locks an owner key. An option counts and is refused when it does not fit; a variable is there for many
/// commands, and counts where it fits and no option is given.
#[derive(Debug, Clone)]
pub(crate) struct KeyAccess {
    files: KeyFiles,
    /// Of the two, those that the command line itself names.
    named: Vec<LockKind>,
}

impl FromArgMatches for KeyAccess {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let is_named = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
        let kinds = [("passphrase_file", LockKind::Passphrase), ("key_file", LockKind::KeyFile)];
        let named = kinds.into_iter().filter_map(|(id, kind)| is_named(id).then_some(kind)).collect();
        Ok(Self { files: KeyFiles::from_arg_matches(matches)?, named })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for KeyAccess {
    fn augment_args(command: Command) -> Command {
        KeyFiles::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        KeyFiles::augment_args_for_update(command)
    }
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

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn owner_key(&self) -> OwnerStore {
        OwnerStore::at(self.0.join("owner.key"))
    }

    pub(crate) fn index(&self) -> PathBuf {
        self.0.join("index")
    }

    /// Returns the template of URLs: that of `twin.toml`, or the built-in one where there is no such file.
    pub(crate) fn url(&self, access: &ClusterAccess) -> anyhow::Result<UrlTemplate> {
        if access.config.is_none() && !self.0.join("twin.toml").exists() {
            return Ok(UrlTemplate::default());
        }
        Ok(self.config(access)?.url)
    }

    pub(crate) fn config(&self, access: &ClusterAccess) -> anyhow::Result<TwinConfig> {
        let path = access.config.clone().unwrap_or_else(|| self.0.join("twin.toml"));
        Ok(TwinConfig::read(&path)?)
    }
}

impl KeyAccess {
    /// Takes the file of a new passphrase, as it was named on the command line.
    pub(crate) fn of_passphrase(passphrase_file: Option<PathBuf>) -> Self {
        let named = passphrase_file.iter().map(|_| LockKind::Passphrase).collect();
        Self { files: KeyFiles { passphrase_file, key_file: None }, named }
    }

    /// Returns what opens the owner key: the file that was named for this kind of lock, or a passphrase from the
    /// prompt.
    pub(crate) fn unlock(&self, lock: LockKind) -> anyhow::Result<Unlock> {
        if self.named.iter().any(|named| *named != lock) {
            let (is, not) = match lock {
                LockKind::Passphrase => ("a passphrase", "--key-file"),
                LockKind::KeyFile => ("a key file", "--passphrase-file"),
            };
            let what = format!("this owner key is locked with {is}, and {not} does not open it; leave {not} out");
            return Err(Usage(what).into());
        }
        match (lock, &self.files.passphrase_file, &self.files.key_file) {
            (LockKind::Passphrase, Some(path), _) => read_passphrase(path),
            (LockKind::Passphrase, None, _) => ask("Passphrase: "),
            (LockKind::KeyFile, _, Some(path)) => read_key_file(path),
            (LockKind::KeyFile, _, None) => {
                Err(Usage("this owner key is opened by a key file; name it with --key-file".to_owned()).into())
            }
        }
    }

    /// Returns what will lock a new owner key: a key file to be made, the file that was named, or a passphrase that the
    /// prompt asks for twice.
    pub(crate) fn new_lock<'a>(&'a self, new_key_file: Option<&Path>) -> anyhow::Result<Unlock> {
        let counts = |kind, file: &'a Option<PathBuf>| {
            let is_meant = if self.named.is_empty() { new_key_file.is_none() } else { self.named.contains(&kind) };
            file.as_deref().filter(|_| is_meant)
        };
        let passphrase_file = counts(LockKind::Passphrase, &self.files.passphrase_file);
        match (new_key_file, counts(LockKind::KeyFile, &self.files.key_file), passphrase_file) {
            (Some(path), None, None) => {
                return Unlock::create_key_file(path)
                    .with_context(|| format!("the key file {} cannot be used", path.display()));
            }
            (None, Some(path), None) => return read_key_file(path),
            (None, None, Some(path)) => return read_passphrase(path),
            (None, None, None) => {}
            _ => {
                let what = "several locks are named for one key: name --new-key-file, --key-file or --passphrase-file; without any the \
                            variables EVERNEAR_KEY_FILE and EVERNEAR_PASSPHRASE_FILE name them";
                return Err(Usage(what.to_owned()).into());
            }
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
pub(crate) async fn open_index(state: &StateFolder, keys: &KeyAccess) -> anyhow::Result<(OwnerSecret, Index)> {
    let (secret, path) = (open_secret(state, keys).await?, state.index());
    let open = move || Index::open(path, &secret).map(|index| (secret, index));
    Ok(spawn_blocking(open).await.context("opening the index was cut short")??)
}

/// Opens the owner key alone.
pub(crate) async fn open_secret(state: &StateFolder, keys: &KeyAccess) -> anyhow::Result<OwnerSecret> {
    let store = state.owner_key();
    let unlock = keys.unlock(store.card()?.lock)?;
    Ok(spawn_blocking(move || store.open(&unlock)).await.context("opening the owner key was cut short")??)
}

fn ask(prompt: &str) -> anyhow::Result<Unlock> {
    if !io::stdin().is_terminal() {
        let what = "there is no terminal to ask for the passphrase; use --passphrase-file or EVERNEAR_PASSPHRASE_FILE";
        return Err(Usage(what.to_owned()).into());
    }
    rpassword::prompt_password(prompt)
        .map(Unlock::passphrase)
        .context("the passphrase cannot be read from the terminal")
}

fn read_key_file(path: &Path) -> anyhow::Result<Unlock> {
    Unlock::read_key_file(path).with_context(|| format!("the key file {} cannot be used", path.display()))
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
