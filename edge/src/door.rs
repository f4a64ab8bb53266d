//! The HTTP door: one accept loop deals connections to [`worker`]s. Common requests of HTTP/1.1 are read by [`h1`],
//! a narrow codec of our own; HTTP/2 and all other forms by pingora; HTTP/3 comes in beside them ([`h3`]).
//!
//! connection (caps, deadlines) -> request (framing checked, header bounded) -> [`answer`]
//! -> [`session`].

mod capped;
mod gathered;
mod h1;
pub(crate) mod h3;
mod proxy;
mod send;
mod session;
mod tickets;
mod tls;
mod worker;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use http::{HeaderMap, StatusCode, Version, header, request::Parts};
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
    sync::{Notify, mpsc},
    time::{sleep, timeout},
};

use self::{
    gathered::Gathered,
    h1::{Plain, Rest, Wire},
    send::PIECE_BYTES,
    session::Session,
    tls::TlsStream,
    worker::{Dealt, Worker},
};
use crate::{
    answer::{
        self, head,
        ready::{Asker, Given},
        reply::{self, Reply, Ways},
        request::{Asked, HEADER_BYTES_MAX, Intake, Request, RequestId, for_logs},
    },
    listen::{
        ACCEPT_RETRY,
        connections::{Connections, Seat},
    },
    node::Node,
};

pub(crate) use tls::Terminator;
pub(crate) use worker::Workers;

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

/// The door.
pub(crate) struct HttpDoor {
    pub(crate) node: Arc<Node>,
    /// Of connections that begin as HTTP/2 in clear, and of all others: ALPN says which HTTP it is, or it is HTTP/1.1.
    h2c: HttpServerOptions,
    others: HttpServerOptions,
    ways: Ways,
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
        Self { node, h2c: options(true), others: options(false), ways }
    }

    /// Accepts connections and deals them to the workers until the shutdown is called, then lets those under way end.
    pub(crate) async fn serve(
        self: Arc<Self>,
        workers: Arc<Workers>,
        listener: TcpListener,
        terminator: Option<Arc<Terminator>>,
        mut shutdown: ShutdownWatch,
    ) {
        let http = &self.node.config.http;
        let connections = Connections::new(http.connections_max, http.connections_per_address_max);
        let (alive, mut all_ended) = mpsc::channel(1);
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = shutdown.wait_for(|down| *down) => break,
            };
            match accepted {
                Err(error) => {
                    tracing::warn!(%error, "connection not accepted");
                    sleep(ACCEPT_RETRY).await;
                }
                Ok((stream, peer)) => {
                    let Some(admitted) = connections.admit() else {
                        self.node.metrics.http_connections_refused.inc();
                        continue;
                    };
                    admitted.seat().wait(Instant::now());
                    // One that the system takes back is closed.
                    let Ok(stream) = stream.into_std() else { continue };
                    let (terminator, shutdown, alive) = (terminator.clone(), shutdown.clone(), alive.clone());
                    workers.deal(Dealt { stream, peer, terminator, admitted, shutdown, alive });
                }
            }
        }
        drop(alive);
        let _ = all_ended.recv().await;
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

/// Serves a connection on its worker.
async fn connection(worker: &Worker, dealt: Dealt) {
    let Dealt { stream, peer, terminator, admitted, shutdown, alive } = dealt;
    let (door, seat) = (&worker.door, Arc::clone(admitted.seat()));
    // Answers are written whole; waiting for more to send only delays their last packet.
    let Ok(mut stream) = stream.set_nodelay(true).and_then(|()| TcpStream::from_std(stream)) else { return };
    let opening = async {
        let peer = door.viewer(&mut stream, peer).await?;
        let Some(admitted) = admitted.of(peer.ip()) else {
            door.node.metrics.http_connections_refused.inc();
            return None;
        };
        let wire = match &terminator {
            None => Wire::Clear(stream),
            Some(terminator) => Wire::Secure(terminator.accept(stream.into()).await?),
        };
        Some((peer, admitted, wire))
    };
    let opened = tokio::select! {
        opened = opening => opened,
        () = seat.given_up() => {
            door.node.metrics.http_connections_given_up.inc();
            return;
        }
    };
    let Some((peer, admitted, wire)) = opened else { return };
    let gauge = Gauged::new(&door.node);
    let ip = peer.ip().to_canonical();
    let asker = Asker { peer: ip, place: door.node.places.locate(ip).place, is_secure: terminator.is_some() };
    let rest = match wire {
        Wire::Secure(stream) if is_h2(&stream) => Some(Rest { wire: Wire::Secure(stream), read: Vec::new() }),
        wire => Plain::new(wire).serve(worker, &asker, &seat, &shutdown).await,
    };
    if let Some(rest) = rest {
        tokio::select! {
            () = by_pingora(door, rest, peer, asker, &seat, &shutdown) => {}
            () = seat.given_up() => drop(door.node.metrics.http_connections_given_up.inc()),
        }
    }
    drop((gauge, admitted, alive));
}

fn is_h2(stream: &TlsStream) -> bool {
    stream.selected_alpn_proto() == Some(ALPN::H2)
}

/// Leaves a connection to pingora for good.
async fn by_pingora(
    door: &Arc<HttpDoor>,
    rest: Rest,
    peer: SocketAddr,
    asker: Asker,
    seat: &Arc<Seat>,
    shutdown: &ShutdownWatch,
) {
    let Rest { wire, read } = rest;
    // The preface of HTTP/2 in clear (RFC 9113 section 3.4), of which no other request has the beginning.
    let is_h2c = matches!(wire, Wire::Clear(_)) && !read.is_empty() && read.iter().zip(b"PRI").all(|(a, b)| a == b);
    let stream: Box<dyn IO> = match wire {
        Wire::Clear(stream) => Box::new(Gathered::new(Stream::from(stream)).after(read)),
        Wire::Secure(stream) if is_h2(&stream) => Box::new(Gathered::of_streams(stream)),
        Wire::Secure(stream) => Box::new(Gathered::new(stream).after(read)),
    };
    let (begun, first) = (AtomicBool::new(false), Notify::new());
    let (door, seat) = (Arc::clone(door), Arc::clone(seat));
    let app = Arc::new(Connection { door, peer, asker, is_h2c, begun, first, requests: AtomicUsize::new(0), seat });
    let late = async {
        // A connection on which no request begins holds a seat for nothing; pingora's own deadlines are per read.
        if timeout(app.door.node.config.http.header_deadline(), app.first.notified()).await.is_ok() {
            std::future::pending::<()>().await;
        }
    };
    let idle = async {
        // An answer that begins after the shutdown closes its connection, so what is silent after this was silent all
        // the while.
        let _ = shutdown.clone().wait_for(|down| *down).await;
        sleep(LINGER).await;
        while app.seat.is_busy() {
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
    asker: Asker,
    /// Whether it began as one of HTTP/2 in clear.
    is_h2c: bool,
    begun: AtomicBool,
    first: Notify,
    /// Requests under way.
    requests: AtomicUsize,
    /// Busy from the first request's header to the last byte of the last answer.
    seat: Arc<Seat>,
}

impl Connection {
    /// Returns the answer to a request, where the worker has one ready.
    fn given(&self, head: &Parts, now: Instant) -> Option<Given> {
        let mut room = head::ROOM;
        let head = head::of_parts(head, &mut room)?;
        Worker::here()?.give(&head, &self.asker, now)
    }
}

/// A request under way; its connection waits for another once the last of them is dropped.
struct Busy<'c>(&'c Connection);

impl<'c> Busy<'c> {
    fn new(connection: &'c Connection) -> Self {
        connection.requests.fetch_add(1, Ordering::Relaxed);
        connection.seat.work();
        Self(connection)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        // All of a connection's requests are on one thread.
        if self.0.requests.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.seat.wait(Instant::now());
        }
    }
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
        match read {
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
            Ok(Ok(true)) => {}
        }
        let _busy = Busy::new(self);
        let has_body = !session.is_body_empty();
        let is_common = session.is_http2() && !has_body;
        if let Some(given) = is_common.then(|| self.given(session.req_header(), start)).flatten() {
            let (viewer, method) = (for_logs(self.asker.peer), session.req_header().method.clone());
            let asked = Asked { id: RequestId::next(), viewer, version: Version::HTTP_2, method: method.as_str() };
            if given.send(&self.door.node, &mut Session::Pingora(&mut session), &asked, start).await {
                let _ = session.finish().await;
            }
            return None;
        }
        let mut intake = Intake::read(session.req_header(), has_body, self.peer, self.asker.is_secure);
        if let Intake::Ready(request) = &mut intake {
            request.keeps = is_common && head::wants_whole(&request.fields);
        }
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
        Some(ReusedHttpStream::from_reusable_stream(reusable, settings))
    }

    fn h2_options(&self) -> Option<H2Options> {
        let mut options = H2Options::new();
        options.max_concurrent_streams(STREAMS_MAX);
        options.max_header_list_size(HEADER_BYTES_MAX);
        // What a slow viewer has not taken lies in it, outside the bounds of blocks on their way: 400 KiB if not said.
        options.max_send_buffer_size(PIECE_BYTES);
        Some(options)
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(if self.is_h2c { &self.door.h2c } else { &self.door.others })
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
            let mut reply = make(door, &request).await;
            if let Some((ready, worker)) = reply.ready.take().zip(Worker::here()) {
                worker.keep(&request.authority, &request.target(), *ready);
            }
            (request, reply)
        }
    };
    reply.send((&door.node, door.ways), session, request, start).await
}

/// Makes the answer to a request whose framing is good.
async fn make(door: &Arc<HttpDoor>, request: &Request) -> Reply {
    match door.ways.redirect.filter(|_| !request.is_secure) {
        Some(port) => answer::to_https(&door.node, request, port),
        None => answer::answer(&door.node, door.ways, request).await,
    }
}
