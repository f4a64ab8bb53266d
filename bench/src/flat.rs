//! Whether a cached answer costs the same however much an edge knows, and however many are connected; and what knowing
//! takes in memory.

use std::{cell::Cell, fmt::Write as _, fs, iter, net::SocketAddr};

use anyhow::{Context, Result, bail, ensure};
use cluster::processes::cpu_seconds;
use futures::future::try_join_all;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::{Builder, Runtime},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    hits::{median, pin},
    known::{Known, LARGEST_BYTES, OBJECT_BYTES, ZONE},
    machine,
    peers::{FileServer, on_server_core},
};

const ROUNDS: usize = 5;
/// Objects that are asked for over and over, where not all are.
const HOT: usize = 100;
/// Objects that an edge keeps open if its configuration says nothing.
const OPEN_MAX: usize = 65_536;
/// An object with the largest record counts as so many of these.
pub(crate) const LARGEST_PLACES: usize = 5;
const CONNECTIONS: usize = 16;
/// How much more a request may cost than where little is known and few are connected.
const RATIO_MAX: f64 = 1.3;

/// Measures up to so many names and connections, by so many requests each, and returns the tables.
pub(crate) fn run(names_max: usize, connections_max: usize, requests: u32) -> Result<String> {
    ensure!(names_max >= 1_000, "there are at least 1,000 names, not {names_max}");
    pin()?;
    let mut text = format!(
        "{}\n\nObjects of {OBJECT_BYTES} bytes, HTTP/1.1 in clear, one worker; the edge on one core, whoever asks on the other. CPU of\n\
         the edge, user and system, microseconds per request; median of {ROUNDS} rounds of {requests} requests. Names are told by the\n\
         change feed; of them as many as an edge keeps open, {OPEN_MAX} at most, are stored and open. Goal: no ratio above {RATIO_MAX}.\n\n",
        machine::describe()
    );
    let tens =
        |from: usize, to: usize| iter::successors(Some(from), |it| Some(it * 10)).take_while(move |it| *it <= to);
    let mut edge = Known::start(&on_server_core())?;
    let idle = resident_kib(edge.pid())?;
    let mut memory = format!(
        "| what the edge has | resident | more than before, each |\n|---|---|---|\n| nothing | {} MiB | |\n",
        idle >> 10
    );

    text +=
        "| names known | open | of 100, us | ratio | of all that are open, us | ratio |\n|---|---|---|---|---|---|\n";
    let (mut told, mut labels) = (0, Vec::new());
    let mut first = None;
    for names in tens(1_000, names_max) {
        let before = resident_kib(edge.pid())?;
        edge.tell((names - told) as u64)?;
        let after = resident_kib(edge.pid())?;
        row(&mut memory, &format!("{names} names told"), (before, after), (names - told) as u64)?;
        told = names;
        let more = names.min(OPEN_MAX) - labels.len();
        labels.extend(edge.store(more)?);
        let before = resident_kib(edge.pid())?;
        let every = asks(&labels);
        Viewers::open((edge.address, OBJECT_BYTES), &every, CONNECTIONS)?.ask(count(every.len()))?;
        if more > 0 {
            row(
                &mut memory,
                &format!("{} objects open", labels.len()),
                (before, resident_kib(edge.pid())?),
                more as u64,
            )?;
        }
        let to = (&[edge.pid()][..], edge.address);
        let hot = cost(to, &every[..HOT.min(every.len())], CONNECTIONS, requests)?;
        let all = cost(to, &every, CONNECTIONS, requests)?;
        let (hot_first, all_first) = *first.get_or_insert((hot, all));
        let (hot_ratio, all_ratio) = (hot / hot_first, all / all_first);
        writeln!(text, "| {names} | {} | {hot:.1} | {hot_ratio:.2} | {all:.1} | {all_ratio:.2} |", labels.len())?;
    }

    text += "\n| connections | of 100, us | ratio to 100 | nginx, us | ratio to 100 |\n|---|---|---|---|---|\n";
    let hot = asks(&labels[..HOT.min(labels.len())]);
    // One file, which it keeps open: how the cost of nginx grows with connections is that of the machine.
    fs::write(edge.path("file"), [7; OBJECT_BYTES])?;
    let nginx = FileServer::nginx(&edge.path("nginx"), edge.certificate(), &edge.path(""))?;
    let (beside, file) =
        ((nginx.pids(), nginx.address()), ["GET /file HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned()]);
    let mut costs = Vec::new();
    for connections in tens(1, connections_max).filter(|it| *it != 10) {
        let ours = cost((&[edge.pid()], edge.address), &hot, connections, requests)?;
        costs.push((connections, ours, cost(beside, &file, connections, requests)?));
    }
    let base = costs.iter().find(|it| it.0 == 100).or(costs.first()).map_or((1.0, 1.0), |it| (it.1, it.2));
    for (connections, ours, theirs) in costs {
        let (ratio, ratio_theirs) = (ours / base.0, theirs / base.1);
        writeln!(text, "| {connections} | {ours:.1} | {ratio:.2} | {theirs:.1} | {ratio_theirs:.2} |")?;
    }

    for (what, way) in [("HTTP/1.1", Waits::Plain), ("HTTP/2 over TLS", Waits::Streams)] {
        // A new one: what connections before took and gave back would be taken again.
        let mut edge = Known::start(&on_server_core())?;
        let hot = edge.store(HOT)?;
        Viewers::open((edge.address, OBJECT_BYTES), &asks(&hot), CONNECTIONS)?.ask(count(HOT))?;
        let grown = grown_by_connections(&edge, &hot, connections_max, way)?;
        row(&mut memory, &format!("{connections_max} connections of {what} that wait"), grown, connections_max as u64)?;
    }

    // The second time an edge of the usual configuration has to let go of as many as come.
    let mut edge = Known::start(&on_server_core())?;
    let largest = names_max.min(OPEN_MAX) / LARGEST_PLACES;
    for what in ["open", "asked for beside them"] {
        let labels = edge.store_largest(largest)?;
        let before = resident_kib(edge.pid())?;
        Viewers::open((edge.address, LARGEST_BYTES), &asks(&labels), CONNECTIONS)?.ask(count(largest))?;
        let what = format!("{largest} objects of the largest kind {what}");
        row(&mut memory, &what, (before, resident_kib(edge.pid())?), largest as u64)?;
    }
    writeln!(text, "\n{memory}")?;
    Ok(text)
}

/// Returns a request for each object.
fn asks(labels: &[String]) -> Vec<String> {
    labels.iter().map(|label| format!("GET / HTTP/1.1\r\nHost: {label}.{ZONE}\r\n\r\n")).collect()
}

fn row(table: &mut String, what: &str, (before, after): (u64, u64), each: u64) -> Result<()> {
    let more = after.saturating_sub(before) * 1024;
    writeln!(table, "| {what} | {} MiB | {} B |", after >> 10, more / each.max(1))?;
    Ok(())
}

/// Returns the CPU time that a server's processes take for a request, in microseconds.
fn cost((pids, server): (&[u32], SocketAddr), asks: &[String], connections: usize, requests: u32) -> Result<f64> {
    let mut viewers = Viewers::open((server, OBJECT_BYTES), asks, connections)?;
    // The first round fills what the edge keeps ready.
    viewers.ask(requests.max(count(asks.len())))?;
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let before = cpu_seconds(pids)?;
        viewers.ask(requests)?;
        rounds.push((cpu_seconds(pids)? - before) * 1e6 / f64::from(requests));
    }
    Ok(median(rounds))
}

/// Returns the edge's memory before and after so many connections were opened, each of which asked once and waits.
fn grown_by_connections(edge: &Known, labels: &[String], connections: usize, way: Waits) -> Result<(u64, u64)> {
    let before = resident_kib(edge.pid())?;
    match way {
        Waits::Plain => {
            let asks = asks(labels);
            let mut viewers = Viewers::open((edge.address, OBJECT_BYTES), &asks, connections)?;
            viewers.ask(count(connections))?;
            Ok((before, resident_kib(edge.pid())?))
        }
        Waits::Streams => {
            let waits = edge.trusting()?;
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let _open = runtime.block_on(async {
                let mut open = Vec::with_capacity(connections);
                for number in 0..connections {
                    open.push(over_streams(edge.https, &waits, &labels[number % labels.len()]).await?);
                }
                anyhow::Ok(open)
            })?;
            Ok((before, resident_kib(edge.pid())?))
        }
    }
}

/// What a connection speaks that waits.
#[derive(Debug, Clone, Copy)]
enum Waits {
    /// HTTP/1.1 in clear.
    Plain,
    /// HTTP/2 over TLS.
    Streams,
}

/// Asks once over HTTP/2 and TLS, and returns the connection.
async fn over_streams(edge: SocketAddr, tls: &TlsConnector, label: &str) -> Result<TlsStream<TcpStream>> {
    let host = format!("{label}.{ZONE}");
    let stream = TcpStream::connect(edge).await?;
    let mut stream = tls.connect(host.clone().try_into()?, stream).await?;
    // RFC 9113 sections 3.4 and 6; the request by indices of HPACK's static table, and its authority as a literal.
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        let length = u8::try_from(payload.len()).unwrap_or(u8::MAX);
        [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
    };
    let fields = [&[0x82, 0x87, 0x84, 0x01, u8::try_from(host.len())?], host.as_bytes()].concat();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    stream.write_all(&[&preface[..], &frame(4, 0, 0, &[]), &frame(1, 5, 1, &fields)].concat()).await?;
    let (mut read, mut piece) = (0, [0; 4096]);
    while read < OBJECT_BYTES {
        match stream.read(&mut piece).await? {
            0 => bail!("the edge closed a connection of HTTP/2 after {read} bytes"),
            more => read += more,
        }
    }
    Ok(stream)
}

/// Connections, all on one thread, that ask in turn for each object.
struct Viewers<'a> {
    runtime: Runtime,
    server: SocketAddr,
    /// Of the content of each answer.
    bytes: usize,
    streams: Vec<TcpStream>,
    /// The requests.
    asks: &'a [String],
    at: Cell<usize>,
}

impl<'a> Viewers<'a> {
    fn open((server, bytes): (SocketAddr, usize), asks: &'a [String], connections: usize) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let streams = runtime.block_on(async {
            let mut streams = Vec::with_capacity(connections);
            for _ in 0..connections {
                streams.push(TcpStream::connect(server).await.context("`ulimit -n` is over all connections")?);
            }
            anyhow::Ok(streams)
        })?;
        Ok(Self { runtime, server, bytes, streams, asks, at: Cell::new(0) })
    }

    /// Asks so often, over all connections.
    fn ask(&mut self, requests: u32) -> Result<()> {
        let Self { runtime, server, bytes, streams, asks, at } = self;
        let left = Cell::new(requests);
        let all = streams.iter_mut().map(async |stream| {
            let mut read = Vec::with_capacity(4096);
            while let Some(rest) = left.get().checked_sub(1) {
                left.set(rest);
                at.set((at.get() + 1) % asks.len());
                stream.write_all(asks[at.get()].as_bytes()).await?;
                if !is_kept(stream, &mut read, *bytes).await? {
                    *stream = TcpStream::connect(*server).await?;
                }
            }
            anyhow::Ok(())
        });
        runtime.block_on(try_join_all(all))?;
        Ok(())
    }
}

/// Reads an answer with so many bytes of content, and returns whether the connection goes on after it.
async fn is_kept(stream: &mut TcpStream, read: &mut Vec<u8>, bytes: usize) -> Result<bool> {
    read.clear();
    let end = loop {
        ensure!(stream.read_buf(read).await? > 0, "the edge closed the connection after {} bytes", read.len());
        if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
    };
    while read.len() < end + 4 + bytes {
        ensure!(stream.read_buf(read).await? > 0, "the edge closed the connection after {} bytes", read.len());
    }
    let head = String::from_utf8_lossy(&read[..end]);
    ensure!(head.starts_with("HTTP/1.1 200 ") && read.len() == end + 4 + bytes, "not one answer: {head}");
    Ok(!head.contains("connection: close"))
}

fn count(number: usize) -> u32 {
    number.try_into().unwrap_or(u32::MAX)
}

/// Returns the memory of a process, in KiB (proc(5), `VmRSS`).
fn resident_kib(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("status has VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
