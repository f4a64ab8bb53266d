//! An edge that knows of much: it runs in a process of its own, over origins in memory, so that a million names cost
//! seconds and the processor's time is the edge's alone. What it is to know it is told line by line.

use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    iter,
    net::SocketAddr,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use async_trait::async_trait;
use client::{Topology, TransportError};
use edge::{Config, Edge, Parts, Sockets};
use format::{
    Attributes, Capability, Compression, Domain, EncoderOptions, Label, Lease, NodeName, OwnerKeys, OwnerSecret,
    Profile, Suite,
    limits::{
        DOMAIN_NAME_BYTES_MAX, INLINE_BYTES_MAX, LEASE_PLACES_MAX, MIME_BYTES_MAX, NAME_BYTES_MAX, TAG_NAME_BYTES_MAX,
        TAGS_MAX,
    },
    wire::{Change, ChangeKind, ChangePage, NodeEntry, Role},
};
use tempfile::TempDir;
use testing::{Call, Encoded, Intercept, Intercepted, MemoryTransport, attributes, node, noise_of, place};
use tokio::{net::TcpStream, sync::watch, time::sleep};
use tokio_rustls::TlsConnector;

use crate::{load, peers::Certificate};

/// The word after the program's name by which it is this edge.
pub(crate) const ROLE: &str = "known";
/// Bytes of each object: they lie in its record.
pub(crate) const OBJECT_BYTES: usize = 1024;
/// The same of the largest kind: all that lies in a record, whose other parts are as large as may be.
pub(crate) const LARGEST_BYTES: usize = INLINE_BYTES_MAX;
pub(crate) const ZONE: &str = "evernear.example";
const ORIGINS: usize = 6;
/// Where the edge runs, and all its objects are open at once if asked for.
const CONFIG: &str = r#"
name = "edge"
zone = "ZONE"
public = ["127.0.0.1"]
admin = "127.0.0.1:0"
[place]
country = "BE"
region = "eu"
zone = "here"
latitude = 50.85
longitude = 4.35
[dns]
listen = "127.0.0.1:0"
[http]
listen = "127.0.0.1:0"
workers = 1
header_seconds = 60
connections_max = 16000
connections_per_address_max = 16000
[https]
listen = "127.0.0.1:0"
certificate = "FOLDER/viewers.pem"
key = "FOLDER/viewers.key"
redirect = false
http3 = false
[cache]
record_seconds = 86400
[[seeds]]
name = "origin-0"
address = "127.0.0.1:1"
"#;

/// The edge's process, as whoever measures has it.
pub(crate) struct Known {
    process: Child,
    say: ChildStdin,
    hear: BufReader<ChildStdout>,
    pub(crate) address: SocketAddr,
    /// The same over TLS.
    pub(crate) https: SocketAddr,
    certificate: Certificate,
    folder: TempDir,
}

impl Known {
    /// Starts it; `launch` are words before its command, as `taskset`'s.
    pub(crate) fn start(launch: &[String]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let below = folder.path().display().to_string();
        let certificate = Certificate::make(|name| format!("{below}/{name}"), [&*format!("*.{ZONE}")].into_iter())?;
        let itself = std::env::current_exe()?.display().to_string();
        let words: Vec<&str> = launch.iter().map(String::as_str).chain([&*itself, ROLE, &below]).collect();
        let mut process =
            Command::new(words[0]).args(&words[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (say, hear) = (process.stdin.take(), process.stdout.take());
        let (say, hear) = say.zip(hear).context("both are piped")?;
        let (hear, nowhere) = (BufReader::new(hear), SocketAddr::from(([127, 0, 0, 1], 0)));
        let mut it = Self { process, say, hear, address: nowhere, https: nowhere, certificate, folder };
        it.address = it.line()?.parse()?;
        it.https = it.line()?.parse()?;
        Ok(it)
    }

    /// Returns what a viewer has who speaks HTTP/2 over TLS.
    pub(crate) fn trusting(&self) -> Result<TlsConnector> {
        Ok(TlsConnector::from(Arc::new(load::trusting(&self.certificate.file, b"h2")?)))
    }

    /// Returns the path of a file in its folder.
    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    pub(crate) fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Has the change feed tell it of so many names more, which nobody asks for.
    pub(crate) fn tell(&mut self, names: u64) -> Result<()> {
        writeln!(self.say, "names {names}")?;
        let line = self.line()?;
        ensure!(line == "done", "the edge says {line:?}");
        Ok(())
    }

    /// Has so many objects more stored, and returns their labels. None is open before it is asked for.
    pub(crate) fn store(&mut self, objects: usize) -> Result<Vec<String>> {
        self.labels("objects", objects)
    }

    /// The same of objects whose records are as large as an owner can make them.
    pub(crate) fn store_largest(&mut self, objects: usize) -> Result<Vec<String>> {
        self.labels("largest", objects)
    }

    fn labels(&mut self, kind: &str, objects: usize) -> Result<Vec<String>> {
        writeln!(self.say, "{kind} {objects}")?;
        let mut labels = Vec::with_capacity(objects);
        loop {
            match self.line()? {
                line if line == "done" => return Ok(labels),
                line => labels.push(line),
            }
        }
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        ensure!(self.hear.read_line(&mut line)? > 0, "the edge ended");
        Ok(line.trim().to_owned())
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What the feed tells beside the truth.
struct MadeUp {
    /// Names that it is to tell next.
    wanted: Arc<AtomicU64>,
    told: AtomicU64,
}

#[async_trait]
impl Intercept for MadeUp {
    type Pass = ();

    async fn before(&self, _: &NodeName, _: Call) -> Result<(), TransportError> {
        Ok(())
    }

    fn changes(&self, _: &NodeName, (): (), mut page: ChangePage) -> ChangePage {
        let names = self.wanted.swap(0, Ordering::Relaxed);
        let first = self.told.fetch_add(names, Ordering::Relaxed);
        let made = (first..first + names).map(|number| {
            let mut capability = [0; 32];
            capability[..8].copy_from_slice(&number.to_le_bytes());
            let locator = Capability::from_bytes(capability).locator();
            Change { sequence: page.next, kind: ChangeKind::Record { locator } }
        });
        page.changes.extend(made.collect::<Vec<_>>());
        page
    }
}

/// Is the edge: prints its address, then does what each line says and answers it.
pub(crate) fn run(folder: &str) -> Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let mut store = Store::new();
        let names = Arc::new(AtomicU64::new(0));
        let (stop, stopped) = watch::channel(false);
        let config = Config::from_toml(&CONFIG.replace("ZONE", ZONE).replace("FOLDER", folder))?;
        let way = store.origins.caller(config.name.as_str(), Role::Edge);
        let parts = Parts {
            transport: Arc::new(Intercepted::over(
                Arc::new(way),
                MadeUp { wanted: Arc::clone(&names), told: AtomicU64::new(0) },
            )),
            membership: None,
            topology: Arc::new(Topology::new(store.nodes.clone())),
            engine: None,
            compiler: None,
            sockets: Sockets::default(),
        };
        let edge = Edge::start(config, parts, stopped).await?;
        let admin = edge.admin.context("it has an operator's port")?;
        println!("{}\n{}", edge.http, edge.https.context("it speaks TLS")?);
        for line in io::stdin().lines() {
            let line = line?;
            match line.split_once(' ').map(|(what, number)| (what, number.parse::<u64>())) {
                Some(("names", Ok(number))) => {
                    let before = changes(admin).await?;
                    names.store(number, Ordering::Relaxed);
                    // News, so that the edge is answered.
                    store.one(Kind::Small).await?;
                    while changes(admin).await? < before + number {
                        sleep(Duration::from_millis(20)).await;
                    }
                }
                Some((kind @ ("objects" | "largest"), Ok(number))) => {
                    let kind = if kind == "objects" { Kind::Small } else { Kind::Largest };
                    for _ in 0..number {
                        println!("{}", store.one(kind).await?);
                    }
                }
                _ => bail!("{line:?} is nothing that can be known"),
            }
            println!("done");
        }
        stop.send(true)?;
        edge.join().await;
        Ok(())
    })
}

/// Returns how many changes the edge has heard of.
async fn changes(admin: SocketAddr) -> Result<u64> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = TcpStream::connect(admin).await?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    let line = text.lines().find_map(|line| line.strip_prefix("evernear_edge_changes_total "));
    Ok(line.context("the edge counts changes")?.trim().parse()?)
}

struct Store {
    origins: Arc<MemoryTransport>,
    nodes: Vec<NodeEntry>,
    owner: OwnerKeys,
    stored: u64,
}

/// What an object is like.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Small,
    /// Its record is as large as an owner can make it.
    Largest,
}

impl Kind {
    fn bytes(self) -> usize {
        match self {
            Self::Small => OBJECT_BYTES,
            Self::Largest => LARGEST_BYTES,
        }
    }

    fn attributes(self) -> Attributes {
        match self {
            Self::Small => attributes(),
            Self::Largest => Attributes {
                mime: format!("{:x<MIME_BYTES_MAX$}", "application/"),
                name: "n".repeat(NAME_BYTES_MAX),
                tags: (0..TAGS_MAX).map(|tag| (format!("{tag:0>TAG_NAME_BYTES_MAX$}"), u32::MAX)).collect(),
                ..attributes()
            },
        }
    }

    fn lease(self, lease: Lease) -> Lease {
        let places = |first: usize| -> Vec<Domain> {
            let name = |place| format!("{place:0>DOMAIN_NAME_BYTES_MAX$}");
            (first..LEASE_PLACES_MAX).map(|place| Domain::Operator(name(place))).collect()
        };
        match self {
            Self::Small => lease,
            // The origins' own region is among those that are wanted.
            Self::Largest => {
                let wanted = iter::once(Domain::Region("eu".to_owned())).chain(places(1)).collect();
                Lease { wanted, refused: places(0), ..lease }
            }
        }
    }
}

impl Store {
    fn new() -> Self {
        let origin = |number: usize| {
            let name = format!("origin-{number}");
            NodeEntry { role: Role::Origin, seen: 1_000, ..node(&name, place(&name)) }
        };
        let nodes: Vec<NodeEntry> = (0..ORIGINS).map(origin).collect();
        let origins = Arc::new(MemoryTransport::new(&nodes));
        Self { origins, nodes, owner: OwnerSecret::from_bytes([7; 32]).keys(), stored: 0 }
    }

    /// Stores another object and returns its label.
    async fn one(&mut self, kind: Kind) -> Result<String> {
        self.stored += 1;
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&self.stored.to_le_bytes());
        let options = EncoderOptions {
            profile: Profile::SmallCluster,
            suite: Suite::ChaCha20Poly1305,
            compression: Compression::Off,
            owner: self.owner.id(),
        };
        let content = noise_of(self.stored, kind.bytes());
        let encoded = Encoded::of(&[&content], options, seed, kind.attributes(), seed);
        let lease = kind.lease(Lease::new(&encoded.sealed, Profile::SmallCluster)).sign(&self.owner);
        let topology = Arc::new(Topology::new(self.nodes.clone()));
        encoded.upload(Arc::clone(&self.origins) as _, topology, seed, lease.into()).await?;
        Ok(Label::open(encoded.sealed.capability.clone()).to_string())
    }
}

#[cfg(test)]
mod tests {
    use client::Transport as _;
    use format::{Record, limits::LEASE_BYTES_MAX};

    use super::*;

    #[tokio::test]
    async fn the_largest_record_is_taken_and_counts_as_it_is_told_to() {
        let mut store = Store::new();
        let label: Label = store.one(Kind::Largest).await.unwrap().parse().unwrap();
        let locator = label.capability().locator();
        let record = store.origins.record(&store.nodes[0].name, &locator).await.unwrap().unwrap();
        let record = Record::decode(&record).unwrap();
        let (lease, sealed) = (record.lease_envelope.len(), record.sealed.map_or(0, |sealed| sealed.len()));
        assert!((LEASE_BYTES_MAX * 9 / 10..=LEASE_BYTES_MAX).contains(&lease), "{lease}");
        // As an edge counts them: twice, and once for each 16 KiB.
        let places = (2 * (record.public.encoded().len() + sealed + lease)).div_ceil(16 * 1024);
        assert_eq!(places, crate::flat::LARGEST_PLACES);
    }
}
