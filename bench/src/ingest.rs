//! Storing over HTTP at a twin, beside the command line and beside Garage: the same bytes, in the same run, one side
//! after the other on one machine.

use std::{
    fmt::Write as _,
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result};
use cluster::processes::peak_kib;
use testing::free_port;

use crate::{
    garage::{Fsync, Garage, wait},
    hits::median,
    machine,
    stores::{Bytes, Cost, Evernear, Side, cost},
    timed::{curl, parallel},
};

const ROUNDS: usize = 5;
/// Clients that store small files at the same time.
const CLIENTS: [u32; 2] = [1, 64];

/// Stores a file of so many MiB and so many small files on each side, and returns the table.
pub(crate) fn run(mebibytes: usize, files: usize) -> Result<String> {
    let ours = Evernear::start()?;
    let twin = Twin::start(&ours)?;
    let garage = |name: &str, fsync| Garage::start(ours.processes.path(name).into(), fsync);
    let (plain, synced) = (garage("garage", Fsync::Off)?, garage("garage-fsync", Fsync::On)?);
    let sides: [&dyn Side; 4] = [&ours, &twin, &plain, &synced];
    let folder = PathBuf::from(ours.processes.path("bytes"));
    // The first request opens connections.
    measure(&Bytes { round: ROUNDS, large: 1 << 20, files: 16 }, &sides, &folder)?;
    let mut rounds = Vec::new();
    for round in 0..ROUNDS {
        rounds.push(measure(&Bytes { round, large: mebibytes << 20, files }, &sides, &folder)?);
        eprintln!("round {} of {ROUNDS} is done", round + 1);
    }

    let gigabytes = (mebibytes << 20) as f64 / 1e9;
    let mut table = format!(
        "{}\n\nA file of {mebibytes} MiB; {files} files of 10,000 bytes, each an object of its own but on the command line, where \
         they are a folder; median of {ROUNDS} interleaved rounds. The twin's peak memory: {} MiB.\n\n\
         | | command line | HTTP | Garage | Garage, fsync | HTTP / Garage | HTTP / Garage, fsync |\n|---|---|---|---|---|---|---|\n",
        machine::describe(),
        peak_kib(twin.child.id())? >> 10
    );
    let mut row = |name: String, value: &dyn Fn(&Round) -> f64| {
        let of = |side: usize| median(rounds.iter().map(|round| value(&round[side])).collect());
        let [line, http, plain, synced] = [0, 1, 2, 3].map(of);
        let (by_plain, by_synced) = (http / plain, http / synced);
        writeln!(
            table,
            "| {name} | {line:.1} | {http:.1} | {plain:.1} | {synced:.1} | {by_plain:.2} | {by_synced:.2} |"
        )
    };
    row("large: MB/s".to_owned(), &|round| 1e3 * gigabytes / round.large.client.seconds)?;
    row("large: CPU of all processes, s/GB".to_owned(), &|round| all(&round.large) / gigabytes)?;
    for (at, clients) in CLIENTS.into_iter().enumerate() {
        let of = move |round: &Round| files as f64 / round.small[at].client.seconds;
        row(format!("small, {clients} at a time: objects a second"), &of)?;
        let each = move |round: &Round| 1e3 * all(&round.small[at]) / files as f64;
        row(format!("small, {clients} at a time: CPU of all processes, ms each"), &each)?;
    }
    Ok(table)
}

/// What one side took for a round.
struct Round {
    large: Cost,
    small: [Cost; CLIENTS.len()],
}

fn all(cost: &Cost) -> f64 {
    cost.servers + cost.client.cpu_seconds
}

fn measure(bytes: &Bytes, sides: &[&dyn Side], folder: &Path) -> Result<Vec<Round>> {
    let large = bytes.write(folder)?;
    let small = folder.join("small");
    let of = |side: &&dyn Side| {
        let large = cost(*side, &side.put(&large)?)?;
        let [one, many] = CLIENTS.map(|clients| cost(*side, &side.put_folder(&small, clients)?));
        Ok(Round { large, small: [one?, many?] })
    };
    let rounds = sides.iter().map(of).collect();
    fs::remove_dir_all(folder)?;
    rounds
}

/// A twin that runs in front of the origins. Dropping this kills it.
struct Twin<'a> {
    ours: &'a Evernear,
    address: SocketAddr,
    token: String,
    child: Child,
}

impl<'a> Twin<'a> {
    fn start(ours: &'a Evernear) -> Result<Self> {
        let processes = &ours.processes;
        // More requests a second than any side answers.
        let made = processes.evernear(&["twin", "token", "new", "bench", "--rate", "1000000", "--json"])?;
        let made: serde_json::Value = serde_json::from_str(&made)?;
        let token = made["token"].as_str().context("a new token is shown")?.to_owned();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let arguments = ["twin", "run", "--listen", &address.to_string(), "--key-file", &ours.key];
        let mut twin = processes.command(processes.program(), &arguments);
        let log = File::create(processes.path("twin.log"))?;
        let child = twin.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn()?;
        let it = Self { ours, address, token, child };
        let version = format!("http://{address}/version");
        wait("the twin does not answer", || Ok(curl().args(["--output", "/dev/null", &version]).status()?.success()))?;
        Ok(it)
    }

    fn client(&self) -> Command {
        let mut curl = curl();
        curl.args(["--header", &format!("authorization: Bearer {}", self.token)]);
        curl
    }

    fn url(&self, file: &Path) -> Result<String> {
        let name = file.file_name().context("a file has a name")?.to_string_lossy();
        Ok(format!("http://{}/files/{name}", self.address))
    }
}

impl Side for Twin<'_> {
    fn servers(&self) -> Vec<u32> {
        [self.ours.servers(), vec![self.child.id()]].concat()
    }

    fn folders(&self) -> Vec<PathBuf> {
        self.ours.folders()
    }

    fn put(&self, file: &Path) -> Result<Command> {
        let mut curl = self.client();
        curl.arg("--upload-file").arg(file).args(["--output", "/dev/null", &self.url(file)?]);
        Ok(curl)
    }

    fn get(&self, file: &Path, put: &str) -> Result<Command> {
        self.ours.get(file, put)
    }

    fn put_folder(&self, folder: &Path, clients: u32) -> Result<Command> {
        let transfers = PathBuf::from(self.ours.processes.path("transfers"));
        parallel(self.client(), folder, &transfers, clients, |_, file| self.url(file))
    }
}

impl Drop for Twin<'_> {
    fn drop(&mut self) {
        // If it cannot be killed, it has already ended.
        let _ = (self.child.kill(), self.child.wait());
    }
}
