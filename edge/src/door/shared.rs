//! What all connections of the door share.

use std::sync::Arc;

use pingora_core::apps::HttpServerOptions;

use super::limits::REQUESTS_PER_CONNECTION_MAX;
use crate::{answer::reply::Ways, listen::connections::Connections, node::Node};

/// The door.
pub(crate) struct HttpDoor {
    pub(crate) node: Arc<Node>,
    /// Of connections that are left to pingora.
    pub(super) options: HttpServerOptions,
    pub(super) ways: Ways,
}

impl HttpDoor {
    /// Makes the door.
    pub(crate) fn new(node: Arc<Node>, ways: Ways) -> Self {
        let mut options = HttpServerOptions::default();
        options.keepalive_request_limit = Some(REQUESTS_PER_CONNECTION_MAX);
        Self { node, options, ways }
    }

    /// The connections of one socket of the door: each has as many as the configuration says.
    pub(super) fn connections(&self) -> Connections {
        let (http, refused) = (&self.node.config.http, self.node.metrics.http_connections_refused.clone());
        Connections::new(http.connections_max, http.connections_per_address_max, refused)
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
