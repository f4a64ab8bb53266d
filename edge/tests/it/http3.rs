//! The HTTP door over QUIC, asked by h3's own client and by frames that no client sends.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes};
use edge::config::HttpsConfig;
use futures::future::{join_all, poll_fn};
use h3::error::StreamError;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use quinn::{ClientConfig, Connection, Endpoint, TransportConfig, VarInt, crypto::rustls::QuicClientConfig};
use testing::{noise_of, until};
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::{
    https::{host, start, start_with, trusting},
    site::{DEADLINE, Site, Stored},
    slow::WINDOW_BYTES,
};

/// `H3_EXCESSIVE_LOAD` of RFC 9114 section 8.1.
const EXCESSIVE_LOAD: u64 = 0x107;

fn endpoint(https: &HttpsConfig) -> Endpoint {
    endpoint_with(https, TransportConfig::default())
}

fn endpoint_with(https: &HttpsConfig, transport: TransportConfig) -> Endpoint {
    let mut endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(trusting(https, b"h3")).unwrap()));
    config.transport_config(Arc::new(transport));
    endpoint.set_default_client_config(config);
    endpoint
}

/// A request under way.
pub(crate) type Asked = h3::client::RequestStream<h3_quinn::BidiStream<Bytes>, Bytes>;

/// A viewer that speaks HTTP/3.
pub(crate) struct Viewer {
    quic: Connection,
    requests: h3::client::SendRequest<h3_quinn::OpenStreams, Bytes>,
    driver: JoinHandle<()>,
    host: String,
    endpoint: Endpoint,
}

impl Viewer {
    async fn connect(endpoint: Endpoint, address: SocketAddr, host: String) -> Self {
        Self::try_connect(endpoint, address, host).await.unwrap()
    }

    async fn try_connect(endpoint: Endpoint, address: SocketAddr, host: String) -> Option<Self> {
        let quic = endpoint.connect(address, &host).unwrap().await.ok()?;
        let (mut driver, requests) = h3::client::new(h3_quinn::Connection::new(quic.clone())).await.ok()?;
        let driver = tokio::spawn(async move {
            poll_fn(|cx| driver.poll_close(cx)).await;
        });
        Some(Self { quic, requests, driver, host, endpoint })
    }

    /// Returns where it comes from.
    pub(crate) fn address(&self) -> SocketAddr {
        self.endpoint.local_addr().unwrap()
    }

    /// Goes on from another address, as a phone does that leaves the house.
    pub(crate) fn move_to(&self, address: SocketAddr) {
        self.endpoint.rebind(std::net::UdpSocket::bind(address).unwrap()).unwrap();
    }

    /// Asks, and reads nothing.
    pub(crate) async fn send(&self, method: Method, path: &str, fields: &[(&str, &str)]) -> Result<Asked, StreamError> {
        let mut request = Request::builder().method(method).uri(format!("https://{}{path}", self.host));
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let mut stream = self.requests.clone().send_request(request.body(()).unwrap()).await?;
        // Where the edge has refused the rest already, this fails, and the answer is there all the same.
        let _ = stream.finish().await;
        Ok(stream)
    }

    /// Asks, and reads as far as the header of the answer.
    pub(crate) async fn begin(&self, method: Method, path: &str, fields: &[(&str, &str)]) -> (Response<()>, Asked) {
        let mut stream = self.send(method, path, fields).await.unwrap();
        (stream.recv_response().await.unwrap(), stream)
    }

    pub(crate) async fn ask(&self, method: Method, path: &str, fields: &[(&str, &str)]) -> Answer {
        let (head, stream) = self.begin(method, path, fields).await;
        Answer { status: head.status(), fields: head.headers().clone(), body: rest(stream).await }
    }
}

/// Reads the content of an answer to its end.
pub(crate) async fn rest(mut stream: Asked) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(mut piece) = timeout(DEADLINE, stream.recv_data()).await.unwrap().unwrap() {
        body.extend_from_slice(&piece.copy_to_bytes(piece.remaining()));
    }
    body
}

impl Drop for Viewer {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) fields: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    fn field(&self, name: &str) -> &str {
        self.fields[name].to_str().unwrap()
    }
}

pub(crate) async fn viewer(https: &HttpsConfig, site: &Site, stored: &Stored) -> Viewer {
    Viewer::connect(endpoint(https), site.edge.https.unwrap(), host(stored)).await
}

/// The same over another address.
pub(crate) async fn viewer_over(https: &HttpsConfig, address: SocketAddr, stored: &Stored) -> Viewer {
    Viewer::connect(endpoint(https), address, host(stored)).await
}

/// The same, or none where the edge has no room for it.
pub(crate) async fn try_viewer(https: &HttpsConfig, site: &Site, stored: &Stored) -> Option<Viewer> {
    Viewer::try_connect(endpoint(https), site.edge.https.unwrap(), host(stored)).await
}

/// The same with room for no more bytes than it has read.
pub(crate) async fn narrow_viewer(https: &HttpsConfig, site: &Site, stored: &Stored, window: usize) -> Viewer {
    narrow_viewer_with(https, site, stored, window, None).await
}

/// The same that says each so often that it is there.
pub(crate) async fn narrow_viewer_with(
    https: &HttpsConfig,
    site: &Site,
    stored: &Stored,
    window: usize,
    pings: Option<Duration>,
) -> Viewer {
    let mut transport = TransportConfig::default();
    let window = VarInt::from_u32(window.try_into().unwrap());
    transport.receive_window(window).stream_receive_window(window).keep_alive_interval(pings);
    Viewer::connect(endpoint_with(https, transport), site.edge.https.unwrap(), host(stored)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_exact_over_http_3_and_viewers_are_told_of_it() {
    let (_dir, https, site) = start(true).await;
    let stored = site.store("clip.mp4", "video/mp4", noise_of(3, 3 << 20)).await;
    let port = site.edge.https.unwrap().port();
    let told = site.curl_secure(&host(&stored), "/clip.mp4", &["-k"]).await;
    assert_eq!(told.field("alt-svc"), Some(&*format!("h3=\":{port}\"; ma=86400")));
    let clear = site.get(&stored, "/", &[]).await;
    assert_eq!((clear.status(), clear.field("alt-svc")), (308, None));
    let record = site.dig(&["HTTPS", &host(&stored)]).await;
    assert!(record.contains("alpn=\"h3,h2\""), "{record}");

    let viewer = viewer(&https, &site, &stored).await;
    let whole = viewer.ask(Method::GET, "/clip.mp4", &[]).await;
    assert_eq!((whole.status, whole.body == stored.bytes), (StatusCode::OK, true));
    assert_eq!((whole.field("content-type"), whole.field("content-length")), ("video/mp4", "3145728"));
    assert!(!whole.fields.contains_key("alt-svc"), "who is here already is not sent here");

    // Sixteen pieces at once over one connection.
    let pieces: Vec<(usize, usize)> = (0..16).map(|at| (at * 196_608, (at + 1) * 196_608)).collect();
    let ask = async |(from, to): &(usize, usize)| {
        viewer.ask(Method::GET, "/clip.mp4", &[("range", &format!("bytes={from}-{}", to - 1))]).await
    };
    for (answer, (from, to)) in join_all(pieces.iter().map(ask)).await.into_iter().zip(&pieces) {
        assert_eq!((answer.status, answer.body == stored.bytes[*from..*to]), (StatusCode::PARTIAL_CONTENT, true));
    }

    let head = viewer.ask(Method::HEAD, "/clip.mp4", &[]).await;
    assert_eq!((head.status, head.field("content-length"), head.body.len()), (StatusCode::OK, "3145728", 0));
    let same = viewer.ask(Method::GET, "/", &[("if-none-match", whole.field("etag"))]).await;
    assert_eq!((same.status, same.body.len()), (StatusCode::NOT_MODIFIED, 0));
    assert_eq!(viewer.ask(Method::POST, "/", &[("content-length", "5")]).await.status, StatusCode::METHOD_NOT_ALLOWED);
    let names: Vec<String> = (0..101).map(|number| format!("x-{number}")).collect();
    let many: Vec<(&str, &str)> = names.iter().map(|name| (&**name, "y")).collect();
    assert_eq!(viewer.ask(Method::GET, "/", &many).await.status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    assert_eq!(viewer.ask(Method::GET, "/", &[]).await.body, stored.bytes, "the connection is still good");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_with_content_is_refused_whether_or_not_it_says_how_much() {
    let (_dir, https, site) = start(true).await;
    let stored = site.store("a.txt", "text/plain", b"hello".to_vec()).await;
    let viewer = viewer(&https, &site, &stored).await;
    for length in [None, Some("4"), Some("0")] {
        for method in [Method::GET, Method::HEAD] {
            let mut request = Request::builder().method(&method).uri(format!("https://{}/", viewer.host));
            if let Some(length) = length {
                request = request.header("content-length", length);
            }
            let mut stream = viewer.requests.clone().send_request(request.body(()).unwrap()).await.unwrap();
            // Where the edge has refused the rest already, these fail, and the answer is there all the same.
            let _ = stream.send_data(Bytes::from_static(b"more")).await;
            let _ = stream.finish().await;
            let answer = timeout(DEADLINE, stream.recv_response()).await.unwrap().unwrap();
            assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{method} {length:?}");
            let without = viewer.ask(method, "/", &[]).await;
            assert_eq!(without.status, StatusCode::OK);
        }
    }
    let empty = viewer.ask(Method::GET, "/", &[("content-length", "0")]).await;
    assert_eq!((empty.status, &*empty.body), (StatusCode::OK, &b"hello"[..]));
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_or_sends_without_end_costs_nobody_else() {
    let (_dir, https, site) = start(true).await;
    let stored = site.store("clip.mp4", "video/mp4", noise_of(4, 3 << 20)).await;

    let leaver = viewer(&https, &site, &stored).await;
    let (head, _stream) = leaver.begin(Method::GET, "/", &[]).await;
    assert_eq!(head.status(), StatusCode::OK);
    leaver.quic.close(VarInt::from_u32(0), b"");

    // A HEADERS frame (type 1) of 2^30 - 1 bytes, as RFC 9000 section 16 writes that length.
    let endless = endpoint(&https).connect(site.edge.https.unwrap(), &host(&stored)).unwrap().await.unwrap();
    let (mut send, _receive) = endless.open_bi().await.unwrap();
    send.write_all(&[0x01, 0xbf, 0xff, 0xff, 0xff]).await.unwrap();
    let mut taken = 0_usize;
    let stopped = loop {
        match timeout(DEADLINE, send.write(&[0; 4096])).await.expect("the edge neither takes nor refuses") {
            Ok(bytes) => taken += bytes,
            Err(stopped) => break stopped,
        }
        assert!(taken < 1 << 20, "the edge takes what nobody asks for");
    };
    assert!(stopped.to_string().contains(&EXCESSIVE_LOAD.to_string()) || endless.close_reason().is_some(), "{stopped}");

    endless.close(VarInt::from_u32(0), b"");

    // What is no QUIC at all.
    let noise = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for length in [1, 20, 1200, 65_000] {
        noise.send_to(&vec![0xff; length], site.edge.https.unwrap()).await.unwrap();
    }

    let viewer = viewer(&https, &site, &stored).await;
    assert_eq!(viewer.ask(Method::GET, "/", &[]).await.body, stored.bytes);
    let open = || async { site.metrics().await.contains("http_connections 1\n") };
    until("only one connection is left", open).await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_may_take_longer_to_make_than_a_connection_may_be_idle() {
    let (_dir, https, site) = start_with(false, |config| config.http.idle_seconds = 1).await;
    let stored = site.store("a.txt", "text/plain", b"hello".to_vec()).await;
    let viewer = viewer(&https, &site, &stored).await;
    site.weather.late(Duration::from_secs(3));
    assert_eq!(viewer.ask(Method::GET, "/", &[]).await.body, b"hello");
    // Nothing is asked any more, however well the viewer is.
    timeout(DEADLINE, viewer.quic.closed()).await.expect("a connection on which nothing is asked ends");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_ends_lets_answers_end() {
    let (_dir, https, site) = start(true).await;
    let stored = site.store("clip.mp4", "video/mp4", noise_of(5, 3 << 20)).await;
    let viewer = viewer(&https, &site, &stored).await;
    let (head, stream) = viewer.begin(Method::GET, "/", &[]).await;
    assert_eq!(head.status(), StatusCode::OK);
    let read = async {
        assert!(rest(stream).await == stored.bytes);
        viewer.quic.close(VarInt::from_u32(0x100), b"");
    };
    tokio::join!(site.stop(), read);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_waits_gives_way_when_the_door_is_full() {
    let (_dir, https, site) = start_with(false, |config| config.http.connections_max = 2).await;
    let stored = site.store("a.txt", "text/plain", b"hello".to_vec()).await;
    let (one, two) = (viewer(&https, &site, &stored).await, viewer(&https, &site, &stored).await);
    for viewer in [&one, &two] {
        assert_eq!(viewer.ask(Method::GET, "/", &[]).await.body, b"hello");
    }
    // The edge hears of the end of an answer a little after its viewer.
    let (address, host) = (site.edge.https.unwrap(), host(&stored));
    until("room for a third", async || endpoint(&https).connect(address, &host).unwrap().await.is_ok()).await;
    let given_up = site.counter("evernear_edge_http_connections_given_up_total").await;
    assert!(given_up >= 1, "{given_up}");
    drop((one, two));
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn for_a_viewer_that_takes_nothing_one_block_of_each_answer_is_read_over_http_3_too() {
    const STREAMS: u64 = 64;
    let (_dir, https, site) = start(false).await;
    let stored = site.store("a.bin", "application/octet-stream", noise_of(1, 64 << 18)).await;
    let viewer = narrow_viewer(&https, &site, &stored, WINDOW_BYTES).await;
    let read = async || {
        let (hits, misses) = ("evernear_edge_block_hits_total", "evernear_edge_block_misses_total");
        site.counter(hits).await + site.counter(misses).await
    };
    let mut asked = Vec::new();
    for block in 0..STREAMS {
        let range = format!("bytes={}-", block << 18);
        asked.push(viewer.send(Method::GET, "/", &[("range", &range)]).await.unwrap());
    }
    // What finds no room in hand is let go, and read again once others have left.
    until("a block of each", async || read().await >= STREAMS).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(read().await, STREAMS);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_that_closes_its_connection_while_its_answer_is_made_is_waited_for_no_more() {
    let (_dir, https, site) = start(false).await;
    let stored = site.store("a.txt", "text/plain", b"hello".to_vec()).await;
    site.weather.late(Duration::from_secs(10));
    let viewer = viewer(&https, &site, &stored).await;
    let _asked = viewer.send(Method::GET, "/", &[]).await.unwrap();
    until("the look-up", async || site.weather.was_asked(&stored.sealed.locator)).await;
    drop(viewer);
    let begun = Instant::now();
    until("a free seat", async || site.counter("evernear_edge_http_connections").await == 0).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let left = "evernear_edge_http_answers_total{status=\"499\",cache=\"none\"} 1";
    assert!(site.metrics().await.contains(left), "{}", site.metrics().await);
    site.stop().await;
}
