//! Viewers that take nothing any more and keep their connections open, at every door: they are gone by their deadline.

use std::{
    any::Any,
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use edge::config::HttpsConfig;
use futures::future::join_all;
use h2::{Ping, client};
use http::{Method, Request, Version};
use testing::{noise_of, until_within};
use tokio::{
    io::{self, AsyncReadExt, AsyncWriteExt},
    task::{AbortHandle, JoinSet},
    time::{Duration, sleep, timeout},
};

use crate::{
    http3::narrow_viewer_with,
    https::{host, start_with},
    site::{Site, Stored},
    slow::{DOORS, Door, Stream, WINDOW_BYTES},
};

/// Fields of a request that is left to pingora.
const MANY: usize = 40;
/// Answers that one connection asks for and does not take. Did each of them have its turn, a connection would last for
/// as many seconds.
const ANSWERS: usize = 60;
/// By then all connections are gone.
const GONE: Duration = Duration::from_secs(30);
/// Between requests.
const APART: Duration = Duration::from_millis(15);
/// Between pings.
const PAUSE: Duration = Duration::from_millis(2);

/// How a viewer shows that it is there.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Sign {
    None,
    Pings,
}

/// All that a viewer keeps open.
type Kept = Box<dyn Any>;

/// Sends many requests ahead and reads none of the answers.
async fn stop_one(stream: Box<dyn Stream>, stored: &Stored, fields: usize) -> Kept {
    let fields: String = (0..fields).map(|number| format!("X-{number}: y\r\n")).collect();
    let ask = format!("GET / HTTP/1.1\r\nHost: {}\r\n{fields}\r\n", host(stored)).repeat(5 * ANSWERS);
    let (read, mut write) = io::split(stream);
    // The edge reads no more than it answers.
    let _ = timeout(Duration::from_secs(1), write.write_all(ask.as_bytes())).await;
    Box::new((read, write))
}

/// Sends all that comes from one side to the other.
fn carry(
    tasks: &mut JoinSet<()>,
    mut from: impl io::AsyncRead + Unpin + Send + 'static,
    mut to: impl io::AsyncWrite + Unpin + Send + 'static,
) -> AbortHandle {
    tasks.spawn(async move {
        let _ = io::copy(&mut from, &mut to).await;
        pending::<()>().await;
    })
}

/// Asks for many, and takes none once the first has begun: either nothing is read of the connection, or it is read, and
/// pings go back and forth, but no stream is given more room than it had.
async fn stop_streams(stream: Box<dyn Stream>, stored: &Stored, sign: Sign) -> Kept {
    let mut tasks = JoinSet::new();
    let (near, far) = io::duplex(64 * 1024);
    let ((near_read, near_write), (far_read, far_write)) = (io::split(stream), io::split(far));
    carry(&mut tasks, far_read, near_write);
    let reading = carry(&mut tasks, near_read, far_write);
    let mut builder = client::Builder::new();
    if sign == Sign::None {
        builder.initial_window_size(6 << 20).initial_connection_window_size(15 << 20);
    }
    let (requests, mut connection) = builder.handshake::<_, Bytes>(near).await.unwrap();
    let mut pings = connection.ping_pong().unwrap();
    tasks.spawn(async move {
        let _ = connection.await;
        pending::<()>().await;
    });
    let mut answers = Vec::new();
    for _ in 0..ANSWERS {
        let request = Request::builder().version(Version::HTTP_2).uri(format!("https://{}/", host(stored)));
        let mut requests = requests.clone().ready().await.unwrap();
        answers.push(requests.send_request(request.body(()).unwrap(), true).unwrap().0);
    }
    // On a busy machine it may have been given up already.
    let first = answers.remove(0).await;
    if sign == Sign::None {
        reading.abort();
    }
    tasks.spawn(async move {
        while sign == Sign::Pings && pings.ping(Ping::opaque()).await.is_ok() {
            sleep(PAUSE).await;
        }
    });
    tasks.spawn(async move {
        let _answers = (requests, join_all(answers).await);
        pending::<()>().await;
    });
    Box::new((tasks, first))
}

/// Has no room for any content, and asks again for whatever is given up: each `apart` from the one before it, so that
/// something is always asked for, or all at the same time.
async fn renew_streams(stream: Box<dyn Stream>, stored: &Stored, apart: Duration) -> Kept {
    let mut tasks = JoinSet::new();
    let (requests, connection) =
        client::Builder::new().initial_window_size(0).handshake::<_, Bytes>(stream).await.unwrap();
    tasks.spawn(async move { drop(connection.await) });
    for number in (0..).take(ANSWERS) {
        let (mut requests, uri) = (requests.clone(), format!("https://{}/", host(stored)));
        tasks.spawn(async move {
            sleep(apart * number).await;
            while let Ok(ready) = requests.ready().await {
                requests = ready;
                let request = Request::builder().version(Version::HTTP_2).uri(&uri).body(()).unwrap();
                let Ok((answer, _)) = requests.send_request(request, true) else { break };
                if let Ok(answer) = answer.await {
                    let _ = answer.into_body().data().await;
                }
            }
        });
    }
    Box::new((tasks, requests))
}

/// Asks for more and more over HTTP/3 and takes nothing.
async fn renew_quic(https: &HttpsConfig, site: &Site, stored: &Stored) -> Kept {
    let viewer = narrow_viewer_with(https, site, stored, WINDOW_BYTES, None).await;
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut asked = Vec::new();
        while let Ok(answer) = viewer.send(Method::GET, "/", &[]).await {
            asked.push(answer);
            sleep(APART).await;
        }
    });
    Box::new(tasks)
}

/// Asks for many over HTTP/3 and takes nothing; what comes is acknowledged.
async fn stop_quic(https: &HttpsConfig, site: &Site, stored: &Stored, sign: Sign) -> Kept {
    let pings = (sign == Sign::Pings).then_some(PAUSE);
    let viewer = narrow_viewer_with(https, site, stored, WINDOW_BYTES, pings).await;
    let mut asked = Vec::new();
    for _ in 0..ANSWERS {
        asked.push(viewer.send(Method::GET, "/", &[]).await.unwrap());
    }
    Box::new((viewer, asked))
}

/// Pings, and reads what tells it that they came, and asks nothing.
#[tokio::test(flavor = "multi_thread")]
async fn no_pings_keep_a_connection_on_which_nothing_was_asked() {
    const PING: &[u8] = b"\0\0\x08\x06\0\0\0\0\0notasked";
    let (_dir, https, site) = start_with(false, |config| config.http.header_seconds = 1).await;
    let page = site.store("a.txt", "text/plain", b"hello".to_vec()).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let stream = Door::ClearStreams.open(&site, &https, &host(&page), &is_over).await;
    let (mut read, mut write) = io::split(stream);
    let pinging = async {
        write.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
        let many = PING.repeat(100);
        while write.write_all(&many).await.is_ok() {}
        pending::<()>().await;
    };
    let ended = async { while matches!(read.read(&mut [0; 4096]).await, Ok(1..)) {} };
    // Slowly, so that what tells of pings waits to be taken now and then; then all that the system holds of it.
    let over = async {
        sleep(Duration::from_secs(5)).await;
        is_over.store(true, Ordering::Relaxed);
        pending::<()>().await;
    };
    tokio::select! {
        () = over => unreachable!("it is pending"),
        ended = timeout(GONE, ended) => ended.expect("the connection was not closed"),
        () = pinging => unreachable!("there is no end of pings"),
    }
    site.stop().await;
}

/// Takes over 10 s, because a connection over QUIC that was told to go is given so long.
#[tokio::test(flavor = "multi_thread")]
async fn who_takes_nothing_any_more_is_gone_by_its_deadline_at_every_door() {
    let short = |config: &mut edge::Config| (config.http.write_seconds, config.http.idle_seconds) = (1, 1);
    let (_dir, https, site) = start_with(false, short).await;
    let page = site.store("a.txt", "text/plain", noise_of(1, 4_000)).await;
    let film = site.store("film.mp4", "video/mp4", noise_of(2, 1 << 20)).await;
    let picture = site.store("cat.jpg", "image/jpeg", noise_of(3, 200_000)).await;
    let fast = Arc::new(true.into());
    let mut viewers = Vec::new();
    for door in DOORS {
        for more in [false, true] {
            let stream = door.open(&site, &https, &host(&page), &fast).await;
            viewers.push(match (door, more) {
                // By the codec of our own, and by pingora's.
                (Door::Clear | Door::Tls, false) => stop_one(stream, &page, 0).await,
                (Door::Clear | Door::Tls, true) => stop_one(stream, &page, MANY).await,
                (_, false) => stop_streams(stream, &picture, Sign::None).await,
                (_, true) => stop_streams(stream, &film, Sign::Pings).await,
            });
        }
    }
    for sign in [Sign::None, Sign::Pings] {
        viewers.push(stop_quic(&https, &site, &film, sign).await);
    }
    for apart in [Duration::ZERO, APART] {
        let stream = Door::TlsStreams.open(&site, &https, &host(&film), &fast).await;
        viewers.push(renew_streams(stream, &film, apart).await);
    }
    viewers.push(renew_quic(&https, &site, &film).await);
    let open = async || site.counter("evernear_edge_http_connections").await;
    assert!(open().await >= 2, "some are still waited for");
    until_within(GONE, "all are gone", async || open().await == 0).await;
    drop(viewers);
    site.stop().await;
}
