//! The paths in a state folder.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{keys::private_folder, up_error::UpError};

/// The paths in a state folder.
#[derive(Debug, Clone)]
pub(crate) struct Folders {
    pub(crate) state: PathBuf,
    network: PathBuf,
}

impl Folders {
    /// Names them. Relative ones begin at the current folder of the process.
    pub(crate) fn of(state: &Path) -> io::Result<Self> {
        let state = std::path::absolute(state)?;
        Ok(Self { network: state.join("network"), state })
    }

    /// Makes both folders, for this user alone.
    pub(crate) fn make(&self) -> Result<(), UpError> {
        let made =
            |path: &Path| private_folder(path).map_err(|source| UpError::Folder { path: path.to_owned(), source });
        made(&self.state)?;
        made(&self.network)
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.network.join("lock")
    }

    pub(crate) fn settings(&self) -> PathBuf {
        self.network.join("up.toml")
    }

    pub(crate) fn keys(&self) -> PathBuf {
        self.network.join("keys")
    }

    pub(crate) fn catalog(&self) -> PathBuf {
        self.network.join("catalog.sqlite")
    }

    pub(crate) fn edge(&self) -> PathBuf {
        self.network.join("edge")
    }

    pub(crate) fn twin_config(&self) -> PathBuf {
        self.state.join("twin.toml")
    }

    pub(crate) fn invitations(&self) -> PathBuf {
        self.network.join("invitations.toml")
    }

    /// What this machine is as a node of another one's network.
    pub(crate) fn node(&self) -> PathBuf {
        self.state.join("node")
    }

    /// Is there while the catalog is made again.
    pub(crate) fn unfinished_catalog(&self) -> PathBuf {
        self.network.join(origin::catalog::UNFINISHED)
    }

    pub(crate) fn own_disk(&self) -> PathBuf {
        self.network.join("disk1")
    }
}
