//! The carrier of the node API: it brings a call to a node and the answer back, over HTTP/2 with mutual TLS. Each node
//! has one connection, kept as long as it lives (connection pooling). Tests use a network of their own instead.

use std::{
    collections::HashMap,
    convert::Infallible,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use format::{NodeAddress, NodeName, wire::Role};
use futures::stream;
use http::{Request, Response};
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use hyper::{body::Frame, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{net::TcpStream, time::timeout};

mod slot;

use self::slot::Slot;
use crate::{
    Membership, Topology, TransportError, causes,
    dial::dial,
    socket::{PING_DEADLINE, shaken, socket},
    tls::server_name,
};

/// Deadline for resolving the name, TCP and TLS together.
const CONNECT_DEADLINE: Duration = Duration::from_secs(3);
/// HTTP/2 flow-control windows. A connection takes one largest shard read (16 MiB), a stream a quarter of that.
const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
/// After this much silence, a ping gives the peer something to acknowledge.
const PING_EVERY: Duration = Duration::from_secs(10);

/// The body of a call. Its length is known beforehand.
pub type CallBody = StreamBody<stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>>;
/// The body of an answer.
pub type AnswerBody = UnsyncBoxBody<Bytes, io::Error>;

/// Carries calls to nodes. The caller sets the deadline, and may drop a call at any await.
#[async_trait]
pub trait Carrier: Send + Sync + 'static {
    /// Brings a call to a node and returns the head of its answer. The body arrives as it is read.
    ///
    /// # Errors
    /// [`TransportError`] if the node is unknown or unreachable.
    async fn carry(&self, node: &NodeName, call: Request<CallBody>) -> Result<Response<AnswerBody>, TransportError>;

    /// Waits for a connection to a node, where there are connections. Whoever leaves has it made all the same.
    ///
    /// # Errors
    /// As [`Self::carry`].
    async fn reach(&self, _node: &NodeName) -> Result<(), TransportError> {
        Ok(())
    }
}

type Connection = http2::SendRequest<CallBody>;

/// The real network.
pub(crate) struct TlsCarrier {
    membership: Arc<Membership>,
    topology: Arc<Topology>,
    slots: Mutex<HashMap<NodeName, Arc<Slot<Connection>>>>,
}

#[async_trait]
impl Carrier for TlsCarrier {
    async fn carry(&self, node: &NodeName, call: Request<CallBody>) -> Result<Response<AnswerBody>, TransportError> {
        let mut connection = self.connection(node).await?;
        let answer = connection.send_request(call).await.map_err(|error| unreachable(node, &error))?;
        Ok(answer.map(|body| body.map_err(io::Error::other).boxed_unsync()))
    }

    async fn reach(&self, node: &NodeName) -> Result<(), TransportError> {
        self.connection(node).await.map(drop)
    }
}

impl TlsCarrier {
    pub(crate) fn new(membership: Arc<Membership>, topology: Arc<Topology>) -> Self {
        Self { membership, topology, slots: Mutex::default() }
    }

    async fn connection(&self, node: &NodeName) -> Result<Connection, TransportError> {
        let unknown = || TransportError::Unknown { node: node.clone() };
        let entry = self.topology.node(node).ok_or_else(unknown)?;
        let (role, address) = (entry.role, entry.address.ok_or_else(unknown)?);
        let slot = self.slots.lock().unwrap_or_else(PoisonError::into_inner).entry(node.clone()).or_default().clone();
        let connect = {
            let (membership, node, address) = (Arc::clone(&self.membership), node.clone(), address.clone());
            async move {
                let connected = timeout(CONNECT_DEADLINE, connect(&membership, &node, role, &address)).await;
                connected.map_err(|_| TransportError::TimedOut { node })?
            }
        };
        slot.connection(&address, |connection| !connection.is_closed(), connect).await
    }
}

async fn connect(
    membership: &Arc<Membership>,
    node: &NodeName,
    role: Role,
    address: &NodeAddress,
) -> Result<Connection, TransportError> {
    // TLS is part of the attempt: of the addresses of a name, one may have become another machine's.
    let shake = |to| async move {
        let tcp = socket(TcpStream::connect(to).await?, membership.role())?;
        let tls = shaken(membership.connector().connect(server_name(node, role), tcp).into_fallible()).await?;
        let peer = membership.admit(tls.get_ref().1.peer_certificates()).map_err(io::Error::other)?;
        Ok((tls, peer.serial))
    };
    let (tls, serial) = dial(address, shake).await.map_err(|error| unreachable(node, &error))?;
    let (connection, driver) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_DEADLINE)
        .handshake(TokioIo::new(tls))
        .await
        .map_err(|error| unreachable(node, &error))?;
    // The task ends by itself when the last handle is dropped or the peer is gone. Without it nothing is read or
    // sent.
    let (membership, node) = (Arc::clone(membership), node.clone());
    tokio::spawn(async move {
        tokio::select! {
            done = driver => if let Err(error) = done {
                tracing::debug!(%error, "a connection to a node ended");
            },
            () = membership.refuses(&serial) => tracing::warn!(%node, "connection cut: the cluster refuses its certificate"),
        }
    });
    Ok(connection)
}

/// Turns a network error, with all its causes, into an error about a node.
pub(crate) fn unreachable(node: &NodeName, error: &(dyn std::error::Error + 'static)) -> TransportError {
    let reason = causes(error);
    TransportError::Unreachable { node: node.clone(), reason }
}
