//! The node API over HTTP: `format::wire` has the table of paths, bodies and answers. Here are the routes, the deadline
//! and the counting that all calls share; each file below holds the calls of one noun.

mod blobs;
mod changes;
mod extract;
mod health;
mod nodes;
mod notes;
mod policies;
mod purges;
mod records;
mod refusal;
mod refused;
mod repairs;
mod shards;
mod uploads;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{MatchedPath, Request, State},
    http::{Method, header::CONTENT_LENGTH},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use client::{Said, Span, noun};
use format::limits::{BODY_BYTES_PER_SECOND_MIN, SHARD_BODY_BYTES_MAX};
use tokio::time::timeout;

pub(crate) use self::health::{entry, exposition};
pub(crate) use self::refusal::{Refusal, causes};
pub(crate) use self::{extract::Sent, nodes::read_entry, notes::read_note};
use crate::{metrics::Answered, node::Node, peer::Peer};

/// Builds the service of a node. Every request carries its [`crate::peer::Peer`] as an extension.
pub(crate) fn router(node: Arc<Node>) -> Router {
    Router::new()
        .route("/v1/uploads", post(uploads::open))
        .route("/v1/uploads/{upload}", get(uploads::held).put(uploads::append).delete(uploads::abort))
        .route("/v1/shards/{object}/{column}", get(shards::read))
        .route("/v1/records", get(records::list))
        .route("/v1/records/{locator}", get(records::read).put(records::file))
        .route("/v1/leases/{locator}", put(records::renew))
        .route("/v1/policies/{owner}/{name}", get(policies::read).put(policies::publish))
        .route("/v1/blobs/{blob}", get(blobs::read).put(blobs::file))
        .route("/v1/notes/{note}", get(notes::read).put(notes::write))
        .route("/v1/purges", post(purges::order))
        .route("/v1/nodes", get(nodes::list))
        .route("/v1/nodes/{name}", put(nodes::announce))
        .route("/v1/nodes/{name}/drain", get(repairs::outlook).put(repairs::drain))
        .route("/v1/refused", get(refused::read).put(refused::bring))
        .route("/v1/changes", get(changes::read))
        .route("/v1/tickets", put(repairs::report))
        .route("/v1/records/{locator}/health", get(repairs::health))
        .route("/v1/repairs", get(repairs::status))
        .route("/v1/repairs/retry", post(repairs::retry))
        .route("/health", get(health::health))
        .route("/metrics", get(health::metrics))
        .fallback(async || Refusal::no_route())
        .method_not_allowed_fallback(async || Refusal::no_method())
        .layer(from_fn_with_state(node.clone(), limit))
        // It knows better how long it may take.
        .route("/v1/uploads/{upload}/commit", post(uploads::commit))
        .layer(from_fn_with_state(node.clone(), count))
        .with_state(node)
}

/// Ends what takes too long. A body has the time that the slowest way needs for it.
async fn limit(State(node): State<Arc<Node>>, request: Request, next: Next) -> Response {
    let length = request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    // No body is longer, and who does not say how long it is gets no more time for it.
    let length = length.unwrap_or(0).min(SHARD_BODY_BYTES_MAX as u64);
    let body = Duration::from_secs(length / BODY_BYTES_PER_SECOND_MIN);
    let answer = timeout(node.config.limits.request() + body, next.run(request)).await;
    answer.unwrap_or_else(|_| Refusal::too_slow().into_response())
}

/// Counts what came of each call, and tells its trace.
async fn count(State(node): State<Arc<Node>>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    // A peer may make methods up; a label may not grow with them.
    let method = match *request.method() {
        Method::GET => "GET",
        Method::PUT => "PUT",
        Method::POST => "POST",
        Method::DELETE => "DELETE",
        _ => "other",
    };
    let span = match (&node.traces, request.extensions().get::<Peer>()) {
        (Some(traces), Some(peer)) => traces.answer(noun(&route), peer.role, request.headers()),
        _ => Span::NONE,
    };
    let answer = span.scope().around(next.run(request)).await;
    let status = answer.status().as_u16();
    span.say("http.request.method", Said::Word(method));
    span.say("http.response.status_code", Said::Number(status.into()));
    if status >= 500 {
        span.fail("the origin");
    }
    node.metrics.requests.get_or_create(&Answered { route, method, status }).inc();
    answer
}
