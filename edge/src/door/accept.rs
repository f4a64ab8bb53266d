//! HTTP over TCP: connections are accepted, and dealt to the workers.

use std::{sync::Arc, time::Instant};

use pingora_core::server::ShutdownWatch;
use tokio::{net::TcpListener, sync::mpsc};

use super::{connection::Dealt, shared::HttpDoor, tls::Terminator, workers::Workers};
use crate::listen::accept::{Accepted, Acceptor};

impl HttpDoor {
    /// Deals connections to the workers until the shutdown is called, then lets those under way end.
    pub(crate) async fn serve(
        self: Arc<Self>,
        workers: Arc<Workers>,
        socket: TcpListener,
        terminator: Option<Arc<Terminator>>,
        shutdown: ShutdownWatch,
    ) {
        let (alive, mut all_ended) = mpsc::channel(1);
        let mut acceptor =
            Acceptor::new(socket, self.connections(), self.node.metrics.accept_faults.clone(), shutdown.clone());
        while let Some(Accepted { stream, peer, admitted }) = acceptor.next().await {
            admitted.seat().wait(Instant::now());
            // One that the system takes back is closed.
            let Ok(stream) = stream.into_std() else { continue };
            let (terminator, shutdown, alive) = (terminator.clone(), shutdown.clone(), alive.clone());
            workers.deal(Dealt { stream, peer, terminator, admitted, shutdown, alive });
        }
        drop(alive);
        let _ = all_ended.recv().await;
    }
}
