//! CPU time per cached request: the edge beside Debian's nginx, same machine, same run, interleaved.

use std::{
    fmt::Write as _,
    fs,
    net::TcpStream,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use cluster::processes::{ProcessOptions, Processes, cpu_seconds, free_port};

use crate::machine;

const ROUNDS: usize = 5;
const CONNECTIONS: &str = "16";

struct Case {
    name: &'static str,
    bytes: usize,
    requests: u32,
}

const CASES: [Case; 2] = [
    Case { name: "1 KiB", bytes: 1024, requests: 100_000 },
    Case { name: "100 KiB", bytes: 100 * 1024, requests: 20_000 },
];

/// Measures and returns the table.
pub(crate) fn run() -> Result<String> {
    let processes = Processes::start(&ProcessOptions::default())?;
    let nginx = Nginx::start(&processes)?;
    let mut table = format!(
        "{}\n\nh2load --h1, {CONNECTIONS} connections, one client thread; CPU of the server's processes, user and system;\n\
         median of {ROUNDS} interleaved rounds.\n\n| cached | edge us/request | nginx us/request | edge / nginx |\n|---|---|---|---|\n",
        machine::describe()
    );
    for case in &CASES {
        // Bytes that do not compress, as pictures do not.
        let file = processes.path(&format!("{}.bin", case.bytes));
        fs::write(&file, noise(case.bytes))?;
        let stored = processes.put(&file)?;
        let nginx_file = format!("{}/{}.bin", nginx.root, case.bytes);
        fs::copy(&file, nginx_file)?;
        let nginx_url = format!("http://127.0.0.1:{}/{}.bin", nginx.port, case.bytes);
        let edge = || load(&stored.url, &processes.http.to_string(), case.requests, &[processes.edge_pid()]);
        let peer = || load(&nginx_url, &format!("127.0.0.1:{}", nginx.port), case.requests, &nginx.pids);
        // The first pass fills caches on both sides.
        edge()?;
        peer()?;
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            rounds.push((edge()?, peer()?));
        }
        let ours = median(rounds.iter().map(|round| round.0).collect());
        let theirs = median(rounds.iter().map(|round| round.1).collect());
        writeln!(table, "| {} | {ours:.1} | {theirs:.1} | {:.2} |", case.name, ours / theirs)?;
    }
    Ok(table)
}

/// Runs h2load and returns the server's CPU microseconds per request.
fn load(url: &str, connect_to: &str, requests: u32, pids: &[u32]) -> Result<f64> {
    let before = cpu_seconds(pids)?;
    let output = Command::new("h2load")
        .args([
            "--h1",
            "-n",
            &requests.to_string(),
            "-c",
            CONNECTIONS,
            "-t",
            "1",
            &format!("--connect-to={connect_to}"),
            url,
        ])
        .stdin(Stdio::null())
        .output()
        .context("h2load does not start; it is in Debian's nghttp2-client")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let all = format!("{requests} 2xx");
    ensure!(text.contains(&all), "not every request was answered with 2xx: {text}");
    Ok((cpu_seconds(pids)? - before) * 1e6 / f64::from(requests))
}

struct Nginx {
    child: Child,
    pids: Vec<u32>,
    port: u16,
    root: String,
}

impl Nginx {
    fn start(processes: &Processes) -> Result<Self> {
        let (port, root) = (free_port()?, processes.path("www"));
        fs::create_dir_all(&root)?;
        let prefix = processes.path("nginx");
        fs::create_dir_all(&prefix)?;
        // The folder is its owner's alone, so a worker of another user could not read it; nginx ignores `user` unless run by root.
        let config = format!(
            "daemon off; worker_processes 1; pid {prefix}/pid; error_log {prefix}/error; user root;\n\
             events {{ worker_connections 1024; }}\n\
             http {{ sendfile on; tcp_nopush on; keepalive_requests 100000000; open_file_cache max=100;\n\
             access_log {prefix}/access; server {{ listen 127.0.0.1:{port}; root {root}; }} }}\n"
        );
        let file = format!("{prefix}/nginx.conf");
        fs::write(&file, config)?;
        let nginx = ["/usr/sbin/nginx", "nginx"].into_iter().find(|path| Command::new(path).arg("-v").output().is_ok());
        let nginx = nginx.context("nginx is not there; it is in Debian's nginx-light")?;
        let child = Command::new(nginx).args(["-p", &prefix, "-c", &file]).stdin(Stdio::null()).spawn()?;
        let mut it = Self { pids: vec![child.id()], child, port, root };
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            ensure!(Instant::now() < deadline, "nginx does not listen");
            thread::park_timeout(Duration::from_millis(20));
        }
        let master = it.child.id();
        let workers = fs::read_to_string(format!("/proc/{master}/task/{master}/children"))?;
        it.pids.extend(workers.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        Ok(it)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // SIGTERM would be kinder, but needs a crate; the workers end with their master's socket.
        for pid in &self.pids {
            let _ = Command::new("kill").arg(pid.to_string()).status();
        }
        let _ = self.child.wait();
    }
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(next).take(length).collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
