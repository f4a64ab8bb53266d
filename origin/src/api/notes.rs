//! Notes that the edges of a zone share. Their secret seals them; here they are bytes with a version.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use format::{
    NoteId,
    limits::{NOTE_BODY_BYTES_MAX, NOTE_BYTES_MAX},
    wire::Note,
};

use super::{
    Refusal,
    extract::{InPath, Sent, Sharer},
};
use crate::node::Node;

pub(super) async fn read(
    State(node): State<Arc<Node>>,
    _: Sharer,
    InPath(id): InPath<NoteId>,
) -> Result<Json<Note>, Refusal> {
    node.catalog.note(&id).await?.map(Json).ok_or_else(|| Refusal::not_found("no such note is here"))
}

pub(super) async fn write(
    State(node): State<Arc<Node>>,
    _: Sharer,
    InPath(id): InPath<NoteId>,
    sent: Sent,
) -> Result<StatusCode, Refusal> {
    let body = node.small_body(sent, NOTE_BODY_BYTES_MAX).await?;
    node.catalog.put_note(&id, &read_note(&body)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Reads a note; foreign bytes.
pub(crate) fn read_note(body: &[u8]) -> Result<Note, Refusal> {
    let note: Note = serde_json::from_slice(body).map_err(|error| Refusal::caller(StatusCode::BAD_REQUEST, &error))?;
    if note.version == 0 || note.sealed.len() > NOTE_BYTES_MAX {
        return Err(Refusal::wrong(StatusCode::BAD_REQUEST, "a note has a version from 1 on and at most 65536 bytes"));
    }
    Ok(note)
}
