//! The accept loop of HTTP over TCP.

use std::{sync::Arc, time::Instant};

use pingora_core::server::ShutdownWatch;
use tokio::{net::TcpListener, sync::mpsc, time::sleep};

use super::{connection::Dealt, shared::HttpDoor, tls::Terminator, workers::Workers};
use crate::listen::{ACCEPT_RETRY, connections::Connections};

impl HttpDoor {
    /// Accepts connections and deals them to the workers until the shutdown is called, then lets those under way end.
    pub(crate) async fn serve(
        self: Arc<Self>,
        workers: Arc<Workers>,
        listener: TcpListener,
        terminator: Option<Arc<Terminator>>,
        mut shutdown: ShutdownWatch,
    ) {
        let http = &self.node.config.http;
        let connections = Connections::new(http.connections_max, http.connections_per_address_max);
        let (alive, mut all_ended) = mpsc::channel(1);
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = shutdown.wait_for(|down| *down) => break,
            };
            match accepted {
                Err(error) => {
                    tracing::warn!(%error, "connection not accepted");
                    sleep(ACCEPT_RETRY).await;
                }
                Ok((stream, peer)) => {
                    let Some(admitted) = connections.admit() else {
                        self.node.metrics.http_connections_refused.inc();
                        continue;
                    };
                    admitted.seat().wait(Instant::now());
                    // One that the system takes back is closed.
                    let Ok(stream) = stream.into_std() else { continue };
                    let (terminator, shutdown, alive) = (terminator.clone(), shutdown.clone(), alive.clone());
                    workers.deal(Dealt { stream, peer, terminator, admitted, shutdown, alive });
                }
            }
        }
        drop(alive);
        let _ = all_ended.recv().await;
    }
}
