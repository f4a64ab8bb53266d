//! The port on which the other edges of the region ask for strips: HTTP/2 over TLS with certificates of the cluster,
//! and edges alone are answered.
//!
//! Keeps true: a question is answered from here or from the origin that it names, and never passed on to a third edge,
//! so no ring of edges can form; whoever asks learns no more than the origin would tell it; connections, requests and
//! their time are bounded.

use std::{collections::HashMap, convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use client::{Membership, PING_DEADLINE, Serial, tls::Leaf, tune};
use format::{
    NodeName,
    wire::{self, ApiError, Role, StripPath},
};
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER},
};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::server::TlsStream;

use crate::{listen::ACCEPT_RETRY, node::Node, store::region::NotBrought};

/// A region has tens of edges, each with one connection, and one more while it is replaced.
const CONNECTIONS_MAX: usize = 256;
const CONNECTIONS_OF_ONE_MAX: usize = 2;
/// For the handshake.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);
/// Questions of one connection at one time; each is answered with one strip.
const STREAMS_MAX: u32 = 64;
/// A path has 350 bytes at most, and nothing else matters.
const HEADER_BYTES_MAX: u32 = 8 * 1024;
/// What may wait in memory to be sent on one request: a strip.
const SEND_BUFFER_BYTES: usize = 300 * 1024;
/// After this much silence a ping gives the peer something to acknowledge.
const PING_EVERY: Duration = Duration::from_secs(20);

/// Answers until dropped, which cuts what is open.
pub(crate) async fn serve(node: Arc<Node>, listener: TcpListener, membership: Arc<Membership>) {
    let mut peers = Peers::default();
    let mut handshakes: JoinSet<Option<Shaken>> = JoinSet::new();
    let mut connections: JoinSet<NodeName> = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if handshakes.len() + connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((stream, _)) => {
                    let membership = Arc::clone(&membership);
                    handshakes.spawn(async move {
                        timeout(HANDSHAKE_DEADLINE, shake(stream, &membership)).await.ok()?
                    });
                }
                Err(_) => sleep(ACCEPT_RETRY).await,
            },
            Some(shaken) = handshakes.join_next() => {
                let Some(Shaken { stream, name, serial }) = shaken.ok().flatten() else { continue };
                if !peers.enter(&name) {
                    continue;
                }
                let (node, membership) = (Arc::clone(&node), Arc::clone(&membership));
                connections.spawn(async move {
                    tokio::select! {
                        () = talk(node, stream) => {}
                        () = membership.refuses(&serial) => {
                            tracing::warn!(peer = %name, "connection cut: the cluster refuses its certificate");
                        }
                    }
                    name
                });
            }
            Some(Ok(name)) = connections.join_next() => peers.leave(&name),
        }
    }
}

/// How many connections each peer has.
#[derive(Debug, Default)]
struct Peers(HashMap<NodeName, usize>);

impl Peers {
    /// Takes a connection in, unless the peer has as many as it may.
    fn enter(&mut self, name: &NodeName) -> bool {
        let open = self.0.entry(name.clone()).or_default();
        let may = *open < CONNECTIONS_OF_ONE_MAX;
        *open += usize::from(may);
        may
    }

    fn leave(&mut self, name: &NodeName) {
        let Some(open) = self.0.get_mut(name) else { return };
        *open -= 1;
        if *open == 0 {
            self.0.remove(name);
        }
    }
}

/// A connection of an edge that is who it says.
struct Shaken {
    stream: TlsStream<TcpStream>,
    name: NodeName,
    serial: Serial,
}

async fn shake(stream: TcpStream, membership: &Membership) -> Option<Shaken> {
    tune(&stream).ok()?;
    let stream = membership.acceptor().accept(stream).await.ok()?;
    let (_, session) = stream.get_ref();
    let is_http2 = session.alpn_protocol() == Some(b"h2");
    let Leaf { name, role, serial, .. } = membership.admit(session.peer_certificates()).ok()?;
    if !is_http2 || role != Role::Edge {
        tracing::debug!(%name, "only edges are answered here, over HTTP/2");
        return None;
    }
    Some(Shaken { stream, name, serial })
}

async fn talk(node: Arc<Node>, stream: TlsStream<TcpStream>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let node = Arc::clone(&node);
        let path = Some(request.uri().path()).filter(|_| request.method() == Method::GET).and_then(StripPath::parse);
        async move { Ok::<_, Infallible>(answer(&node, path).await) }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_BYTES_MAX)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_DEADLINE)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection of another edge broke");
    }
}

async fn answer(node: &Node, path: Option<StripPath>) -> Response<Full<Bytes>> {
    let Some(path) = path else {
        return refuse(StatusCode::NOT_FOUND, wire::Fault::Caller, "there are strips here, and nothing else");
    };
    match node.fills.bring(path).await {
        Ok(strip) => {
            let mut answer = Response::new(Full::new(strip));
            answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
            answer
        }
        Err(NotBrought::NoStrip) => {
            refuse(StatusCode::BAD_REQUEST, wire::Fault::Caller, "this is no strip of an origin that is known here")
        }
        Err(NotBrought::Busy) => {
            let mut answer = refuse(
                StatusCode::SERVICE_UNAVAILABLE,
                wire::Fault::Node,
                "too many strips are being brought; ask the origin",
            );
            answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
            answer
        }
        Err(NotBrought::Missing) => {
            refuse(StatusCode::BAD_GATEWAY, wire::Fault::Node, "the origin does not give the strip; ask it yourself")
        }
    }
}

fn refuse(status: StatusCode, fault: wire::Fault, error: &str) -> Response<Full<Bytes>> {
    let body = serde_json::to_vec(&ApiError { error: error.to_owned(), fault }).expect("an error has only JSON types");
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}
