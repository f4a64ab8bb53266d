//! `POST /files/{id}/purge`: edges drop what they hold of a file or folder, and fetch it anew for the next reader.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::json;
use twin::{PurgeTold, Selection};

use crate::{
    audit::Subject,
    caller::Writer,
    files::{InPath, id},
    refusal::Refusal,
    service::Service,
};

/// `POST /files/{id}/purge`: the order is with the nodes when the answer comes, and with edges two seconds later.
pub(crate) async fn order(
    State(service): State<Arc<Service>>,
    _: Writer,
    InPath(text): InPath<String>,
) -> Result<Response, Refusal> {
    let locator = id(&text)?;
    if service.twin.upload(locator).await?.is_none() {
        return Err(Refusal::not_found("NFT not found"));
    }
    let PurgeTold { objects, nodes, missed } = service.twin.purge(Selection::Objects([locator].into()), true).await?;
    let missed: Vec<String> = missed.iter().map(ToString::to_string).collect();
    let value = json!({ "purged": true, "objects": objects, "nodes": nodes.len(), "missed": missed });
    let mut answer = (StatusCode::ACCEPTED, Json(json!({ "ok": true, "value": value }))).into_response();
    answer.extensions_mut().insert(Subject { locator: Some(locator), bytes: 0 });
    Ok(answer)
}
