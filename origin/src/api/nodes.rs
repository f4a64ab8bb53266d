//! The list of nodes. A node speaks for itself alone.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use format::{NodeName, wire::NodeEntry};

use super::{
    Refusal,
    extract::{Announcer, InPath, Reader, Sent},
};
use crate::node::Node;

/// An announcement in JSON: some hundred bytes, and its public addresses.
const ENTRY_BYTES_MAX: usize = 8 * 1024;
/// Public addresses of one node: as many as a DNS answer of 1,232 bytes could name.
const PUBLIC_MAX: usize = 64;

pub(super) async fn list(State(node): State<Arc<Node>>, _: Reader) -> Result<Json<Vec<NodeEntry>>, Refusal> {
    Ok(Json(node.catalog.nodes().await?))
}

pub(super) async fn announce(
    State(node): State<Arc<Node>>,
    Announcer(peer): Announcer,
    InPath(name): InPath<NodeName>,
    sent: Sent,
) -> Result<StatusCode, Refusal> {
    let body = node.small_body(sent, ENTRY_BYTES_MAX).await?;
    let entry = read_entry(&body)?;
    if peer.name != name || entry.name != name || entry.role != peer.role {
        return Err(Refusal::wrong(
            StatusCode::FORBIDDEN,
            "a node announces only itself, under the name and role of its certificate",
        ));
    }
    node.catalog.announce(&entry).await?;
    node.feed.written();
    Ok(StatusCode::NO_CONTENT)
}

/// Reads an announcement; foreign bytes.
pub(crate) fn read_entry(body: &[u8]) -> Result<NodeEntry, Refusal> {
    let entry: NodeEntry =
        serde_json::from_slice(body).map_err(|error| Refusal::caller(StatusCode::BAD_REQUEST, &error))?;
    entry.place.check().map_err(|error| Refusal::caller(StatusCode::BAD_REQUEST, &error))?;
    if entry.public.len() > PUBLIC_MAX || entry.load > 100 {
        return Err(Refusal::wrong(StatusCode::BAD_REQUEST, "at most 64 public addresses, and a load of at most 100"));
    }
    Ok(NodeEntry { seen: 0, ..entry })
}
