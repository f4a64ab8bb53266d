//! The names of the owner's policies. If a lease names a policy that is not published, no edge serves the object,
//! because an edge that cannot ask the policy serves nothing (fail closed). So every call that puts a name into a lease
//! checks it here first.

use std::collections::BTreeSet;

use client::TransportError;
use format::{BlobId, NodeName, PolicyManifest, PolicyName};
use futures::future::join_all;

use crate::{index::Index, twin::Twin};

/// How many nodes are sent a policy, or are asked for one. All others have it from the catalog that they share with one
/// of these.
const NODES_MAX: usize = 8;

/// Why a policy is not put into a lease. Nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum PolicyNameError {
    /// All nodes that answered say that there is none, and they are at least half of those asked: the name is misspelt,
    /// or the policy is not published yet. The caller's fault.
    #[error("this owner has published no policy {name}")]
    Unknown {
        /// The name.
        name: PolicyName,
    },
    /// No node returned the policy, and too few said that there is none. Try again.
    #[error("too few nodes say whether there is a policy {name}")]
    Unavailable {
        /// The name.
        name: PolicyName,
        /// The last failure.
        source: Option<TransportError>,
    },
}

/// The answers of nodes that were asked for a policy.
pub(crate) struct Asked {
    /// The newest version that the owner signed, and the hash of its envelope.
    pub(crate) newest: Option<(PolicyManifest, BlobId)>,
    /// How many nodes were asked.
    asked: usize,
    /// How many answered.
    answered: usize,
    /// How many answered that they have none.
    denied: usize,
    /// The last failure.
    pub(crate) failure: Option<TransportError>,
}

impl Asked {
    /// Returns whether there is no such policy. One node's word is not enough, as it may lag behind the others.
    fn is_denied(&self) -> bool {
        self.denied > 0 && self.denied == self.answered && self.denied * 2 >= self.asked
    }
}

impl Twin {
    /// Checks that edges can ask a policy: it is the default, which is built into them, or it was published.
    ///
    /// # Errors
    /// [`PolicyNameError`].
    pub async fn know_policy(&self, name: &PolicyName) -> Result<(), PolicyNameError> {
        if name.as_str() == PolicyName::DEFAULT {
            return Ok(());
        }
        self.policy(name).await.map(drop)
    }

    /// Returns the policies that the owner's objects name, but the one that is built into edges and does not end.
    pub async fn policies_in_use(&self) -> BTreeSet<PolicyName> {
        let names = |index: &mut Index| {
            let names = index.entries().map(|(_, entry)| &entry.tenure.policy);
            names.filter(|name| name.as_str() != PolicyName::DEFAULT).cloned().collect()
        };
        self.with_index(names).await
    }

    /// Returns the newest version of a policy of this owner's that nodes have.
    ///
    /// # Errors
    /// [`PolicyNameError`].
    pub async fn policy(&self, name: &PolicyName) -> Result<PolicyManifest, PolicyNameError> {
        let asked = self.ask_policy(&self.nodes_with_policies(), name).await;
        let name = || name.clone();
        match asked {
            Asked { newest: Some((manifest, _)), .. } => Ok(manifest),
            asked if asked.is_denied() => Err(PolicyNameError::Unknown { name: name() }),
            Asked { failure, .. } => Err(PolicyNameError::Unavailable { name: name(), source: failure }),
        }
    }

    /// Returns the nodes that policies are sent to.
    pub(crate) fn nodes_with_policies(&self) -> Vec<NodeName> {
        self.network.topology.origins().into_iter().map(|node| node.name).take(NODES_MAX).collect()
    }

    /// Asks nodes for one of the owner's policies.
    pub(crate) async fn ask_policy(&self, nodes: &[NodeName], name: &PolicyName) -> Asked {
        let (transport, owner) = (&self.network.transport, self.owner());
        let mut asked = Asked { newest: None, asked: nodes.len(), answered: 0, denied: 0, failure: None };
        for answer in join_all(nodes.iter().map(|node| transport.policy(node, &owner, name))).await {
            asked.answered += usize::from(answer.is_ok());
            match answer {
                Ok(Some(envelope)) => {
                    let held = PolicyManifest::open(&envelope).ok();
                    let held = held.filter(|held| held.owner == owner && held.name == *name);
                    let newest = asked.newest.as_ref().map(|(newest, _)| newest.sequence);
                    if let Some(held) = held.filter(|held| Some(held.sequence) > newest) {
                        asked.newest = Some((held, BlobId::of(&envelope)));
                    }
                }
                Ok(None) => asked.denied += 1,
                Err(error) => asked.failure = Some(error),
            }
        }
        asked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_who_answer_and_half_of_all_asked_deny_a_policy() {
        let is_denied =
            |asked, answered, denied| Asked { newest: None, asked, answered, denied, failure: None }.is_denied();
        assert!(is_denied(8, 8, 8) && is_denied(8, 4, 4) && is_denied(3, 2, 2) && is_denied(1, 1, 1));
        assert!(!is_denied(8, 3, 3) && !is_denied(3, 1, 1), "too few answered");
        assert!(!is_denied(8, 8, 7), "one answered with something else");
        assert!(!is_denied(0, 0, 0) && !is_denied(8, 0, 0));
    }
}
