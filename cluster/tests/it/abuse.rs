//! Denial of service on the door of a real edge: connections that send or take one byte a second (slowloris), streams
//! that are reset at once (rapid reset). Every request of other viewers has its exact answer meanwhile, and memory is
//! bounded. The latencies are printed, for bench/results/floods.md. Amplification by ranges is tested in
//! edge/tests/it/amplification.rs.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use cluster::processes::{ProcessOptions, Processes, Seat, StoredFile, peak_kib};
use reqwest::{Client, StatusCode, Url};
use testing::noise_of;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    runtime::{Builder, Runtime},
    time::{sleep, timeout},
};

use crate::load::{DEADLINE, start, until};

/// The only edge, behind all origins.
const EDGE: usize = 6;
/// How much more memory an edge may use during a flood than before, in KiB.
const FLOOD_KIB_MAX: u64 = 256 * 1024;

/// How many answers a viewer gets before a flood, and during it: the slowest ten of them are beyond the 99th.
const ANSWERS: usize = 1000;

/// An honest viewer asks for the same object again and again, each time on a new connection. It runs on its own thread,
/// so that it does not measure the flood's own work.
struct Viewer {
    is_over: Arc<AtomicBool>,
    answers: Arc<AtomicUsize>,
    asks: JoinHandle<Vec<Duration>>,
}

impl Viewer {
    fn start(edge: SocketAddr, stored: &StoredFile, bytes: usize) -> Self {
        let url: Url = stored.url.parse().unwrap();
        let (is_over, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (over, answered) = (Arc::clone(&is_over), Arc::clone(&answers));
        let ask = async move {
            let builder = Client::builder().pool_max_idle_per_host(0).timeout(DEADLINE);
            let client = builder.resolve(url.host_str().unwrap(), edge).build().unwrap();
            let mut took = Vec::new();
            while !over.load(Ordering::Relaxed) {
                let begun = Instant::now();
                let answer = client.get(url.clone()).send().await.unwrap();
                assert_eq!(answer.status(), StatusCode::OK);
                assert_eq!(answer.bytes().await.unwrap().len(), bytes);
                took.push(begun.elapsed());
                answered.fetch_add(1, Ordering::Relaxed);
                sleep(Duration::from_millis(2)).await;
            }
            took
        };
        let asks = thread::spawn(|| Builder::new_current_thread().enable_all().build().unwrap().block_on(ask));
        Self { is_over, answers, asks }
    }

    /// Returns whether it has this many answers. Panics when one of its requests has failed.
    fn has(&self, answers: usize) -> bool {
        assert!(!self.asks.is_finished(), "a viewer was not served: its error stands above");
        self.answers.load(Ordering::Relaxed) >= answers
    }

    /// Ends, and returns the latencies of the requests, shortest first.
    async fn end(self) -> Vec<Duration> {
        self.is_over.store(true, Ordering::Relaxed);
        let mut took = tokio::task::spawn_blocking(|| self.asks.join().unwrap()).await.unwrap();
        took.sort_unstable();
        took
    }
}

/// Says how long answers took, and returns the 99th of a hundred.
fn say(what: &str, took: &[Duration]) -> Duration {
    let at = |percent: usize| took[(took.len() * percent / 100).min(took.len() - 1)];
    println!("{what}: {} requests, median {:?}, 99th of a hundred {:?}", took.len(), at(50), at(99));
    at(99)
}

async fn scene() -> (Processes, StoredFile) {
    // The edge starts with the low limit of open files that a shell sets.
    let launch = ["prlimit", "--nofile=1024:16384"].map(str::to_owned).to_vec();
    let mut seats = vec![Seat::default(); EDGE];
    seats.push(Seat { launch, ..Seat::default() });
    let processes = start(ProcessOptions { seats, ..ProcessOptions::default() }).await;
    let file = processes.path("a.bin");
    fs::write(&file, [7; 1024]).unwrap();
    let stored = processes.put(&file).unwrap();
    (processes, stored)
}

/// Measures the latency without a flood, and returns the 99th of a hundred.
async fn in_peace(edge: SocketAddr, stored: &StoredFile) -> Duration {
    let viewer = Viewer::start(edge, stored, 1024);
    until("answers in peace", async || viewer.has(ANSWERS)).await;
    say("in peace", &viewer.end().await)
}

/// The threads of whoever floods. They have what the edge and the viewer leave of the cores, as if they were elsewhere.
/// What runs there is aborted when this is dropped.
struct Crowd(Option<Runtime>);

impl Crowd {
    fn gather() -> Self {
        let give_way = || {
            let thread = fs::read_link("/proc/thread-self").unwrap();
            let chrt = Command::new("chrt").args(["--idle", "--pid", "0"]).arg(thread.file_name().unwrap()).status();
            assert!(chrt.unwrap().success(), "sched(7): SCHED_IDLE");
        };
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().on_thread_start(give_way).build();
        Self(Some(runtime.unwrap()))
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.as_ref().unwrap().spawn(task);
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.0.take().unwrap().shutdown_background();
    }
}

/// Opens a connection from one of many addresses of loopback, which has the system take little ahead.
async fn connect(edge: SocketAddr, number: usize) -> io::Result<TcpStream> {
    let [_, _, high, low] = u32::try_from(number / 100).unwrap().to_be_bytes();
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(4096)?;
    socket.bind((Ipv4Addr::new(127, 77, high, low), 0).into())?;
    socket.connect(edge).await
}

/// What was opened, and the bytes that were sent or taken over that.
#[derive(Default)]
struct Tally {
    opened: AtomicUsize,
    bytes: AtomicUsize,
}

/// Sends a byte of a header each second, until the edge closes the connection.
async fn send_slowly(mut stream: TcpStream, tally: &Tally) -> io::Result<()> {
    for byte in b"GET / HTTP/1.1\r\nHost: nobody.example\r\nx-a: aaaaaaaaaaaaaaaaaaaaaaaaa" {
        stream.write_all(&[*byte]).await?;
        tally.bytes.fetch_add(1, Ordering::Relaxed);
        sleep(Duration::from_secs(1)).await;
    }
    Ok(())
}

/// Takes a byte of an answer each second, until the edge closes the connection.
async fn take_slowly(mut stream: TcpStream, host: &str, tally: &Tally) -> io::Result<()> {
    stream.write_all(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).await?;
    loop {
        stream.read_u8().await?;
        tally.bytes.fetch_add(1, Ordering::Relaxed);
        sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_that_drip_keep_nobody_out() {
    const DRIPS: usize = 10_000;
    let me = ["--pid", &std::process::id().to_string(), "--nofile=16384:"];
    assert!(Command::new("prlimit").args(me).status().unwrap().success(), "`ulimit -Hn` is at least 16384");
    let (mut processes, stored) = scene().await;
    let large = processes.path("large.bin");
    fs::write(&large, noise_of(1, 64 * 1024)).unwrap();
    let host: Arc<str> = processes.put(&large).unwrap().authority.into();
    let edge = processes.address(EDGE);
    let peace = in_peace(edge, &stored).await;
    let before = peak_kib(processes.pid(EDGE).unwrap()).unwrap();

    // There are more connections than the door has places for. Of ten, nine send a byte of their header a second, and
    // one takes a byte of its answer. A connection that is closed is opened again.
    let (crowd, tally) = (Crowd::gather(), Arc::<Tally>::default());
    for number in 0..DRIPS {
        let (tally, host) = (Arc::clone(&tally), Arc::clone(&host));
        crowd.spawn(async move {
            sleep(Duration::from_secs(1).mul_f64(number as f64 / DRIPS as f64)).await;
            loop {
                let Ok(stream) = connect(edge, number).await else {
                    sleep(Duration::from_secs(1)).await;
                    continue;
                };
                tally.opened.fetch_add(1, Ordering::Relaxed);
                // However it ends, it comes again.
                let _ = match number % 10 {
                    0 => take_slowly(stream, &host, &tally).await,
                    _ => send_slowly(stream, &tally).await,
                };
            }
        });
    }
    let opened = || tally.opened.load(Ordering::Relaxed);
    until("all drip", async || opened() >= DRIPS).await;
    let (begun, bytes) = (Instant::now(), tally.bytes.load(Ordering::Relaxed));
    let viewer = Viewer::start(edge, &stored, 1024);
    // This goes on until connections that the edge closed were opened again.
    let goes_on = async || viewer.has(ANSWERS) && opened() >= DRIPS + DRIPS / 2;
    until("answers while ten thousand drip", goes_on).await;
    let dripped = say("while ten thousand drip", &viewer.end().await);
    let rate = (tally.bytes.load(Ordering::Relaxed) - bytes) as f64 / begun.elapsed().as_secs_f64();
    drop(crowd);
    let after = peak_kib(processes.pid(EDGE).unwrap()).unwrap();
    println!("the 99th is {:.2} times that in peace", dripped.div_duration_f64(peace));
    println!("{} connections dripped {rate:.0} bytes a second; the edge took {} KiB more", opened(), after - before);
    assert!(after - before < FLOOD_KIB_MAX, "{before} KiB before, {after} KiB after");
}

/// A frame of HTTP/2 (RFC 9113 section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_streams_reset_at_once_keep_nobody_out() {
    const RESETS: u32 = 100_000;
    let (mut processes, stored) = scene().await;
    let edge = processes.address(EDGE);
    in_peace(edge, &stored).await;
    let before = peak_kib(processes.pid(EDGE).unwrap()).unwrap();
    let viewer = Viewer::start(edge, &stored, 1024);

    // The request is `GET /` over http by indices of HPACK's static table, with the authority as a literal (RFC 7541
    // appendix A, section 6.2.2).
    let authority = stored.authority.as_bytes();
    let fields = [&[0x82, 0x86, 0x84, 0x01, u8::try_from(authority.len()).unwrap()], authority].concat();
    let (mut sent, mut connections) = (0, 0);
    let begun = Instant::now();
    while sent < RESETS || !viewer.has(ANSWERS) {
        assert!(begun.elapsed() < 2 * DEADLINE, "{sent} streams were reset");
        let stream = TcpStream::connect(edge).await.expect("the edge runs");
        connections += 1;
        let (mut from, mut to) = stream.into_split();
        to.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        let _ = to.write_all(&frame(4, 0, 0, &[])).await;
        let reading = tokio::spawn(async move { tokio::io::copy(&mut from, &mut tokio::io::sink()).await });
        // One write has 50 streams. This repeats until the edge closes the connection.
        let mut stream = 1;
        while !reading.is_finished() {
            let mut batch = Vec::new();
            for _ in 0..50 {
                batch.extend(frame(1, 0x05, stream, &fields));
                batch.extend(frame(3, 0, stream, &8_u32.to_be_bytes()));
                stream += 2;
            }
            if to.write_all(&batch).await.is_err() {
                break;
            }
            sent += 50;
        }
        drop(to);
        let _ = timeout(DEADLINE, reading).await.expect("the edge ends the connection");
    }
    say("while streams are reset", &viewer.end().await);
    let after = peak_kib(processes.pid(EDGE).unwrap()).unwrap();
    println!("{sent} streams reset over {connections} connections; the edge took {} KiB more", after - before);
    assert!(after - before < FLOOD_KIB_MAX, "{before} KiB before, {after} KiB after");
}
