//! Why a network does not start, and what its owner does about it.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use client::{IdentityError, Unwritable};
use edge::Zone;
use format::NodeName;

use crate::{
    catalog_place::CatalogPlaceError, clock::ClockFault, keys::KeysError, lost_catalog::CatalogFault,
    owner::OwnerFault, settings::SettingsError, up::READY_DEADLINE,
};

/// Why the network does not start.
#[derive(Debug, thiserror::Error)]
pub enum UpError {
    /// Another process runs it.
    #[error(
        "this network runs already{}: {} is its state folder. Use it from another terminal; to add a disk or change a port stop that process first",
        id.map_or_else(String::new, |id| format!(" in process {id}")), state.display()
    )]
    Running {
        /// The process.
        id: Option<u32>,
        /// The state folder.
        state: PathBuf,
    },
    /// A folder of the state cannot be made, or read.
    #[error("the folder {} cannot be used; name another by --state", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The state folder belongs to an owner in another cluster.
    #[error("{} is the configuration of an owner of another cluster; name a folder for the new network by --state", path.display())]
    OtherCluster {
        /// The configuration.
        path: PathBuf,
    },
    /// The network is there, and what it is made of is not known.
    #[error(
        "{} is lost, which says what this network is made of: put back a copy; each of its disks has one, DISK/evernear/up.toml",
        path.display()
    )]
    LostSettings {
        /// The settings.
        path: PathBuf,
    },
    /// A disk has newer settings.
    #[error(
        "{} is older than {}, which a later start left there: copy that over it. If it is right as it is, delete that copy", path.display(),
        newer.display()
    )]
    OldSettings {
        /// The settings.
        path: PathBuf,
        /// The copy.
        newer: PathBuf,
    },
    /// The clock cannot be right.
    #[error(transparent)]
    Clock(#[from] ClockFault),
    /// The settings cannot be used.
    #[error("the settings of this network cannot be used")]
    Settings(#[from] SettingsError),
    /// A folder that was named is no disk.
    #[error("{} cannot be a disk; name folders that are there and may be written", path.display())]
    Disk {
        /// The folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A disk of another network.
    #[error(
        "{0} has the data of another network, in its folder `evernear`; name another folder, or start that network. If its state folder was lost: \
         put back owner.key and unlock.key, and {0}/evernear/up.toml as network/up.toml, into an empty one",
        path.display()
    )]
    ForeignDisk {
        /// The folder.
        path: PathBuf,
    },
    /// A disk of this network that it does not know.
    #[error(
        "{} is {disk} of this network, and network/up.toml has no such disk: it is older than the disk. Put back the newest copy; {0}/evernear/up.toml \
         is one", path.display()
    )]
    UnknownDisk {
        /// The folder.
        path: PathBuf,
        /// Its name.
        disk: String,
    },
    /// One disk of this network lies in two places.
    #[error(
        "{} and {} are both {disk} of this network: one is a copy, and both cannot be used. Move the older one away, and name the place of the other",
        path.display(), other.display()
    )]
    TwoPlaces {
        /// The folder that was named.
        path: PathBuf,
        /// Where the disk was known to be.
        other: PathBuf,
        /// Its name.
        disk: String,
    },
    /// A disk has an origin that the settings do not name.
    #[error(
        "{} has an origin {origin}, and {} names none of that name for it: put back the name there, or a copy; {0}/evernear/up.toml is one",
        disk.display(), settings.display()
    )]
    UnnamedOrigin {
        /// The disk.
        disk: PathBuf,
        /// The name of the origin's folder.
        origin: String,
        /// The settings.
        settings: PathBuf,
    },
    /// Nothing can be replaced there.
    #[error("no disk of this network lies at {}; --replace names the place of a lost one", path.display())]
    NoDiskThere {
        /// The folder.
        path: PathBuf,
    },
    /// Another disk of this network is in the place of a lost one.
    #[error("{} is {disk} of this network; put each disk where it was, or name where this one is now", path.display())]
    OtherDisk {
        /// The folder.
        path: PathBuf,
        /// Its name.
        disk: String,
    },
    /// Nodes on other machines cannot reach that.
    #[error("nodes on other machines cannot reach {ip}; name an address of this machine that they reach by --nodes")]
    Nodes {
        /// The address.
        ip: IpAddr,
    },
    /// No port is free for an origin.
    #[error("no origin can listen on {host}, from port 7500 on; which programs have these ports? `ss -ltnp` shows it")]
    OriginPort {
        /// The address of all origins.
        host: IpAddr,
        /// The cause.
        source: io::Error,
    },
    /// One disk lies in another.
    #[error("{} and {} are one disk; name folders of which none lies in another", path.display(), other.display())]
    Nested {
        /// The one named.
        path: PathBuf,
        /// The one known.
        other: PathBuf,
    },
    /// Too many disks.
    #[error("a network of one machine has at most {} disks", crate::settings::DISKS_MAX)]
    Disks,
    /// This machine, or this user, cannot listen there at all.
    #[error("{door} cannot listen on {address}; name another address by --{door}")]
    Address {
        /// Which door.
        door: &'static str,
        /// The address.
        address: SocketAddr,
        /// The cause.
        source: io::Error,
    },
    /// Only root may listen there.
    #[error(
        "{door} is to be answered on {address}, and ports below 1024 are for root: `sudo sysctl net.ipv4.ip_unprivileged_port_start=53` opens them to all \
         users of this machine until it restarts, a file in /etc/sysctl.d for good. Or name another address by --{door}"
    )]
    Privileged {
        /// Which door.
        door: &'static str,
        /// The address.
        address: SocketAddr,
    },
    /// A zone leads nowhere.
    #[error(
        "where do viewers reach this machine, that {zone} is to lead to? Name it by --address, once for IPv4 and once for IPv6"
    )]
    NoAddress {
        /// The zone.
        zone: Zone,
    },
    /// An edge on another machine serves no zone.
    #[error(
        "{name} joined this network as an edge, and a zone for everybody has one edge, which alone has its certificate: stop {name}, and \
         `evernear cluster revoke {} {name}`", keys.display()
    )]
    OtherEdge {
        /// Its name.
        name: NodeName,
        /// The folder of keys.
        keys: PathBuf,
    },
    /// The root of an authority cannot be used.
    #[error("{} cannot be used as the root of the authority; --acme-root names a file of certificates in PEM", path.display())]
    AcmeRoot {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A zone without its DNS.
    #[error("{zone} is answered by the DNS of this network, and --dns is off; name an address, as in --dns 0.0.0.0:53")]
    NoDns {
        /// The zone.
        zone: Zone,
    },
    /// Another process listens there.
    #[error(
        "{} has {address}, where {door} was to be answered; end it, or name another address by --{door}",
        holder.as_deref().unwrap_or("another process")
    )]
    Taken {
        /// Which door.
        door: &'static str,
        /// The address.
        address: SocketAddr,
        /// Who has it, as far as this user may see.
        holder: Option<String>,
    },
    /// Two doors on one port.
    #[error("port {port} stands there twice; name different ports by --http, --https, --dns, --twin and --nodes")]
    SamePort {
        /// The port.
        port: u16,
    },
    /// Names below `localhost` do not lead there.
    #[error(
        "names below `localhost` lead to 127.0.0.1, and {address} is elsewhere; use 127.0.0.1:{port}, or 0.0.0.0:{port} for all addresses of \
         this machine", port = address.port()
    )]
    Elsewhere {
        /// The address.
        address: SocketAddr,
    },
    /// The authority or a certificate cannot be had.
    #[error("the keys of this network cannot be used")]
    Keys(#[from] KeysError),
    /// The owner cannot be had.
    #[error("the owner of this network cannot be used")]
    Owner(#[from] OwnerFault),
    /// The catalog was lost and is not made again.
    #[error(transparent)]
    Catalog(#[from] CatalogFault),
    /// The catalog is not where it should be.
    #[error(transparent)]
    Place(#[from] CatalogPlaceError),
    /// No disk is there.
    #[error(
        "no disk of this network can be used: {why}. Mend what is said of one of them, and start again; all are left as they are"
    )]
    NoDisk {
        /// Each disk, and what is wrong.
        why: String,
    },
    /// The edge's identity cannot be used.
    #[error("the identity of the edge cannot be used")]
    Identity(#[from] IdentityError),
    /// The edge does not start.
    #[error("the edge does not start")]
    Edge(#[from] edge::StartError),
    /// The edge does not find the origins.
    #[error(
        "the edge did not find {} within {} seconds; is this machine very busy? try again", missing.join(", "), READY_DEADLINE.as_secs()
    )]
    Silent {
        /// The origins.
        missing: Vec<String>,
    },
    /// The disk of the state folder takes no write.
    #[error("the disk of the state folder {} {why}", path.display())]
    StateDisk {
        /// The state folder.
        path: PathBuf,
        /// Why.
        why: Unwritable,
        /// The write that failed.
        source: Box<UpError>,
    },
    /// The system has no randomness.
    #[error("the system gives no random bytes")]
    Random(#[from] getrandom::Error),
    /// Work off the reactor did not come back.
    #[error("the start was cut short")]
    Lost(#[from] tokio::task::JoinError),
}

impl UpError {
    /// Returns the error as one of the disk of the state folder, where that is the cause, whatever failed first.
    pub(crate) fn on_state_of(self, state: &Path) -> Self {
        match Unwritable::of(&self) {
            // Those are of other folders, and one is told already.
            Some(why) if !matches!(self, Self::Disk { .. } | Self::StateDisk { .. }) => {
                Self::StateDisk { path: state.to_owned(), why, source: Box::new(self) }
            }
            _ => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_disk_that_takes_no_write_is_named_whatever_failed_first() {
        let of = |kind: io::ErrorKind| {
            let source = SettingsError::Io { path: "/s/network/up.toml".into(), source: kind.into() };
            UpError::Settings(source).on_state_of(Path::new("/s")).to_string()
        };
        assert_eq!(of(io::ErrorKind::StorageFull), "the disk of the state folder /s is full; free some space there");
        assert!(of(io::ErrorKind::ReadOnlyFilesystem).contains("/s is read-only"));
        assert_eq!(of(io::ErrorKind::PermissionDenied), "the settings of this network cannot be used");
        let other = UpError::Disk { path: "/d".into(), source: io::ErrorKind::ReadOnlyFilesystem.into() };
        assert!(matches!(other.on_state_of(Path::new("/s")), UpError::Disk { .. }), "it is another disk");
    }
}
