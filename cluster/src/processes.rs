//! A cluster of real processes: origins and an edge, each `evernear ... run` with a configuration of its own, and an
//! owner. For measurements, and for tests that kill them.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;
use testing::free_port;

/// How long a process may take until it listens.
const START_DEADLINE: Duration = Duration::from_secs(20);

/// Options of the cluster.
#[derive(Debug, Clone)]
pub struct ProcessOptions {
    /// How many origins.
    pub origins: u8,
    /// How many origins share a zone.
    pub zone_origins: u8,
    /// How many edges.
    pub edges: u8,
    /// URL of the catalog. `None`: a file in the folder of this run.
    pub catalog: Option<String>,
    /// The owner's profile.
    pub profile: String,
    /// Lines of `[limits]` in each origin's configuration.
    pub limits: String,
    /// Size of each edge's cache of blocks, in bytes.
    pub cache_bytes: u64,
    /// Where the origins, then the edges, run. Nodes beyond the end of the list run on loopback.
    pub seats: Vec<Seat>,
}

impl Default for ProcessOptions {
    fn default() -> Self {
        Self {
            origins: 6,
            zone_origins: 1,
            edges: 1,
            catalog: None,
            profile: "small-cluster".to_owned(),
            limits: String::new(),
            cache_bytes: 256 << 20,
            seats: Vec::new(),
        }
    }
}

/// Where and how a node runs.
#[derive(Debug, Clone, Default)]
pub struct Seat {
    /// Address to listen on. `None`: loopback.
    pub host: Option<IpAddr>,
    /// A program and its arguments that become the node's process: `ip netns exec ..`, `env ..`.
    pub launch: Vec<String>,
    /// Folder of an origin's data. `None`: one in the folder of this run.
    pub data_dir: Option<PathBuf>,
}

/// The running processes. Dropping this kills them.
pub struct Processes {
    folder: TempDir,
    evernear: PathBuf,
    /// The origins in order, then the edges.
    nodes: Vec<Node>,
    /// HTTP door of the first edge. The others have the same port on other addresses.
    pub http: SocketAddr,
}

struct Node {
    kind: &'static str,
    name: String,
    address: SocketAddr,
    seat: Seat,
    child: Option<Child>,
}

/// An object that the owner stored.
pub struct StoredFile {
    /// Its URL.
    pub url: String,
    /// Host and port of the URL.
    pub authority: String,
}

impl Processes {
    /// Starts everything. The program `evernear` is looked for in the folder of this program and in the folder above.
    ///
    /// # Errors
    /// When something does not start; its log is in the error.
    pub fn start(options: &ProcessOptions) -> Result<Self> {
        let evernear = program()?;
        let folder = tempfile::Builder::new().prefix("evernear-processes-").tempdir()?;
        let seat = |number: u8| options.seats.get(usize::from(number)).cloned().unwrap_or_default();
        let (http_port, dns_port) = (free_port(), free_port());
        // On loopback each edge has its own address, as it would on the Internet.
        let door = |edge: u8| {
            let host = seat(options.origins + edge).host.unwrap_or(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1 + edge)));
            SocketAddr::new(host, http_port)
        };
        let mut it = Self { folder, evernear, nodes: Vec::new(), http: door(0) };
        let keys = it.path("keys");
        it.evernear(&["cluster", "init", &keys])?;
        let catalog = options.catalog.clone().unwrap_or_else(|| format!("sqlite://{}", it.path("catalog.sqlite")));
        let mut seeds = String::new();
        for origin in 0..options.origins {
            let (seat, name) = (seat(origin), format!("o{origin}"));
            let address = SocketAddr::new(seat.host.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), free_port());
            it.evernear(&["cluster", "issue", &keys, &name, "--role", "origin"])?;
            let data_dir = seat.data_dir.clone().unwrap_or_else(|| PathBuf::from(it.path(&name)));
            let config = format!(
                "name = \"{name}\"\nlisten = \"{address}\"\ndata_dir = {data_dir:?}\ncatalog = \"{catalog}\"\n\
                 {}{}[limits]\n{}",
                place(&format!("z{}", origin / options.zone_origins)),
                tls(&keys, &name),
                options.limits,
            );
            seeds += &format!("name = \"{name}\"\naddress = \"{address}\"\n\n");
            it.add_node("origin", &name, &config, address, Seat { data_dir: Some(data_dir), ..seat })?;
        }
        for edge in 0..options.edges {
            let (name, http) = (format!("e{edge}"), door(edge));
            it.evernear(&["cluster", "issue", &keys, &name, "--role", "edge"])?;
            let config = format!(
                "name = \"{name}\"\nzone = \"localhost\"\n{}[dns]\nlisten = \"{}:{dns_port}\"\n[http]\n\
                 listen = \"{http}\"\nconnections_per_address_max = 4096\n[cache]\nblock_bytes_max = {}\n{}{}",
                place(&name),
                http.ip(),
                options.cache_bytes,
                tls(&keys, &name),
                listed("seeds", &seeds),
            );
            it.add_node("edge", &name, &config, http, seat(options.origins + edge))?;
        }
        it.make_owner(&keys, &options.profile, &seeds)?;
        Ok(it)
    }

    fn make_owner(&self, keys: &str, profile: &str, seeds: &str) -> Result<()> {
        self.evernear(&["cluster", "issue", keys, "me", "--role", "twin"])?;
        fs::create_dir_all(self.path("state"))?;
        fs::write(self.path("passphrase"), "correct horse battery staple")?;
        let config = format!(
            "url = \"http://{{label}}.localhost:{}/{{name}}\"\nprofile = \"{profile}\"\n[identity]\n\
             authority = \"{keys}/authority.pem\"\ncertificate = \"{keys}/me.pem\"\nkey = \"{keys}/me.key\"\n{}",
            self.http.port(),
            listed("node", seeds),
        );
        fs::write(self.path("state/twin.toml"), config)?;
        self.evernear(&["owner", "new"])?;
        Ok(())
    }

    fn add_node(
        &mut self,
        kind: &'static str,
        name: &str,
        config: &str,
        address: SocketAddr,
        seat: Seat,
    ) -> Result<()> {
        fs::write(self.path(&format!("{name}.toml")), config)?;
        self.nodes.push(Node { kind, name: name.to_owned(), address, seat, child: None });
        self.start_node(self.nodes.len() - 1)?;
        Ok(())
    }

    /// Starts a node that is not running, and returns how long it took until it listened.
    ///
    /// # Errors
    /// When it does not listen in time; its log is in the error.
    pub fn start_node(&mut self, number: usize) -> Result<Duration> {
        let Node { kind, name, address, seat, .. } = &self.nodes[number];
        let (file, log_path) = (self.path(&format!("{name}.toml")), self.path(&format!("{name}.log")));
        let log = fs::File::options().create(true).append(true).open(&log_path)?;
        let start = Instant::now();
        let mut words =
            seat.launch.iter().map(String::as_str).chain([self.program_text()?, kind, "run", "--config", &file]);
        let mut child = Command::new(words.next().context("a command has a program")?)
            .args(words)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        while TcpStream::connect_timeout(address, START_DEADLINE).is_err() {
            if start.elapsed() > START_DEADLINE || child.try_wait()?.is_some() {
                let log = fs::read_to_string(&log_path)?;
                bail!("{name} does not listen: {log}\n{}", holders(&log));
            }
            thread::park_timeout(Duration::from_millis(5));
        }
        self.nodes[number].child = Some(child);
        Ok(start.elapsed())
    }

    /// Kills a node with SIGKILL: like a power cut for the process, which flushes nothing and tells nobody.
    ///
    /// # Errors
    /// When it cannot be signalled.
    pub fn kill_node(&mut self, number: usize) -> Result<()> {
        if let Some(mut child) = self.nodes[number].child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Replaces a part of a node's configuration. The change takes effect at the node's next start.
    ///
    /// # Errors
    /// When the part is not there.
    pub fn change_config(&self, number: usize, from: &str, to: &str) -> Result<()> {
        let path = self.path(&format!("{}.toml", self.nodes[number].name));
        let text = fs::read_to_string(&path)?;
        ensure!(text.contains(from), "{path} has no {from:?}");
        Ok(fs::write(&path, text.replacen(from, to, 1))?)
    }

    /// Returns the folder of an origin's data.
    #[must_use]
    pub fn data_dir(&self, number: usize) -> PathBuf {
        let Node { name, seat, .. } = &self.nodes[number];
        seat.data_dir.clone().unwrap_or_else(|| self.folder.path().join(name))
    }

    /// Returns the address that a node listens on.
    #[must_use]
    pub fn address(&self, number: usize) -> SocketAddr {
        self.nodes[number].address
    }

    /// Returns the HTTP doors of the edges.
    #[must_use]
    pub fn doors(&self) -> Vec<SocketAddr> {
        self.nodes.iter().filter(|node| node.kind == "edge").map(|node| node.address).collect()
    }

    /// Returns the process id of a node that runs.
    ///
    /// # Errors
    /// When it does not run, or has ended by itself; its log is in the error.
    pub fn pid(&mut self, number: usize) -> Result<u32> {
        let Node { name, child, .. } = &mut self.nodes[number];
        let child = child.as_mut().with_context(|| format!("{name} was not started"))?;
        if let Some(status) = child.try_wait()? {
            let log = self.folder.path().join(format!("{name}.log"));
            bail!("{name} has ended, {status}: {}", fs::read_to_string(log)?);
        }
        Ok(child.id())
    }

    /// Keeps the folder of this run for an investigation, instead of removing it. Returns its path.
    pub fn keep(&mut self) -> &Path {
        self.folder.disable_cleanup(true);
        self.folder.path()
    }

    /// Returns a path in the folder of this run.
    #[must_use]
    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_string_lossy().into_owned()
    }

    /// Returns a command that runs the owner's program.
    #[must_use]
    pub fn command(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env("EVERNEAR_STATE", self.path("state"))
            .env("EVERNEAR_PASSPHRASE_FILE", self.path("passphrase"))
            .stdin(Stdio::null());
        command
    }

    /// Runs the owner's program and returns what it printed.
    ///
    /// # Errors
    /// When it fails; its standard error is in the error.
    pub fn evernear(&self, arguments: &[&str]) -> Result<String> {
        let output = self.command(&self.evernear, arguments).output()?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "evernear {} failed: {errors}", arguments.join(" "));
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Returns the program under test.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.evernear
    }

    fn program_text(&self) -> Result<&str> {
        self.evernear.to_str().context("the folder of the program has a name in UTF-8")
    }

    /// Stores a file and returns its URL.
    ///
    /// # Errors
    /// When `evernear put` fails.
    pub fn put(&self, file: &str) -> Result<StoredFile> {
        read_stored(&self.evernear(&["put", file, "--json"])?)
    }

    /// Returns the process id of the last edge.
    #[must_use]
    pub fn edge_pid(&self) -> u32 {
        self.nodes.last().and_then(|node| node.child.as_ref()).map_or(0, Child::id)
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for child in self.nodes.iter_mut().filter_map(|node| node.child.as_mut()) {
            // If it cannot be killed, it has already ended.
            let _ = (child.kill(), child.wait());
        }
    }
}

/// Returns the path of the program `evernear`. It is in the folder of this program or, for tests, in the folder above.
///
/// # Errors
/// When it is not built.
pub fn program() -> Result<PathBuf> {
    let me = std::env::current_exe()?;
    let found = me.ancestors().skip(1).take(2).map(|folder| folder.join("evernear")).find(|path| path.is_file());
    found.context("evernear is not built; `cargo build --workspace --bins` builds it")
}

/// Reads what `evernear put --json` printed.
///
/// # Errors
/// When the text is not such a document.
pub fn read_stored(json: &str) -> Result<StoredFile> {
    let stored: serde_json::Value = serde_json::from_str(json)?;
    let url = stored["url"].as_str().context("put --json tells the URL")?.to_owned();
    let authority = url.split('/').nth(2).context("a URL has a host")?.to_owned();
    Ok(StoredFile { url, authority })
}

/// Returns the CPU time that processes have used, in seconds (proc(5), fields 14 and 15 of stat; 100 ticks a second).
///
/// # Errors
/// When a process is gone.
pub fn cpu_seconds(pids: &[u32]) -> Result<f64> {
    let mut ticks = 0;
    for pid in pids {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let (_, fields) = stat.rsplit_once(") ").context("stat has a name in parentheses")?;
        let fields: Vec<&str> = fields.split(' ').collect();
        ticks += fields[11].parse::<u32>()? + fields[12].parse::<u32>()?;
    }
    Ok(f64::from(ticks) / 100.0)
}

/// Returns the most memory a process ever had, in KiB (proc(5), `VmHWM`).
///
/// # Errors
/// When the process is gone.
pub fn peak_kib(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("status has VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// Returns who has the ports that a log names, since a node whose address is taken cannot say by whom.
fn holders(log: &str) -> String {
    let said = Command::new("ss").arg("-Htuanp").output().map(|it| String::from_utf8_lossy(&it.stdout).into_owned());
    let is_named = |line: &&str| {
        let port = line.split_whitespace().nth(4).and_then(|local| local.rsplit(':').next());
        port.is_some_and(|port| log.contains(&format!(":{port}")))
    };
    said.unwrap_or_default().lines().filter(is_named).collect::<Vec<_>>().join("\n")
}

fn place(zone: &str) -> String {
    format!("[place]\ncountry = \"BE\"\nregion = \"europe\"\nzone = \"{zone}\"\nlatitude = 50.8\nlongitude = 4.3\n")
}

fn tls(keys: &str, name: &str) -> String {
    format!(
        "[tls]\nauthority = \"{keys}/authority.pem\"\ncertificate = \"{keys}/{name}.pem\"\nkey = \"{keys}/{name}.key\"\n"
    )
}

/// Formats nodes, one for each paragraph, as a TOML array of tables.
fn listed(table: &str, nodes: &str) -> String {
    nodes.split_terminator("\n\n").map(|node| format!("[[{table}]]\n{node}\n")).collect()
}
