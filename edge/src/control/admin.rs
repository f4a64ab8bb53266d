//! Metrics and health for the operator, on an address of their own.

use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

use async_trait::async_trait;
use client::Exposition;
use format::wire::Role;
use http::{StatusCode, header};
use pingora_core::{
    apps::{HttpServerApp, ReusedHttpStream, ServerApp},
    protocols::{http::ServerSession, l4::stream::Stream},
    server::ShutdownWatch,
};
use pingora_http::ResponseHeader;
use prometheus_client::metrics::counter::Counter;
use tokio::{net::TcpListener, time::timeout};

use crate::{
    clock,
    listen::{
        accept::{Accepted, Acceptor},
        connections::Connections,
    },
    node::Node,
};

/// Operators are few; at the limit the oldest connection gives way.
const CONNECTIONS_MAX: usize = 16;
/// A scrape takes milliseconds.
const CONNECTION_DEADLINE: std::time::Duration = std::time::Duration::from_secs(10);

struct Admin(Arc<Node>);

#[async_trait]
impl HttpServerApp for Admin {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        _shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        if !session.read_request().await.ok()? {
            return None;
        }
        let plain = |(status, body)| (status, Exposition { content_type: "text/plain; charset=utf-8", body });
        let asked = session.req_header();
        let (status, Exposition { content_type, body: text }) = match asked.uri.path() {
            "/metrics" => {
                let accept = asked.headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
                (StatusCode::OK, Exposition::of(self.0.metrics.text(), accept))
            }
            "/health" => plain((StatusCode::OK, "ok\n".to_owned())),
            "/ready" if !self.0.can_shake_hands() => {
                let text = "there is no certificate for viewers, or it has ended; none is sent here\n";
                plain((StatusCode::SERVICE_UNAVAILABLE, text.to_owned()))
            }
            "/ready" => plain(ready(self.0.metrics.announced.get(), clock::unix_seconds(SystemTime::now()))),
            _ => plain((StatusCode::NOT_FOUND, "there are /metrics, /health and /ready\n".to_owned())),
        };
        let mut head = ResponseHeader::build(status, Some(2)).ok()?;
        head.insert_header(header::CONTENT_TYPE, content_type).ok()?;
        head.insert_header(header::CONTENT_LENGTH, text.len().to_string()).ok()?;
        session.set_keepalive(None);
        session.write_response_header(Box::new(head)).await.ok()?;
        session.write_response_body(text.into(), true).await.ok()?;
        session.finish().await.ok()?;
        None
    }
}

const SILENT_SECONDS: u64 = Role::Edge.silent_seconds();

/// Whether viewers should be sent here: without an origin only what is cached is served. Seconds since 1970, 0 for
/// never.
fn ready(announced: u64, now: u64) -> (StatusCode, String) {
    match now.saturating_sub(announced) {
        0..=SILENT_SECONDS => (StatusCode::OK, "ready\n".to_owned()),
        _ if announced == 0 => (StatusCode::SERVICE_UNAVAILABLE, "no origin has answered yet\n".to_owned()),
        seconds => {
            let text = format!("no origin has answered for {seconds} s; what is cached is served\n");
            (StatusCode::SERVICE_UNAVAILABLE, text)
        }
    }
}

/// Answers until the shutdown; dropping it cuts what is open.
pub(crate) async fn serve(node: Arc<Node>, socket: TcpListener, shutdown: ShutdownWatch) {
    let faults = node.metrics.accept_faults.clone();
    let app = Arc::new(Admin(node));
    // Nobody counts those that are refused.
    let connections = Connections::new(CONNECTIONS_MAX, CONNECTIONS_MAX, Counter::default());
    let acceptor = Acceptor::new(socket, connections, faults, shutdown.clone());
    let serve = |Accepted { stream, admitted, .. }| {
        let (app, shutdown) = (Arc::clone(&app), shutdown.clone());
        async move {
            admitted.seat().wait(Instant::now());
            let stream: Stream = stream.into();
            // Too late, or given up for another, is as good as answered: the operator asks again.
            tokio::select! {
                _ = timeout(CONNECTION_DEADLINE, app.process_new(Box::new(stream), &shutdown)) => {}
                () = admitted.seat().given_up() => {}
            }
        }
    };
    acceptor.each(serve).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_is_ready_while_origins_answer() {
        let now = 1_800_000_000;
        for (announced, status, says) in [
            (0, 503, "yet"),
            (now, 200, "ready"),
            (now - 20, 200, "ready"),
            (now - 21, 503, "21 s"),
            (now + 5, 200, "ready"),
        ] {
            let (found, text) = ready(announced, now);
            assert!(found == status && text.contains(says), "{announced}: {found} {text}");
        }
    }
}
