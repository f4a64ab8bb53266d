//! A content whose middle cannot be had, over every version of HTTP: what was sent is exact, and no viewer takes it for
//! the whole.

use std::process::Output;

use bytes::Buf;
use client::ShardAsk;
use http::{Method, StatusCode};
use testing::noise_of;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
    time::timeout,
};

use crate::{
    http3::viewer,
    https::{host, start},
    site::{DEADLINE, Site, Stored},
};

const MIB: usize = 1 << 20;
/// Four columns of 256 KiB.
const STRIPE_BYTES: usize = MIB;
const BROKEN_STRIPE: u64 = 5;
/// All before the broken stripe, and nothing of it, may be sent.
const GOOD_BYTES: usize = 5 * STRIPE_BYTES;

/// Stores a file and breaks more columns of its sixth stripe than may be lost.
async fn store_broken(site: &Site) -> Stored {
    let stored = site.store("film.mp4", "video/mp4", noise_of(6, 8 * MIB)).await;
    let object = stored.sealed.public.id();
    let mut broken = 0;
    for node in &site.nodes {
        for column in 0..3 {
            let ask = ShardAsk { object, column, first: BROKEN_STRIPE, count: 1 };
            broken += u32::from(site.origins.flip(&node.name, ask, 77));
        }
    }
    assert_eq!(broken, 3, "each of three columns lies once");
    stored
}

/// What was received begins the content and does not reach into what cannot be had.
fn is_honest(stored: &Stored, received: &[u8]) {
    assert!(received.len() <= GOOD_BYTES && stored.bytes.starts_with(received), "{} bytes", received.len());
}

async fn nghttp(site: &Site, stored: &Stored, path: &str, more: &[&str]) -> String {
    let authority = format!(":authority: {}", host(stored));
    let url = format!("https://{}{path}", site.edge.https.unwrap());
    let asked = Command::new("nghttp").args(["-nv", "--timeout=20", "-H", &authority]).args(more).arg(url).output();
    let Output { stdout, .. } = timeout(DEADLINE, asked).await.unwrap().unwrap();
    String::from_utf8_lossy(&stdout).into_owned()
}

/// The frames that nghttp received, of one kind.
fn frames<'l>(log: &'l str, kind: &str) -> Vec<&'l str> {
    log.split("\n[").filter(|entry| entry.contains(&format!("] recv {kind} frame"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http_1_the_connection_closes_short_of_its_length() {
    let (_dir, _, site) = start(false).await;
    let stored = store_broken(&site).await;
    for keeps in ["keep-alive", "close"] {
        let mut stream = TcpStream::connect(site.edge.http).await.unwrap();
        let ask = format!("GET / HTTP/1.1\r\nHost: {}\r\nConnection: {keeps}\r\n\r\n", host(&stored));
        stream.write_all(ask.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // An end and a reset are both honest.
        let _ = timeout(DEADLINE, stream.read_to_end(&mut answer)).await.unwrap();
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
        let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
        assert!(head.contains("content-length: 8388608") && !head.contains("chunked"), "{head}");
        is_honest(&stored, &answer[end..]);
    }
    for arguments in [&["--http1.1"][..], &["--http1.0"], &["--http1.1", "-H", "range: bytes=4000000-7000000"]] {
        let cut = site.get(&stored, "/", arguments).await;
        assert_eq!(cut.output.status.code(), Some(18), "curl: transferred a partial file; {}", cut.head);
    }
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http_2_the_stream_is_reset_and_never_ended() {
    let (_dir, _, site) = start(false).await;
    let (broken, whole) = (store_broken(&site).await, site.store("b.mp4", "video/mp4", noise_of(7, 2 * MIB)).await);
    let ended = nghttp(&site, &whole, "/", &[]).await;
    let last = frames(&ended, "DATA").last().copied().unwrap_or_default().to_owned();
    assert!(last.contains("END_STREAM"), "the judge sees how an answer ends: {last}");

    let ranges = "range: bytes=0-9,4000000-7000000";
    for more in [&[][..], &["-H", "range: bytes=4000000-7000000"], &["-H", ranges]] {
        let log = nghttp(&site, &broken, "/", more).await;
        let ends: Vec<&str> = [frames(&log, "DATA"), frames(&log, "HEADERS")]
            .concat()
            .into_iter()
            .filter(|it| it.contains("END_STREAM"))
            .collect();
        assert!(ends.is_empty(), "{more:?}: {ends:?}");
        assert!(!frames(&log, "DATA").is_empty(), "{more:?}: it began: {log}");
        assert_eq!(frames(&log, "RST_STREAM").len(), 1, "{more:?}: {log}");
    }
    let cut = site.curl_secure(&host(&broken), "/", &["-k", "--http2"]).await;
    assert_eq!((cut.status(), cut.output.status.code()), (200, Some(92)), "curl: the stream was not closed cleanly");
    is_honest(&broken, cut.body());
    // The connection is good for others: curl asks for both over one.
    let both = format!("https://{}:{}/", host(&whole), site.edge.https.unwrap().port());
    let resolve = format!("{}:{}:127.0.0.1", host(&whole), site.edge.https.unwrap().port());
    let second = site
        .curl_secure(&host(&broken), "/", &["-k", "--http2", "--resolve", &resolve, "-o", "/dev/null", &both])
        .await;
    assert_eq!(second.output.status.code(), Some(92), "{}", String::from_utf8_lossy(&second.output.stderr));
    // What cannot even begin is said so.
    let refused = site.curl_secure(&host(&broken), "/", &["-k", "--http2", "-r", "5500000-"]).await;
    assert_eq!((refused.status(), refused.output.status.code()), (502, Some(0)), "{}", refused.head);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http_3_the_stream_is_reset_and_never_finished() {
    let (_dir, https, site) = start(false).await;
    let (broken, whole) = (store_broken(&site).await, site.store("b.mp4", "video/mp4", noise_of(7, 2 * MIB)).await);
    let viewer = viewer(&https, &site, &broken).await;
    for fields in [&[][..], &[("range", "bytes=0-7000000")]] {
        let (head, mut stream) = viewer.begin(Method::GET, "/", fields).await;
        assert!(head.status().is_success(), "{}", head.status());
        let mut received = Vec::new();
        let reset = loop {
            match timeout(DEADLINE, stream.recv_data()).await.unwrap() {
                Ok(Some(mut piece)) => received.extend_from_slice(&piece.copy_to_bytes(piece.remaining())),
                Ok(None) => panic!("{fields:?}: an end after {} bytes", received.len()),
                Err(error) => break error,
            }
        };
        assert!(matches!(reset, h3::error::StreamError::RemoteTerminate { .. }), "{fields:?}: {reset}");
        is_honest(&broken, &received);
    }
    // The connection is still good, also for what lies before the break.
    let part = viewer.ask(Method::GET, "/", &[("range", "bytes=1000000-1999999")]).await;
    assert_eq!((part.status, part.body == broken.bytes[1_000_000..2_000_000]), (StatusCode::PARTIAL_CONTENT, true));
    let refused = viewer.ask(Method::GET, "/", &[("range", "bytes=5500000-")]).await;
    assert_eq!(refused.status, StatusCode::BAD_GATEWAY);
    let other = crate::http3::viewer(&https, &site, &whole).await;
    assert!(other.ask(Method::GET, "/", &[]).await.body == whole.bytes);
    drop((viewer, other));
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_panicked_is_tried_again() {
    let site = Site::start().await;
    let stored = site.store("a.bin", "application/octet-stream", noise_of(1, 300_000)).await;
    site.weather.panicking();
    assert_eq!(site.get(&stored, "/", &[]).await.status(), 503);
    site.weather.fair();
    assert_eq!(site.get(&stored, "/", &[]).await.status(), 200);
    site.stop().await;
}
