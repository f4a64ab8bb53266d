//! An edge that knows of much: it runs in a process of its own, over origins in memory, so that a million names cost
//! seconds and the processor's time is the edge's alone. What it is to know it is told line by line.

use std::{
    io::{self, BufRead as _, BufReader, Write as _},
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
    Capability, Compression, EncoderOptions, Label, Lease, NodeName, OwnerKeys, OwnerSecret, Profile, Suite,
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
        writeln!(self.say, "objects {objects}")?;
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
        let origin = |number: usize| {
            let name = format!("origin-{number}");
            NodeEntry { role: Role::Origin, seen: 1_000, ..node(&name, place(&name)) }
        };
        let nodes: Vec<NodeEntry> = (0..ORIGINS).map(origin).collect();
        let origins = Arc::new(MemoryTransport::new(&nodes));
        let names = Arc::new(AtomicU64::new(0));
        let (stop, stopped) = watch::channel(false);
        let config = Config::from_toml(&CONFIG.replace("ZONE", ZONE).replace("FOLDER", folder))?;
        let way = origins.caller(config.name.as_str(), Role::Edge);
        let parts = Parts {
            transport: Arc::new(Intercepted::over(
                Arc::new(way),
                MadeUp { wanted: Arc::clone(&names), told: AtomicU64::new(0) },
            )),
            membership: None,
            topology: Arc::new(Topology::new(nodes.clone())),
            engine: None,
            compiler: None,
            sockets: Sockets::default(),
        };
        let edge = Edge::start(config, parts, stopped).await?;
        let admin = edge.admin.context("it has an operator's port")?;
        let mut store = Store { origins, nodes, owner: OwnerSecret::from_bytes([7; 32]).keys(), stored: 0 };
        println!("{}\n{}", edge.http, edge.https.context("it speaks TLS")?);
        for line in io::stdin().lines() {
            let line = line?;
            match line.split_once(' ').map(|(what, number)| (what, number.parse::<u64>())) {
                Some(("names", Ok(number))) => {
                    let before = changes(admin).await?;
                    names.store(number, Ordering::Relaxed);
                    // News, so that the edge is answered.
                    store.one().await?;
                    while changes(admin).await? < before + number {
                        sleep(Duration::from_millis(20)).await;
                    }
                }
                Some(("objects", Ok(number))) => {
                    for _ in 0..number {
                        println!("{}", store.one().await?);
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

impl Store {
    /// Stores another object and returns its label.
    async fn one(&mut self) -> Result<String> {
        self.stored += 1;
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&self.stored.to_le_bytes());
        let options = EncoderOptions {
            profile: Profile::SmallCluster,
            suite: Suite::ChaCha20Poly1305,
            compression: Compression::Off,
            owner: self.owner.id(),
        };
        let encoded = Encoded::of(&[&noise_of(self.stored, OBJECT_BYTES)], options, seed, attributes(), seed);
        let lease = Lease::new(&encoded.sealed, Profile::SmallCluster).sign(&self.owner);
        let topology = Arc::new(Topology::new(self.nodes.clone()));
        encoded.upload(Arc::clone(&self.origins) as _, topology, seed, lease.into()).await?;
        Ok(Label::open(encoded.sealed.capability.clone()).to_string())
    }
}
