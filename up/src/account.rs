//! What a network says of itself once it runs.

use std::{net::SocketAddr, path::PathBuf};

use format::OwnerId;
use serde::Serialize;

/// A network that runs, for a person or a program.
#[derive(Debug, Clone, Serialize)]
pub struct Account {
    /// The state folder.
    pub state: PathBuf,
    /// Whose network it is.
    pub owner: OwnerId,
    /// Whether `unlock.key` in the state folder opens the owner key.
    pub has_key_file: bool,
    /// Where the edge answers HTTP.
    pub http: SocketAddr,
    /// Where it answers DNS, if it does.
    pub dns: Option<SocketAddr>,
    /// Where the twin answers the owner's programs, if it does.
    pub twin: Option<SocketAddr>,
    /// Why it does not, if it should.
    pub twin_gone: Option<String>,
    /// The template of URLs.
    pub url: String,
    /// The profile of new uploads, as twin.toml has it.
    pub profile: String,
    /// Whether enough disks are there to store files in this profile.
    pub stores: bool,
    /// How many of the disks may be lost, whichever they are, when what was stored in this profile is whole.
    pub disks_survived: usize,
    /// The disks.
    pub disks: Vec<DiskAccount>,
    /// Whether this was the first start.
    pub is_new: bool,
}

/// A disk of the network.
#[derive(Debug, Clone, Serialize)]
pub struct DiskAccount {
    /// Its name.
    pub name: String,
    /// Its folder.
    pub path: PathBuf,
    /// Where the file system is mounted that it lies on.
    pub mount: PathBuf,
    /// Its origins.
    pub origins: Vec<String>,
    /// Why it is left out, if it is.
    pub gone: Option<String>,
}
