//! The HTTP door: HTTP/1.1 and HTTP/2 in clear and over TLS, a pingora `HttpServerApp` behind our own accept loop, so
//! that several edges run in one process; HTTP/3 beside it ([`quic`]).
//!
//! connection (caps, deadline) -> request (framing checked, header bounded) -> [`answer`] -> [`reply`] -> [`session`].

mod answer;
mod body;
mod capped;
mod conditions;
mod gathered;
mod headers;
mod page;
mod path;
mod proxy;
pub(crate) mod quic;
mod range;
mod reply;
mod representation;
mod request;
mod session;
mod tickets;
mod tls;
mod tree;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use ::http::{HeaderMap, StatusCode, header};
use async_trait::async_trait;
use pingora_core::{
    apps::{HttpPersistentSettings, HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp},
    protocols::{
        ALPN, IO, Ssl,
        http::{ServerSession, v2::server::H2Options},
        l4::stream::Stream,
    },
    server::ShutdownWatch,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinSet,
    time::{sleep, timeout},
};

use self::{
    gathered::Gathered,
    request::{HEADER_BYTES_MAX, Intake},
    session::Session,
};
use crate::{
    connections::{Connections, Place},
    node::Node,
};

pub use tls::{CertificateError, PairError};
pub(crate) use tls::{Terminator, certified_key};
pub(crate) use tree::Directories;

/// An idle connection is closed after so long.
const IDLE_SECONDS: u32 = 60;
/// A connection that is silent when the edge ends stays open so long, for a request that is on its way.
const LINGER: Duration = Duration::from_secs(1);
/// Requests on one connection: now and then a new one, so that memory of a connection does not only grow.
const REQUESTS_PER_CONNECTION_MAX: u32 = 10_000;
/// A viewer that takes fewer bytes per second is cut off; slow modems are faster.
const SEND_BYTES_PER_SECOND_MIN: usize = 2 * 1024;
/// A write of up to 64 KiB must end by then on HTTP/2 and HTTP/3, which have no rate.
const WRITE_DEADLINE: Duration = Duration::from_secs(30);
/// Requests at one time on a connection of HTTP/2 or HTTP/3.
const STREAMS_MAX: u32 = 64;
/// After a failed accept (out of descriptors) the next try waits, or the loop would spin.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// The door.
pub(crate) struct HttpDoor {
    pub(crate) node: Arc<Node>,
    pub(crate) directories: Directories,
    /// Of connections in clear, and of those over TLS, where ALPN says which HTTP it is.
    clear: HttpServerOptions,
    secure: HttpServerOptions,
    ways: Ways,
}

/// Which other ways viewers are told of.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ways {
    /// The port of HTTPS, when connections in clear are only sent there.
    pub(crate) redirect: Option<u16>,
    /// The port of HTTP/3.
    pub(crate) http3: Option<u16>,
}

impl HttpDoor {
    /// Makes the door.
    pub(crate) fn new(node: Arc<Node>, ways: Ways) -> Self {
        let options = |h2c| {
            let mut options = HttpServerOptions::default();
            options.h2c = h2c;
            options.keepalive_request_limit = Some(REQUESTS_PER_CONNECTION_MAX);
            options.h2_idle_timeout = Some(Duration::from_secs(IDLE_SECONDS.into()));
            options
        };
        Self { node, directories: Directories::new(), clear: options(true), secure: options(false), ways }
    }

    /// Accepts connections until the shutdown is called, then lets those under way end; dropping it cuts them.
    pub(crate) async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        terminator: Option<Arc<Terminator>>,
        mut shutdown: ShutdownWatch,
    ) {
        let http = &self.node.config.http;
        let connections = Connections::new(http.connections_max, http.connections_per_address_max);
        let mut tasks = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = shutdown.wait_for(|down| *down) => break,
            };
            while tasks.try_join_next().is_some() {}
            match accepted {
                Err(error) => {
                    tracing::warn!(%error, "connection not accepted");
                    sleep(ACCEPT_RETRY).await;
                }
                Ok((mut stream, peer)) => {
                    let Some(admitted) = connections.admit() else {
                        self.node.metrics.http_connections_refused.inc();
                        continue;
                    };
                    let (door, shutdown) = (Arc::clone(&self), shutdown.clone());
                    let terminator = terminator.clone();
                    let place = Arc::clone(admitted.place());
                    place.wait(Instant::now());
                    let gives_way = Arc::clone(&place);
                    let served = async move {
                        let Some(peer) = door.viewer(&mut stream, peer).await else { return };
                        let Some(admitted) = admitted.of(peer.ip()) else {
                            door.node.metrics.http_connections_refused.inc();
                            return;
                        };
                        let gauge = Gauged::new(&door.node);
                        connection(&door, stream, peer, terminator.as_deref(), place, &shutdown).await;
                        drop((gauge, admitted));
                    };
                    let node = Arc::clone(&self.node);
                    tasks.spawn(async move {
                        tokio::select! {
                            () = served => {}
                            () = gives_way.given_up() => drop(node.metrics.http_connections_given_up.inc()),
                        }
                    });
                }
            }
        }
        while tasks.join_next().await.is_some() {}
    }

    /// Returns who is at the other end: the peer, or whom a balancer names.
    async fn viewer(&self, stream: &mut TcpStream, peer: SocketAddr) -> Option<SocketAddr> {
        if !self.node.config.http.is_balancer(peer.ip()) {
            return Some(peer);
        }
        let named = timeout(self.node.config.http.header_deadline(), proxy::viewer(stream, peer)).await.ok().flatten();
        if named.is_none() {
            tracing::debug!(balancer = %peer, "a connection without a PROXY header was closed");
        }
        named
    }
}

/// Counts a connection while it lives.
struct Gauged(Arc<Node>);

impl Gauged {
    fn new(node: &Arc<Node>) -> Self {
        node.metrics.http_connections.inc();
        Self(Arc::clone(node))
    }
}

impl Drop for Gauged {
    fn drop(&mut self) {
        self.0.metrics.http_connections.dec();
    }
}

async fn connection(
    door: &Arc<HttpDoor>,
    stream: TcpStream,
    peer: SocketAddr,
    terminator: Option<&Terminator>,
    place: Arc<Place>,
    shutdown: &ShutdownWatch,
) {
    // Answers are written whole; waiting for more to send only delays their last packet.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let stream: Stream = stream.into();
    let (stream, is_secure): (Box<dyn IO>, bool) = match terminator {
        None => (Box::new(Gathered::new(stream)), false),
        Some(terminator) => match terminator.accept(stream).await {
            Some(stream) if stream.selected_alpn_proto() == Some(ALPN::H2) => {
                (Box::new(Gathered::of_streams(stream)), true)
            }
            Some(stream) => (Box::new(Gathered::new(stream)), true),
            None => return,
        },
    };
    let (begun, first) = (AtomicBool::new(false), Notify::new());
    let app = Arc::new(Connection { door: Arc::clone(door), peer, is_secure, begun, first, place });
    let late = async {
        // A connection on which no request begins holds a place for nothing; pingora's own deadlines are per read.
        if timeout(door.node.config.http.header_deadline(), app.first.notified()).await.is_ok() {
            std::future::pending::<()>().await;
        }
    };
    let idle = async {
        // An answer that begins after the shutdown closes its connection, so what is silent after this was silent all
        // the while.
        let _ = shutdown.clone().wait_for(|down| *down).await;
        sleep(LINGER).await;
        while app.place.is_busy() {
            sleep(LINGER).await;
        }
    };
    tokio::select! {
        _ = app.process_new(stream, shutdown) => {}
        () = late => {}
        () = idle => {}
    }
}

/// One connection: pingora asks it for each request.
struct Connection {
    door: Arc<HttpDoor>,
    peer: SocketAddr,
    is_secure: bool,
    begun: AtomicBool,
    first: Notify,
    /// Busy from a request's header to the last byte of its answer. A connection of HTTP/2 stays so: pingora ends it by
    /// GOAWAY, once its streams have ended.
    place: Arc<Place>,
}

#[async_trait]
impl HttpServerApp for Connection {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let header_deadline = self.door.node.config.http.header_deadline();
        session.set_read_timeout(Some(header_deadline));
        session.set_write_timeout(Some(WRITE_DEADLINE));
        session.set_min_send_rate(Some(SEND_BYTES_PER_SECOND_MIN));
        // The first header has its own deadline; later ones may idle before they begin.
        let is_first = !self.begun.swap(true, Ordering::Relaxed);
        let patience =
            if is_first { header_deadline } else { header_deadline + Duration::from_secs(IDLE_SECONDS.into()) };
        let read = timeout(patience, session.read_request()).await;
        self.first.notify_one();
        let start = Instant::now();
        let intake = match read {
            // The other side closed, or was silent for too long.
            Ok(Ok(false)) | Err(_) => return None,
            // No header was understood, so there is nothing to answer in the other side's terms.
            Ok(Err(_)) => {
                session.set_keepalive(None);
                let fields = HeaderMap::from_iter([(header::CONTENT_LENGTH, 0.into())]);
                let _ = Session::Pingora(&mut session).head(StatusCode::BAD_REQUEST, fields).await;
                let _ = session.finish().await;
                return None;
            }
            Ok(Ok(true)) => {
                let has_body = !session.is_body_empty();
                Intake::read(session.req_header(), has_body, self.peer, self.is_secure)
            }
        };
        self.place.work();
        if *shutdown.borrow() {
            // Told with the answer, so that the viewer sends no more on this connection.
            session.set_keepalive(None);
        }
        if !respond(&self.door, &mut Session::Pingora(&mut session), intake, start).await {
            return None;
        }
        let settings = HttpPersistentSettings::for_session(&session);
        // HTTP/2 has no stream to give back.
        let reusable = session.finish().await.ok()??;
        self.place.wait(Instant::now());
        Some(ReusedHttpStream::from_reusable_stream(reusable, settings))
    }

    fn h2_options(&self) -> Option<H2Options> {
        let mut options = H2Options::new();
        options.max_concurrent_streams(STREAMS_MAX);
        options.max_header_list_size(HEADER_BYTES_MAX);
        Some(options)
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(if self.is_secure { &self.door.secure } else { &self.door.clear })
    }
}

/// Answers one request. False when the connection, or the stream, is of no more use.
async fn respond(door: &Arc<HttpDoor>, session: &mut Session<'_>, intake: Intake, start: Instant) -> bool {
    let (request, reply) = match intake {
        Intake::Refused(request, fault) => {
            let reply = reply::refusal(&request, &fault);
            (request, reply)
        }
        Intake::Ready(request) => {
            let reply = match door.ways.redirect.filter(|_| !request.is_secure) {
                Some(port) => answer::to_https(door, &request, port),
                None => answer::answer(door, &request).await,
            };
            (request, reply)
        }
    };
    reply.send(door, session, request, start).await
}
