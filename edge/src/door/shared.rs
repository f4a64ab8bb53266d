//! What all connections of the door share.

use std::{sync::Arc, time::Duration};

use pingora_core::apps::HttpServerOptions;

use super::limits::{IDLE_SECONDS, REQUESTS_PER_CONNECTION_MAX};
use crate::{answer::reply::Ways, node::Node};

/// The door.
pub(crate) struct HttpDoor {
    pub(crate) node: Arc<Node>,
    /// Of connections that begin as HTTP/2 in clear, and of all others: ALPN says which HTTP it is, or it is HTTP/1.1.
    pub(super) h2c: HttpServerOptions,
    pub(super) others: HttpServerOptions,
    pub(super) ways: Ways,
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
}

/// Counts a connection while it lives.
pub(super) struct Gauged(Arc<Node>);

impl Gauged {
    pub(super) fn new(node: &Arc<Node>) -> Self {
        node.metrics.http_connections.inc();
        Self(Arc::clone(node))
    }
}

impl Drop for Gauged {
    fn drop(&mut self) {
        self.0.metrics.http_connections.dec();
    }
}
