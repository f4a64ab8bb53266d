//! The door: TCP, TLS where there is a certificate, and HTTP/1.1, with a bound on connections, in all and from one
//! address, on head lines and on waits. A connection whose last request was answered before its body was read is closed
//! in order, so that the sender gets to read why.
//!
//! | wait | bound |
//! |---|---|
//! | for a handshake of TLS | ten seconds |
//! | for the head of a request, the first or the next on a connection | [`HEAD_DEADLINE`], or `idle_seconds` if less |
//! | for a body | `idle_seconds` and the least pace ([`crate::intake`]) |
//! | for the answer to be taken | the same ([`crate::paced`]) |
//! | for the rest of a body that nobody reads | [`LINGER`] |
//!
//! Requests that come before the last one is answered wait in a buffer of [`BUFFER_BYTES_MAX`] twice.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    http::{Method, Request, Response},
};
use edge::Terminator;
use futures::future::{BoxFuture, poll_fn};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tower::ServiceExt;

use crate::{console, paced::Paced, service::Service, store::share};

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

/// The answer to a connection from an address that has its share.
const FULL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 10\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
/// Names the method of a request whose sender cannot use it (tus 1.0).
const METHOD_OVERRIDE: &str = "x-http-method-override";

/// How many connections each address has open.
#[derive(Debug, Default)]
struct Addresses(Mutex<HashMap<IpAddr, usize>>);

/// A connection that is counted for its address, until drop.
#[derive(Debug)]
struct Counted {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

impl Addresses {
    /// Counts a connection; none when its address has `max`.
    fn count(self: &Arc<Self>, address: IpAddr, max: usize) -> Option<Counted> {
        let address = household(address);
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(address).or_default();
        if *count >= max {
            return None;
        }
        *count += 1;
        Some(Counted { addresses: self.clone(), address })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut open = self.addresses.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.address);
            }
        }
    }
}

/// One household has a whole IPv6 /64.
fn household(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
        address => address,
    }
}

/// Where connections come in.
pub(crate) struct Listening {
    pub(crate) listener: TcpListener,
    pub(crate) tls: Option<Arc<Terminator>>,
}

/// Accepts connections until the twin stops; those open are then asked to end, and cut when the service says so.
pub(crate) async fn accept(service: Arc<Service>, Listening { listener, tls }: Listening, router: Router) {
    let places = usize::try_from(service.config.connections_max).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
    let room = Arc::new(Semaphore::new(places));
    let addresses = Arc::new(Addresses::default());
    let share = usize::try_from(share(service.config.connections_max.into())).unwrap_or(usize::MAX);
    loop {
        let next = async {
            let permit = room.clone().acquire_owned().await;
            (permit, listener.accept().await)
        };
        let Some((permit, accepted)) = service.stop.run_until_cancelled(next).await else { return };
        let (stream, counted) = match accepted {
            Ok((stream, peer)) => match addresses.count(peer.ip(), share) {
                Some(counted) => (stream, counted),
                None => {
                    // Whoever does not take it, or waits for TLS, learns by the end of the connection.
                    if tls.is_none() {
                        let _ = stream.try_write(FULL);
                    }
                    continue;
                }
            },
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (serving, router, tls) = (service.clone(), router.clone(), tls.clone());
        service.tasks.spawn(async move {
            let _open = (permit, counted);
            serving.cut.run_until_cancelled(greet(&serving, stream, tls.as_deref(), router)).await;
        });
    }
}

async fn greet(service: &Service, stream: TcpStream, tls: Option<&Terminator>, router: Router) {
    // Answers are small and whole: to wait for more of them helps nobody.
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else { return serve(service, stream, router).await };
    if let Some(Some(stream)) = service.stop.run_until_cancelled(tls.accept(stream)).await {
        serve(service, stream, router).await;
    }
}

async fn serve(service: &Service, stream: impl AsyncRead + AsyncWrite + Unpin, router: Router) {
    let answer =
        move |request: Request<Incoming>| -> BoxFuture<'static, Result<Response<Body>, std::convert::Infallible>> {
            Box::pin(router.clone().oneshot(as_meant(without_last_slash(request)).map(Body::new)))
        };
    let (idle, least) = (service.config.idle(), service.config.bytes_per_second_min);
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE.min(idle))
        .max_buf_size(BUFFER_BYTES_MAX)
        .max_headers(FIELDS_MAX)
        .serve_connection(TokioIo::new(Paced::new(stream, idle, least)), service_fn(answer));
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
    let mut stream = connection.into_parts().io.into_inner().into_inner();
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
    fn an_address_has_its_share_and_a_household_is_one() {
        let addresses = Arc::new(Addresses::default());
        let count = |address: &str| addresses.count(address.parse().unwrap(), 2);
        let (one, two) = (count("2001:db8::1"), count("2001:db8::2"));
        assert!(
            one.is_some() && two.is_some() && count("2001:db8::ffff").is_none() && count("2001:db8:0:1::1").is_some()
        );
        drop(one);
        assert!(count("2001:db8::3").is_some());
        let mapped = (count("::ffff:192.0.2.1"), count("192.0.2.1"));
        assert!(mapped.0.is_some() && mapped.1.is_some() && count("192.0.2.1").is_none());
        drop((two, mapped));
        assert!(addresses.0.lock().unwrap().is_empty());
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
