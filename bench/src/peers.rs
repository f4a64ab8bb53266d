//! The servers that an edge is measured beside: Debian's nginx, h2o, Varnish and, over HTTP/3, Caddy. Each has one core
//! and an access log.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use cluster::processes::Processes;
use testing::free_port;

/// The core that a server has to itself. The client has the other one.
pub(crate) const SERVER_CORE: &str = "0";
const START_DEADLINE: Duration = Duration::from_secs(10);

/// Returns the command prefix that runs a program on the core of servers.
pub(crate) fn on_server_core() -> Vec<String> {
    ["taskset", "-c", SERVER_CORE].map(str::to_owned).to_vec()
}

fn command(program: &str) -> Command {
    let words = on_server_core();
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).arg(program);
    command
}

/// A self-signed certificate (ECDSA, P-256) and its key.
pub(crate) struct Certificate {
    pub(crate) file: String,
    pub(crate) key: String,
}

impl Certificate {
    /// Makes one where `path` says that files of these names are.
    pub(crate) fn make<'a>(path: impl Fn(&str) -> String, hosts: impl Iterator<Item = &'a str>) -> Result<Self> {
        let names: Vec<String> = ["localhost"].into_iter().chain(hosts).map(|host| format!("DNS:{host}")).collect();
        let it = Self { file: path("viewers.pem"), key: path("viewers.key") };
        let made = Command::new("openssl")
            .args("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost".split(' '))
            .args(["-addext", &format!("subjectAltName={}", names.join(",")), "-addext", "basicConstraints=CA:FALSE"])
            .args(["-out", &it.file, "-keyout", &it.key])
            .output()
            .context("openssl does not start; it is in Debian's openssl")?;
        ensure!(made.status.success(), "openssl: {}", String::from_utf8_lossy(&made.stderr));
        Ok(it)
    }
}

/// A server of files, unencrypted and over TLS.
pub(crate) struct FileServer {
    server: Server,
    pub(crate) port: u16,
    pub(crate) tls_port: u16,
}

impl FileServer {
    /// Starts nginx for the folder `root`. It sends files by sendfile(2) when they are unencrypted; of those below
    /// `text/` the file with `.gz` behind its name, to who takes gzip.
    pub(crate) fn nginx(prefix: &str, certificate: &Certificate, root: &str) -> Result<Self> {
        let (port, tls_port) = (free_port(), free_port());
        fs::create_dir_all(prefix)?;
        let Certificate { file, key } = certificate;
        // Only its owner may read the folder, so a worker of another user could not. nginx ignores `user` unless root
        // runs it.
        let config = format!(
            "daemon off; worker_processes 1; pid {prefix}/pid; error_log {prefix}/error; user root; worker_rlimit_nofile 16384;\n\
             events {{ worker_connections 12000; }}\n\
             http {{ sendfile on; tcp_nopush on; keepalive_requests 100000000; open_file_cache max=100;\n\
             ssl_certificate {file}; ssl_certificate_key {key}; ssl_protocols TLSv1.3;\n\
             access_log {prefix}/access combined buffer=64k flush=1s; server {{ listen 127.0.0.1:{port}; listen 127.0.0.1:{tls_port} ssl http2;\n\
             root {root}; location /text/ {{ gzip_static on; }} }} }}\n"
        );
        let file = format!("{prefix}/nginx.conf");
        fs::write(&file, config)?;
        let server = Server::start("/usr/sbin/nginx", "nginx-light", &["-p", prefix, "-c", &file], port)?;
        Ok(Self { server, port, tls_port })
    }

    /// Starts h2o for the folder `root`. It keeps files open and reads them anew for each answer.
    pub(crate) fn h2o(processes: &Processes, certificate: &Certificate, root: &str) -> Result<Self> {
        let (port, tls_port) = (free_port(), free_port());
        let prefix = processes.path("h2o");
        fs::create_dir_all(&prefix)?;
        let Certificate { file, key } = certificate;
        // As with nginx: its worker must read what only its owner may read.
        let config = format!(
            "user: root\nnum-threads: 1\npid-file: {prefix}/pid\nerror-log: {prefix}/error\naccess-log: {prefix}/access\n\
             listen: {{ host: 127.0.0.1, port: {port} }}\n\
             hosts:\n  default:\n    listen:\n      host: 127.0.0.1\n      port: {tls_port}\n\
             \x20     ssl: {{ certificate-file: {file}, key-file: {key}, minimum-version: TLSv1.3, ocsp-update-interval: 0 }}\n\
             \x20   paths: {{ /: {{ file.dir: {root} }} }}\n"
        );
        let file = format!("{prefix}/h2o.conf");
        fs::write(&file, config)?;
        let server = Server::start("/usr/bin/h2o", "h2o", &["-c", &file], port)?;
        Ok(Self { server, port, tls_port })
    }

    /// Starts Caddy for the folder `root`, over TLS and HTTP/3 on one port. It reads a file anew for each answer.
    pub(crate) fn caddy(processes: &Processes, certificate: &Certificate, root: &str) -> Result<Self> {
        let tls_port = free_port();
        let prefix = processes.path("caddy");
        fs::create_dir_all(&prefix)?;
        let Certificate { file, key } = certificate;
        let config = format!(
            "{{\n\tadmin off\n\tauto_https off\n\tstorage file_system {prefix}\n}}\n\
             https://localhost:{tls_port} {{\n\tbind 127.0.0.1\n\ttls {file} {key}\n\troot * {root}\n\tfile_server\n\
             \tlog {{\n\t\toutput file {prefix}/access\n\t}}\n}}\n"
        );
        let file = format!("{prefix}/Caddyfile");
        fs::write(&file, config)?;
        // It writes its configuration down once more, there.
        let state = format!("XDG_CONFIG_HOME={prefix}");
        let arguments = [&state, "/usr/bin/caddy", "run", "--config", &file, "--adapter", "caddyfile"];
        let server = Server::start("/usr/bin/env", "caddy", &arguments, tls_port)?;
        Ok(Self { server, port: tls_port, tls_port })
    }

    pub(crate) fn pids(&self) -> &[u32] {
        &self.server.pids
    }

    /// Returns where it answers unencrypted.
    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }
}

/// Varnish, which caches in memory what it reads from nginx, and the program that writes its access log.
pub(crate) struct Varnish {
    server: Server,
    log: Child,
    pids: Vec<u32>,
    pub(crate) port: u16,
}

impl Varnish {
    pub(crate) fn start(processes: &Processes, backend: u16) -> Result<Self> {
        let (port, folder) = (free_port(), processes.path("varnish"));
        let (listen, backend) = (format!("127.0.0.1:{port}"), format!("127.0.0.1:{backend}"));
        let arguments =
            ["-F", "-j", "none", "-n", &folder, "-a", &listen, "-b", &backend, "-s", "malloc,512m", "-t", "3600"];
        let server = Server::start("/usr/sbin/varnishd", "varnish", &arguments, port)?;
        let log = command("varnishncsa")
            .args(["-n", &folder, "-w", &processes.path("varnish.access")])
            .stdin(Stdio::null())
            .spawn()?;
        let pids = server.pids.iter().copied().chain([log.id()]).collect();
        Ok(Self { server, log, pids, port })
    }

    pub(crate) fn pids(&self) -> &[u32] {
        &self.pids
    }
}

impl Drop for Varnish {
    fn drop(&mut self) {
        // It may already have ended, together with the server whose log it reads.
        let _ = (self.log.kill(), self.log.wait());
        self.server.end();
    }
}

/// A server with its workers.
struct Server {
    child: Child,
    pids: Vec<u32>,
}

impl Server {
    fn start(program: &str, package: &str, arguments: &[&str], port: u16) -> Result<Self> {
        ensure!(fs::exists(program)?, "{program} is not there; it is in Debian's {package}");
        let child = command(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("taskset does not start; it is in Debian's util-linux")?;
        let mut it = Self { pids: vec![child.id()], child };
        let deadline = Instant::now() + START_DEADLINE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            ensure!(Instant::now() < deadline, "{program} does not listen");
            thread::park_timeout(Duration::from_millis(20));
        }
        let master = it.child.id();
        let workers = fs::read_to_string(format!("/proc/{master}/task/{master}/children"))?;
        it.pids.extend(workers.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        Ok(it)
    }

    fn end(&mut self) {
        // `kill` sends SIGTERM, which `Child` cannot send. After SIGKILL a master would leave its workers behind.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

impl Drop for FileServer {
    fn drop(&mut self) {
        self.server.end();
    }
}
