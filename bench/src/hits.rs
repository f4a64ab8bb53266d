//! CPU time per cached request of the edge, beside Debian's nginx, h2o, Varnish and, over HTTP/3, Caddy: on the same
//! machine, in the same run, interleaved, with one core for servers and one for the client.

use std::{
    fmt::Write as _,
    fs, iter,
    net::{Ipv4Addr, SocketAddr},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use cluster::processes::{ProcessOptions, Processes, Seat, read_stored};
use testing::{free_port, noise, noise_of};

use crate::{
    load::{Load, Way},
    machine,
    peers::{Certificate, FileServer, Varnish, on_server_core},
};

const ROUNDS: usize = 5;
const CONNECTIONS: u32 = 16;
const CLIENT_CORE: &str = "1";
const PEERS: [&str; 4] = ["nginx", "h2o", "Varnish", "Caddy"];
/// Index of the edge among the seats, after the origins, and of the one that has little memory and a disk.
const EDGE: usize = 6;
const EDGE_ON_DISK: usize = 7;
/// Files of 1 MiB that are asked for in turn, where a disk has them.
const FILES_ON_DISK: usize = 256;
const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

struct Case {
    name: &'static str,
    bytes: usize,
    way: Way,
    requests: u32,
    range: Option<(u64, u64)>,
    form: Form,
}

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Bytes that do not compress, like those of pictures, as they are.
    Noise,
    /// Lines of words, compressed: by the edge as zstd, when they were first asked for; for nginx by `gzip -9`, before
    /// it was started.
    Packed,
    /// Noise that the policy `geo` allows; its peers know no policy.
    Allowed,
    /// Files of a folder in turn, more than the edge's memory has room for: they come from its disk, as encrypted as
    /// origins have them. Its peers have them as files.
    OnDisk,
}

impl Case {
    const fn of(name: &'static str, bytes: usize, way: Way, requests: u32) -> Self {
        Self { name, bytes, way, requests, range: None, form: Form::Noise }
    }

    const fn packed(name: &'static str, bytes: usize, way: Way, requests: u32) -> Self {
        Self { form: Form::Packed, ..Self::of(name, bytes, way, requests) }
    }

    /// Returns the name of the file below the folder of the servers.
    fn file(&self) -> String {
        match self.form {
            Form::Noise => format!("{}.bin", self.bytes),
            Form::Packed => format!("text/{}.txt", self.bytes),
            Form::Allowed => format!("allowed/{}.bin", self.bytes),
            Form::OnDisk => "disk/0".to_owned(),
        }
    }
}

const CASES: [Case; 17] = [
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
    Case::packed("100 KiB of text as zstd (nginx: gzip), HTTP/1.1", 100 * KIB, Way::Clear, 20_000),
    Case::packed("100 KiB of text as zstd (nginx: gzip), HTTP/1.1, TLS", 100 * KIB, Way::Tls, 20_000),
    Case::packed("100 KiB of text as zstd (nginx: gzip), HTTP/2, TLS", 100 * KIB, Way::Streams, 20_000),
    Case { form: Form::Allowed, ..Case::of("1 KiB, policy geo, HTTP/1.1", KIB, Way::Clear, 60_000) },
    Case { form: Form::Allowed, ..Case::of("1 KiB, policy geo, HTTP/1.1, TLS", KIB, Way::Tls, 60_000) },
    Case { form: Form::OnDisk, ..Case::of("1 MiB of 256 on disk, HTTP/1.1", MIB, Way::Clear, 1_024) },
];

/// Measures the cases whose name contains `part` and returns the table.
pub(crate) fn run(part: &str) -> Result<String> {
    pin()?;
    let bench = Bench::start()?;

    let mut table = format!(
        "{}\n\nServers on one core, whoever asks on the other; {CONNECTIONS} connections; CPU of the server's processes, user and\n\
         system, microseconds per request; median of {ROUNDS} interleaved rounds.\n\
         Text: the edge sends zstd that it made itself, {} bytes, nginx what `gzip -9` made before, {} bytes (gzip_static).\n\n\
         | cached | edge | {} | {} |\n|---|---|{}\n",
        machine::describe(),
        bench.packed_bytes[0],
        bench.packed_bytes[1],
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
    edge_on_disk: [u32; 1],
    certificate: Certificate,
    nginx: FileServer,
    h2o: FileServer,
    varnish: Varnish,
    caddy: FileServer,
    /// The host name of each content at the edge, by the name of its file.
    hosts: Vec<(String, String)>,
    /// The bytes of the text as the edge and as nginx send it.
    packed_bytes: [u64; 2],
    /// Files with the URLs of what lies on disk, by the port of their server.
    lists: Vec<(u16, String)>,
}

impl Bench {
    fn start() -> Result<Self> {
        let mut seats = vec![Seat::default(); EDGE];
        seats.resize(EDGE_ON_DISK + 1, Seat { launch: on_server_core(), ..Seat::default() });
        let mut processes = Processes::start(&ProcessOptions { seats, edges: 2, ..ProcessOptions::default() })?;
        let root = processes.path("www");
        ["text", "allowed", "disk"].iter().try_for_each(|folder| fs::create_dir_all(format!("{root}/{folder}")))?;
        let geo = processes.path("geo.toml");
        fs::write(&geo, "[[link]]\nuse = \"geo\"\nreceive-deny = [\"JP\"]\n")?;
        processes.evernear(&["policy", "publish", "bench-geo", &geo])?;
        let mut hosts: Vec<(String, String)> = Vec::new();
        for case in &CASES {
            let (name, file) = (case.file(), format!("{root}/{}", case.file()));
            if hosts.iter().any(|(held, _)| *held == name) {
                continue;
            }
            let url = match case.form {
                Form::OnDisk => {
                    for number in 0..FILES_ON_DISK {
                        fs::write(format!("{root}/disk/{number}"), noise_of(number as u64, case.bytes))?;
                    }
                    processes.put(&format!("{root}/disk"))?.url
                }
                Form::Allowed => {
                    fs::write(&file, noise(case.bytes))?;
                    read_stored(&processes.evernear(&["put", &file, "--policy", "bench-geo", "--json"])?)?.url
                }
                Form::Noise => {
                    fs::write(&file, noise(case.bytes))?;
                    processes.put(&file)?.url
                }
                Form::Packed => {
                    fs::write(&file, text(case.bytes))?;
                    let packed = Command::new("gzip").args(["-9", "--keep", &file]).status()?;
                    ensure!(packed.success(), "gzip: {packed}");
                    processes.put(&file)?.url
                }
            };
            let host = url.split(['/', ':']).nth(3).context("a URL has a host")?;
            hosts.push((name, host.to_owned()));
        }
        let certificate = Certificate::make(|name| processes.path(name), hosts.iter().map(|(_, host)| &**host))?;
        let edge_tls = over_tls(&mut processes, &certificate)?;
        with_a_disk(&mut processes)?;
        let nginx = FileServer::nginx(&processes.path("nginx"), &certificate, &root)?;
        let h2o = FileServer::h2o(&processes, &certificate, &root)?;
        let varnish = Varnish::start(&processes, nginx.port)?;
        let caddy = FileServer::caddy(&processes, &certificate, &root)?;
        let (edge, edge_on_disk) = ([processes.pid(EDGE)?], [processes.pid(EDGE_ON_DISK)?]);
        let (file, host) = hosts.iter().find(|(file, _)| file.ends_with(".txt")).context("a text is stored")?;
        let packed_bytes = [
            sent_bytes(&format!("http://{host}:{}/", processes.http.port()), processes.http, "zstd")?,
            sent_bytes(&format!("http://localhost:{}/{file}", nginx.port), at(nginx.port), "gzip")?,
        ];
        let mut it = Self {
            processes,
            edge,
            edge_tls,
            edge_on_disk,
            certificate,
            nginx,
            h2o,
            varnish,
            caddy,
            hosts,
            packed_bytes,
            lists: Vec::new(),
        };
        it.lists = it.write_lists()?;
        Ok(it)
    }

    /// Writes the URLs of what lies on disk, for each server of unencrypted HTTP.
    fn write_lists(&self) -> Result<Vec<(u16, String)>> {
        let host = self.hosts.iter().find(|(file, _)| file.starts_with("disk/")).map_or("", |(_, host)| host);
        let edge = self.processes.doors()[1].port();
        let peers = [self.nginx.port, self.h2o.port, self.varnish.port].map(|port| (port, "localhost", "disk/"));
        let write = |(port, host, folder): (u16, &str, &str)| {
            let list = self.processes.path(&format!("urls-{port}"));
            let urls = (0..FILES_ON_DISK).map(|number| format!("http://{host}:{port}/{folder}{number}\n"));
            fs::write(&list, urls.collect::<String>())?;
            Ok((port, list))
        };
        iter::once((edge, host, "")).chain(peers).map(write).collect()
    }

    /// Returns the edge, and those of its peers that support this protocol.
    fn servers<'a>(&'a self, case: &Case) -> (Load<'a>, [Option<Load<'a>>; PEERS.len()]) {
        let is_packed = case.form == Form::Packed;
        let lists = if case.form == Form::OnDisk { &self.lists[..] } else { &[] };
        let load = |host: &str, address: SocketAddr, path: &str, coding, pids: &'a [u32]| Load {
            way: case.way,
            url: format!("{}{host}:{}/{path}", scheme(case.way), address.port()),
            connect_to: address,
            requests: case.requests,
            connections: CONNECTIONS,
            range: case.range,
            coding: is_packed.then_some(coding),
            list: lists.iter().find(|(port, _)| *port == address.port()).map(|(_, list)| &**list),
            pids,
            certificate: &self.certificate.file,
        };
        let file = case.file();
        let host = self.hosts.iter().find(|(held, _)| *held == file).map_or("", |(_, host)| host);
        let (is_clear, is_quic) = (case.way == Way::Clear, case.way == Way::Quic);
        let edge = match case.form {
            Form::OnDisk => load(host, self.processes.doors()[1], "", "zstd", &self.edge_on_disk),
            _ => load(host, if is_clear { self.processes.http } else { self.edge_tls }, "", "zstd", &self.edge),
        };
        let peer = |port, pids| load("localhost", at(port), &file, "gzip", pids);
        let files = |server: &'a FileServer| peer(if is_clear { server.port } else { server.tls_port }, server.pids());
        let peers = [
            (!is_quic).then(|| files(&self.nginx)),
            (!is_quic && !is_packed).then(|| files(&self.h2o)),
            (is_clear && !is_packed).then(|| peer(self.varnish.port, self.varnish.pids())),
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
        "[https]\nlisten = \"{address}\"\ncertificate = \"{file}\"\nkey = \"{key}\"\nredirect = false\n\n\
         [[places.prefix]]\nprefix = \"127.0.0.0/8\"\ncountry = \"BE\"\n\n[cache]\n"
    );
    processes.change_config(EDGE, "[cache]\n", &table)?;
    processes.kill_node(EDGE)?;
    processes.start_node(EDGE)?;
    Ok(address)
}

/// Gives the other edge a disk, and memory for a sixteenth of what lies there.
fn with_a_disk(processes: &mut Processes) -> Result<()> {
    let (memory, path) = (FILES_ON_DISK * MIB / 16, processes.path("disk"));
    let from = format!("block_bytes_max = {}\n", ProcessOptions::default().cache_bytes);
    let table = format!("block_bytes_max = {memory}\n[cache.disk]\npath = \"{path}\"\nbytes_max = 4294967296\n");
    processes.change_config(EDGE_ON_DISK, &from, &table)?;
    processes.kill_node(EDGE_ON_DISK)?;
    processes.start_node(EDGE_ON_DISK)?;
    Ok(())
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Returns lines of 256 words, which compress to a sixth or so.
fn text(bytes: usize) -> Vec<u8> {
    let words: Vec<String> =
        noise(3 * 256).chunks(3).map(|word| word.iter().map(|byte| format!("{byte:02x}")).collect()).collect();
    let chosen = noise(bytes).into_iter().zip(1..).map(|(word, number)| {
        let end = if number % 12 == 0 { '\n' } else { ' ' };
        format!("{}{end}", words[usize::from(word)])
    });
    chosen.flat_map(String::into_bytes).take(bytes).collect()
}

/// Asks twice for what goes out compressed, and returns the bytes that came the second time, when all of it is held.
fn sent_bytes(url: &str, address: SocketAddr, coding: &str) -> Result<u64> {
    let mut sent = String::new();
    for _ in 0..2 {
        let output = Command::new("curl")
            .args(["-sSf", "-o", "/dev/null", "-H", &format!("accept-encoding: {coding}")])
            .args(["-w", "%header{content-encoding} %{size_download}", "--connect-to", &format!("::{address}"), url])
            .output()
            .context("curl does not start; it is in Debian's curl")?;
        ensure!(output.status.success(), "{url}: {}", String::from_utf8_lossy(&output.stderr));
        sent = String::from_utf8(output.stdout)?;
    }
    let bytes = sent.strip_prefix(coding).with_context(|| format!("{url} does not come as {coding}: {sent}"))?;
    Ok(bytes.trim().parse()?)
}

fn scheme(way: Way) -> &'static str {
    if way == Way::Clear { "http://" } else { "https://" }
}

/// Returns the value in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
