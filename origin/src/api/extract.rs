//! What calls take from a request's head, with refusals in the API's own form.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{FromRequest, FromRequestParts, Path, Query, Request},
    http::{HeaderMap, StatusCode, request::Parts},
};
use serde::de::DeserializeOwned;

use super::Refusal;
use crate::{
    node::Node,
    peer::{Action, Peer},
    run::know_catalog,
};

/// The parts of the path, parsed.
pub(super) struct InPath<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for InPath<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let found = Path::from_request_parts(parts, state).await;
        found.map(|Path(value)| Self(value)).map_err(|error| Refusal::caller(StatusCode::BAD_REQUEST, &error))
    }
}

/// The query, parsed; unknown keys are refused.
pub(super) struct InQuery<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for InQuery<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let found = Query::from_request_parts(parts, state).await;
        found.map(|Query(value)| Self(value)).map_err(|error| Refusal::caller(StatusCode::BAD_REQUEST, &error))
    }
}

/// The body of a call, not read yet, and who sends it.
pub(crate) struct Sent {
    pub(crate) peer: Peer,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
}

impl<S: Send + Sync> FromRequest<S> for Sent {
    type Rejection = Refusal;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Refusal> {
        let (parts, body) = request.into_parts();
        Ok(Self { peer: peer(&parts)?.clone(), headers: parts.headers, body })
    }
}

/// A caller that may read.
pub(super) struct Reader(pub(super) Peer);

impl<S: Send + Sync> FromRequestParts<S> for Reader {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Refusal> {
        allowed(parts, Action::Read).map(Self)
    }
}

/// A caller that may write.
pub(super) struct Writer(pub(super) Peer);

impl<S: Send + Sync> FromRequestParts<S> for Writer {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Refusal> {
        allowed(parts, Action::Write).map(Self)
    }
}

/// A caller that may write, at a node whose catalog is the one that knows its disk. An empty one would take the
/// locators of what is stored here from whoever comes first.
pub(super) struct Filer(pub(super) Peer);

impl FromRequestParts<Arc<Node>> for Filer {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, node: &Arc<Node>) -> Result<Self, Refusal> {
        let peer = allowed(parts, Action::Write)?;
        if !node.knows_catalog() {
            know_catalog(node).await?;
        }
        Ok(Self(peer))
    }
}

/// A caller that may announce itself.
pub(super) struct Announcer(pub(super) Peer);

impl<S: Send + Sync> FromRequestParts<S> for Announcer {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Refusal> {
        allowed(parts, Action::Announce).map(Self)
    }
}

/// A caller that shares notes with others of its kind.
pub(super) struct Sharer;

impl<S: Send + Sync> FromRequestParts<S> for Sharer {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Refusal> {
        allowed(parts, Action::Share).map(|_| Self)
    }
}

fn allowed(parts: &Parts, action: Action) -> Result<Peer, Refusal> {
    let peer = peer(parts)?;
    if peer.may(action) {
        return Ok(peer.clone());
    }
    Err(Refusal::wrong(StatusCode::FORBIDDEN, "the role in your certificate may not do this"))
}

fn peer(parts: &Parts) -> Result<&Peer, Refusal> {
    let unknown = || Refusal::wrong(StatusCode::UNAUTHORIZED, "no certificate came with the connection");
    parts.extensions.get().ok_or_else(unknown)
}
