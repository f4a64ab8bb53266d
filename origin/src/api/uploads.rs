//! Upload sessions: cells of one column are appended in order and become a durable shard when they match the root.

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use format::{
    PublicManifest,
    limits::{CELLS_MAX, COLUMNS_MAX, PUBLIC_MANIFEST_BYTES_MAX, SHARD_BODY_BYTES_MAX},
    wire::{FrameError, UploadCreated, read_cells},
};
use serde::Deserialize;
use tokio::time::Instant;

use super::{
    Refusal,
    extract::{InPath, InQuery, Writer},
};
use crate::{
    catalog::ShardRow,
    node::{Lost, Node},
    store::{CommitError, StoreError},
    upload::{Taken, UploadError, UploadId},
};

/// The query of a new upload.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Open {
    /// The column.
    column: usize,
    /// Columns of the object.
    columns: usize,
}

/// The query of an append.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Append {
    /// The first cell.
    first: u64,
}

/// The query of a commit.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Commit {
    /// The column.
    column: usize,
}

pub(super) async fn open(
    State(node): State<Arc<Node>>,
    Writer(peer): Writer,
    InQuery(Open { column, columns }): InQuery<Open>,
) -> Result<Json<UploadCreated>, Refusal> {
    if !(2..=COLUMNS_MAX).contains(&columns) || column >= columns {
        return Err(Refusal::wrong(StatusCode::BAD_REQUEST, "no object has such a column"));
    }
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|_| Lost)?;
    let id = UploadId::from_bytes(random);
    let room = node.clone();
    let draft = node
        .off_reactor(move |store| -> Result<_, Refusal> {
            room.check_room(1)?;
            Ok(store.draft(&id.to_string(), column, columns)?)
        })
        .await??;
    node.uploads.open(id, &peer, draft, Instant::now())?;
    Ok(Json(UploadCreated { upload: id.to_string() }))
}

pub(super) async fn append(
    State(node): State<Arc<Node>>,
    Writer(peer): Writer,
    InPath(upload): InPath<String>,
    InQuery(query): InQuery<Append>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Refusal> {
    let id: UploadId = upload.parse()?;
    let mut taken = node.uploads.take(id, &peer)?;
    let body = node.body(&headers, body, SHARD_BODY_BYTES_MAX).await?;
    let (column, columns) = taken.draft().place();
    let cells = match read_cells(body.bytes.clone(), columns, column, CELLS_MAX) {
        Err(FrameError::TooMany { .. }) => {
            return Err(Refusal::wrong(StatusCode::PAYLOAD_TOO_LARGE, "an append has at most 64 cells"));
        }
        cells => cells?,
    };
    let room = node.clone();
    node.off_reactor(move |_| -> Result<(), Refusal> {
        room.check_room(body.bytes.len() as u64)?;
        let done = taken.draft().append(query.first, &cells);
        if let Err(crate::store::AppendError::Store(_)) = &done {
            // Some of the cells may be in the file: what the session holds is no longer known.
            drop(taken.into_draft());
        }
        drop((body, cells));
        Ok(done?)
    })
    .await??;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn abort(
    State(node): State<Arc<Node>>,
    Writer(peer): Writer,
    InPath(upload): InPath<String>,
) -> Result<StatusCode, Refusal> {
    let taken = node.uploads.take(upload.parse()?, &peer)?;
    node.off_reactor(move |_| drop(taken.into_draft())).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn commit(
    State(node): State<Arc<Node>>,
    Writer(peer): Writer,
    InPath(upload): InPath<String>,
    InQuery(Commit { column }): InQuery<Commit>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Refusal> {
    let body = node.body(&headers, body, PUBLIC_MANIFEST_BYTES_MAX).await?;
    let id: UploadId = upload.parse()?;
    let public = node.off_reactor(move |_| PublicManifest::decode(body.bytes.clone())).await??;
    let taken = match node.uploads.take(id, &peer) {
        Ok(taken) => Some(taken),
        Err(UploadError::Unknown) => None,
        Err(error) => return Err(error.into()),
    };
    // A task of its own: when the caller hangs up, a shard that became durable still gets its row.
    let work = node.clone();
    let task = node.tasks.spawn(async move { store(&work, taken, column, public).await });
    task.await.map_err(|_| Lost)??;
    Ok(StatusCode::NO_CONTENT)
}

async fn store(node: &Arc<Node>, taken: Option<Taken>, column: usize, public: PublicManifest) -> Result<(), Refusal> {
    let object = public.id();
    let (had, bytes) = node
        .off_reactor(move |store| -> Result<(bool, u64), StoreRefusal> {
            let had = store.has_shard(&object, column)?;
            let bytes = match taken {
                Some(taken) => taken.into_draft().commit(column, &public)?,
                // The acknowledgement of an earlier commit may have been lost on its way.
                None => store.confirm_shard(&object, column)?.ok_or(UploadError::Unknown)?,
            };
            Ok((had, bytes))
        })
        .await?
        .inspect_err(|error| {
            if matches!(error, StoreRefusal::Commit(CommitError::Root { .. })) {
                node.metrics.failed("shard");
            }
        })?;
    let row = ShardRow { node: node.config.name.clone(), object, column, bytes };
    node.catalog.place_shard(&row).await?;
    if !had {
        node.gained(bytes);
    }
    Ok(())
}

/// Why an upload became no shard.
#[derive(Debug, thiserror::Error)]
enum StoreRefusal {
    /// There is no such upload, and no such shard.
    #[error(transparent)]
    Upload(#[from] UploadError),
    /// What was sent is not the shard.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// Whether it is here cannot be said.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<StoreRefusal> for Refusal {
    fn from(error: StoreRefusal) -> Self {
        match error {
            StoreRefusal::Upload(error) => error.into(),
            StoreRefusal::Commit(error) => error.into(),
            StoreRefusal::Store(error) => error.into(),
        }
    }
}
