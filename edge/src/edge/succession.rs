//! What a start takes up from before: the nodes and the certificate of a former run, and the disk cache of a
//! predecessor, once that one has let go of it.

use std::{sync::Arc, time::Duration};

use client::{KnownNodes, Topology, Transport};
use tokio::time::{sleep, timeout};

use super::{StartError, loaded::Secured};
use crate::{
    config::Config,
    control::acme::Keeper,
    node::Node,
    store::disk::{DiskError, DiskTier},
};

/// What a predecessor lets go of as it ends, which takes it `DRAIN_DEADLINE` twice at most, is taken up by then.
pub(super) const SUCCESSION_DEADLINE: Duration = Duration::from_secs(60);
pub(super) const SUCCESSION_RETRY: Duration = Duration::from_millis(100);

/// Adds the nodes that a former run learned to those of the configuration.
pub(super) async fn recall_nodes(config: &Config, topology: &Arc<Topology>) -> Option<Arc<KnownNodes>> {
    let known = Arc::new(KnownNodes::at(&config.state_dir.as_ref()?.join("nodes.json")));
    let (recalled, topology) = (Arc::clone(&known), Arc::clone(topology));
    // A failure is logged there; the edge starts with the nodes of its configuration then.
    let _ = client::offload(move || recalled.recall(&topology)).await;
    Some(known)
}

/// Makes what keeps a certificate from its authority, and takes up the one that a former run kept. An edge that
/// succeeds another asks the origins for it before it answers in that one's place.
pub(super) async fn keeper(
    node: &Arc<Node>,
    secure: Option<&Secured>,
    transport: &Arc<dyn Transport>,
    succeeds: bool,
) -> Result<Option<Keeper>, StartError> {
    let acme = node.config.https.as_ref().and_then(|https| https.acme.clone());
    let Some((acme, (terminator, Some(secret)))) = acme.zip(secure) else { return Ok(None) };
    let mut keeper =
        Keeper::new(Arc::clone(node), Arc::clone(terminator.certificate()), acme, secret, Arc::clone(transport));
    keeper.recall().await;
    if succeeds && !node.can_shake_hands() && !keeper.first().await {
        return Err(StartError::Uncertified);
    }
    Ok(Some(keeper))
}

/// Opens the disk cache, and returns whether a predecessor has it still.
pub(super) async fn take_up_disk(node: &Node, succeeds: bool) -> Result<bool, DiskError> {
    let Some(disk) = &node.config.cache.disk else { return Ok(false) };
    match DiskTier::open(disk, Arc::clone(&node.metrics)).await {
        Ok(tier) => node.fills.take_up(tier),
        Err(DiskError::Taken { .. }) if succeeds => return Ok(true),
        Err(error) => return Err(error),
    }
    Ok(false)
}

/// Opens the disk cache once the predecessor has let go of it.
pub(super) async fn take_up_disk_later(node: Arc<Node>) {
    let freed = timeout(SUCCESSION_DEADLINE, async {
        while take_up_disk(&node, true).await? {
            sleep(SUCCESSION_RETRY).await;
        }
        Ok::<_, DiskError>(())
    });
    match freed.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(error = client::causes(&error), "the disk cache is not used"),
        Err(_) => tracing::error!("the disk cache is not used, another process has it"),
    }
}
