//! The port on which the other edges of the region ask for strips: HTTP/2 over TLS with certificates of the cluster,
//! and edges alone are answered.
//!
//! Keeps true: a question is answered from here or from the origin that it names, and never passed on to a third edge,
//! so no ring of edges can form; whoever asks learns no more than the origin would tell it; connections, requests and
//! their time are bounded, and strangers take no place of a member.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use client::{Membership, PING_DEADLINE, Serial, Socket, shaken, socket, tls::Leaf};
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
use prometheus_client::metrics::counter::Counter;
use tokio::{
    net::TcpListener,
    sync::{Notify, oneshot, watch},
    time::timeout,
};
use tokio_rustls::server::TlsStream;

use crate::{
    listen::{
        accept::{Accepted, Acceptor},
        connections::Connections,
    },
    node::Node,
    store::region::NotBrought,
};

/// A region has tens of edges, each with one connection, and one more while it is replaced.
const CONNECTIONS_MAX: usize = 256;
const CONNECTIONS_OF_ONE_MAX: usize = 2;
/// Handshakes under way, of whoever it is; those of one address, or of one IPv6 /64.
const HANDSHAKES_MAX: usize = 128;
const HANDSHAKES_OF_ONE_MAX: usize = 8;
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);
/// Questions of one connection at one time; each is answered with one strip.
const STREAMS_MAX: u32 = 64;
/// A path has 350 bytes at most, and nothing else matters.
const HEADER_BYTES_MAX: u32 = 8 * 1024;
/// What may wait in memory to be sent on one request: a strip.
const SEND_BUFFER_BYTES: usize = 300 * 1024;
/// A strip must be sent by then, or the connection is cut: it has room in memory until it is.
const SEND_DEADLINE: Duration = Duration::from_secs(15);
/// After this much silence a ping gives the peer something to acknowledge.
const PING_EVERY: Duration = Duration::from_secs(20);

/// Answers until the shutdown; dropping it cuts what is open.
pub(crate) async fn serve(
    node: Arc<Node>,
    socket: TcpListener,
    membership: Arc<Membership>,
    shutdown: watch::Receiver<bool>,
) {
    // Nobody counts those that are refused.
    let handshakes = Connections::new(HANDSHAKES_MAX, HANDSHAKES_OF_ONE_MAX, Counter::default());
    let (places, faults) = (Places::default(), node.metrics.accept_faults.clone());
    let serve = |accepted: Accepted| {
        let (node, membership, places) = (Arc::clone(&node), Arc::clone(&membership), places.clone());
        async move {
            let Some(Shaken { stream, name, serial }) = shake(accepted, &membership).await else { return };
            let Some(_place) = places.take(&name) else { return };
            tokio::select! {
                () = talk(node, &name, stream) => {}
                () = membership.refuses(&serial) => {
                    tracing::warn!(peer = %name, "connection cut: the cluster refuses its certificate");
                }
            }
        }
    };
    Acceptor::new(socket, handshakes, faults, shutdown).each(serve).await;
}

/// The places of edges that are who they say: how many each of them has.
#[derive(Clone, Default)]
struct Places(Arc<Mutex<HashMap<NodeName, usize>>>);

/// A place, given up when this is dropped, however its holder ends.
struct Place {
    of: NodeName,
    places: Places,
}

impl Places {
    /// Takes a place, unless all are taken or this edge has as many as it may.
    fn take(&self, of: &NodeName) -> Option<Place> {
        let mut taken = self.taken();
        let of_one = taken.get(of).copied().unwrap_or(0);
        if of_one >= CONNECTIONS_OF_ONE_MAX || taken.values().sum::<usize>() >= CONNECTIONS_MAX {
            return None;
        }
        taken.insert(of.clone(), of_one + 1);
        Some(Place { of: of.clone(), places: self.clone() })
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<NodeName, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.places.taken();
        let Some(taken) = all.get_mut(&self.of) else { return };
        *taken -= 1;
        if *taken == 0 {
            all.remove(&self.of);
        }
    }
}

/// A connection of an edge that is who it says.
struct Shaken {
    stream: TlsStream<Socket>,
    name: NodeName,
    serial: Serial,
}

/// Has a connection say who it is. At the limit of all handshakes the one that takes longest gives way; its seat is
/// free when it ends, so strangers take no place of a member.
async fn shake(Accepted { stream, admitted, .. }: Accepted, membership: &Membership) -> Option<Shaken> {
    admitted.seat().wait(Instant::now());
    let handshake = shaken(membership.acceptor().accept(socket(stream, Role::Edge).ok()?).into_fallible());
    let stream = tokio::select! {
        shaken = timeout(HANDSHAKE_DEADLINE, handshake) => shaken.ok()?.ok()?,
        () = admitted.seat().given_up() => return None,
    };
    let (_, session) = stream.get_ref();
    let is_http2 = session.alpn_protocol() == Some(b"h2");
    let Leaf { name, role, serial, .. } = membership.admit(session.peer_certificates()).ok()?;
    if !is_http2 || role != Role::Edge {
        tracing::debug!(%name, "only edges are answered here, over HTTP/2");
        return None;
    }
    Some(Shaken { stream, name, serial })
}

async fn talk(node: Arc<Node>, name: &NodeName, stream: TlsStream<Socket>) {
    let stalled = Arc::new(Notify::new());
    let service = service_fn(|request: Request<Incoming>| {
        let (node, asker, stalled) = (Arc::clone(&node), name.clone(), Arc::clone(&stalled));
        let path = Some(request.uri().path()).filter(|_| request.method() == Method::GET).and_then(StripPath::parse);
        let within = request.headers().get(wire::WITHIN_MS).and_then(|value| value.to_str().ok()?.parse().ok());
        let asked = path.map(|path| (path, within.map(Duration::from_millis)));
        async move { Ok::<_, Infallible>(answer(&node, &asker, asked, stalled).await) }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_BYTES_MAX)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_DEADLINE)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        done = connection => if let Err(error) = done {
            tracing::debug!(%error, "a connection of another edge broke");
        },
        () = stalled.notified() => tracing::warn!(peer = %name, "connection cut: a strip could not be sent in time"),
    }
}

/// A strip on its way out, and what rings when all of it left or never will.
struct Sent {
    strip: Bytes,
    _done: oneshot::Sender<()>,
}

impl AsRef<[u8]> for Sent {
    fn as_ref(&self) -> &[u8] {
        &self.strip
    }
}

/// Returns a strip to be sent; where that takes too long, `stalled` rings.
fn send_in_time(strip: Bytes, stalled: Arc<Notify>) -> Bytes {
    let (done, sent) = oneshot::channel();
    tokio::spawn(async move {
        if timeout(SEND_DEADLINE, sent).await.is_err() {
            stalled.notify_one();
        }
    });
    Bytes::from_owner(Sent { strip, _done: done })
}

async fn answer(
    node: &Node,
    asker: &NodeName,
    asked: Option<(StripPath, Option<Duration>)>,
    stalled: Arc<Notify>,
) -> Response<Full<Bytes>> {
    let Some((path, within)) = asked else {
        return refuse(StatusCode::NOT_FOUND, wire::Fault::Caller, "there are strips here, and nothing else");
    };
    match node.fills.bring(asker, path, within).await {
        Ok(strip) => {
            let mut answer = Response::new(Full::new(send_in_time(strip, stalled)));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_place_is_given_up_however_its_holder_ends() {
        let places = Places::default();
        let [one, two] = ["e1", "e2"].map(|name| name.parse::<NodeName>().unwrap());
        let (first, second) = (places.take(&one).unwrap(), places.take(&one).unwrap());
        assert!(places.take(&one).is_none() && places.take(&two).is_some());
        let ended = tokio::spawn(async move {
            let _second = second;
            std::panic::resume_unwind(Box::new(()));
        });
        assert!(ended.await.unwrap_err().is_panic());
        assert!(places.take(&one).is_some());
        drop(first);
        assert!(places.taken().is_empty());
    }

    #[test]
    fn all_edges_together_have_no_more_places_than_the_bound() {
        let places = Places::default();
        let edge = |number: usize| format!("e{number}").parse::<NodeName>().unwrap();
        let taken: Vec<Place> = (0..CONNECTIONS_MAX).map(|number| places.take(&edge(number)).unwrap()).collect();
        assert!(places.take(&edge(CONNECTIONS_MAX)).is_none());
        drop(taken);
        assert!(places.take(&edge(CONNECTIONS_MAX)).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_strip_that_is_not_sent_in_time_cuts_its_connection_and_one_that_is_cuts_none() {
        let stalled = Arc::new(Notify::new());
        let strips = [b"one", b"two"].map(|strip| send_in_time(Bytes::from_static(strip), Arc::clone(&stalled)));
        assert_eq!(strips, [&b"one"[..], b"two"]);
        let [sent, stuck] = strips;
        drop(sent);
        assert!(timeout(SEND_DEADLINE - Duration::from_millis(1), stalled.notified()).await.is_err());
        timeout(Duration::from_millis(2), stalled.notified()).await.unwrap();
        drop(stuck);
        assert!(timeout(SEND_DEADLINE * 2, stalled.notified()).await.is_err());
    }
}
