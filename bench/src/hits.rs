//! CPU time per cached request of the edge, beside Debian's nginx, h2o, Varnish and, over HTTP/3, Caddy: on the same
//! machine, in the same run, interleaved, with one core for servers and one for the client.

use std::{
    fmt::Write as _,
    fs, iter,
    net::{Ipv4Addr, SocketAddr},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use cluster::processes::{ProcessOptions, Processes, Seat};
use testing::{free_port, noise};

use crate::{
    load::{Load, Way},
    machine,
    peers::{Certificate, FileServer, Varnish, on_server_core},
};

const ROUNDS: usize = 5;
const CONNECTIONS: u32 = 16;
const CLIENT_CORE: &str = "1";
const PEERS: [&str; 4] = ["nginx", "h2o", "Varnish", "Caddy"];
/// Index of the edge among the seats, after the origins.
const EDGE: usize = 6;
const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

struct Case {
    name: &'static str,
    bytes: usize,
    way: Way,
    requests: u32,
    range: Option<(u64, u64)>,
}

impl Case {
    const fn of(name: &'static str, bytes: usize, way: Way, requests: u32) -> Self {
        Self { name, bytes, way, requests, range: None }
    }
}

const CASES: [Case; 11] = [
    Case::of("1 KiB, HTTP/1.1", KIB, Way::Clear, 60_000),
    Case::of("100 KiB, HTTP/1.1", 100 * KIB, Way::Clear, 20_000),
    Case { range: Some((31_457_281, 32_505_856)), ..Case::of("1 MiB of 100, HTTP/1.1", 100 * MIB, Way::Clear, 2_000) },
    Case::of("100 MiB, HTTP/1.1", 100 * MIB, Way::Clear, 24),
    Case::of("1 KiB, HTTP/1.1, TLS", KIB, Way::Tls, 60_000),
    Case::of("100 KiB, HTTP/1.1, TLS", 100 * KIB, Way::Tls, 10_000),
    Case::of("1 KiB, HTTP/2, TLS", KIB, Way::Streams, 60_000),
    Case::of("100 KiB, HTTP/2, TLS", 100 * KIB, Way::Streams, 10_000),
    Case::of("handshake and 1 KiB, HTTP/2, TLS", KIB, Way::Handshake, 1_000),
    Case::of("1 KiB, HTTP/3", KIB, Way::Quic, 30_000),
    Case::of("100 KiB, HTTP/3", 100 * KIB, Way::Quic, 5_000),
];

/// Measures the cases whose name contains `part` and returns the table.
pub(crate) fn run(part: &str) -> Result<String> {
    pin()?;
    let bench = Bench::start()?;

    let mut table = format!(
        "{}\n\nServers on one core, whoever asks on the other; {CONNECTIONS} connections; CPU of the server's processes, user and\n\
         system, microseconds per request; median of {ROUNDS} interleaved rounds.\n\n\
         | cached | edge | {} | {} |\n|---|---|{}\n",
        machine::describe(),
        PEERS.join(" | "),
        PEERS.map(|peer| format!("edge / {peer}")).join(" | "),
        "---|".repeat(2 * PEERS.len()),
    );
    let cases: Vec<&Case> = CASES.iter().filter(|case| case.name.contains(part)).collect();
    ensure!(!cases.is_empty(), "no case has `{part}` in its name");
    for case in cases {
        let (edge, peers) = bench.servers(case);
        let servers: Vec<&Load<'_>> = iter::once(&edge).chain(peers.iter().flatten()).collect();
        // The first pass fills the caches of all servers.
        for server in &servers {
            server.run()?;
        }
        let mut rounds = vec![Vec::new(); servers.len()];
        for _ in 0..ROUNDS {
            for (server, rounds) in servers.iter().zip(&mut rounds) {
                rounds.push(server.run()?);
            }
        }
        let mut medians = rounds.into_iter().map(median);
        let ours = medians.next().context("the edge was measured")?;
        let peers = peers.each_ref().map(|peer| peer.as_ref().and_then(|_| medians.next()));
        let cell = |value: Option<f64>, decimals| value.map_or("-".to_owned(), |value| format!("{value:.decimals$}"));
        let row = [case.name.to_owned(), cell(Some(ours), 1)].into_iter();
        let row = row.chain(peers.iter().map(|peer| cell(*peer, 1)));
        let row: Vec<String> = row.chain(peers.iter().map(|peer| cell(peer.map(|peer| ours / peer), 2))).collect();
        writeln!(table, "| {} |", row.join(" | "))?;
        eprintln!("| {} |", row.join(" | "));
    }
    Ok(table)
}

/// Keeps this process, and every one that it starts except servers, to the core of whoever asks.
pub(crate) fn pin() -> Result<()> {
    let me = std::process::id().to_string();
    let pinned = Command::new("taskset").args(["-cp", CLIENT_CORE, &me]).output()?;
    ensure!(pinned.status.success(), "taskset: {}", String::from_utf8_lossy(&pinned.stderr));
    Ok(())
}

/// The servers, and what was stored with each.
struct Bench {
    processes: Processes,
    edge: [u32; 1],
    edge_tls: SocketAddr,
    certificate: Certificate,
    nginx: FileServer,
    h2o: FileServer,
    varnish: Varnish,
    caddy: FileServer,
    /// The host name of each content at the edge, by its length.
    hosts: Vec<(usize, String)>,
}

impl Bench {
    fn start() -> Result<Self> {
        let mut seats = vec![Seat::default(); EDGE];
        seats.push(Seat { launch: on_server_core(), ..Seat::default() });
        let mut processes = Processes::start(&ProcessOptions { seats, ..ProcessOptions::default() })?;
        let root = processes.path("www");
        fs::create_dir_all(&root)?;
        let mut hosts = Vec::new();
        for bytes in [KIB, 100 * KIB, 100 * MIB] {
            // The bytes do not compress, like those of pictures.
            let file = format!("{root}/{bytes}.bin");
            fs::write(&file, noise(bytes))?;
            let url = processes.put(&file)?.url;
            let host = url.split(['/', ':']).nth(3).context("a URL has a host")?;
            hosts.push((bytes, host.to_owned()));
        }
        let certificate = Certificate::make(|name| processes.path(name), hosts.iter().map(|(_, host)| &**host))?;
        let edge_tls = over_tls(&mut processes, &certificate)?;
        let nginx = FileServer::nginx(&processes.path("nginx"), &certificate, &root)?;
        let h2o = FileServer::h2o(&processes, &certificate, &root)?;
        let varnish = Varnish::start(&processes, nginx.port)?;
        let caddy = FileServer::caddy(&processes, &certificate, &root)?;
        let edge = [processes.edge_pid()];
        Ok(Self { processes, edge, edge_tls, certificate, nginx, h2o, varnish, caddy, hosts })
    }

    /// Returns the edge, and those of its peers that support this protocol.
    fn servers<'a>(&'a self, case: &Case) -> (Load<'a>, [Option<Load<'a>>; PEERS.len()]) {
        let load = |host: &str, address: SocketAddr, path: &str, pids: &'a [u32]| Load {
            way: case.way,
            url: format!("{}{host}:{}/{path}", scheme(case.way), address.port()),
            connect_to: address,
            requests: case.requests,
            connections: CONNECTIONS,
            range: case.range,
            pids,
            certificate: &self.certificate.file,
        };
        let host = self.hosts.iter().find(|(bytes, _)| *bytes == case.bytes).map_or("", |(_, host)| host);
        let (is_clear, is_quic) = (case.way == Way::Clear, case.way == Way::Quic);
        let edge = load(host, if is_clear { self.processes.http } else { self.edge_tls }, "", &self.edge);
        let peer = |port, pids| {
            load("localhost", SocketAddr::from((Ipv4Addr::LOCALHOST, port)), &format!("{}.bin", case.bytes), pids)
        };
        let files = |server: &'a FileServer| peer(if is_clear { server.port } else { server.tls_port }, server.pids());
        let peers = [
            (!is_quic).then(|| files(&self.nginx)),
            (!is_quic).then(|| files(&self.h2o)),
            is_clear.then(|| peer(self.varnish.port, self.varnish.pids())),
            is_quic.then(|| files(&self.caddy)),
        ];
        (edge, peers)
    }
}

/// Enables TLS and HTTP/3 at the edge beside unencrypted HTTP, and returns the address.
fn over_tls(processes: &mut Processes, certificate: &Certificate) -> Result<SocketAddr> {
    let address = SocketAddr::new(processes.http.ip(), free_port());
    let Certificate { file, key } = certificate;
    let table = format!(
        "[https]\nlisten = \"{address}\"\ncertificate = \"{file}\"\nkey = \"{key}\"\nredirect = false\n\n[cache]\n"
    );
    processes.change_config(EDGE, "[cache]\n", &table)?;
    processes.kill_node(EDGE)?;
    processes.start_node(EDGE)?;
    Ok(address)
}

fn scheme(way: Way) -> &'static str {
    if way == Way::Clear { "http://" } else { "https://" }
}

/// Returns the value in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
