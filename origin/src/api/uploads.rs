//! Upload sessions: cells of one column are appended in order and become a durable shard when they match the root.
//!
//! Every call may come twice, because an answer may be lost on its way: an append is known by its position, and a
//! commit that comes while the first still runs gets the outcome of that one.

use std::{sync::Arc, time::Duration};

use axum::{Json, extract::State, http::StatusCode};
use format::{
    PublicManifest,
    limits::{CELLS_MAX, COLUMNS_MAX, PUBLIC_MANIFEST_BYTES_MAX, SHARD_BODY_BYTES_MAX, SYNC_BYTES_PER_SECOND_MIN},
    wire::{FrameError, UploadCreated, UploadHeld, read_cells},
};
use serde::Deserialize;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use super::{
    Refusal,
    extract::{Filer, InPath, InQuery, Sent, Writer},
};
use crate::{
    catalog::ShardRow,
    node::{Lost, Node},
    store::{AppendError, CommitError, ShardId, Store, StoreError},
    upload::{UploadError, UploadId},
};

type Taken = crate::upload::Taken<Refusal>;

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
    if !(1..=COLUMNS_MAX).contains(&columns) || column >= columns {
        return Err(Refusal::wrong(StatusCode::BAD_REQUEST, "no object has such a column"));
    }
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|_| Lost)?;
    let id = UploadId::from_bytes(random);
    let room = node.clone();
    node.off_reactor(move |store| -> Result<(), Refusal> {
        room.check_room(1)?;
        room.uploads.open(id, &peer, Instant::now(), |name| Ok(store.draft(name, column, columns)?))
    })
    .await??;
    Ok(Json(UploadCreated { upload: id.to_string() }))
}

pub(super) async fn held(
    State(node): State<Arc<Node>>,
    Writer(peer): Writer,
    InPath(upload): InPath<String>,
) -> Result<Json<UploadHeld>, Refusal> {
    let mut taken = read_back(&node, node.uploads.take(upload.parse()?, &peer)?).await?;
    let cells = node.off_reactor(move |store| Ok::<_, StoreError>(taken.draft(store)?.cells())).await??;
    Ok(Json(UploadHeld { cells }))
}

pub(super) async fn append(
    State(node): State<Arc<Node>>,
    Writer(peer): Writer,
    InPath(upload): InPath<String>,
    InQuery(query): InQuery<Append>,
    sent: Sent,
) -> Result<StatusCode, Refusal> {
    let id: UploadId = upload.parse()?;
    // A body may break off and come again on another connection, so it holds up no other call.
    let expected = node.uploads.expect_body(id, &peer)?;
    let body = node.body(sent, SHARD_BODY_BYTES_MAX).await?;
    let taken = node.uploads.take(id, &peer)?;
    drop(expected);
    let mut taken = read_back(&node, taken).await?;
    let room = node.clone();
    node.off_reactor(move |store| -> Result<(), Refusal> {
        let (column, columns) = taken.draft(store)?.place();
        let cells = match read_cells(body.bytes.clone(), columns, column, CELLS_MAX) {
            Err(FrameError::TooMany { .. }) => {
                return Err(Refusal::wrong(StatusCode::PAYLOAD_TOO_LARGE, "an append has at most 64 cells"));
            }
            cells => cells?,
        };
        let bytes = body.bytes.len() as u64;
        room.check_room(bytes)?;
        room.reserve(&taken, bytes)?;
        let done = taken.draft(store)?.append(query.first, &cells);
        if let Err(AppendError::Store(_)) = &done {
            // Some of the cells may be in the file: what the session holds is no longer known.
            taken.end();
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
    node.off_reactor(move |_| taken.end()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Has no deadline of requests: making a shard durable takes as long as its bytes do.
pub(super) async fn commit(
    State(node): State<Arc<Node>>,
    Filer(peer): Filer,
    InPath(upload): InPath<String>,
    InQuery(Commit { column }): InQuery<Commit>,
    sent: Sent,
) -> Result<StatusCode, Refusal> {
    let request = node.config.limits.request();
    let body = timeout(request, node.body(sent, PUBLIC_MANIFEST_BYTES_MAX)).await;
    let body = body.map_err(|_| Refusal::too_slow())??;
    let id: UploadId = upload.parse()?;
    let public = node.off_reactor(move |_| PublicManifest::decode(body.bytes.clone())).await??;
    let shard = ShardId { object: public.id(), column };
    let patience = request + Duration::from_secs(public.shard_bytes(column) / SYNC_BYTES_PER_SECOND_MIN);
    let (tell, outcome) = watch::channel(None);
    let mut outcome = match node.uploads.take_to_commit(id, &peer, shard, &outcome) {
        Ok(Err(under_way)) => under_way,
        taken => {
            let taken = match taken {
                Ok(taken) => taken.ok(),
                Err(UploadError::Unknown) => None,
                Err(error) => return Err(error.into()),
            };
            // A task of its own: when the caller hangs up, a shard that became durable still gets its row.
            let work = node.clone();
            node.tasks.spawn(async move { tell.send(Some(store(&work, taken, column, public).await)) });
            outcome
        }
    };
    let done = timeout(patience, outcome.wait_for(Option::is_some)).await.map_err(|_| Refusal::too_slow())?;
    done.map_err(|_| Lost)?.clone().unwrap_or_else(|| Err(Lost.into()))?;
    Ok(StatusCode::NO_CONTENT)
}

/// Reads the draft of an upload back, if it rests since before this process began.
async fn read_back(node: &Node, mut taken: Taken) -> Result<Taken, Refusal> {
    if !taken.is_resting() {
        return Ok(taken);
    }
    let turn = node.read_backs.clone().acquire_owned().await.map_err(|_| Lost)?;
    let read = move |store: &Arc<Store>| {
        taken.draft(store)?;
        drop(turn);
        Ok::<_, StoreError>(taken)
    };
    Ok(node.off_reactor(read).await??)
}

async fn store(node: &Arc<Node>, taken: Option<Taken>, column: usize, public: PublicManifest) -> Result<(), Refusal> {
    let object = public.id();
    let taken = match taken {
        Some(taken) => Some(read_back(node, taken).await?),
        None => None,
    };
    let (had, bytes) = node
        .off_reactor(move |store| -> Result<(bool, u64), StoreRefusal> {
            let had = store.has_shard(&object, column)?;
            let bytes = match taken {
                Some(taken) => make_shard(store, taken, column, &public)?,
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

/// Makes a session's draft a shard. The session goes on only where the draft may still become the shard.
fn make_shard(
    store: &Arc<Store>,
    mut taken: Taken,
    column: usize,
    public: &PublicManifest,
) -> Result<u64, StoreRefusal> {
    let draft = taken.draft(store)?;
    let made = draft.make_shard(column, public);
    let goes_on = made.as_ref().is_err_and(CommitError::leaves_draft) && draft.is_there();
    if !goes_on {
        taken.end();
    }
    Ok(made?)
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
