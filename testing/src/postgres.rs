//! A `PostgreSQL` server of Debian's package for tests: in a folder of its own, on a socket in it, without a port. It
//! ends with the process that started it and leaves nothing behind.

use std::{
    ffi::OsStr,
    fs,
    io::Write,
    net::IpAddr,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

/// No start takes longer.
const DEADLINE: Duration = Duration::from_secs(60);
/// Whom the server runs as when the tests run as root, which it refuses; the package makes this user.
const USER: &str = "postgres";
/// Runs the server. When the tests are gone (SIGTERM, by setpriv), the server and its folder go too.
const KEEPER: &str = r#"
dir=$1; shift
trap 'kill -QUIT $server; wait $server; rm -rf "$dir"; exit' TERM
"$@" >"$dir/log" 2>&1 &
server=$!
wait $server
"#;

/// A running server.
pub struct Server {
    dir: PathBuf,
    bin: PathBuf,
    address: Option<IpAddr>,
    databases: AtomicU32,
}

impl Server {
    /// Returns the server that all tests of this process share.
    #[must_use]
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Server> = OnceLock::new();
        SHARED.get_or_init(|| Self::start("shared"))
    }

    /// Starts a server of its own for a test that stops it.
    #[must_use]
    pub fn start(name: &str) -> Self {
        Self::start_on(name, None)
    }

    /// Starts one that also listens on an address, for everybody who reaches it there.
    #[must_use]
    pub fn on_network(name: &str, address: IpAddr) -> Self {
        Self::start_on(name, Some(address))
    }

    fn start_on(name: &str, address: Option<IpAddr>) -> Self {
        let dir = std::env::temp_dir().join(format!("evernear-postgres-{}-{name}", std::process::id()));
        let server = Self { dir, bin: bin(), address, databases: AtomicU32::new(0) };
        must(as_user("mkdir").arg("-m").arg("0700").arg(&server.dir));
        let options = ["--username=evernear", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"];
        must(as_user(server.bin.join("initdb")).args(options).arg("-D").arg(server.data()));
        if address.is_some() {
            let allowed = server.data().join("pg_hba.conf");
            let mut file = fs::File::options().append(true).open(allowed).unwrap();
            file.write_all(b"host all all samenet trust\n").unwrap();
        }
        server.resume();
        server
    }

    /// Makes an empty database and returns its URL.
    #[must_use]
    pub fn database(&self) -> String {
        self.url(&self.new_database())
    }

    /// Makes an empty database and returns its name.
    #[must_use]
    pub fn new_database(&self) -> String {
        let name = format!("d{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.client("createdb", &["--maintenance-db", &self.url("postgres"), "--template=template0", &name]);
        name
    }

    /// Returns what the server has written to its log.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// Runs one of the programs that come with the server; it must succeed.
    pub fn client(&self, program: &str, arguments: &[&str]) {
        must(Command::new(self.bin.join(program)).args(arguments));
    }

    /// Returns where a database is for processes of this machine.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://evernear@{}/{database}", self.dir.to_str().unwrap().replace('/', "%2F"))
    }

    /// Returns where a database is for those who reach the server over the network.
    ///
    /// # Panics
    /// When the server was not started with [`Self::on_network`].
    #[must_use]
    pub fn network_url(&self, database: &str) -> String {
        let address = self.address.expect("the server listens on the network");
        format!("postgres://evernear@{address}/{database}?sslmode=disable")
    }

    /// Starts the server, also again after [`Self::stop`].
    ///
    /// # Panics
    /// When it does not start.
    pub fn resume(&self) {
        let mut keeper = as_user("sh");
        keeper.arg("-c").arg(KEEPER).arg("keeper").arg(&self.dir);
        keeper.arg(self.bin.join("postgres")).arg("-D").arg(self.data()).arg("-k").arg(&self.dir);
        // What a test commits need not survive the machine.
        let listen = self.address.map_or_else(String::new, |address| address.to_string());
        keeper.arg("-c").arg(format!("listen_addresses={listen}"));
        for setting in ["fsync=off", "max_connections=200", "shared_buffers=32MB"] {
            keeper.arg("-c").arg(setting);
        }
        // A child is told of the death of the thread that made it, so that thread lives as long as the process.
        let (ended, end) = mpsc::sync_channel(1);
        thread::spawn(move || {
            let status = keeper.stdout(Stdio::null()).stderr(Stdio::null()).status();
            ended.send(status).ok();
            loop {
                thread::park();
            }
        });
        let deadline = Instant::now() + DEADLINE;
        while !self.is_ready() {
            if let Ok(status) = end.try_recv() {
                panic!("PostgreSQL ended, {status:?}: {}", self.log());
            }
            assert!(Instant::now() < deadline, "PostgreSQL does not start: {}", self.log());
            // Each look starts a program: not as fast as it goes.
            thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// Stops the server and cuts its connections.
    pub fn stop(&self) {
        self.end("fast");
    }

    /// Ends the server as a crash would: what it had not written it finds in its log when it starts again.
    pub fn crash(&self) {
        self.end("immediate");
    }

    fn end(&self, mode: &str) {
        must(as_user(self.bin.join("pg_ctl")).args(["stop", "--mode", mode, "--wait", "-D"]).arg(self.data()));
    }

    fn is_ready(&self) -> bool {
        let asked = Command::new(self.bin.join("pg_isready")).arg("-q").arg("-h").arg(&self.dir).status();
        asked.unwrap().success()
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Of a test that failed it may still run.
        as_user(self.bin.join("pg_ctl")).args(["stop", "--mode=immediate", "-D"]).arg(self.data()).output().ok();
        as_user("rm").arg("-rf").arg(&self.dir).status().ok();
    }
}

/// The programs of the newest server here.
fn bin() -> PathBuf {
    let root = Path::new("/usr/lib/postgresql");
    let versions =
        fs::read_dir(root).into_iter().flatten().filter_map(|entry| entry.unwrap().file_name().into_string().ok());
    let newest = versions.filter(|version| root.join(version).join("bin/initdb").exists());
    let newest = newest.max_by_key(|version| version.parse::<u32>().unwrap_or(0));
    root.join(newest.expect("PostgreSQL is not installed; `./x setup` installs it")).join("bin")
}

/// A command that is not root's and ends when we do.
fn as_user(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM"]).current_dir("/");
    if fs::metadata("/proc/self").unwrap().uid() == 0 {
        command.args(["--reuid", USER, "--regid", USER, "--clear-groups"]);
    }
    command.arg(program);
    command
}

fn must(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
