//! A cluster of real processes: six origins and an edge, each `evernear ... run` with a configuration of its own, and an owner.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

const ORIGINS: u8 = 6;
/// A process listens within this.
const START_DEADLINE: Duration = Duration::from_secs(20);

/// The running processes; they end when it is dropped.
pub(crate) struct Processes {
    folder: TempDir,
    evernear: PathBuf,
    children: Vec<Child>,
    /// HTTP door of the edge.
    pub(crate) http: SocketAddr,
}

/// Something the owner stored.
pub(crate) struct Stored {
    pub(crate) url: String,
    /// Host and port of the URL.
    pub(crate) authority: String,
}

impl Processes {
    /// Starts everything. `evernear` is looked for beside this program.
    pub(crate) fn start(cache_bytes: u64) -> Result<Self> {
        let evernear = std::env::current_exe()?.with_file_name("evernear");
        ensure!(evernear.exists(), "{} is not built; run `cargo build --release -p cli`", evernear.display());
        let folder = tempfile::Builder::new().prefix("evernear-bench-").tempdir()?;
        let http = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), free_port()?);
        let mut it = Self { folder, evernear, children: Vec::new(), http };
        let keys = it.path("keys");
        it.evernear(&["cluster", "init", &keys])?;
        let mut seeds = Vec::new();
        for origin in 0..ORIGINS {
            let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), free_port()?);
            let name = format!("o{origin}");
            it.evernear(&["cluster", "issue", &keys, &name, "--role", "origin"])?;
            let config = format!(
                "name = \"{name}\"\nlisten = \"{address}\"\ndata_dir = \"{}\"\ncatalog = \"sqlite://{}\"\n{}{}",
                it.path(&name),
                it.path("catalog.sqlite"),
                place(&name),
                tls(&keys, &name),
            );
            it.run_node("origin", &name, &config, address)?;
            seeds.push((name, address));
        }
        it.evernear(&["cluster", "issue", &keys, "e0", "--role", "edge"])?;
        let mut config = format!(
            "name = \"e0\"\nzone = \"localhost\"\n{}[dns]\nlisten = \"127.0.0.1:{}\"\n[http]\nlisten = \"{http}\"\n\
             connections_per_address_max = 4096\n[cache]\nblock_bytes_max = {cache_bytes}\n{}",
            place("e0"),
            free_port()?,
            tls(&keys, "e0"),
        );
        for (name, address) in &seeds {
            config += &format!("[[seeds]]\nname = \"{name}\"\naddress = \"{address}\"\n");
        }
        it.run_node("edge", "e0", &config, http)?;
        it.make_owner(&keys, &seeds)?;
        Ok(it)
    }

    fn make_owner(&self, keys: &str, seeds: &[(String, SocketAddr)]) -> Result<()> {
        self.evernear(&["cluster", "issue", keys, "me", "--role", "twin"])?;
        fs::create_dir_all(self.path("state"))?;
        fs::write(self.path("passphrase"), "correct horse battery staple")?;
        let mut config = format!(
            "url = \"http://{{label}}.localhost:{}/{{name}}\"\nprofile = \"small-cluster\"\n[identity]\n\
             authority = \"{keys}/authority.pem\"\ncertificate = \"{keys}/me.pem\"\nkey = \"{keys}/me.key\"\n",
            self.http.port(),
        );
        for (name, address) in seeds {
            config += &format!("[[node]]\nname = \"{name}\"\naddress = \"{address}\"\n");
        }
        fs::write(self.path("state/twin.toml"), config)?;
        self.evernear(&["owner", "new"])?;
        Ok(())
    }

    fn run_node(&mut self, kind: &str, name: &str, config: &str, address: SocketAddr) -> Result<()> {
        let file = self.path(&format!("{name}.toml"));
        fs::write(&file, config)?;
        let log = fs::File::create(self.path(&format!("{name}.log")))?;
        let child = Command::new(&self.evernear)
            .args([kind, "run", "--config", &file])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        self.children.push(child);
        let deadline = Instant::now() + START_DEADLINE;
        while TcpStream::connect(address).is_err() {
            if Instant::now() > deadline {
                bail!("{name} does not listen: {}", fs::read_to_string(self.path(&format!("{name}.log")))?);
            }
            thread::park_timeout(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Returns a path in the folder of this run.
    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_string_lossy().into_owned()
    }

    /// Returns a command of the owner's program.
    pub(crate) fn command(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env("EVERNEAR_STATE", self.path("state"))
            .env("EVERNEAR_PASSPHRASE_FILE", self.path("passphrase"))
            .stdin(Stdio::null());
        command
    }

    /// Runs the owner's program and returns what it printed.
    pub(crate) fn evernear(&self, arguments: &[&str]) -> Result<String> {
        let output = self.command(&self.evernear, arguments).output()?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "evernear {} failed: {errors}", arguments.join(" "));
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Returns the program under test.
    pub(crate) fn program(&self) -> &Path {
        &self.evernear
    }

    /// Stores a file and returns where it is read.
    pub(crate) fn put(&self, file: &str) -> Result<Stored> {
        read_stored(&self.evernear(&["put", file, "--json"])?)
    }

    /// Returns the process id of the edge.
    pub(crate) fn edge_pid(&self) -> u32 {
        self.children.last().map_or(0, Child::id)
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for child in &mut self.children {
            // It has ended already when it cannot be killed.
            let _ = (child.kill(), child.wait());
        }
    }
}

/// Reads what `evernear put --json` printed.
pub(crate) fn read_stored(json: &str) -> Result<Stored> {
    let stored: serde_json::Value = serde_json::from_str(json)?;
    let url = stored["url"].as_str().context("put --json tells the URL")?.to_owned();
    let authority = url.split('/').nth(2).context("a URL has a host")?.to_owned();
    Ok(Stored { url, authority })
}

/// Returns the CPU time that processes have used, in seconds (proc(5), fields 14 and 15 of stat; 100 ticks a second).
pub(crate) fn cpu_seconds(pids: &[u32]) -> Result<f64> {
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
pub(crate) fn peak_kib(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("status has VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn place(name: &str) -> String {
    format!("[place]\ncountry = \"BE\"\nregion = \"europe\"\nzone = \"{name}\"\nlatitude = 50.8\nlongitude = 4.3\n")
}

fn tls(keys: &str, name: &str) -> String {
    format!(
        "[tls]\nauthority = \"{keys}/authority.pem\"\ncertificate = \"{keys}/{name}.pem\"\nkey = \"{keys}/{name}.key\"\n"
    )
}
