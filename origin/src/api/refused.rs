//! The list of refused node certificates. Any node may bring it: the authority signed it, and only a newer one counts.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode};
use bytes::Bytes;
use format::limits::REFUSED_BYTES_MAX;
use serde::Deserialize;

use super::{
    Refusal,
    extract::{InQuery, Reader, Sent},
};
use crate::{
    node::Node,
    refusals::{self, BringError},
};

/// The query of the list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ask {
    /// The number of the list that the caller has.
    #[serde(default)]
    after: u64,
}

pub(super) async fn read(
    State(node): State<Arc<Node>>,
    _: Reader,
    InQuery(Ask { after }): InQuery<Ask>,
) -> Result<Bytes, Refusal> {
    let held = node.membership.as_ref().map(|membership| membership.refused());
    let newer = held.filter(|held| held.number() > after);
    newer.map(|held| held.der().clone()).ok_or_else(|| Refusal::not_found("no newer list is here"))
}

pub(super) async fn bring(State(node): State<Arc<Node>>, _: Reader, sent: Sent) -> Result<StatusCode, Refusal> {
    let body = node.small_body(sent, REFUSED_BYTES_MAX).await?;
    match refusals::bring(&node, body).await {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(error @ BringError::Old { .. }) => Err(Refusal::caller(StatusCode::CONFLICT, &error)),
        Err(error) => Err(Refusal::caller(StatusCode::BAD_REQUEST, &error)),
    }
}
