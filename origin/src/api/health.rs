//! Health for those who watch, metrics for those who draw.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{
        HeaderMap,
        header::{ACCEPT, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
};
use client::Exposition;
use format::wire::NodeEntry;

use super::{Refusal, extract::Reader};
use crate::node::Node;

pub(super) async fn health(State(node): State<Arc<Node>>, _: Reader) -> Result<Json<NodeEntry>, Refusal> {
    entry(&node).await.map(Json)
}

pub(super) async fn metrics(State(node): State<Arc<Node>>, _: Reader, headers: HeaderMap) -> Response {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
    let Exposition { content_type, body } = exposition(&node, accept);
    ([(CONTENT_TYPE, content_type)], body).into_response()
}

/// Returns the node's own entry when its disk and its catalog answer.
///
/// # Errors
/// What the one of them that does not answer comes to.
pub(crate) async fn entry(node: &Arc<Node>) -> Result<NodeEntry, Refusal> {
    let asked = node.clone();
    let entry = node.off_reactor(move |_| asked.entry()).await??;
    node.catalog.newest_change().await?;
    Ok(entry)
}

/// Returns the metrics as a reader that accepts this wants them.
pub(crate) fn exposition(node: &Node, accept: Option<&str>) -> Exposition {
    let open = i64::try_from(node.uploads.count()).unwrap_or(i64::MAX);
    node.metrics.uploads.set(open);
    Exposition::of(node.metrics.text(), accept)
}
