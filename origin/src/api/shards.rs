//! Shard reads: the proof first, then the strips as fast as the reader takes them.

use std::{io, sync::Arc};

use axum::{
    body::Body,
    extract::State,
    http::{
        HeaderName,
        header::{CONTENT_LENGTH, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use format::{ObjectId, wire::ShardSlice};
use futures::{StreamExt, stream};
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

use super::{
    Refusal,
    extract::{InPath, InQuery, Reader},
};
use crate::{
    node::Node,
    store::{Slice, StoreError},
};

/// The query of a read.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ask {
    /// The first strip.
    first: u64,
    /// How many.
    count: u64,
}

pub(super) async fn read(
    State(node): State<Arc<Node>>,
    _: Reader,
    InPath((object, column)): InPath<(ObjectId, usize)>,
    InQuery(Ask { first, count }): InQuery<Ask>,
) -> Result<Response, Refusal> {
    let found = node.off_reactor(move |store| store.slice(&object, column, first, count)).await?;
    let slice = found.inspect_err(|error| {
        if matches!(error, StoreError::Damaged { .. }) {
            node.metrics.failed("shard");
            tracing::error!(%object, column, "a shard on this disk is damaged");
        }
    })?;
    let head = ShardSlice::head(slice.proof());
    let length = head.len() as u64 + slice.left_bytes();
    let headers: [(HeaderName, String); 2] =
        [(CONTENT_TYPE, "application/octet-stream".into()), (CONTENT_LENGTH, length.to_string())];
    let body = stream::once(async { Ok(head) }).chain(pieces(node, slice));
    Ok((headers, Body::from_stream(body)).into_response())
}

/// Streams the strips, a piece in memory at a time. An error or a reader too slow for the deadline cuts the stream, so
/// that nobody takes a part for the whole.
fn pieces(node: Arc<Node>, slice: Slice) -> impl futures::Stream<Item = io::Result<Bytes>> {
    let deadline = Instant::now() + node.config.limits.request();
    stream::try_unfold((node, slice), move |(node, mut slice)| async move {
        let read = node.off_reactor(move |_| slice.piece().map(|piece| (piece, slice)));
        let (piece, slice) = timeout_at(deadline, read)
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
            .map_err(io::Error::other)?
            .map_err(io::Error::other)?;
        Ok(piece.map(|piece| {
            node.metrics.bytes_out.inc_by(piece.len() as u64);
            (piece, (node, slice))
        }))
    })
}
