//! All subcommands, one file each. This file has their list and their shared options.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::owner_access::StateFolder;

mod catalog;
mod cluster;
mod completions;
mod edge;
mod get;
mod index;
mod join;
mod ls;
mod name;
pub(crate) mod node;
mod object;
mod origin;
mod owner;
mod policy;
mod profiles;
mod purge;
mod put;
mod renew;
mod repair;
mod rm;
mod sign;
mod signals;
mod stat;
mod twin;
mod up;

/// Options of every subcommand.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Answer with one JSON document on standard output; errors too
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Folder of the owner key, the index of uploads and twin.toml [default: ~/.evernear]
    #[arg(long, global = true, env = "EVERNEAR_STATE", value_name = "DIR")]
    state: Option<PathBuf>,
}

impl Options {
    pub(crate) fn state(&self) -> anyhow::Result<StateFolder> {
        StateFolder::new(self.state.as_deref())
    }

    /// Returns whether the state folder is the one of those who name none.
    pub(crate) fn is_default_state(&self) -> bool {
        self.state.is_none()
    }
}

/// The subcommand to run.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a whole small network on this machine
    Up(up::Up),
    /// Make this machine a node of another machine's network, and run it
    Join(join::Join),
    /// Make, show or relock the owner key, or make its index again
    Owner(owner::Owner),
    /// Store a file, a folder, or standard input
    Put(Box<put::Put>),
    /// Fetch an object and verify it end to end
    Get(get::Get),
    /// Show what an object is and where it lies
    Stat(stat::Stat),
    /// List what this owner stored
    Ls(ls::Ls),
    /// Check or compact the index of uploads
    Index(index::Index),
    /// End the lease of an object and erase its key
    Rm(rm::Rm),
    /// Purge objects from the caches of all edges
    Purge(purge::Purge),
    /// Change the policy or the times of an object
    Renew(renew::Renew),
    /// Have a label that never changes stand for an object that may
    Name(Box<name::Name>),
    /// Check, publish and renew policies
    Policy(policy::Policy),
    /// Sign a link that is valid for a while
    Sign(Box<sign::Sign>),
    /// Make a cluster's authority and its nodes' certificates, and take certificates back
    Cluster(cluster::Cluster),
    /// Maintain a cluster's catalog
    Catalog(catalog::Catalog),
    /// Run an origin node, or check its configuration
    Origin(origin::Origin),
    /// Run an edge node, check its configuration, or make an owner's link key
    Edge(edge::Edge),
    /// Answer HTTP for this owner, and say who may ask
    Twin(Box<twin::Twin>),
    /// Show the health of an object
    Object(object::Object),
    /// See the nodes of a cluster, empty one, or invite another machine
    Node(node::Node),
    /// Show and retry repairs
    Repair(repair::Repair),
    /// Show redundancy by profile and size: overhead, and losses survived
    Profiles,
    /// Print the completions of a shell, or write manual pages
    Completions(completions::Completions),
}

impl Command {
    /// Returns whether the command is a node, which runs until it is told to stop.
    pub(crate) fn is_node(&self) -> bool {
        match self {
            Self::Origin(origin) => origin.is_node(),
            Self::Edge(edge) => edge.is_node(),
            Self::Twin(twin) => twin.is_node(),
            Self::Up(_) | Self::Join(_) => true,
            _ => false,
        }
    }

    /// Returns whether a node says itself, to whoever started it, what it does.
    pub(crate) fn talks(&self) -> bool {
        matches!(self, Self::Up(_) | Self::Join(_))
    }

    pub(crate) async fn run(self, options: &Options) -> anyhow::Result<()> {
        match self {
            Self::Up(up) => up.run(options).await,
            Self::Join(join) => join.run(options).await,
            Self::Owner(owner) => owner.run(options).await,
            Self::Put(put) => put.run(options).await,
            Self::Get(get) => get.run(options).await,
            Self::Stat(stat) => stat.run(options).await,
            Self::Ls(ls) => ls.run(options).await,
            Self::Index(index) => index.run(options).await,
            Self::Rm(rm) => rm.run(options).await,
            Self::Purge(purge) => purge.run(options).await,
            Self::Renew(renew) => renew.run(options).await,
            Self::Name(name) => name.run(options).await,
            Self::Policy(policy) => policy.run(options).await,
            Self::Sign(sign) => sign.run(options),
            Self::Cluster(cluster) => cluster.run(options).await,
            Self::Catalog(catalog) => catalog.run(options).await,
            Self::Origin(origin) => origin.run(options).await,
            Self::Edge(edge) => edge.run(options).await,
            Self::Twin(twin) => twin.run(options).await,
            Self::Object(object) => object.run(options).await,
            Self::Node(node) => node.run(options).await,
            Self::Repair(repair) => repair.run(options).await,
            Self::Profiles => profiles::run(options),
            Self::Completions(completions) => completions.run(),
        }
    }
}
