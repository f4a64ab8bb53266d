//! HTTP/3 (RFC 9114) on a UDP port, by quinn and h3: the same answers as over TCP.

use std::{
    io,
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use h3::{error::Code, server::RequestResolver};
use http::Version;
use pingora_core::server::ShutdownWatch;
use quinn::{Connection, Endpoint, IdleTimeout, Incoming, ServerConfig, TransportConfig, VarInt};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    capped::Capped,
    counted::Counted,
    limits::{REQUESTS_PER_CONNECTION_MAX, STREAMS_MAX, bytes_min},
    respond::respond,
    session::{QuicStream, Session, Way},
    shared::{Gauged, HttpDoor},
    tls::{HANDSHAKE_DEADLINE, Terminator},
};
use crate::{
    answer::{
        head::HEADER_BYTES_MAX,
        request::{Intake, target_of},
    },
    config::HttpConfig,
    listen::connections::Seat,
};

/// Streams that a viewer opens for itself: control, QPACK's two, and some of kinds nobody knows.
const CONTROL_STREAMS_MAX: u32 = 8;
/// Bytes in flight of one request; a request has no content.
const STREAM_WINDOW_BYTES: u32 = 32 * 1024;
/// Bytes in flight of all requests of one connection.
const WINDOW_BYTES: u32 = 256 * 1024;
/// Bytes of answers written and not yet acknowledged, of which QUIC has a copy: 100 Mbit/s at a round trip of 80 ms,
/// and an edge is near.
const SEND_WINDOW_BYTES: u64 = 1024 * 1024;
/// What a packet with content counts as: one that leaves while more waits is full, unless the viewer's window is not.
const PACKET_BYTES: u64 = 1024;
/// A connection that we end has so long to take what was written, and as long again while it takes enough of that.
const LINGER: Duration = Duration::from_secs(10);
/// Between looks at whether a viewer takes of what was written.
const LOOK: Duration = Duration::from_secs(1);

type Http = h3::server::Connection<Capped<h3_quinn::Connection>, Counted>;

/// Binds the UDP port.
///
/// # Errors
/// What the system says.
pub(crate) fn bind(address: SocketAddr, terminator: &Terminator, http: &HttpConfig) -> io::Result<Endpoint> {
    let idle = IdleTimeout::try_from(http.idle()).map_err(io::Error::other)?;
    let crypto = terminator.quic().map_err(io::Error::other)?;
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(CONTROL_STREAMS_MAX))
        .max_idle_timeout(Some(idle))
        // An answer may take longer to make. A connection on which nothing is asked is ended by us.
        .keep_alive_interval(Some(http.idle() / 2))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES)
        .datagram_receive_buffer_size(None);
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(Arc::new(transport));
    Endpoint::server(config, address)
}

impl HttpDoor {
    /// Accepts connections until the shutdown is called, then lets those under way end; dropping it cuts them.
    pub(crate) async fn serve_quic(self: Arc<Self>, endpoint: Endpoint, mut shutdown: ShutdownWatch) {
        let http = &self.node.config.http;
        let connections = self.connections();
        let mut tasks = JoinSet::new();
        loop {
            let incoming = tokio::select! {
                incoming = endpoint.accept() => incoming,
                _ = shutdown.wait_for(|down| *down) => break,
            };
            let Some(incoming) = incoming else { break };
            while tasks.try_join_next().is_some() {}
            let peer = incoming.remote_address();
            // No PROXY header comes over UDP, so behind a balancer nobody would know who the viewer is.
            if http.is_balancer(peer.ip()) {
                incoming.refuse();
                continue;
            }
            //= https://www.rfc-editor.org/rfc/rfc9000#section-8.1.2
            //# A server can also use a Retry packet to defer the state and processing costs of connection establishment.
            if connections.are_many(peer.ip()) && incoming.may_retry() {
                // Whoever writes a sender that is not its own never sees the packet.
                let _ = incoming.retry();
                continue;
            }
            let Some(admitted) = connections.admit().and_then(|admitted| admitted.of(peer.ip())) else {
                incoming.refuse();
                continue;
            };
            let (door, shutdown) = (Arc::clone(&self), shutdown.clone());
            tasks.spawn(async move {
                let gauge = Gauged::new(&door.node);
                connection(&door, incoming, admitted.seat(), shutdown).await;
                drop((gauge, admitted));
            });
        }
        endpoint.set_server_config(None);
        while tasks.join_next().await.is_some() {}
        endpoint.wait_idle().await;
    }
}

async fn connection(door: &Arc<HttpDoor>, incoming: Incoming, seat: &Seat, mut shutdown: ShutdownWatch) {
    seat.wait(Instant::now());
    let mut given_up = pin!(seat.given_up());
    let handshake = async {
        let quic = incoming.accept().ok()?.await.ok()?;
        let mut builder = h3::server::builder();
        builder.max_field_section_size(HEADER_BYTES_MAX.into()).send_grease(false);
        let http: Http = builder.build(Capped(h3_quinn::Connection::new(quic.clone()))).await.ok()?;
        Some((quic, http))
    };
    let Ok(Some((quic, mut http))) = timeout(HANDSHAKE_DEADLINE, handshake).await else { return };
    let way = Way::new(door.node.config.http.write_deadline());
    let idle = door.node.config.http.idle();
    let mut requests = JoinSet::new();
    let mut begun = 0;
    let mut tail = Tail::default();
    loop {
        tokio::select! {
            accepted = http.accept() => match accepted {
                Ok(Some(resolver)) => {
                    seat.work();
                    // Where the viewer is now: a connection outlives the change from one network to another.
                    requests.spawn(request(Arc::clone(door), resolver, quic.remote_address(), way.of_answer()));
                    begun += 1;
                    if begun == REQUESTS_PER_CONNECTION_MAX {
                        break;
                    }
                }
                Ok(None) => break,
                Err(_) => return,
            },
            Some(_) = requests.join_next() => {
                if way.link.is_stuck() {
                    break;
                }
                if requests.is_empty() {
                    tail = Tail::begin(&quic);
                }
            }
            () = &mut given_up => {
                door.node.metrics.http_connections_given_up.inc();
                break;
            }
            // What was written may still be on its way to a slow viewer.
            () = sleep(LOOK), if requests.is_empty() && seat.is_busy() => if !tail.is_taken(&quic, LOOK) {
                seat.wait(Instant::now());
            },
            // Pings keep a connection, but not one on which nothing is asked.
            () = sleep(idle), if requests.is_empty() && !seat.is_busy() => if !tail.is_taken(&quic, idle) {
                break;
            },
            _ = shutdown.wait_for(|down| *down) => break,
        }
    }
    //= https://www.rfc-editor.org/rfc/rfc9114#section-5.2
    //# Endpoints initiate the graceful shutdown of an HTTP/3 connection by sending a GOAWAY frame.
    // The first request that is not served: without the 1 it would be the last that is.
    if matches!(timeout(LINGER, http.shutdown(1)).await, Ok(Ok(()))) {
        while requests.join_next().await.is_some() {}
        // Closing at once would throw away what the viewer has not acknowledged.
        let mut tail = Tail::begin(&quic);
        while timeout(LINGER, quic.closed()).await.is_err() && tail.is_taken(&quic, LINGER) {}
    }
}

/// What of the answers is on its way when all are written, up to [`SEND_WINDOW_BYTES`].
#[derive(Default)]
struct Tail {
    /// Packets with a part of an answer that had left when it was looked at last.
    packets: u64,
    /// Bytes that may be left.
    rest: u64,
}

impl Tail {
    fn begin(quic: &Connection) -> Self {
        Self { packets: quic.stats().frame_tx.stream, rest: SEND_WINDOW_BYTES }
    }

    /// Whether the viewer took enough of it in the time since this was asked before, and there may be more. Packets
    /// that acknowledge the viewer's own do not count; those that are sent again do, and come ever more seldom to a
    /// viewer that tells of none.
    fn is_taken(&mut self, quic: &Connection, time: Duration) -> bool {
        let before = std::mem::replace(&mut self.packets, quic.stats().frame_tx.stream);
        let is_rest = self.rest > 0;
        self.rest = self.rest.saturating_sub(bytes_min(time));
        is_rest && (self.packets - before) * PACKET_BYTES >= bytes_min(time)
    }
}

async fn request(
    door: Arc<HttpDoor>,
    resolver: RequestResolver<Capped<h3_quinn::Connection>, Counted>,
    peer: SocketAddr,
    way: Way,
) {
    let deadline = door.node.config.http.header_deadline();
    let Ok(Ok((head, stream))) = timeout(deadline, resolver.resolve_request()).await else { return };
    let mut answer = Unfinished { stream, is_whole: false };
    let (mut head, ()) = head.into_parts();
    head.version = Version::HTTP_3;
    let length = head.headers.get(http::header::CONTENT_LENGTH);
    let has_body = match length.is_some_and(|length| length.as_bytes() != b"0") {
        true => true,
        // A content need not be announced, and the end of the stream may come a little after the header.
        false => match timeout(deadline, answer.stream.recv_data()).await {
            Ok(Ok(content)) => content.is_some(),
            Ok(Err(_)) => return,
            Err(_) => true,
        },
    };
    let start = Instant::now();
    let fields = std::mem::take(&mut head.headers);
    let mut intake = Intake::read(&head, fields, target_of(&head), has_body, (peer.ip(), true));
    if let Intake::Ready(request) = &mut intake {
        request.hand = way.link.hand.clone();
    }
    //= https://www.rfc-editor.org/rfc/rfc9114#section-4.1
    //# When the server does not need to receive the remainder of the request, it MAY abort reading the request stream, send a
    //# complete response, and cleanly close the sending part of the stream.
    // Only where a content may follow: a viewer that is just about to end its request need not be told to stop.
    if matches!(intake, Intake::Refused(..)) {
        answer.stream.stop_sending(Code::H3_NO_ERROR);
    }
    if respond(&door, &mut Session::Quic(&mut answer.stream, &way), intake, start, |_, _| {}).await {
        // The viewer may be gone by now; there is nobody to tell.
        let finished = timeout(way.link.deadline(), answer.stream.finish()).await;
        answer.is_whole = matches!(finished, Ok(Ok(())));
    }
}

/// An answer on its way. Quinn ends a stream that is dropped as if it were whole, so one that is not is reset.
struct Unfinished {
    stream: QuicStream,
    is_whole: bool,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.is_whole {
            self.stream.stop_stream(Code::H3_INTERNAL_ERROR);
        }
    }
}
