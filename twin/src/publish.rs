//! Publishing a policy: its components and configurations as blobs, then the signed manifest that names them.

use bytes::Bytes;
use client::TransportError;
use format::{BlobId, PolicyManifest, PolicyManifestError, PolicyName};
use tokio::task::spawn_blocking;

use crate::{
    policy_name::Asked,
    policy_source::PolicySource,
    twin::{Twin, now},
};

/// A published version of a policy.
#[derive(Debug, Clone)]
pub struct Published {
    /// The manifest as signed.
    pub manifest: PolicyManifest,
    /// Nodes that took it.
    pub nodes: usize,
}

/// Why a policy was not published. The version before it stays in force.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// A policy of this name is built into edges, which never ask for another. The owner must choose another name.
    #[error("{name} is built into every edge, which asks nobody for a policy of that name; choose another name")]
    BuiltIn {
        /// The name.
        name: PolicyName,
    },
    /// No node takes the policy, or none can be reached.
    #[error("no node took the policy; the version before stays in force")]
    NoNode {
        /// The last failure.
        source: Option<TransportError>,
    },
    /// No node would accept the manifest.
    #[error("the policy cannot be a manifest")]
    Manifest(#[from] PolicyManifestError),
}

impl Twin {
    /// Publishes a new version of a policy. This call does not validate it: run it in a sandbox first.
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn publish(&self, name: &PolicyName, source: &PolicySource) -> Result<Published, PublishError> {
        if name.as_str() == PolicyName::DEFAULT {
            return Err(PublishError::BuiltIn { name: name.clone() });
        }
        let nodes = self.nodes_with_policies();
        let owner = self.owner();
        let Asked { newest, mut failure, .. } = self.ask_policy(&nodes, name).await;
        let next = newest.as_ref().map_or(1, |(held, _)| held.sequence.saturating_add(1));
        let manifest = PolicyManifest {
            owner,
            name: name.clone(),
            // The clock, in seconds, if that is higher: after the catalog was lost or replaced by an older copy, a new
            // version must still be above every version that edges have seen.
            sequence: next.max(now()),
            links: source.links.iter().map(|link| link.link()).collect(),
            not_before: 0,
            expires: 0,
            parent: newest.map(|(_, id)| id),
            unknown: Vec::new(),
        };
        let (keys, to_sign) = (self.keys.clone(), manifest.clone());
        let envelope = spawn_blocking(move || Bytes::from(to_sign.sign(&keys))).await.expect("signing does not panic");
        PolicyManifest::open(&envelope)?;

        let mut taken = 0;
        // One node after the other: where nodes share a catalog, the second already has everything.
        for node in &nodes {
            match self.send_policy(node, name, source, &envelope).await {
                Ok(()) => taken += 1,
                Err(error) => {
                    tracing::warn!(%node, %error, "a node did not take a policy");
                    failure = Some(error);
                }
            }
        }
        if taken == 0 {
            Err(PublishError::NoNode { source: failure })
        } else {
            Ok(Published { manifest, nodes: taken })
        }
    }

    async fn send_policy(
        &self,
        node: &format::NodeName,
        name: &PolicyName,
        source: &PolicySource,
        envelope: &Bytes,
    ) -> Result<(), TransportError> {
        let (transport, owner) = (&self.network.transport, self.owner());
        if transport.policy(node, &owner, name).await?.as_ref() == Some(envelope) {
            return Ok(());
        }
        for link in &source.links {
            for blob in [link.component.clone(), Bytes::from(link.config.clone())] {
                transport.put_blob(node, &BlobId::of(&blob), blob).await?;
            }
        }
        transport.put_policy(node, &owner, name, envelope.clone()).await
    }
}
