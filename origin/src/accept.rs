//! The door of the node API: TCP, mutual TLS 1.3, HTTP/2. Every connection belongs to a named peer, has a bound on its
//! requests and its memory, and ends when the node stops.

use std::{future::Future, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::{Router, body::Body, http::Request};
use client::{
    Membership, PING_DEADLINE, Serial, Socket, shaken, socket,
    tls::{Leaf, TlsError},
};
use format::wire::Role;
use hyper::{body::Incoming, rt::Executor, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_rustls::server::TlsStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use crate::{node::Node, peer::Peer};

/// Headers of one request: the paths are short, and nothing else matters.
const HEADER_BYTES_MAX: u32 = 16 * 1024;
/// What a peer may send unasked on one request: 20 MB/s over a round trip of 100 ms.
const STREAM_WINDOW_BYTES: u32 = 2 << 20;
/// The same on one connection.
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;
/// What may wait in memory to be sent on one request.
const SEND_BUFFER_BYTES: usize = 1 << 20;
/// After this much silence, a ping gives the peer something to acknowledge.
const PING_EVERY: Duration = Duration::from_secs(20);
/// Pause when the system has no more files or memory for a connection.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Why a connection was not served. The fault is the peer's.
#[derive(Debug, thiserror::Error)]
enum HandshakeError {
    #[error("the handshake took too long")]
    TooSlow,
    #[error("the handshake failed")]
    Failed(#[from] io::Error),
    #[error("the peer does not speak HTTP/2")]
    Protocol,
    #[error(transparent)]
    Peer(#[from] TlsError),
}

/// Accepts connections until the node stops; those open are then asked to end, and cut when `cut` is cancelled.
pub(crate) async fn accept(
    node: Arc<Node>,
    listener: TcpListener,
    membership: Arc<Membership>,
    router: Router,
    cut: CancellationToken,
) {
    let room = Arc::new(Semaphore::new(usize::try_from(node.config.limits.connections_max).unwrap_or(usize::MAX)));
    loop {
        let next = async {
            let permit = room.clone().acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            () = node.stop.cancelled() => return,
            next = next => next,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (node, membership, router, cut) = (node.clone(), membership.clone(), router.clone(), cut.clone());
        let tasks = node.tasks.clone();
        tasks.spawn(async move {
            let _permit = permit;
            let served = serve(&node, stream, address, &membership, router);
            tokio::select! {
                () = cut.cancelled() => {}
                () = served => {}
            }
        });
    }
}

async fn serve(node: &Arc<Node>, stream: TcpStream, address: SocketAddr, membership: &Membership, router: Router) {
    let deadline = Duration::from_secs(node.config.limits.handshake_seconds);
    let shaken = timeout(deadline, shake(stream, membership)).await.unwrap_or(Err(HandshakeError::TooSlow));
    let (stream, peer, serial) = match shaken {
        Ok(shaken) => shaken,
        Err(error) => {
            node.metrics.handshake_failures.inc();
            // A thief, or a node whose operator should know: with its name, which it has proven.
            if matches!(error, HandshakeError::Peer(TlsError::Listed { .. })) {
                tracing::warn!(%error, "connection refused");
            }
            tracing::debug!(%address, %error, "no handshake");
            return;
        }
    };
    node.metrics.connections.inc();
    let name = peer.name.clone();
    tokio::select! {
        talked = talk(node, stream, peer, router) => if let Err(error) = talked {
            tracing::debug!(peer = %name, %error, "a connection broke");
        },
        () = membership.refuses(&serial) => tracing::warn!(peer = %name, "connection cut: the cluster refuses its certificate"),
    }
    node.metrics.connections.dec();
}

async fn shake(
    stream: TcpStream,
    membership: &Membership,
) -> Result<(TlsStream<Socket>, Peer, Serial), HandshakeError> {
    let stream = shaken(membership.acceptor().accept(socket(stream, Role::Origin)?).into_fallible()).await?;
    let (_, session) = stream.get_ref();
    if session.alpn_protocol() != Some(b"h2") {
        return Err(HandshakeError::Protocol);
    }
    let Leaf { name, role, serial, .. } = membership.admit(session.peer_certificates())?;
    Ok((stream, Peer { name, role, gone: CancellationToken::new() }, serial))
}

async fn talk(node: &Arc<Node>, stream: TlsStream<Socket>, peer: Peer, router: Router) -> Result<(), hyper::Error> {
    let _gone = peer.gone.clone().drop_guard();
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        router.clone().oneshot(request.map(Body::new))
    });
    let connection = http2::Builder::new(Tracked(node.tasks.clone()))
        .timer(TokioTimer::new())
        .max_concurrent_streams(node.config.limits.streams_max)
        .max_header_list_size(HEADER_BYTES_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_DEADLINE)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    tokio::select! {
        done = connection.as_mut() => return done,
        () = node.stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}

/// Runs the tasks of a connection under the node's tracker, so that none outlives the node unseen.
#[derive(Clone)]
struct Tracked(TaskTracker);

impl<F> Executor<F> for Tracked
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, task: F) {
        self.0.spawn(task);
    }
}
