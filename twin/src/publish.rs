//! Publishing a policy: its components and configurations as blobs, then the signed manifest that names them.

use bytes::Bytes;
use client::TransportError;
use format::{BlobId, Moment, NodeName, PolicyManifest, PolicyManifestError, PolicyName};
use tokio::task::spawn_blocking;

use crate::{
    clock::ClockError,
    policy_name::Asked,
    policy_source::PolicySource,
    twin::{Twin, now},
};

/// How long a version counts unless its owner says otherwise: a year, and a month to notice that it ends. An edge that
/// is kept from newer versions goes on with an old one no longer than that.
pub const POLICY_SECONDS: u64 = 400 * 24 * 3600;

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
    /// No node gave a version to renew.
    #[error("no node has a version of {name} that this owner signed; publish it first")]
    NoPolicy {
        /// The name.
        name: PolicyName,
        /// The last failure.
        source: Option<TransportError>,
    },
    /// This machine's clock is wrong.
    #[error("the policy would end at a wrong time")]
    Clock(#[from] ClockError),
    /// Nothing would be served under it.
    #[error("the policy would have ended at {}, and it is {} now", Moment(*end), Moment(*now))]
    Ended {
        /// Seconds since 1970.
        end: u64,
        /// Seconds since 1970, by the nodes' clocks.
        now: u64,
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
        self.publish_until(name, source, now().saturating_add(POLICY_SECONDS)).await
    }

    /// Publishes a new version of a policy that counts until `expires`, in seconds since 1970; zero: for ever.
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn publish_until(
        &self,
        name: &PolicyName,
        source: &PolicySource,
        expires: u64,
    ) -> Result<Published, PublishError> {
        if name.as_str() == PolicyName::DEFAULT {
            return Err(PublishError::BuiltIn { name: name.clone() });
        }
        let nodes = self.nodes_with_policies();
        let owner = self.owner();
        self.check_policy_end(expires)?;
        let Asked { newest, failure, .. } = self.ask_policy(&nodes, name).await;
        let manifest = PolicyManifest {
            owner,
            name: name.clone(),
            sequence: next_sequence(newest.as_ref().map(|(held, _)| held)),
            links: source.links.iter().map(|link| link.link()).collect(),
            not_before: 0,
            expires,
            parent: newest.map(|(_, id)| id),
            unknown: Default::default(),
        };
        self.send_manifest(&nodes, manifest, &source.blobs(), failure).await
    }

    /// Signs the newest version of a policy again, with a higher number, so that it counts until `expires`, in seconds
    /// since 1970; zero: for ever.
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn renew_policy(&self, name: &PolicyName, expires: u64) -> Result<Published, PublishError> {
        let nodes = self.nodes_with_policies();
        self.check_policy_end(expires)?;
        let Asked { newest, failure, .. } = self.ask_policy(&nodes, name).await;
        let Some((held, id)) = newest else {
            return Err(PublishError::NoPolicy { name: name.clone(), source: failure });
        };
        let sequence = next_sequence(Some(&held));
        let manifest = PolicyManifest { sequence, expires, parent: Some(id), ..held };
        // Nodes that hold the version before have its parts.
        self.send_manifest(&nodes, manifest, &[], failure).await
    }

    fn check_policy_end(&self, expires: u64) -> Result<(), PublishError> {
        if expires == 0 {
            return Ok(());
        }
        self.check_clock()?;
        let now = self.now();
        if expires <= now { Err(PublishError::Ended { end: expires, now }) } else { Ok(()) }
    }

    /// Signs a version and sends it and its parts to the nodes.
    async fn send_manifest(
        &self,
        nodes: &[NodeName],
        manifest: PolicyManifest,
        blobs: &[Bytes],
        mut failure: Option<TransportError>,
    ) -> Result<Published, PublishError> {
        let (keys, to_sign) = (self.keys.clone(), manifest.clone());
        let envelope = spawn_blocking(move || Bytes::from(to_sign.sign(&keys))).await.expect("signing does not panic");
        PolicyManifest::open(&envelope)?;

        let mut taken = 0;
        // One node after the other: where nodes share a catalog, the second already has everything.
        for node in nodes {
            match self.send_policy(node, &manifest.name, blobs, &envelope).await {
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
        node: &NodeName,
        name: &PolicyName,
        blobs: &[Bytes],
        envelope: &Bytes,
    ) -> Result<(), TransportError> {
        let (transport, owner) = (&self.network.transport, self.owner());
        if transport.policy(node, &owner, name).await?.as_ref() == Some(envelope) {
            return Ok(());
        }
        for blob in blobs {
            transport.put_blob(node, &BlobId::of(blob), blob.clone()).await?;
        }
        transport.put_policy(node, &owner, name, envelope.clone()).await
    }
}

/// Returns the number of the version after `held`. It is the clock, in seconds, if that is higher: after the catalog
/// was lost or replaced by an older copy, a new version must still be above every version that edges have seen.
fn next_sequence(held: Option<&PolicyManifest>) -> u64 {
    held.map_or(1, |held| held.sequence.saturating_add(1)).max(now())
}
