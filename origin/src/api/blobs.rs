//! Blobs: policy components and configurations, filed under their hash.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use format::{BlobId, limits::POLICY_COMPONENT_BYTES_MAX};

use super::{
    Refusal,
    extract::{Filer, InPath, Reader, Sent},
};
use crate::node::Node;

pub(super) async fn read(
    State(node): State<Arc<Node>>,
    _: Reader,
    InPath(id): InPath<BlobId>,
) -> Result<Response, Refusal> {
    let blob = node.catalog.blob(&id).await?.ok_or_else(|| Refusal::not_found("no such blob is here"))?;
    Ok(([(CONTENT_TYPE, "application/octet-stream")], blob).into_response())
}

pub(super) async fn file(
    State(node): State<Arc<Node>>,
    _: Filer,
    InPath(id): InPath<BlobId>,
    sent: Sent,
) -> Result<StatusCode, Refusal> {
    let body = node.body(sent, POLICY_COMPONENT_BYTES_MAX).await?;
    let hashed = body.bytes.clone();
    let found = node.off_reactor(move |_| BlobId::of(&hashed)).await?;
    if found != id {
        node.metrics.failed("blob");
        return Err(Refusal::wrong(
            StatusCode::UNPROCESSABLE_ENTITY,
            "the blob has another hash than the path says; send it again",
        ));
    }
    node.catalog.put_blob(&id, &body.bytes).await?;
    Ok(StatusCode::NO_CONTENT)
}
