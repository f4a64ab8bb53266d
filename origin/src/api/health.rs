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

/// Answers with the node's own entry when its disk and its catalog answer.
pub(super) async fn health(State(node): State<Arc<Node>>, _: Reader) -> Result<Json<NodeEntry>, Refusal> {
    let asked = node.clone();
    let entry = node.off_reactor(move |_| asked.entry()).await??;
    node.catalog.newest_change().await?;
    Ok(Json(entry))
}

pub(super) async fn metrics(State(node): State<Arc<Node>>, _: Reader, headers: HeaderMap) -> Response {
    let open = i64::try_from(node.uploads.count()).unwrap_or(i64::MAX);
    node.metrics.uploads.set(open);
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
    let Exposition { content_type, body } = Exposition::of(node.metrics.text(), accept);
    ([(CONTENT_TYPE, content_type)], body).into_response()
}
