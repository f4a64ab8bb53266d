//! The demo: stores files, prints how to read them, and checks each promise in front of the user. With `--check` a
//! broken promise is an error, so the demo is also an end-to-end test.
#![expect(clippy::print_stdout, reason = "a demo talks to the person in front of it")]

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use format::Kind;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use twin::{Link, PolicySource, PutOptions, Stored, Tenure};

use crate::{
    Distance, OwnerFolder, Signals,
    judge::{Answer, curl, dig},
    network::{Network, NetworkOptions, ZONE},
    sources,
    world::{EDGES, ORIGINS, VIEWERS},
};

/// Cache size of an edge. A film of a few hundred megabytes fits, so that its second read is a hit.
const CACHE_BYTES: u64 = 512 << 20;
/// How long writes in progress may take when the demo ends. A write is one stripe at most.
const WRITES_DEADLINE: Duration = Duration::from_secs(10);
/// A file that the owner may store from a terminal.
const GREETING: &str = "hello.txt";

/// Options of the demo.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  ./x demo\n  ./x demo holiday.mp4 my-site/\n  ./x demo --check")]
pub struct DemoOptions {
    /// Files and folders to store; without any, the shipped samples.
    pub files: Vec<PathBuf>,
    /// Fail when anything is not as promised, and end instead of staying up.
    #[arg(long)]
    pub check: bool,
    /// Port of the HTTP doors on 127.0.0.1, .2 and .3; 0 takes a free one.
    #[arg(long, default_value_t = 8080)]
    pub http_port: u16,
    /// Port of the DNS doors on the same addresses; 0 takes a free one.
    #[arg(long, default_value_t = 5300)]
    pub dns_port: u16,
}

/// One stored file or folder, and the URL that delivers all of its bytes.
struct Shown {
    stored: Stored,
    url: String,
    /// A file on disk whose bytes `url` must deliver; `None` for folders.
    original: Option<PathBuf>,
}

/// Runs the demo until a signal ends it, or with `--check` until all acts are played. Its folder is removed at the end,
/// whatever ends it.
///
/// # Errors
/// When a file cannot be stored, the network does not start, a promise is broken, or a signal comes before all is
/// shown.
pub fn demo(options: &DemoOptions, mut signals: Signals) -> Result<()> {
    let files = files(options)?;
    files.iter().try_for_each(|file| sources::check(file))?;
    let folder = tempfile::Builder::new().prefix("evernear-demo-").tempdir()?;
    let runtime = Runtime::new().context("the runtime does not start")?;
    let ended = runtime.block_on(async {
        let network = signals.unless_told(Box::pin(perform(options, &files, folder.path()))).await?;
        if options.check {
            println!("\nEverything is as promised.");
        } else {
            println!(
                "\nThe network stays up; open the URLs above in a browser. Ctrl-C ends it and removes its folder."
            );
            invite(&network.owner)?;
            signals.first().await;
        }
        network.stop().await
    });
    // All writes must end before the folder is removed: a later write would create it again.
    runtime.shutdown_timeout(WRITES_DEADLINE);
    ended.and(remove(folder))
}

/// Starts the network, stores the files and plays all acts.
async fn perform(options: &DemoOptions, files: &[PathBuf], folder: &Path) -> Result<Network> {
    let (http_port, dns_port) = if options.check { (0, 0) } else { (options.http_port, options.dns_port) };
    let network_options = NetworkOptions {
        http_port,
        dns_port,
        distance: Distance::Simulated,
        cache_bytes: CACHE_BYTES,
        region_patience_ms: None,
        traces: None,
    };
    let mut network = Network::start(folder, &network_options)
        .await
        .context("the network does not start; is a port taken? try --http-port 0 --dns-port 0")?;
    introduce(&network, folder);

    let mut shown = Vec::new();
    for file in files {
        shown.push(store(&network, file).await?);
    }
    let show = Show { scratch: folder.join("scratch") };
    std::fs::create_dir_all(&show.scratch)?;
    show.nearest(&network, &shown).await?;
    show.reads(&network, &shown).await?;
    show.flip(&network, &shown).await?;
    show.losses(&mut network, &shown).await?;
    show.geography(&network, folder).await?;
    show.erasure(&network).await?;
    Ok(network)
}

fn remove(folder: TempDir) -> Result<()> {
    let path = folder.path().to_owned();
    folder.close().with_context(|| format!("{} cannot be removed", path.display()))
}

fn files(options: &DemoOptions) -> Result<Vec<PathBuf>> {
    if !options.files.is_empty() {
        return Ok(options.files.clone());
    }
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples");
    let files: Vec<PathBuf> = ["cat.jpg", "clip.mp4", "site"].iter().map(|name| samples.join(name)).collect();
    for file in &files {
        ensure!(file.exists(), "the sample {} is missing; is the checkout complete?", file.display());
    }
    Ok(files)
}

fn introduce(network: &Network, folder: &Path) {
    println!("A whole network in one process, in {}:\n", folder.display());
    for (site, node) in ORIGINS.iter().zip(&network.origins) {
        println!("  origin  {:<15} {}  {}", site.name, site.country, node.folder.display());
    }
    for (site, edge) in EDGES.iter().zip(&network.edges) {
        let dns = edge.dns.map_or_else(String::new, |dns| format!("  dns {dns}"));
        println!("  edge    {:<15} {}  http {}{dns}", site.name, site.country, edge.http);
    }
}

/// Prints how users store their own file, if the program `evernear` is beside this one.
fn invite(owner: &OwnerFolder) -> Result<()> {
    let evernear = std::env::current_exe()?.with_file_name("evernear");
    if evernear.is_file() {
        std::fs::write(owner.path().join(GREETING), "Hello from a file of my own.\n")?;
        println!("To store a file of your own, paste this into a second terminal, with your file for {GREETING}:\n");
        owner.lines(&evernear, GREETING).iter().for_each(|line| println!("  {line}"));
    }
    Ok(())
}

async fn store(network: &Network, path: &Path) -> Result<Shown> {
    let options = PutOptions { tenure: network.tenure(), ..PutOptions::default() };
    let stored = put(network, path, &options).await?;
    let Link { url, html } = network.link(&stored);
    let folder = stored.entry.kind == Kind::Directory;
    let nodes: Vec<&str> = stored.receipt.placement.iter().flatten().map(format::NodeName::as_str).collect();
    let what = if folder { format!("{} objects", stored.objects) } else { stored.entry.mime.clone() };
    println!("\n{}  {} bytes, {what}", stored.entry.path, stored.bytes);
    match stored.receipt.zones_survived {
        Some(zones) => println!("  lies on   {}; any {zones} zones may go", nodes.join(", ")),
        None => println!("  lies on   {} origins, inline in its manifest", stored.receipt.records),
    }
    stored.skipped.iter().for_each(|path| println!("  left out  {}", path.display()));
    println!("  open      {url}");
    println!("  embed     {html}");
    Ok(Shown { stored, url, original: (!folder).then(|| path.to_owned()) })
}

async fn put(network: &Network, path: &Path, options: &PutOptions) -> Result<Stored> {
    let progress: Arc<dyn twin::Progress> = Arc::new(());
    network.twin.put(path, options, &progress).await.with_context(|| format!("{} cannot be stored", path.display()))
}

/// The acts of the show. Each prints what it saw, and fails when that is not what was promised.
struct Show {
    scratch: PathBuf,
}

impl Show {
    async fn nearest(&self, network: &Network, shown: &[Shown]) -> Result<()> {
        println!("\nThe name leads everybody to the nearest edge:");
        let label = &shown[0].stored.label;
        let dns = network.edges[0].dns.context("edges of the demo answer DNS")?;
        let mut seen = std::collections::BTreeSet::new();
        for viewer in VIEWERS.iter().take(3) {
            let name = format!("{label}.{ZONE}");
            let answers = dig(dns, &name, &["A", &format!("+subnet={}", viewer.subnet)]).await?;
            let first = answers.first().context("the name has no address")?.clone();
            println!("  dig @{} -p {} {name} A +short +subnet={}", dns.ip(), dns.port(), viewer.subnet);
            println!("    {:<8} {} -> {}", viewer.continent, viewer.country, answers.join(" "));
            seen.insert(first);
        }
        ensure!(seen.len() == 3, "three continents were led to {} edges", seen.len());
        Ok(())
    }

    /// Fetches from an edge, compares with the original and prints what it cost.
    async fn fetch(&self, network: &Network, edge: usize, what: &str, it: &Shown, more: &[&str]) -> Result<Answer> {
        let body = self.scratch.join("body");
        network.links[edge].intercept().take_pulled();
        let answer = curl(network.edges[edge].http, &it.url, &body, more).await?;
        let pulled = network.links[edge].intercept().take_pulled();
        println!(
            "  {what:<34} {} {:>9} bytes {:>7.1} ms  {}",
            answer.status,
            answer.bytes,
            answer.seconds * 1000.0,
            if pulled.is_empty() {
                "nothing pulled".to_owned()
            } else {
                format!("{} bytes pulled from {} origins", pulled.values().sum::<u64>(), pulled.len())
            }
        );
        Ok(answer)
    }

    fn body_is(&self, original: &Path, range: Option<std::ops::Range<usize>>) -> Result<()> {
        let want = std::fs::read(original)?;
        let want = range.map_or(&want[..], |range| &want[range]);
        ensure!(std::fs::read(self.scratch.join("body"))? == want, "the bytes are not those of {}", original.display());
        Ok(())
    }

    async fn reads(&self, network: &Network, shown: &[Shown]) -> Result<()> {
        println!("\nAt {}:", EDGES[0].name);
        for it in shown {
            let name = &it.stored.entry.path;
            let cold = self.fetch(network, 0, &format!("{name}: cold"), it, &[]).await?;
            ensure!(cold.status == 200, "status {} for {}", cold.status, it.url);
            let Some(original) = &it.original else { continue };
            self.body_is(original, None)?;
            let hit = self.fetch(network, 0, &format!("{name}: hit"), it, &[]).await?;
            self.body_is(original, None)?;
            ensure!(
                hit.field("cache-status").is_some_and(|status| status.contains("hit")),
                "the second read was no hit"
            );
            let length = usize::try_from(it.stored.bytes)?;
            if length < 2000 {
                continue;
            }
            let middle = length / 3..length / 3 + 1000;
            let range = format!("{}-{}", middle.start, middle.end - 1);
            let part = self.fetch(network, 0, &format!("{name}: bytes {range}"), it, &["-r", &range]).await?;
            ensure!(part.status == 206, "a range was answered with {}", part.status);
            self.body_is(original, Some(middle))?;
        }
        Ok(())
    }

    /// Returns the largest object that has shards.
    fn sharded(shown: &[Shown]) -> Option<(&Shown, &PathBuf)> {
        let sharded = shown.iter().filter(|it| it.stored.receipt.spread.is_some());
        sharded.filter_map(|it| Some((it, it.original.as_ref()?))).max_by_key(|(it, _)| it.stored.bytes)
    }

    async fn flip(&self, network: &Network, shown: &[Shown]) -> Result<()> {
        let Some((it, original)) = Self::sharded(shown) else { return Ok(()) };
        let holder = it.stored.receipt.placement[0].clone().context("column 0 is durable")?;
        let node = network.origins.iter().find(|node| node.name == holder).context("the holder is ours")?;
        let shard = flip_a_bit(&node.folder)?;
        println!("\nA bit flips on the disk of {holder} (files: {shard}); read at {}:", EDGES[2].name);
        let answer = self.fetch(network, 2, "exact all the same", it, &[]).await?;
        ensure!(answer.status == 200, "status {}", answer.status);
        self.body_is(original, None)
    }

    async fn losses(&self, network: &mut Network, shown: &[Shown]) -> Result<()> {
        let Some((it, original)) = Self::sharded(shown) else { return Ok(()) };
        // The origin with flipped bits is one of these two: of six origins two may be lost, not three.
        let down: Vec<usize> = it.stored.receipt.placement[..2]
            .iter()
            .flatten()
            .filter_map(|name| network.origins.iter().position(|node| node.name == *name))
            .collect();
        for origin in &down {
            network.kill(*origin).await?;
        }
        let names: Vec<&str> = down.iter().map(|origin| ORIGINS[*origin].name).collect();
        println!("\n{} are down; read at {}:", names.join(" and "), EDGES[1].name);
        let answer = self.fetch(network, 1, "exact all the same", it, &[]).await?;
        ensure!(answer.status == 200, "status {}", answer.status);
        self.body_is(original, None)?;
        for origin in &down {
            network.revive(*origin).await?;
        }
        Ok(())
    }

    async fn geography(&self, network: &Network, folder: &Path) -> Result<()> {
        let [allowed, refused] = [&VIEWERS[0], &VIEWERS[3]];
        println!("\nThe owner's policy decides who may read:");
        let toml = format!("[[link]]\nuse = \"geo\"\nreceive-deny = [\"{}\"]\n", refused.country);
        let name = "not-there".parse()?;
        network.twin.publish(&name, &PolicySource::parse(&toml, folder)?).await?;
        let file = folder.join("letter.txt");
        std::fs::write(&file, "Not for everybody.\n")?;
        let tenure = Tenure { policy: name, ..network.tenure() };
        let stored = put(network, &file, &PutOptions { tenure, ..PutOptions::default() }).await?;
        let url = network.link(&stored).url;
        let it = Shown { stored, url, original: Some(file) };
        for (viewer, status) in [(allowed, 200), (refused, 451)] {
            let what = format!("from {} ({})", viewer.country, viewer.address);
            let answer = self.fetch(network, 0, &what, &it, &["--interface", viewer.address]).await?;
            ensure!(answer.status == status, "{} got {} where {status} was promised", viewer.country, answer.status);
        }
        Ok(())
    }

    async fn erasure(&self, network: &Network) -> Result<()> {
        println!("\nThe owner erases:");
        let file = self.scratch.join("gone.txt");
        std::fs::write(&file, "Soon gone.\n")?;
        let stored = put(network, &file, &PutOptions { tenure: network.tenure(), ..PutOptions::default() }).await?;
        let url = network.link(&stored).url;
        let locator = stored.label.capability().locator();
        let it = Shown { stored, url, original: Some(file) };
        let before = self.fetch(network, 0, "before", &it, &[]).await?;
        ensure!(before.status == 200, "status {}", before.status);
        network.twin.remove(&locator).await?;
        let start = std::time::Instant::now();
        loop {
            let body = self.scratch.join("body");
            let answer = curl(network.edges[0].http, &it.url, &body, &[]).await?;
            if answer.status == 410 {
                println!("  410 at {} after {:.2} s", EDGES[0].name, start.elapsed().as_secs_f64());
                return Ok(());
            }
            if start.elapsed().as_secs() >= 10 {
                bail!(
                    "{} seconds after the erasure the edge still answers {}",
                    start.elapsed().as_secs(),
                    answer.status
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Flips one bit in the first strip of every large shard in an origin's folder, and one in every 4 KiB of the packs of
/// small ones. Returns how many files there were.
///
/// # Errors
/// When there is no shard.
fn flip_a_bit(origin: &Path) -> Result<usize> {
    let mut flipped = 0;
    let files = ["shards", "packs"].map(|folder| origin.join(folder)).into_iter().filter(|folder| folder.exists());
    for entry in files.flat_map(walkdir::WalkDir::new) {
        let entry = entry?;
        let kind = entry.path().extension().and_then(|kind| kind.to_str()).unwrap_or_default();
        let is_pack = kind == "log";
        if entry.file_type().is_file() && (is_pack || kind.parse::<u8>().is_ok()) {
            let mut bytes = std::fs::read(entry.path())?;
            let places = if is_pack {
                (2048..bytes.len()).step_by(4096)
            } else {
                (bytes.len() / 3..bytes.len()).step_by(bytes.len().max(1))
            };
            places.for_each(|at| bytes[at] ^= 0x10);
            std::fs::write(entry.path(), bytes)?;
            flipped += 1;
        }
    }
    ensure!(flipped > 0, "{} holds no shard", origin.display());
    Ok(flipped)
}
