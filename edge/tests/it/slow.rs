//! Viewers on slow links, over every version of HTTP: who takes 50 KB a second gets all, also of many streams at once.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes};
use edge::config::HttpsConfig;
use futures::future::join_all;
use h2::client;
use http::{Method, Request, Version};
use socket2::{Domain, Socket, Type};
use testing::noise_of;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::{TcpStream, UdpSocket},
    sync::Mutex,
    time::{Sleep, sleep, timeout},
};
use tokio_rustls::TlsConnector;

use crate::{
    http3::{Viewer, narrow_viewer, rest, try_viewer, viewer_over},
    https::{host, start, start_with, trusting},
    site::{Site, Stored},
};

const BYTES_PER_SECOND: usize = 50_000;
/// What a slow viewer takes at a time.
const SIP_BYTES: usize = BYTES_PER_SECOND / 10;
/// Of a connection whose packets are as on the Internet, and whose viewer has little room, the system takes some 50 KB
/// at once, and more the longer it lasts. On a loopback, whose packets have 64 KiB, it would take megabytes, and the
/// edge would wait for nobody.
const PACKET_BYTES: u32 = 1_400;
const ROOM_BYTES: usize = 4 * 1024;
/// What a viewer over QUIC has room for.
pub(crate) const WINDOW_BYTES: usize = 16 * 1024;
/// A slow viewer may take so long for all.
const PATIENCE: Duration = Duration::from_secs(100);

/// What a connection over TCP speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    Clear,
    Tls,
    ClearStreams,
    TlsStreams,
}

pub(crate) const DOORS: [Door; 4] = [Door::Clear, Door::Tls, Door::ClearStreams, Door::TlsStreams];

/// Reads no faster than a link would bring it.
struct Slow<T> {
    inner: T,
    left: usize,
    pause: Pin<Box<Sleep>>,
    /// From then on the link is a fast one.
    is_over: Arc<AtomicBool>,
}

impl<T> Slow<T> {
    fn new(inner: T, is_over: &Arc<AtomicBool>) -> Self {
        Self { inner, left: SIP_BYTES, pause: Box::pin(sleep(Duration::ZERO)), is_over: Arc::clone(is_over) }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Slow<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.is_over.load(Ordering::Relaxed) {
            return Pin::new(&mut self.inner).poll_read(cx, into);
        }
        if self.left == 0 {
            ready!(self.pause.as_mut().poll(cx));
            self.left = SIP_BYTES;
        }
        let mut sip = [0; SIP_BYTES];
        let mut sip = ReadBuf::new(&mut sip[..self.left.min(into.remaining())]);
        ready!(Pin::new(&mut self.inner).poll_read(cx, &mut sip))?;
        into.put_slice(sip.filled());
        self.left -= sip.filled().len();
        if self.left == 0 {
            self.pause = Box::pin(sleep(Duration::from_millis(100)));
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Slow<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

fn connect(address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_tcp_mss(PACKET_BYTES).unwrap();
    socket.set_recv_buffer_size(ROOM_BYTES).unwrap();
    socket.connect(&address.into()).unwrap();
    socket.set_nonblocking(true).unwrap();
    TcpStream::from_std(socket.into()).unwrap()
}

impl Door {
    pub(crate) async fn open(
        self,
        site: &Site,
        https: &HttpsConfig,
        name: &str,
        is_over: &Arc<AtomicBool>,
    ) -> Box<dyn Stream> {
        let alpn: &[u8] = match self {
            Self::Clear | Self::ClearStreams => return Box::new(Slow::new(connect(site.edge.http), is_over)),
            Self::Tls => b"http/1.1",
            Self::TlsStreams => b"h2",
        };
        let stream = Slow::new(connect(site.edge.https.unwrap()), is_over);
        let tls = TlsConnector::from(Arc::new(trusting(https, alpn)));
        Box::new(tls.connect(name.to_owned().try_into().unwrap(), stream).await.unwrap())
    }

    pub(crate) fn has_streams(self) -> bool {
        matches!(self, Self::ClearStreams | Self::TlsStreams)
    }
}

/// Asks over HTTP/1.1, or another version by its `number`, and reads to the end of the connection.
async fn over_one(mut stream: Box<dyn Stream>, stored: &Stored, number: &str) -> Vec<u8> {
    let ask = format!("GET / HTTP/{number}\r\nHost: {}\r\nConnection: close\r\n\r\n", host(stored));
    stream.write_all(ask.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    answer.split_off(end)
}

/// Asks over HTTP/2 for many at a time, with windows that are wide open: the link alone is slow.
pub(crate) async fn over_streams(stream: Box<dyn Stream>, asked: &[&Stored]) -> Vec<Result<Vec<u8>, h2::Error>> {
    let mut builder = client::Builder::new();
    builder.initial_window_size(6 << 20).initial_connection_window_size(15 << 20).initial_max_send_streams(64);
    let (requests, connection) = builder.handshake::<_, Bytes>(stream).await.unwrap();
    let driver = tokio::spawn(connection);
    let asked = asked.iter().map(async |stored| {
        let request = Request::builder().version(Version::HTTP_2).uri(format!("https://{}/", host(stored)));
        let (answer, _) = requests.clone().ready().await?.send_request(request.body(()).unwrap(), true)?;
        let mut content = answer.await?.into_body();
        let mut all = Vec::new();
        while let Some(piece) = content.data().await {
            let piece = piece?;
            content.flow_control().release_capacity(piece.len())?;
            all.extend_from_slice(&piece);
        }
        Ok::<Vec<u8>, h2::Error>(all)
    });
    let answers = join_all(asked).await;
    driver.abort();
    answers
}

/// Asks over HTTP/2 for one, says nothing for a while, and then asks how long it is again and again.
async fn asking_more(stream: Box<dyn Stream>, stored: &Stored) -> Result<Vec<u8>, h2::Error> {
    let mut builder = client::Builder::new();
    builder.initial_window_size(6 << 20).initial_connection_window_size(15 << 20);
    let (mut requests, connection) = builder.handshake::<_, Bytes>(stream).await?;
    let driver = tokio::spawn(connection);
    let request = |method| {
        let request = Request::builder().version(Version::HTTP_2).method(method);
        request.uri(format!("https://{}/", host(stored))).body(()).unwrap()
    };
    let mut content = requests.send_request(request(Method::GET), true)?.0.await?.into_body();
    let asked = async {
        let mut all = Vec::new();
        while let Some(piece) = content.data().await {
            all.extend_from_slice(&piece?);
        }
        Ok(all)
    };
    let more = async {
        sleep(Duration::from_millis(1_500)).await;
        let mut lengths = Vec::new();
        loop {
            if let Ok((length, _)) = requests.send_request(request(Method::HEAD), true) {
                lengths.push(length);
            }
            sleep(Duration::from_millis(100)).await;
        }
    };
    let answer = tokio::select! {
        answer = asked => answer,
        () = more => unreachable!("it asks for ever"),
    };
    driver.abort();
    answer
}

/// What all streams of a connection over QUIC have of the link.
struct Link {
    turn: Mutex<()>,
    bytes_per_second: usize,
    is_over: Arc<AtomicBool>,
}

impl Link {
    fn new(bytes_per_second: usize, is_over: &Arc<AtomicBool>) -> Self {
        Self { turn: Mutex::default(), bytes_per_second, is_over: Arc::clone(is_over) }
    }

    async fn take(&self, bytes: usize) {
        let _turn = self.turn.lock().await;
        if !self.is_over.load(Ordering::Relaxed) {
            sleep(Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64)).await;
        }
    }
}

/// Asks over HTTP/3.
async fn over_quic(viewer: &Viewer, link: &Link, path: &str) -> Result<Vec<u8>, h3::error::StreamError> {
    let (_, mut answer) = viewer.begin(Method::GET, path, &[]).await;
    let mut all = Vec::new();
    while let Some(mut piece) = answer.recv_data().await? {
        link.take(piece.remaining()).await;
        all.extend_from_slice(&piece.copy_to_bytes(piece.remaining()));
    }
    Ok(all)
}

/// Takes over 10 s, because the viewers are slow.
#[tokio::test(flavor = "multi_thread")]
async fn who_takes_50_kilobytes_a_second_gets_the_last_byte() {
    let (_dir, https, site) = start(false).await;
    let film = site.store("film.mp4", "video/mp4", noise_of(1, 1_000_300)).await;
    let picture = site.store("cat.jpg", "image/jpeg", noise_of(2, 200_100)).await;
    let never = Arc::new(AtomicBool::new(false));
    let begun = Instant::now();
    // The second time the picture is ready.
    for asked in [vec![&picture], vec![&film, &picture]] {
        let asked = asked.into_iter().flat_map(|stored| DOORS.map(|door| (door, stored)));
        let over_tcp = asked.clone().map(async |(door, stored)| {
            let stream = door.open(&site, &https, &host(stored), &never).await;
            let taken = match door.has_streams() {
                false => over_one(stream, stored, "1.1").await,
                true => over_streams(stream, &[stored]).await.remove(0).unwrap(),
            };
            assert!(taken == stored.bytes, "{door:?}: {} of {} bytes", taken.len(), stored.bytes.len());
        });
        // What balancers ask is left to pingora, and the last piece of it is short.
        let over_old = asked.clone().filter(|(door, _)| !door.has_streams()).map(async |(door, stored)| {
            let taken = over_one(door.open(&site, &https, &host(stored), &never).await, stored, "1.0").await;
            assert!(taken == stored.bytes, "HTTP/1.0, {door:?}: {} of {} bytes", taken.len(), stored.bytes.len());
        });
        let over_udp = asked.clone().filter(|(door, _)| *door == Door::Clear).map(async |(_, stored)| {
            let viewer = narrow_viewer(&https, &site, stored, WINDOW_BYTES).await;
            let taken = over_quic(&viewer, &Link::new(BYTES_PER_SECOND, &never), "/").await.unwrap();
            assert!(taken == stored.bytes, "HTTP/3: {} of {} bytes", taken.len(), stored.bytes.len());
        });
        timeout(PATIENCE, async { tokio::join!(join_all(over_tcp), join_all(over_old), join_all(over_udp)) })
            .await
            .unwrap();
    }
    let least = (film.bytes.len() + picture.bytes.len()) / BYTES_PER_SECOND;
    assert!(begun.elapsed() > Duration::from_secs(least as u64), "the links were slow");
    site.stop().await;
}

/// Takes over 10 s, because what the edge has written, a megabyte, takes longer than a connection may be idle.
#[tokio::test(flavor = "multi_thread")]
async fn who_takes_12_kilobytes_a_second_over_http_3_gets_the_last_byte() {
    let (_dir, https, site) = start(false).await;
    let film = site.store("film.mp4", "video/mp4", noise_of(1, 1_040_000)).await;
    let viewer = narrow_viewer(&https, &site, &film, WINDOW_BYTES).await;
    let link = Link::new(12_000, &Arc::default());
    let taken = timeout(PATIENCE, over_quic(&viewer, &link, "/")).await.unwrap().unwrap();
    assert!(taken == film.bytes, "{} of {} bytes", taken.len(), film.bytes.len());
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_on_a_connection_that_ends_reaches_a_viewer_that_asks_for_more() {
    let (_dir, https, site) = start_with(false, |config| config.http.idle_seconds = 1).await;
    let picture = site.store("cat.jpg", "image/jpeg", noise_of(1, 160_000)).await;
    let never = Arc::new(AtomicBool::new(false));
    let doors = [Door::ClearStreams, Door::TlsStreams].map(async |door| {
        let stream = door.open(&site, &https, &host(&picture), &never).await;
        let taken = timeout(PATIENCE, asking_more(stream, &picture)).await.unwrap();
        let taken = taken.unwrap_or_else(|error| panic!("{door:?}: {error}"));
        assert!(taken == picture.bytes, "{door:?}: {} of {} bytes", taken.len(), picture.bytes.len());
    });
    join_all(doors).await;
    site.stop().await;
}

/// Carries what viewers on this machine and the edge send each other, to a viewer no faster than a slow link.
async fn relay(edge: SocketAddr) -> SocketAddr {
    let (near, far) = (UdpSocket::bind("127.0.0.1:0").await.unwrap(), UdpSocket::bind("127.0.0.1:0").await.unwrap());
    far.connect(edge).await.unwrap();
    let address = near.local_addr().unwrap();
    let (near, far, viewer) = (Arc::new(near), Arc::new(far), Arc::new(Mutex::new(None)));
    let (up, from) = ((Arc::clone(&near), Arc::clone(&far)), Arc::clone(&viewer));
    tokio::spawn(async move {
        let mut packet = [0; 2048];
        while let Ok((bytes, viewer)) = up.0.recv_from(&mut packet).await {
            *from.lock().await = Some(viewer);
            let _ = up.1.send(&packet[..bytes]).await;
        }
    });
    tokio::spawn(async move {
        let mut packet = [0; 2048];
        while let Ok(bytes) = far.recv(&mut packet).await {
            sleep(Duration::from_secs_f64(bytes as f64 / BYTES_PER_SECOND as f64)).await;
            if let Some(viewer) = *viewer.lock().await {
                let _ = near.send_to(&packet[..bytes], viewer).await;
            }
        }
    });
    address
}

/// Takes over 10 s, because what the edge has written takes longer than one that ends is waited for.
#[tokio::test(flavor = "multi_thread")]
async fn who_takes_the_last_of_an_answer_over_http_3_gives_way_to_nobody_and_gets_it() {
    let (_dir, https, site) = start_with(false, |config| config.http.connections_max = 1).await;
    let film = site.store("film.mp4", "video/mp4", noise_of(1, 700_000)).await;
    let relay = relay(site.edge.https.unwrap()).await;
    let viewer = viewer_over(&https, relay, &film).await;
    let (_, answer) = viewer.begin(Method::GET, "/", &[]).await;
    let others = async {
        loop {
            if let Ok(crowd) = timeout(Duration::from_secs(1), try_viewer(&https, &site, &film)).await {
                drop(crowd);
            }
            sleep(Duration::from_millis(100)).await;
        }
    };
    let taken = tokio::select! {
        taken = timeout(PATIENCE, rest(answer)) => taken.unwrap(),
        () = others => unreachable!("they come for ever"),
    };
    assert!(taken == film.bytes, "{} of {} bytes", taken.len(), film.bytes.len());
    site.stop().await;
}

/// Takes over 10 s, because a deadline of half a minute passes.
#[tokio::test(flavor = "multi_thread")]
async fn of_many_pictures_over_one_slow_link_none_is_lost() {
    const STREAMS: usize = 32;
    let (_dir, https, site) = start(false).await;
    let mut pictures = Vec::new();
    for number in 0..4 {
        pictures.push(site.store("cat.jpg", "image/jpeg", noise_of(number, 160_000)).await);
    }
    let asked: Vec<&Stored> = pictures.iter().cycle().take(STREAMS).collect();
    let is_over = Arc::new(AtomicBool::new(false));
    let doors = [Door::ClearStreams, Door::TlsStreams].map(async |door| {
        let stream = door.open(&site, &https, &host(asked[0]), &is_over).await;
        for (answer, stored) in over_streams(stream, &asked).await.into_iter().zip(&asked) {
            let answer = answer.unwrap_or_else(|error| panic!("{door:?}: {error}"));
            assert!(answer == stored.bytes, "{door:?}: {} bytes", answer.len());
        }
    });
    let over_udp = async {
        let viewer = narrow_viewer(&https, &site, &pictures[0], WINDOW_BYTES).await;
        let link = Link::new(BYTES_PER_SECOND, &is_over);
        for answer in join_all((0..STREAMS).map(|_| over_quic(&viewer, &link, "/"))).await {
            let answer = answer.unwrap_or_else(|error| panic!("HTTP/3: {error}"));
            assert!(answer == pictures[0].bytes, "HTTP/3: {} bytes", answer.len());
        }
    };
    // Longer than any write may take. Then the rest is taken at once.
    let over = async {
        sleep(Duration::from_secs(45)).await;
        is_over.store(true, Ordering::Relaxed);
    };
    timeout(PATIENCE, async { tokio::join!(join_all(doors), over_udp, over) }).await.unwrap();
    site.stop().await;
}
