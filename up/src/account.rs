//! What a network says of itself once it runs.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use client::causes;
use edge::Zone;
use format::OwnerId;
use serde::Serialize;

use crate::{
    agent::{Agent, AgentFault},
    disk::Gone,
    disks::Disks,
    home::Home,
    loss,
    public::Public,
    settings::{Disk, Given},
};

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
    /// The zone that everybody reads at, if there is one.
    pub public: Option<PublicAccount>,
    /// Where the twin listens for the owner's programs, if it does.
    pub twin: Option<SocketAddr>,
    /// Its URL: by TLS where twin.toml names a certificate.
    pub twin_url: Option<String>,
    /// Why it does not, if it should.
    pub twin_gone: Option<String>,
    /// Where machines join, if they may.
    pub nodes: Option<SocketAddr>,
    /// The database of the catalog, where it is not the file in the state folder.
    pub catalog: Option<String>,
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
    /// Damaged catalogs that were set aside: whoever has one and a label opens what was erased since.
    pub damaged_catalogs: Vec<PathBuf>,
    /// Whether this was the first start.
    pub is_new: bool,
}

/// A zone that everybody reads at.
#[derive(Debug, Clone, Serialize)]
pub struct PublicAccount {
    /// The zone.
    pub zone: Zone,
    /// Its name server, as it is to be named where the names above the zone are kept.
    pub nameserver: String,
    /// Where viewers and resolvers reach this machine.
    pub addresses: Vec<IpAddr>,
    /// Where the edge answers over TLS.
    pub https: SocketAddr,
    /// Whether it has a certificate; else one is ordered as soon as resolvers find the zone here.
    pub is_certified: bool,
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

impl Account {
    /// Takes the account of a network that runs, without what lies aside.
    pub(crate) fn of(
        home: &Home,
        disks: &Disks,
        given: Given,
        edge: &edge::Running,
        agent: &Result<Option<Agent>, AgentFault>,
        is_new: bool,
    ) -> Self {
        let (origins, profile) = (disks.origins(), given.profile.parse().ok());
        let disk = |(disk, gone): (&Disk, Option<&Gone>)| DiskAccount {
            name: disk.name.clone(),
            path: disk.path.clone(),
            mount: disk.mount.clone(),
            origins: disk.origins.iter().map(|seat| seat.name.to_string()).collect(),
            gone: gone.map(ToString::to_string),
        };
        let public = |public: &Public| PublicAccount {
            zone: public.zone.clone(),
            nameserver: format!("ns1.{}", public.zone),
            addresses: public.addresses.clone(),
            https: public.https,
            is_certified: edge.is_certified,
        };
        let running = agent.as_ref().ok().and_then(Option::as_ref);
        Self {
            state: home.folders.state.clone(),
            owner: home.owner,
            has_key_file: home.has_key_file,
            http: edge.http,
            dns: edge.dns,
            public: home.settings.public.as_ref().map(public),
            twin: running.map(Agent::address),
            twin_url: running.map(|agent| agent.url().to_owned()),
            twin_gone: agent
                .as_ref()
                .err()
                .map(|why| causes(why) + if why.may_pass() { ". It is tried again" } else { "" }),
            nodes: home.settings.nodes,
            catalog: home.settings.catalog.as_ref().map(|catalog| catalog.url.clone()),
            url: given.url,
            stores: profile.is_some_and(|profile| loss::stores(profile, &origins)),
            disks_survived: profile.map_or(0, |profile| loss::disks_survived(profile, &origins)),
            profile: given.profile,
            disks: disks.states().map(disk).collect(),
            damaged_catalogs: Vec::new(),
            is_new,
        }
    }
}
