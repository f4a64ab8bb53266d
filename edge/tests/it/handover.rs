//! An edge that makes way for a successor, both in this process. Two processes, under load:
//! cluster/tests/it/handover.rs.

use std::{
    io::ErrorKind,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use edge::config::DiskConfig;
use http::Method;
use testing::{noise_of, until};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{
    http3,
    https::{host, start_with},
    neighbour::{self, Neighbour},
    site::{DEADLINE, Site},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_takes_over_every_port_and_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cache");
    let change = move |config: &mut edge::Config| {
        config.cache.disk = Some(DiskConfig { path, bytes_max: 64 << 20 });
        config.peers = Some(neighbour::peers());
    };
    let (_dir, https, mut first) = start_with(false, change.clone()).await;
    let stored = first.store("clip.mp4", "video/mp4", noise_of(3, 600_000)).await;
    for _ in 0..2 {
        assert_eq!(first.get(&stored, "/", &[]).await.body(), stored.bytes);
    }
    until("the disk has it", async || first.counter("evernear_edge_disk_writes_total").await > 0).await;
    let viewer = http3::viewer(&https, &first, &stored).await;
    assert_eq!(viewer.ask(Method::GET, "/", &[]).await.body, stored.bytes);

    assert!(Neighbour::of(&first, "edge-bru").is_answered().await);

    let given = https.clone();
    let second = first
        .successor(|config| {
            change(config);
            config.https = Some(given);
            config.name = "edge-next".parse().unwrap();
        })
        .await;
    let addresses = |site: &Site| {
        let edge = &site.edge;
        (edge.dns, edge.http, edge.https, edge.admin, edge.peers)
    };
    assert_eq!(addresses(&first), addresses(&second));
    assert_eq!(viewer.ask(Method::GET, "/", &[]).await.body, stored.bytes, "the first has the port of HTTP/3 still");
    drop(viewer);
    first.stop().await;

    let named = |says: &str| Some(format!("\"edge-next\"; {says}"));
    let disk_is_there = async || {
        let answer = second.get(&stored, "/", &["-I"]).await;
        answer.field("cache-status").map(str::to_owned) == named("hit; detail=disk")
    };
    until("the disk is taken over", disk_is_there).await;
    let got = second.get(&stored, "/", &[]).await;
    assert_eq!(
        (got.field("cache-status").map(str::to_owned), got.body() == stored.bytes),
        (named("hit; detail=disk"), true)
    );
    let secure = second.curl_secure(&host(&stored), "/", &["-k"]).await;
    assert_eq!(secure.body(), stored.bytes);
    let dig = second.dig(&["A", &host(&stored)]).await;
    assert!(dig.contains("127.0.0.1"), "{dig}");
    assert!(second.metrics().await.contains("evernear_edge_"));
    // By its own certificate, so it was not the first who answered.
    assert!(Neighbour::of(&second, "edge-next").is_answered().await, "other edges reach it where they did the first");
    let viewer = http3::viewer(&https, &second, &stored).await;
    assert_eq!(viewer.ask(Method::GET, "/", &[]).await.body, stored.bytes);
    drop(viewer);
    second.stop().await;
}

/// How far viewers are.
#[derive(Default)]
struct Load {
    done: AtomicBool,
    answers: AtomicUsize,
}

/// Asks on one connection after another until told to stop; returns how many answers came and how many connections it
/// took.
async fn ask_on(at: SocketAddr, host: String, body: Vec<u8>, load: Arc<Load>) -> (usize, usize) {
    let (mut answers, mut connections) = (0, 0);
    while !load.done.load(Ordering::Relaxed) {
        let mut stream = TcpStream::connect(at).await.unwrap();
        connections += 1;
        loop {
            stream.write_all(format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n").as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            while !answer.ends_with(&body) {
                let read = timeout(DEADLINE, stream.read_buf(&mut answer)).await.unwrap().unwrap();
                assert_ne!(read, 0, "cut: {}", String::from_utf8_lossy(&answer));
            }
            answers += 1;
            load.answers.fetch_add(1, Ordering::Relaxed);
            let head = String::from_utf8_lossy(&answer).to_lowercase();
            assert!(head.starts_with("http/1.1 200"), "{head}");
            if head.contains("\r\nconnection: close\r\n") || load.done.load(Ordering::Relaxed) {
                break;
            }
        }
    }
    (answers, connections)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_is_lost_and_a_connection_is_told_that_it_ends() {
    let mut edge = Site::start().await;
    let stored = edge.store("a.txt", "text/plain", b"What is asked is answered.".to_vec()).await;
    let load = Arc::new(Load::default());
    let http = edge.edge.http;
    let ask = |_| tokio::spawn(ask_on(http, host(&stored), stored.bytes.clone(), Arc::clone(&load)));
    let viewers: Vec<_> = (0..8).map(ask).collect();
    // Opened before, silent while the edge makes way, and asked on at once after.
    let mut silent = TcpStream::connect(http).await.unwrap();
    for _ in 0..5 {
        let before = load.answers.load(Ordering::Relaxed);
        until("the load goes on", async || load.answers.load(Ordering::Relaxed) > before + 100).await;
        let next = edge.successor(|_| {}).await;
        std::mem::replace(&mut edge, next).stop().await;
    }
    load.done.store(true, Ordering::Relaxed);
    for viewer in viewers {
        let (answers, connections) = viewer.await.unwrap();
        assert!(answers > connections && connections > 3, "{answers} answers on {connections} connections");
    }
    let closed = timeout(DEADLINE, silent.read(&mut [0; 1])).await.unwrap();
    assert!(matches!(&closed, Ok(0)) || closed.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
    edge.stop().await;
    let refused = TcpStream::connect(http).await;
    assert!(refused.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused), "nobody holds the queue open");
}
