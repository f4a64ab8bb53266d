//! Health for those who watch, metrics for those who draw.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
};
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

pub(super) async fn metrics(State(node): State<Arc<Node>>, _: Reader) -> Response {
    let open = i64::try_from(node.uploads.count()).unwrap_or(i64::MAX);
    node.metrics.uploads.set(open);
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(CONTENT_TYPE, kind)], node.metrics.text()).into_response()
}
