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
    sync::{Mutex, Semaphore},
    time::{Instant, sleep, timeout},
};
use tower::ServiceExt;

use crate::{accept::ACCEPT_PAUSE, api, node::Node};

/// Operators are few.
const CONNECTIONS_MAX: usize = 16;
/// A scrape takes milliseconds; who is late asks again.
const CONNECTION_DEADLINE: Duration = Duration::from_secs(10);
/// Who sends nothing keeps a place for so long.
const HEADER_DEADLINE: Duration = Duration::from_secs(2);
/// A disk or a catalog that takes longer is not ready.
const READY_DEADLINE: Duration = Duration::from_secs(5);
/// So long it counts whether the node is ready: to know it costs a write to the disk and a question to the catalog.
const READY_TIME: Duration = Duration::from_secs(2);

type Ready = (StatusCode, &'static str);

/// What answers the operator.
struct Admin {
    node: Arc<Node>,
    /// When the node was last looked at, and what was found.
    looked: Mutex<Option<(Instant, Ready)>>,
}

/// Answers until the node stops.
pub(crate) async fn serve(node: Arc<Node>, listener: TcpListener) {
    let router = Router::new()
        .route("/health", get(async || "ok\n"))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .fallback(async || (StatusCode::NOT_FOUND, "there are /metrics, /health and /ready\n"))
        .with_state(Arc::new(Admin { node: node.clone(), looked: Mutex::new(None) }));
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            () = node.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        // Closed at once beyond, so that a probe hears of it and asks again.
        let Ok(permit) = room.clone().try_acquire_owned() else { continue };
        let (router, stop) = (router.clone(), node.stop.clone());
        node.tasks.spawn(async move {
            let _permit = permit;
            let service = service_fn(move |request: Request<Incoming>| router.clone().oneshot(request.map(Body::new)));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_DEADLINE)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            let _ = stop.run_until_cancelled_owned(timeout(CONNECTION_DEADLINE, connection)).await;
        });
    }
}

/// Says whether the node is ready; who asks while another's question is under way gets its answer.
async fn ready(State(admin): State<Arc<Admin>>) -> Ready {
    let mut looked = admin.looked.lock().await;
    match *looked {
        Some((at, found)) if at.elapsed() < READY_TIME => found,
        _ => {
            let found = look(&admin.node).await;
            *looked = Some((Instant::now(), found));
            found
        }
    }
}

/// Looks whether the node's disk and its catalog answer, and whether it takes shards.
async fn look(node: &Arc<Node>) -> Ready {
    let why = match timeout(READY_DEADLINE, api::entry(node)).await {
        Ok(Ok(entry)) if entry.draining => "the node is being emptied; it serves reads\n",
        // Also of a disk that takes no writes.
        Ok(Ok(entry)) if entry.free_bytes == 0 => "there is no room for shards; the node serves reads\n",
        Ok(Ok(_)) => return (StatusCode::OK, "ready\n"),
        Ok(Err(_)) | Err(_) => "the disk or the catalog does not answer\n",
    };
    (StatusCode::SERVICE_UNAVAILABLE, why)
}

async fn metrics(State(admin): State<Arc<Admin>>, headers: HeaderMap) -> Response {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
    let Exposition { content_type, body } = api::exposition(&admin.node, accept);
    ([(CONTENT_TYPE, content_type)], body).into_response()
}
