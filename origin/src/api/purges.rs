//! Orders to the edges' caches: signed by the owner, about its own objects, and fresh.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode};
use format::{
    Purge,
    limits::{PURGE_BYTES_MAX, PURGE_SKEW_SECONDS_MAX},
};

use super::{
    Refusal,
    extract::{Filer, Sent},
};
use crate::node::Node;

pub(super) async fn order(State(node): State<Arc<Node>>, _: Filer, sent: Sent) -> Result<StatusCode, Refusal> {
    let envelope = node.small_body(sent, PURGE_BYTES_MAX).await?;
    let purge = node.off_reactor(move |_| Purge::open(&envelope)).await?;
    let purge = purge.inspect_err(|_| node.metrics.failed("purge"))?;
    if node.catalog.now().await?.abs_diff(purge.issued) > PURGE_SKEW_SECONDS_MAX {
        return Err(Refusal::wrong(
            StatusCode::BAD_REQUEST,
            "the order was signed more than 300 s from now by the catalog's clock; set the clock of who signs, and sign anew",
        ));
    }
    node.catalog.tell_purge(&purge).await?;
    node.feed.written();
    Ok(StatusCode::NO_CONTENT)
}
