//! An edge at work, from its start to its end: all that goes on, and the order in which it stops.

use std::{sync::Arc, time::Duration};

use client::Transport;
use tokio::{sync::watch, task::JoinSet, time::timeout};

use super::{
    doors::{Doors, Secure},
    succession::take_up_disk_later,
};
use crate::{
    control::{
        acme::Keeper,
        admin, follow,
        purge::{Sweeper, Sweeps},
    },
    dns::ZoneFacts,
    door::{HttpDoor, Terminator, Workers},
    listen::certificate::Looked,
    node::Node,
    peers,
    policy::denylist,
};

/// Answers under way get so long to end.
const DRAIN_DEADLINE: Duration = Duration::from_secs(10);

/// Keeps the certificate true: from its authority, or from its files.
fn certify(followers: &mut JoinSet<()>, node: &Arc<Node>, terminator: &Arc<Terminator>, keeper: Option<Keeper>) {
    let Some(https) = &node.config.https else { return };
    match keeper {
        Some(keeper) => {
            followers.spawn(keeper.run());
        }
        None => {
            let (Some(files), metrics) = (https.files(), Arc::clone(&node.metrics)) else { return };
            let told = move |looked| match looked {
                Looked::Ends(ends) => {
                    metrics.certificate_ends.set(ends);
                }
                Looked::Fault => {
                    metrics.certificate_faults.inc();
                }
            };
            followers.spawn(Arc::clone(terminator.certificate()).follow_files(files, node.config.reread_every(), told));
        }
    }
}

pub(super) async fn run(
    node: Arc<Node>,
    transport: Arc<dyn Transport>,
    zone: ZoneFacts,
    bound: Doors,
    disk_later: bool,
    mut shutdown: watch::Receiver<bool>,
) {
    let mut followers = JoinSet::new();
    let sweeps = Arc::new(Sweeps::default());
    followers.spawn(Sweeper::new(Arc::clone(&node), Arc::clone(&transport), Arc::clone(&sweeps)).run());
    followers.spawn(follow::changes(Arc::clone(&node), Arc::clone(&transport), sweeps));
    followers.spawn(follow::fill_register(Arc::clone(&node), Arc::clone(&transport)));
    followers.spawn(follow::announce(Arc::clone(&node), transport));
    if let Some((membership, files)) = node.membership.clone().zip(node.config.tls.clone()) {
        followers.spawn(membership.follow_files(files, node.config.reread_every()));
    }
    // pingora takes "the sender is gone" for "go on"; our own pair says it in so many words.
    let (down, going_down) = watch::channel(false);
    if let Some(admin) = bound.admin {
        followers.spawn(admin::serve(Arc::clone(&node), admin.socket, going_down.clone()));
    }
    if let Some((peers, membership)) = bound.peers.zip(node.membership.clone()) {
        followers.spawn(peers::serve(Arc::clone(&node), peers.socket, membership, going_down.clone()));
    }
    if let Some(denylist) = &node.config.denylist {
        let (every, held) = (node.config.reread_every(), Arc::clone(&node.denylist));
        followers.spawn(denylist::follow(denylist.files.clone(), every, held, Arc::clone(&node.metrics)));
    }
    if disk_later {
        followers.spawn(take_up_disk_later(Arc::clone(&node)));
    }
    let mut doors = JoinSet::new();
    let mut dns = bound.dns.map(|dns| {
        let (datagrams, streams) = dns.serve(Arc::clone(&node), zone, going_down.clone());
        doors.spawn(streams);
        datagrams
    });
    let ways = bound.https.as_ref().zip(node.config.https.as_ref()).map(|(https, config)| https.ways(config));
    let door = Arc::new(HttpDoor::new(Arc::clone(&node), ways.unwrap_or_default()));
    let workers = match Workers::start(&door, node.config.http.workers()) {
        Ok(workers) => Arc::new(workers),
        Err(error) => return tracing::error!(%error, "the edge ends: the system gives it no threads"),
    };
    if let Some(Secure { terminator, tcp, quic, keeper }) = bound.https {
        certify(&mut followers, &node, &terminator, keeper);
        let (workers, address) = (Arc::clone(&workers), tcp.address);
        let secured = Some(Arc::clone(&terminator));
        doors.spawn(Arc::clone(&door).serve(workers, tcp.socket, secured, going_down.clone()));
        if let Some(quic) = quic {
            let (door, down) = (Arc::clone(&door), going_down.clone());
            doors.spawn(async move {
                if let Some(endpoint) = quic.endpoint(address, &terminator, &door.node.config.http, down.clone()).await
                {
                    door.serve_quic(endpoint, down).await;
                }
            });
        }
    }
    doors.spawn(door.serve(workers, bound.http.socket, None, going_down));

    // An error means that whoever could call the shutdown is gone.
    let _ = shutdown.wait_for(|down| *down).await;
    tracing::info!(edge = %node.config.name, "edge ends");
    let _ = down.send(true);
    followers.shutdown().await;
    let drained = timeout(DRAIN_DEADLINE, async {
        if let Some(dns) = &mut dns
            && let Err(error) = dns.shutdown_gracefully().await
        {
            tracing::debug!(%error, "the DNS door ended with an error");
        }
        while doors.join_next().await.is_some() {}
    });
    if drained.await.is_err() {
        tracing::warn!("answers under way were cut at the deadline");
    }
    doors.shutdown().await;
    if timeout(DRAIN_DEADLINE, node.fills.stop()).await.is_err() {
        tracing::warn!("the disk cache was cut at the deadline; what it lacks is read from origins again");
    }
    if let Some(traces) = &node.traces {
        traces.end().await;
    }
}
