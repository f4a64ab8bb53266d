//! The routes, and the deadline that those share which carry no upload.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Request, State},
    middleware::{Next, from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{delete, get, patch, post, put},
};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{
    audit, console, cors, files, health, names, network, nft, openapi, pins, policies, purge, refusal::Refusal,
    service::Service, tokens, tus,
};

/// Builds the router of a service.
pub(crate) fn router(service: Arc<Service>) -> Router {
    Router::new()
        .route("/files/{id}", get(files::get).delete(files::delete).patch(files::patch))
        .route("/audit", get(audit::list))
        .route("/version", get(version))
        .route("/openapi.json", get(openapi::serve))
        .route("/tus/{id}", get(tus::head).delete(tus::terminate))
        .route("/tus/{id}/file", get(tus::file))
        .route("/files/{id}/health", get(health::show))
        .route("/files/{id}/purge", post(purge::order))
        .merge(names())
        .merge(policies())
        .route("/network", get(network::show))
        .route("/tokens", get(tokens::list).post(tokens::add))
        .route("/tokens/{name}", delete(tokens::end))
        .merge(pins())
        .merge(console::routes(&service))
        .route("/", get(nft::list).layer(from_fn(console::welcome)))
        .route("/{cid}", get(nft::get).delete(nft::delete))
        .route("/check/{cid}", get(nft::check))
        .route("/upload/{cid}", patch(nft::rename))
        .fallback(async || Refusal::not_found("there is no such path; /openapi.json has all"))
        .layer(from_fn_with_state(service.clone(), limit))
        // Uploads have the deadlines of their bodies.
        .route("/files", get(files::list).post(files::post))
        .route("/upload", post(nft::upload))
        .route("/store", post(nft::store::store))
        .route("/tus", post(tus::create))
        .merge(Router::new().route("/tus/{id}", patch(tus::patch)))
        .merge(Router::new().route("/files/{id}", put(files::put)))
        .method_not_allowed_fallback(async || Refusal::no_method())
        .layer(from_fn_with_state(service.clone(), audit::note))
        .layer(from_fn(cors::allow))
        .with_state(service)
}

/// The routes of stable names.
fn names() -> Router<Arc<Service>> {
    Router::new().route("/names", get(names::list)).route("/names/{name}", put(names::set).delete(names::end))
}

/// The routes of policies.
fn policies() -> Router<Arc<Service>> {
    Router::new()
        .route("/policies", get(policies::list))
        .route("/policies/check", post(policies::check))
        .route("/policies/{name}", put(policies::publish))
        .route("/policies/{name}/source", get(policies::source))
}

/// The routes of the Pinning Service API.
fn pins() -> Router<Arc<Service>> {
    Router::new()
        .route("/pins", get(pins::list).post(pins::add))
        .route("/pins/{requestid}", get(pins::get).post(pins::replace).delete(pins::remove))
        .layer(from_fn(pins::shape))
}

/// Ends what takes too long.
async fn limit(State(service): State<Arc<Service>>, request: Request, next: Next) -> Response {
    let answer = timeout(service.config.request(), next.run(request)).await;
    answer.unwrap_or_else(|_| Refusal::too_slow().into_response())
}

/// `GET /version`, in the shape of nft.storage.
async fn version() -> Json<Value> {
    Json(json!({ "version": env!("CARGO_PKG_VERSION"), "commit": "", "branch": "", "mode": "rw" }))
}
