//! `network/up.toml`: what the network is made of. Written whole, before anything that follows from it, and read at
//! every start. Unknown keys are refused.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    str::FromStr,
};

use format::NodeName;
use origin::catalog::CatalogUrl;
use serde::{Deserialize, Serialize};

use crate::public::Public;

/// The version of the file that this program writes, and the only one that it reads.
const VERSION: u32 = 1;
/// Largest file, in bytes. A disk takes less than 8 KiB of it.
pub(crate) const BYTES_MAX: usize = 1024 * 1024;
/// Most disks. A machine with more is better served by several networks, or by nodes of its own.
pub(crate) const DISKS_MAX: usize = 64;

/// What the network is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    version: u32,
    /// How often the file was written: of two copies the one with more is newer.
    #[serde(default)]
    pub(crate) written: u64,
    /// The latest time that a start had, in seconds since 1970.
    #[serde(default)]
    pub(crate) seen: u64,
    /// Random; on the mark of each disk, so that no network takes another one's disk.
    pub(crate) network: String,
    /// Where the edge answers HTTP.
    pub(crate) http: SocketAddr,
    /// Where the edge answers DNS.
    pub(crate) dns: Listen,
    /// Where the twin answers the owner's programs. Absent: it was not decided yet.
    #[serde(default)]
    pub(crate) twin: Option<Listen>,
    /// The zone that everybody reads at. Absent: only this machine reads.
    #[serde(default)]
    pub(crate) public: Option<Public>,
    /// Where machines join, and by which address other nodes reach the origins here. Absent: the network is this
    /// machine's alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) nodes: Option<SocketAddr>,
    /// Where the catalog is. Absent: in the file in the state folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) catalog: Option<Elsewhere>,
    /// What twin.toml was given last, and before it was told of that what is about to be: all else there is the owner's
    /// choice.
    #[serde(default)]
    pub(crate) given: Vec<Given>,
    /// The disks, in the order in which they came.
    #[serde(rename = "disk")]
    pub(crate) disks: Vec<Disk>,
}

/// A catalog in a database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Elsewhere {
    /// The database, as a URL without a password.
    pub(crate) url: String,
    /// The catalog's id: no other one is taken for it.
    pub(crate) id: String,
}

/// What twin.toml was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Given {
    /// The template of URLs.
    pub(crate) url: String,
    /// The profile of new uploads.
    pub(crate) profile: String,
}

/// Where something is answered, if it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Listen {
    /// Nowhere.
    Off,
    /// At an address.
    At(SocketAddr),
}

/// A folder that stands for a disk, and the origins on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Disk {
    /// Its name, which is the zone of its origins: `disk1`.
    pub(crate) name: String,
    /// The folder.
    pub(crate) path: PathBuf,
    /// Where the file system is mounted that the folder lay on when the disk was last seen.
    pub(crate) mount: PathBuf,
    /// Whether its owner named it, and it was not taken in since: then it is filled whatever else lies in its folder.
    #[serde(default)]
    pub(crate) is_new: bool,
    /// Its origins.
    #[serde(rename = "origin")]
    pub(crate) origins: Vec<Seat>,
}

/// An origin's name, and its port at the address of all origins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Seat {
    pub(crate) name: NodeName,
    pub(crate) port: u16,
}

/// Neither an address nor `off`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is neither IP:PORT nor off")]
pub struct ListenError {
    found: String,
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The disk returns an error.
    #[error("{} cannot be read or written", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Not TOML, an unknown key, or a value that is none.
    #[error("{} is wrong, and `evernear up` alone writes it: put back a copy, or the line that was changed", path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// What and where.
        source: Box<toml::de::Error>,
    },
    /// Another version of this program wrote it.
    #[error("{} is of version {found}, and this program reads version {VERSION}; use the program that wrote it", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// Two parts of it contradict each other.
    #[error("{} names {what} twice; `evernear up` alone writes it: put back a copy, or the line that was changed", path.display())]
    Twice {
        /// The file.
        path: PathBuf,
        /// A name, a path or a port.
        what: String,
    },
}

impl Settings {
    /// Makes the settings of a network without disks.
    pub(crate) fn new(network: String, http: SocketAddr, dns: Listen) -> Self {
        Self {
            version: VERSION,
            written: 0,
            seen: 0,
            network,
            http,
            dns,
            twin: None,
            public: None,
            nodes: None,
            catalog: None,
            given: Vec::new(),
            disks: Vec::new(),
        }
    }

    /// Reads the file; none when there is none yet.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub(crate) fn read(path: &Path) -> Result<Option<Self>, SettingsError> {
        /// What every version has.
        #[derive(Deserialize)]
        struct Head {
            version: u32,
        }
        let io = |source| SettingsError::Io { path: path.to_owned(), source };
        let Some(bytes) = client::read_kept(path, BYTES_MAX).map_err(io)? else { return Ok(None) };
        let text = String::from_utf8(bytes).map_err(|error| io(io::Error::other(error)))?;
        let wrong = |source| SettingsError::Toml { path: path.to_owned(), source: Box::new(source) };
        let Head { version } = toml::from_str(&text).map_err(wrong)?;
        if version != VERSION {
            return Err(SettingsError::Version { path: path.to_owned(), found: version });
        }
        let settings: Self = toml::from_str(&text).map_err(wrong)?;
        match settings.said_twice() {
            Some(what) => Err(SettingsError::Twice { path: path.to_owned(), what }),
            None => Ok(Some(settings)),
        }
    }

    /// Counts and writes the file durably. After a crash it is the old or the new one.
    ///
    /// # Errors
    /// [`SettingsError::Io`].
    pub(crate) fn keep(&mut self, path: &Path) -> Result<(), SettingsError> {
        self.written += 1;
        let io = |source| SettingsError::Io { path: path.to_owned(), source };
        let text = toml::to_string(self).map_err(|error| io(io::Error::other(error)))?;
        client::keep(path, format!("# Written by `evernear up`, and read at its next start.\n{text}").as_bytes())
            .map_err(io)
    }

    /// Returns the origins of all disks.
    pub(crate) fn seats(&self) -> impl Iterator<Item = &Seat> {
        self.disks.iter().flat_map(|disk| &disk.origins)
    }

    /// Returns the position of each origin: of its disk, and on it.
    pub(crate) fn all_seats(&self) -> Vec<(usize, usize)> {
        let of = |(disk, it): (usize, &Disk)| (0..it.origins.len()).map(move |seat| (disk, seat)).collect::<Vec<_>>();
        self.disks.iter().enumerate().flat_map(of).collect()
    }

    /// Returns the ports of what people name: HTTP, HTTPS, DNS, the twin, the door for nodes.
    pub(crate) fn door_ports(&self) -> Vec<u16> {
        let others = [Some(self.dns), self.twin].into_iter().flatten().filter_map(Listen::address);
        let secure = self.public.as_ref().map(|public| public.https);
        let all = std::iter::once(self.http).chain(secure).chain(others).chain(self.nodes);
        all.map(|address| address.port()).collect()
    }

    /// Returns the address that all origins have.
    pub(crate) fn host(&self) -> IpAddr {
        self.nodes.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |nodes| nodes.ip())
    }

    /// Returns where an origin is reached.
    pub(crate) fn address(&self, seat: &Seat) -> SocketAddr {
        SocketAddr::new(self.host(), seat.port)
    }

    /// Returns the catalog as another machine reaches it. A file of this machine is none, nor a server that answers
    /// here alone.
    pub(crate) fn shared_catalog(&self) -> Option<String> {
        let Elsewhere { url, .. } = self.catalog.as_ref()?;
        let is_shared = url.parse().is_ok_and(|url: CatalogUrl| !url.is_of_this_machine());
        is_shared.then(|| url.clone())
    }

    /// Adds a disk with so many origins. `port` gives each the next port that is free.
    pub(crate) fn add<E>(
        &mut self,
        path: PathBuf,
        mount: PathBuf,
        origins: usize,
        mut port: impl FnMut(&Self) -> Result<u16, E>,
    ) -> Result<(), E> {
        let number = 1 + self.disks.iter().filter_map(|disk| number_of(&disk.name, "disk")).max().unwrap_or(0);
        let next = 1 + self.seats().filter_map(|seat| number_of(seat.name.as_str(), "o")).max().unwrap_or(0);
        self.disks.push(Disk { name: format!("disk{number}"), path, mount, is_new: true, origins: Vec::new() });
        for number in next..next + origins {
            let name = format!("o{number}").parse().expect("a letter and a number are a name");
            let seat = Seat { name, port: port(self)? };
            self.disks.last_mut().expect("one was pushed above").origins.push(seat);
        }
        Ok(())
    }

    /// Returns what must be there once and is there twice.
    fn said_twice(&self) -> Option<String> {
        let mut seen = BTreeSet::new();
        let disks = self.disks.iter().flat_map(|disk| [disk.name.clone(), disk.path.display().to_string()]);
        let seats = self.seats().flat_map(|seat| [seat.name.to_string(), format!("port {}", seat.port)]);
        disks.chain(seats).find(|what| !seen.insert(what.clone()))
    }
}

fn number_of(name: &str, before: &str) -> Option<usize> {
    name.strip_prefix(before)?.parse().ok()
}

impl Listen {
    /// Returns the address, if there is one.
    #[must_use]
    pub fn address(self) -> Option<SocketAddr> {
        match self {
            Self::At(address) => Some(address),
            Self::Off => None,
        }
    }
}

impl FromStr for Listen {
    type Err = ListenError;

    fn from_str(text: &str) -> Result<Self, ListenError> {
        match text {
            "off" => Ok(Self::Off),
            text => text.parse().map(Self::At).map_err(|_| ListenError { found: text.chars().take(80).collect() }),
        }
    }
}

impl TryFrom<String> for Listen {
    type Error = ListenError;

    fn try_from(text: String) -> Result<Self, ListenError> {
        text.parse()
    }
}

impl From<Listen> for String {
    fn from(listen: Listen) -> Self {
        match listen {
            Listen::Off => "off".to_owned(),
            Listen::At(address) => address.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Settings {
        let dns = "127.0.0.1:5300".parse().unwrap();
        let mut settings = Settings::new("ab".repeat(16), "127.0.0.1:8080".parse().unwrap(), dns);
        let mut port = 7400;
        let mut next = |_: &Settings| {
            port += 1;
            Ok::<_, SettingsError>(port)
        };
        settings.add("/a".into(), "/".into(), 3, &mut next).unwrap();
        settings.add("/b \"c\"".into(), "/".into(), 1, &mut next).unwrap();
        settings.given = vec![Given { url: "u".into(), profile: "2+1".into() }];
        settings
    }

    fn read(text: &str) -> Result<Option<Settings>, SettingsError> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("up.toml"), text).unwrap();
        Settings::read(&folder.path().join("up.toml"))
    }

    #[test]
    fn what_was_kept_is_read_and_names_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("network/up.toml");
        assert_eq!(Settings::read(&path).unwrap(), None);
        let mut settings = sample();
        settings.keep(&path).unwrap();
        assert_eq!(Settings::read(&path).unwrap().unwrap(), settings);
        settings.disks.remove(0);
        settings.dns = Listen::Off;
        settings.twin = Some("127.0.0.1:8081".parse().unwrap());
        settings.catalog = Some(Elsewhere { url: "postgres://u@h/d".into(), id: "ab".repeat(16) });
        settings.add("/c".into(), "/".into(), 1, |_| Ok::<_, SettingsError>(7500)).unwrap();
        let names = |settings: &Settings| settings.seats().map(|seat| seat.name.to_string()).collect::<Vec<_>>();
        assert_eq!((settings.disks[1].name.as_str(), names(&settings)), ("disk3", vec!["o4".into(), "o5".into()]));
        settings.keep(&path).unwrap();
        assert_eq!(Settings::read(&path).unwrap().unwrap(), settings);
    }

    #[test]
    fn what_it_does_not_know_and_what_contradicts_itself_is_refused() {
        let text = toml::to_string(&sample()).unwrap();
        assert_eq!(read(&text).unwrap().unwrap(), sample());
        for (from, to) in [
            ("network =", "netwrok ="),
            ("port = 7401", "port = 7401\nhost = \"x\""),
            ("127.0.0.1:8080", "127.0.0.1"),
            ("127.0.0.1:5300", "on"),
            ("\"o1\"", "\"O1\""),
        ] {
            let changed = text.replacen(from, to, 1);
            assert_ne!(changed, text, "{from}");
            assert!(matches!(read(&changed), Err(SettingsError::Toml { .. })), "{to}");
        }
        for (from, to) in [("7402", "7401"), ("\"o2\"", "\"o1\""), ("disk2", "disk1"), ("'/b \"c\"'", "\"/a\"")] {
            let changed = text.replacen(from, to, 1);
            assert_ne!(changed, text, "{from} in {text}");
            assert!(matches!(read(&changed), Err(SettingsError::Twice { .. })), "{to}");
        }
        let later = text.replacen("version = 1", "version = 2\nnew = true", 1);
        assert!(matches!(read(&later), Err(SettingsError::Version { found: 2, .. })));
    }
}
