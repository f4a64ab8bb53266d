//! What is left to pingora: HTTP/2, and the requests of HTTP/1.1 that the codec of our own does not take.

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
    sync::Notify,
    time::{sleep, timeout},
};

use super::{
    gathered::Gathered,
    limits::{IDLE_SECONDS, LINGER, PIECE_BYTES, SEND_BYTES_PER_SECOND_MIN, STREAMS_MAX, WRITE_DEADLINE},
    respond::respond,
    session::Session,
    shared::HttpDoor,
    tls::TlsStream,
    wire::{Rest, Wire},
    worker::Worker,
};
use crate::{
    answer::{
        head::{self, HEADER_BYTES_MAX},
        ready::{Asker, Given},
        request::{Asked, Intake, RequestId, for_logs},
    },
    listen::connections::Seat,
};

/// Whether a connection over TLS is to speak HTTP/2.
pub(super) fn is_h2(stream: &TlsStream) -> bool {
    stream.selected_alpn_proto() == Some(ALPN::H2)
}

/// Leaves a connection to pingora for good.
pub(super) async fn by_pingora(
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
