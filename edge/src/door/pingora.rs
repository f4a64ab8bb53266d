//! What is left to pingora: the requests of HTTP/1.1 that the codec of our own does not take.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use http::{HeaderMap, StatusCode, Version, header};
use pingora_core::{
    apps::{HttpPersistentSettings, HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp},
    protocols::http::ServerSession,
    server::ShutdownWatch,
};
use tokio::time::{sleep, timeout};

use super::{
    gathered::Gathered,
    limits::LINGER,
    respond::respond,
    send::{Sent, VIEWER_LEFT},
    session::{Session, in_time},
    shared::HttpDoor,
    wire::{Left, Rest},
};
use crate::{
    answer::request::{Asked, Intake, RequestId, for_logs},
    listen::connections::Seat,
    store::body::Source,
};

/// Serves a connection to its end.
pub(super) async fn serve(
    door: &Arc<HttpDoor>,
    rest: Rest,
    peer: IpAddr,
    is_secure: bool,
    seat: &Arc<Seat>,
    shutdown: &ShutdownWatch,
) {
    let Rest { wire, read } = rest;
    let stream = Box::new(Gathered::new(wire, read));
    let (door, seat) = (Arc::clone(door), Arc::clone(seat));
    let app = Arc::new(Connection { door, peer, is_secure, begun: AtomicBool::new(false), seat });
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
        () = idle => {}
    }
}

/// One connection: pingora asks it for each request.
struct Connection {
    door: Arc<HttpDoor>,
    peer: IpAddr,
    is_secure: bool,
    begun: AtomicBool,
    /// Busy from a request's header to the last byte of its answer.
    seat: Arc<Seat>,
}

/// A request under way; its connection waits for another once it is dropped.
struct Busy<'c>(&'c Seat);

impl<'c> Busy<'c> {
    fn new(seat: &'c Seat) -> Self {
        seat.work();
        Self(seat)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.wait(Instant::now());
    }
}

/// Ends an answer, and closes the connection in order where it was the last one.
async fn finish(session: ServerSession, write_deadline: Duration) -> Option<ReusedHttpStream> {
    let settings = HttpPersistentSettings::for_session(&session);
    let ServerSession::H1(mut session) = session else { return None };
    in_time(write_deadline, session.finish_body()).await.ok()?;
    if !session.will_keepalive() {
        session.into_inner().shutdown().await;
        return None;
    }
    let reusable = session.reuse().await.ok()??;
    Some(ReusedHttpStream::from_reusable_stream(reusable, settings))
}

#[async_trait]
impl HttpServerApp for Connection {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let http = &self.door.node.config.http;
        let (header_deadline, write_deadline) = (http.header_deadline(), http.write_deadline());
        session.set_read_timeout(Some(header_deadline));
        // What comes behind this request is kept for the next one.
        session.set_pipelining_enabled(true);
        // The first header has its own deadline; later ones may idle before they begin.
        let is_first = !self.begun.swap(true, Ordering::Relaxed);
        let patience = if is_first { header_deadline } else { header_deadline + http.idle() };
        let read = timeout(patience, session.read_request()).await;
        let start = Instant::now();
        match read {
            // The other side closed, or was silent for too long.
            Ok(Ok(false)) | Err(_) => return None,
            // No header was understood, so there is nothing to answer in the other side's terms.
            Ok(Err(_)) => {
                session.set_keepalive(None);
                let (id, viewer) = (RequestId::next(), for_logs(self.peer));
                let asked = Asked { id, viewer, version: Version::HTTP_11, method: "-" };
                let mut sent = Sent::begin(&self.door.node, asked, start);
                sent.of(StatusCode::BAD_REQUEST, Source::Own, None);
                let fields = HeaderMap::from_iter([(header::CONTENT_LENGTH, 0.into())]);
                let written =
                    Session::Pingora(&mut session, write_deadline).head(StatusCode::BAD_REQUEST, fields).await;
                sent.end(written.map_err(|Left| VIEWER_LEFT));
                return finish(session, write_deadline).await;
            }
            Ok(Ok(true)) => {}
        }
        let _busy = Busy::new(&self.seat);
        let has_body = !session.is_body_empty();
        let (head, from) = (session.req_header(), (self.peer, self.is_secure));
        let intake = Intake::read(head, head.headers.clone(), head.raw_path(), has_body, from);
        if *shutdown.borrow() || has_body {
            // Told with the answer, so that the viewer sends no more on this connection.
            session.set_keepalive(None);
        }
        if !respond(&self.door, &mut Session::Pingora(&mut session, write_deadline), intake, start, |_, _| {}).await {
            return None;
        }
        finish(session, write_deadline).await
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(&self.door.options)
    }
}
