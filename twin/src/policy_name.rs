//! The names of the owner's policies. A lease that names one which is not published takes its object down: an edge that
//! cannot ask a policy serves nothing. So whatever puts a name into a lease asks here first.

use client::TransportError;
use format::{BlobId, NodeName, PolicyManifest, PolicyName};
use futures::future::join_all;

use crate::twin::Twin;

/// Nodes that policies are sent to and asked of; all others have them from the catalog they share with one of these.
const NODES_MAX: usize = 8;

/// Why a policy is not put into a lease. Nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum PolicyNameError {
    /// Nobody has it: it is misspelt, or not published yet. The caller's fault.
    #[error("this owner has published no policy {name}")]
    Unknown {
        /// The name.
        name: PolicyName,
    },
    /// No node says whether there is one; try again.
    #[error("no node says whether there is a policy {name}")]
    Unavailable {
        /// The name.
        name: PolicyName,
        /// The last failure.
        source: Option<TransportError>,
    },
}

/// What nodes say of a policy.
pub(crate) struct Asked {
    /// The newest version that the owner signed, and the hash of its envelope.
    pub(crate) newest: Option<(PolicyManifest, BlobId)>,
    /// Whether a node said that it has none.
    pub(crate) denied: bool,
    /// The last failure.
    pub(crate) failure: Option<TransportError>,
}

impl Twin {
    /// Makes sure that edges can ask a policy: it is the default, which they have built in, or was published.
    ///
    /// # Errors
    /// [`PolicyNameError`].
    pub async fn know_policy(&self, name: &PolicyName) -> Result<(), PolicyNameError> {
        if name.as_str() == PolicyName::DEFAULT {
            return Ok(());
        }
        match self.ask_policy(&self.nodes_with_policies(), name).await {
            Asked { newest: Some(_), .. } => Ok(()),
            Asked { denied: true, .. } => Err(PolicyNameError::Unknown { name: name.clone() }),
            Asked { failure, .. } => Err(PolicyNameError::Unavailable { name: name.clone(), source: failure }),
        }
    }

    /// Returns the nodes that policies are sent to.
    pub(crate) fn nodes_with_policies(&self) -> Vec<NodeName> {
        self.network.topology.origins().into_iter().map(|node| node.name).take(NODES_MAX).collect()
    }

    /// Asks nodes for one of the owner's policies.
    pub(crate) async fn ask_policy(&self, nodes: &[NodeName], name: &PolicyName) -> Asked {
        let (transport, owner) = (&self.network.transport, self.owner());
        let mut asked = Asked { newest: None, denied: false, failure: None };
        for answer in join_all(nodes.iter().map(|node| transport.policy(node, &owner, name))).await {
            match answer {
                Ok(Some(envelope)) => {
                    let held = PolicyManifest::open(&envelope).ok();
                    let held = held.filter(|held| held.owner == owner && held.name == *name);
                    let newest = asked.newest.as_ref().map(|(newest, _)| newest.sequence);
                    if let Some(held) = held.filter(|held| Some(held.sequence) > newest) {
                        asked.newest = Some((held, BlobId::of(&envelope)));
                    }
                }
                Ok(None) => asked.denied = true,
                Err(error) => asked.failure = Some(error),
            }
        }
        asked
    }
}
