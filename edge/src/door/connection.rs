//! One connection over TCP, from its acceptance to its end: who is at the other end, TLS, and which codec it is for.

use std::{
    net::{SocketAddr, TcpStream as StdStream},
    pin::pin,
    rc::Rc,
    sync::Arc,
};

use pingora_core::server::ShutdownWatch;
use tokio::{net::TcpStream, sync::mpsc, time::timeout};

use super::{
    h2, pingora, proxy,
    shared::{Gauged, HttpDoor},
    tls::Terminator,
    wire::{Plain, Rest, Wire},
    worker::Worker,
};
use crate::{answer::ready::Asker, listen::connections::Admitted};

/// A connection for a worker.
pub(super) struct Dealt {
    pub(super) stream: StdStream,
    pub(super) peer: SocketAddr,
    pub(super) terminator: Option<Arc<Terminator>>,
    pub(super) admitted: Admitted,
    pub(super) shutdown: ShutdownWatch,
    /// Dropped when the connection ended.
    pub(super) alive: mpsc::Sender<()>,
}

/// Serves a connection on its worker.
pub(super) async fn connection(worker: &Rc<Worker>, dealt: Dealt) {
    let Dealt { stream, peer, terminator, admitted, shutdown, alive } = dealt;
    let (door, seat) = (&worker.door, Arc::clone(admitted.seat()));
    // Answers are written whole; waiting for more to send only delays their last packet.
    let Ok(mut stream) = stream.set_nodelay(true).and_then(|()| TcpStream::from_std(stream)) else { return };
    let opening = async {
        let peer = viewer(door, &mut stream, peer).await?;
        let admitted = admitted.of(peer.ip())?;
        let wire = match &terminator {
            None => Wire::Clear(stream),
            Some(terminator) => Wire::Secure(Box::new(terminator.accept(stream).await?)),
        };
        Some((peer, admitted, wire))
    };
    let opened = tokio::select! {
        opened = opening => opened,
        () = seat.given_up() => {
            door.node.metrics.http_connections_given_up.inc();
            return;
        }
    };
    let Some((peer, admitted, wire)) = opened else { return };
    let gauge = Gauged::new(&door.node);
    let ip = peer.ip().to_canonical();
    let asker = Asker { peer: ip, place: door.node.places.locate(ip).place, is_secure: terminator.is_some() };
    let is_h2 = wire.is_h2();
    let rest = match is_h2 {
        true => Some(Rest { wire, read: Vec::new() }),
        false => Plain::new(wire, door.node.config.http.write_deadline()).serve(worker, &asker, &seat, &shutdown).await,
    };
    if let Some(mut rest) = rest {
        let given_up = pin!(seat.given_up());
        if is_h2 || rest.is_h2(door.node.config.http.header_deadline()).await {
            h2::serve(worker, rest, asker, &seat, given_up, &shutdown).await;
        } else {
            tokio::select! {
                () = pingora::serve(door, rest, ip, asker.is_secure, &seat, &shutdown) => {}
                () = given_up => drop(door.node.metrics.http_connections_given_up.inc()),
            }
        }
    }
    drop((gauge, admitted, alive));
}

/// Returns who is at the other end: the peer, or whom a balancer names.
async fn viewer(door: &HttpDoor, stream: &mut TcpStream, peer: SocketAddr) -> Option<SocketAddr> {
    if !door.node.config.http.is_balancer(peer.ip()) {
        return Some(peer);
    }
    let named = timeout(door.node.config.http.header_deadline(), proxy::viewer(stream, peer)).await.ok().flatten();
    if named.is_none() {
        tracing::debug!(balancer = %peer, "a connection without a PROXY header was closed");
    }
    named
}
