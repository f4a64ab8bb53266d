//! Policies: signed by their owner, versions only grow, and the blobs they need are there first.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use format::{OwnerId, PolicyManifest, PolicyName, limits::POLICY_MANIFEST_BYTES_MAX};

use super::{
    Refusal,
    extract::{Filer, InPath, Reader, Sent},
};
use crate::node::Node;

pub(super) async fn read(
    State(node): State<Arc<Node>>,
    _: Reader,
    InPath((owner, name)): InPath<(OwnerId, PolicyName)>,
) -> Result<Response, Refusal> {
    let envelope = node.catalog.policy(&owner, &name).await?;
    let envelope = envelope.ok_or_else(|| Refusal::not_found("the owner published no policy of this name"))?;
    Ok(([(CONTENT_TYPE, "application/cbor")], envelope).into_response())
}

pub(super) async fn publish(
    State(node): State<Arc<Node>>,
    _: Filer,
    InPath((owner, name)): InPath<(OwnerId, PolicyName)>,
    sent: Sent,
) -> Result<StatusCode, Refusal> {
    let envelope = node.small_body(sent, POLICY_MANIFEST_BYTES_MAX).await?;
    let opened = envelope.clone();
    let manifest = node.off_reactor(move |_| PolicyManifest::open(&opened)).await?;
    let manifest = manifest.inspect_err(|_| node.metrics.failed("policy"))?;
    if manifest.owner != owner || manifest.name != name {
        return Err(Refusal::wrong(
            StatusCode::BAD_REQUEST,
            "owner or name in the path are not those that the owner signed",
        ));
    }
    node.catalog.put_policy(&manifest, &envelope).await?;
    node.feed.written();
    Ok(StatusCode::NO_CONTENT)
}
