//! Health and metrics for the operator, in clear on an address of their own: a probe, a balancer and Prometheus read
//! them without a certificate of the cluster. Nothing of an object or an owner is told here.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{
        HeaderMap, Request, StatusCode,
        header::{ACCEPT, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
    routing::get,
};
use client::Exposition;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::TcpListener,
    sync::Semaphore,
    time::{sleep, timeout},
};
use tower::ServiceExt;

use crate::{accept::ACCEPT_PAUSE, api, node::Node};

/// Operators are few.
const CONNECTIONS_MAX: usize = 16;
/// A scrape takes milliseconds; who is late asks again.
const CONNECTION_DEADLINE: Duration = Duration::from_secs(10);
/// A disk or a catalog that takes longer is not ready.
const READY_DEADLINE: Duration = Duration::from_secs(5);

/// Answers until the node stops.
pub(crate) async fn serve(node: Arc<Node>, listener: TcpListener) {
    let router = Router::new()
        .route("/health", get(async || "ok\n"))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .fallback(async || (StatusCode::NOT_FOUND, "there are /metrics, /health and /ready\n"))
        .with_state(node.clone());
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let next = async {
            let permit = room.clone().acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            () = node.stop.cancelled() => return,
            next = next => next,
        };
        let Ok((stream, _)) = accepted else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (router, stop) = (router.clone(), node.stop.clone());
        node.tasks.spawn(async move {
            let _permit = permit;
            let service = service_fn(move |request: Request<Incoming>| router.clone().oneshot(request.map(Body::new)));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            let _ = stop.run_until_cancelled_owned(timeout(CONNECTION_DEADLINE, connection)).await;
        });
    }
}

/// Says whether the node's disk and its catalog answer.
async fn ready(State(node): State<Arc<Node>>) -> (StatusCode, &'static str) {
    match timeout(READY_DEADLINE, api::entry(&node)).await {
        Ok(Ok(_)) => (StatusCode::OK, "ready\n"),
        Ok(Err(_)) | Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the disk or the catalog does not answer\n"),
    }
}

async fn metrics(State(node): State<Arc<Node>>, headers: HeaderMap) -> Response {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
    let Exposition { content_type, body } = api::exposition(&node, accept);
    ([(CONTENT_TYPE, content_type)], body).into_response()
}
