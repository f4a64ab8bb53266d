//! The routes, and the deadline that those share which carry no upload.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Request, State},
    middleware::{Next, from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{get, patch, post, put},
};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{audit, cors, files, nft, openapi, pins, refusal::Refusal, service::Service, tus};

/// Builds the router of a service.
pub(crate) fn router(service: Arc<Service>) -> Router {
    Router::new()
        .route("/files/{id}", get(files::get).delete(files::delete).patch(files::patch))
        .route("/audit", get(audit::list))
        .route("/version", get(version))
        .route("/openapi.json", get(openapi::serve))
        .route("/tus/{id}", get(tus::head).delete(tus::terminate))
        .route("/tus/{id}/file", get(tus::file))
        .merge(pins())
        .route("/", get(nft::list))
        .route("/{cid}", get(nft::get).delete(nft::delete))
        .route("/check/{cid}", get(nft::check))
        .route("/upload/{cid}", patch(nft::rename))
        .fallback(async || Refusal::not_found("there is no such path; /openapi.json has all"))
        .layer(from_fn_with_state(service.clone(), limit))
        // Uploads have the deadlines of their bodies.
        .route("/files", get(files::list).post(files::post))
        .route("/upload", post(nft::upload))
        .route("/tus", post(tus::create))
        .merge(Router::new().route("/tus/{id}", patch(tus::patch)))
        .merge(Router::new().route("/files/{id}", put(files::put)))
        .method_not_allowed_fallback(async || Refusal::no_method())
        .layer(from_fn_with_state(service.clone(), audit::note))
        .layer(from_fn(cors::allow))
        .with_state(service)
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
