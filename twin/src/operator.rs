//! The cluster as its operator sees it: the health of objects and the repairs. Needs no owner.

use std::sync::Arc;

use bytes::Bytes;
use client::{HttpTransport, Membership, RefusedListError, Topology, Transport, TransportError};
use format::{
    Locator, NodeName,
    wire::{ObjectHealth, Retried},
};
use futures::future::join_all;

use crate::{
    config::TwinConfig,
    health::{self, Repairs},
    network::{NetworkError, Reached, reach},
};

/// Asks origins about the state of the cluster.
pub struct Operator {
    transport: Arc<HttpTransport>,
    topology: Arc<Topology>,
    origins: Vec<NodeName>,
    membership: Arc<Membership>,
    /// The nodes where they were before any node told of others, and the way to them there.
    known: (Vec<NodeName>, HttpTransport),
}

/// Why an operator got no answer.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// No origin answers; the fault of the origins or of the network.
    #[error("none of {asked} origins answers")]
    NoAnswer {
        /// How many were asked.
        asked: usize,
        /// The last failure; `None` when there is no origin.
        source: Option<TransportError>,
    },
    /// No origin has a record of the object; the caller's fault.
    #[error("no record is filed under locator {locator}")]
    NoRecord {
        /// The locator.
        locator: Locator,
    },
    /// An origin refused.
    #[error("the question was refused")]
    Refused(#[source] TransportError),
}

impl Operator {
    /// Connects to the cluster of a configuration.
    ///
    /// # Errors
    /// [`NetworkError`].
    pub async fn connect(config: &TwinConfig) -> Result<Self, NetworkError> {
        // Any node's certificate may ask these questions.
        let identity = config.identity.read()?;
        let role = identity.role();
        let Reached { transport, topology, membership, known } = reach(config, identity, role).await?;
        let origins = topology.origins_by_distance(&config.place);
        let names = known.iter().map(|node| node.name.clone()).collect();
        let known = (names, HttpTransport::of(membership.clone(), Arc::new(Topology::new(known))));
        Ok(Self { transport, topology, origins, membership, known })
    }

    /// Returns the nodes.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Asks for the health of an object.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub async fn health(&self, locator: &Locator) -> Result<ObjectHealth, OperatorError> {
        health::health(&*self.transport, &self.origins, locator).await
    }

    /// Asks all origins about repairs, and adds up what they say.
    ///
    /// # Errors
    /// [`OperatorError::NoAnswer`].
    pub async fn repairs(&self) -> Result<Repairs, OperatorError> {
        health::repairs(&*self.transport, &self.origins).await
    }

    /// Puts repairs that were given up back into the queue.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub async fn retry_repairs(&self) -> Result<Retried, OperatorError> {
        health::first(&self.origins, |node| Box::pin(self.transport.retry_repairs(node))).await
    }

    /// Asks all origins for the list of refused node certificates. Returns the lists of those that answer and have one,
    /// unverified.
    pub async fn refused(&self) -> Vec<Bytes> {
        let answers = join_all(self.everybody().map(|node| self.anywhere(node, |way| way.refused(node, 0)))).await;
        answers.into_iter().filter_map(|answer| answer.ok().flatten()).collect()
    }

    /// Brings a list of refused node certificates to all origins, those known before included: whoever told of the
    /// others may be the thief. The list counts here first, so that nobody whom it refuses passes for one who took it.
    /// Returns what each said.
    ///
    /// # Errors
    /// [`RefusedListError`] for a list that is none of this cluster; nobody is told then.
    pub async fn refuse(&self, list: &Bytes) -> Result<Vec<(NodeName, Result<(), TransportError>)>, RefusedListError> {
        self.membership.take_up(self.membership.open_refused(list.clone())?).await;
        let tell = async |node: &NodeName| {
            (node.clone(), self.anywhere(node, |way| way.put_refused(node, list.clone())).await)
        };
        Ok(join_all(self.everybody().map(tell)).await)
    }

    /// Returns the origins that were told of, and those known before.
    fn everybody(&self) -> impl Iterator<Item = &NodeName> {
        self.origins.iter().chain(self.known.0.iter().filter(|name| !self.origins.contains(name)))
    }

    /// Calls a node where it is told to be, and else where it was known to be.
    async fn anywhere<'w, T, F: Future<Output = Result<T, TransportError>>>(
        &'w self,
        node: &NodeName,
        call: impl Fn(&'w HttpTransport) -> F,
    ) -> Result<T, TransportError> {
        match call(&self.transport).await {
            Err(
                TransportError::Unknown { .. } | TransportError::Unreachable { .. } | TransportError::TimedOut { .. },
            ) if self.known.0.contains(node) => call(&self.known.1).await,
            answer => answer,
        }
    }
}
