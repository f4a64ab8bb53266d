//! Requests that a worker answers by itself: from the bytes it read to what it keeps ready.

use std::time::Duration;

use format::PolicyName;
use testing::{noise_of, until};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::site::{Site, Stored};

const DEADLINE: Duration = Duration::from_secs(20);

/// Sends bytes on one connection, says that no more come, and returns all that comes back.
async fn said(site: &Site, sent: &str) -> String {
    let mut stream = TcpStream::connect(site.edge.http).await.unwrap();
    stream.write_all(sent.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    timeout(DEADLINE, stream.read_to_end(&mut answer)).await.expect("the edge closes").unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

fn host(stored: &Stored) -> String {
    format!("{}.evernear.example", stored.label)
}

/// Whether the answer was ready: one that was made says how long its parts took.
async fn is_ready(site: &Site, stored: &Stored) -> bool {
    let answer = site.get(stored, "/", &[]).await;
    assert_eq!((answer.status(), answer.body()), (200, &*stored.bytes));
    let control = answer.field("cache-control").unwrap();
    assert!(control.contains("immutable") && answer.field("etag").is_some() && answer.field("date").is_some());
    answer.field("server-timing").is_none()
}

async fn until_ready(site: &Site, stored: &Stored) {
    // Connections go to the workers in turn, and each has its own answers.
    until("two answers that were ready", async || is_ready(site, stored).await && is_ready(site, stored).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_again_is_ready_until_its_owner_takes_it_back() {
    let site = Site::with(|config| config.http.workers = Some(1), vec![]).await;
    let small = site.store("a.txt", "text/plain", b"small".to_vec()).await;
    let block = site.store("b.bin", "application/octet-stream", noise_of(1, 90_000)).await;
    // In two blocks, so it is made each time.
    let two = site.store("c.bin", "application/octet-stream", noise_of(2, 200_000)).await;
    for _ in 0..3 {
        assert!(!is_ready(&site, &two).await);
    }
    for stored in [&small, &block] {
        until_ready(&site, stored).await;
        let head = site.get(stored, "/", &["-I", "-o", "/dev/null"]).await;
        assert_eq!(head.status(), 200);
        assert_eq!(head.field("content-length"), Some(&*stored.bytes.len().to_string()));
        assert!(head.field("server-timing").is_none());
        let tag = head.field("etag").unwrap().to_owned();
        let unchanged = site.get(stored, "/", &["-H", &format!("if-none-match: {tag}")]).await;
        assert_eq!(unchanged.status(), 304);
        let part = site.get(stored, "/", &["-r", "1-3"]).await;
        assert_eq!((part.status(), part.body()), (206, &stored.bytes[1..4]));
    }
    let metrics = site.metrics().await;
    assert!(metrics.contains("http_answers_total{status=\"200\",cache=\"hit\"}"), "{metrics}");
    for stored in [&small, &block] {
        site.put_lease(&site.lease(&stored.sealed, &PolicyName::default(), 2, true)).await;
        until("the erasure", async || site.get(stored, "/", &[]).await.status() == 410).await;
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_on_a_connection_is_answered_in_its_order_whoever_reads_it() {
    let site = Site::start().await;
    let stored = site.store("a.txt", "text/plain", b"small".to_vec()).await;
    let host = host(&stored);
    let get = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let last = format!("GET /last HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let answers = said(&site, &format!("{get}{get}{last}")).await;
    assert_eq!(answers.matches("HTTP/1.1 200 OK\r\n").count(), 3, "{answers}");
    assert_eq!(answers.matches("\r\n\r\nsmall").count(), 3, "{answers}");
    assert_eq!(answers.matches("connection: close").count(), 1, "{answers}");
    // One that is not common goes to pingora, and the connection with it.
    let options = format!("OPTIONS / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let answers = said(&site, &format!("{get}{options}")).await.to_lowercase();
    assert!(answers.starts_with("http/1.1 200 ok") && answers.contains("small"), "{answers}");
    assert!(answers.contains("http/1.1 204"), "{answers}");
    // Also a short one that is wrong.
    for wrong in ["GET / HTTP/1.1\r\n\r\n", "GET /\r\n\r\n", "\x16\x03\x01\r\n\r\n"] {
        assert!(said(&site, wrong).await.starts_with("HTTP/1.1 400"), "{wrong:?}");
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_viewer_gets_the_last_byte() {
    let site = Site::start().await;
    let stored = site.store("a.bin", "application/octet-stream", noise_of(1, 3_000_300)).await;
    let mut stream = TcpStream::connect(site.edge.http).await.unwrap();
    let ask = format!("GET / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", host(&stored));
    stream.write_all(ask.as_bytes()).await.unwrap();
    let mut got = 0;
    let mut piece = vec![0; 200_000];
    let whole = timeout(DEADLINE, async {
        loop {
            let read = stream.read(&mut piece).await.unwrap();
            if read == 0 {
                return got;
            }
            got += read;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(whole.await.unwrap() > stored.bytes.len());
    site.stop().await;
}
