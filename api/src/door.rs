//! The door: TCP and HTTP/1.1, with a bound on connections, head lines and waits. A connection whose last request was
//! answered before its body was read is closed in order, so that the sender gets to read why.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    http::{Method, Request, Response},
};
use futures::future::{BoxFuture, poll_fn};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tower::ServiceExt;

use crate::{console, service::Service};

/// Pause when the system has no more files or memory for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long the head of a request may take.
const HEAD_DEADLINE: Duration = Duration::from_secs(20);
/// Bytes of a frame of a body, and half of what a head may have.
const BUFFER_BYTES_MAX: usize = 64 << 10;
/// Lines of a head at most.
const FIELDS_MAX: usize = 64;
/// How long, and how much, a sender goes on that was answered early.
const LINGER: Duration = Duration::from_secs(10);
const LINGER_BYTES_MAX: usize = 64 << 20;

/// Names the method of a request whose sender cannot use it (tus 1.0).
const METHOD_OVERRIDE: &str = "x-http-method-override";

/// Accepts connections until the twin stops; those open are then asked to end, and cut when the service says so.
pub(crate) async fn accept(service: Arc<Service>, listener: TcpListener, router: Router) {
    let places = usize::try_from(service.config.connections_max).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
    let room = Arc::new(Semaphore::new(places));
    loop {
        let next = async {
            let permit = room.clone().acquire_owned().await;
            (permit, listener.accept().await)
        };
        let Some((permit, accepted)) = service.stop.run_until_cancelled(next).await else { return };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (serving, router) = (service.clone(), router.clone());
        service.tasks.spawn(async move {
            let _permit = permit;
            serving.cut.run_until_cancelled(serve(&serving, stream, router)).await;
        });
    }
}

async fn serve(service: &Service, stream: TcpStream, router: Router) {
    // Answers are small and whole: to wait for more of them helps nobody.
    let _ = stream.set_nodelay(true);
    let answer =
        move |request: Request<Incoming>| -> BoxFuture<'static, Result<Response<Body>, std::convert::Infallible>> {
            Box::pin(router.clone().oneshot(as_meant(without_last_slash(request)).map(Body::new)))
        };
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_buf_size(BUFFER_BYTES_MAX)
        .max_headers(FIELDS_MAX)
        .serve_connection(TokioIo::new(stream), service_fn(answer));
    let mut is_ending = false;
    loop {
        let served = poll_fn(|context| connection.poll_without_shutdown(context));
        tokio::select! {
            served = served => {
                if let Err(error) = served {
                    tracing::debug!(%error, "a connection broke");
                }
                break;
            }
            () = service.stop.cancelled(), if !is_ending => {
                is_ending = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
        }
    }
    let mut stream = connection.into_parts().io.into_inner();
    let linger = async {
        let (mut sunk, mut rest) = (0, vec![0; 16 << 10]);
        if stream.shutdown().await.is_err() {
            return;
        }
        while let Ok(bytes @ 1..) = stream.read(&mut rest).await {
            sunk += bytes;
            if sunk > LINGER_BYTES_MAX {
                return;
            }
        }
    };
    let _ = timeout(LINGER, linger).await;
}

/// Clients of nft.storage end paths with a slash. To the console it matters: its links are relative.
fn without_last_slash<B>(mut request: Request<B>) -> Request<B> {
    let path = request.uri().path();
    let short = path.trim_end_matches('/');
    if short.len() == path.len() || short.is_empty() || path.starts_with(console::ROOT) {
        return request;
    }
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    if let Ok(uri) = format!("{short}{query}").parse() {
        *request.uri_mut() = uri;
    }
    request
}

/// Gives a request of tus the method that it says it has, whatever it came with: its version 1.0 demands that.
fn as_meant<B>(mut request: Request<B>) -> Request<B> {
    let is_tus =
        matches!(request.uri().path().strip_prefix("/tus"), Some(rest) if rest.is_empty() || rest.starts_with('/'));
    if is_tus && let Some(meant) = request.headers().get(METHOD_OVERRIDE) {
        // One that is no method is none of any path.
        *request.method_mut() = Method::from_bytes(meant.as_bytes()).unwrap_or(Method::CONNECT);
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_is_overridden_for_tus_alone() {
        for (path, meant, is) in [
            ("/tus/a", Some("PATCH"), "PATCH"),
            ("/tus", Some("DELETE"), "DELETE"),
            ("/tus/a", None, "POST"),
            ("/tus/a", Some("P A"), "CONNECT"),
            ("/files/a", Some("DELETE"), "POST"),
            ("/tusk", Some("DELETE"), "POST"),
        ] {
            let request = Request::builder().method("POST").uri(path);
            let request = meant.into_iter().fold(request, |request, meant| request.header(METHOD_OVERRIDE, meant));
            assert_eq!(as_meant(request.body(()).unwrap()).method().as_str(), is, "{path} {meant:?}");
        }
    }

    #[test]
    fn a_last_slash_is_no_part_of_a_path() {
        for (from, to) in [
            ("/files/", "/files"),
            ("/files/?a=b/", "/files?a=b/"),
            ("/files", "/files"),
            ("/", "/"),
            ("//", "//"),
            ("/a//", "/a"),
            ("/a/%2F/", "/a/%2F"),
            ("/console", "/console"),
            ("/console/", "/console/"),
        ] {
            let request = without_last_slash(Request::builder().uri(from).body(()).unwrap());
            assert_eq!(request.uri().to_string(), to, "{from}");
        }
    }
}
