//! Purging (cache invalidation): the owner signs an order and sends it to origins, whose change feed carries it to the
//! caches of all edges.

use std::collections::BTreeSet;

use bytes::Bytes;
use client::TransportError;
use format::{Locator, NodeName, Purge, Purged, limits::PURGE_OBJECTS_MAX};
use tokio::task::spawn_blocking;

use crate::{
    clock::ClockError,
    twin::{Twin, now},
};

/// How many nodes are told directly. All others have the order from the catalog that they share with one of these.
const NODES_TOLD_MAX: usize = 8;

/// What is to be purged.
#[derive(Debug, Clone)]
pub enum Selection {
    /// These objects, and for each tree among them everything that its `put` stored.
    Objects(BTreeSet<Locator>),
    /// All uploads in the index that have this tag.
    Tag(String),
    /// All objects of the owner.
    All,
}

/// Which nodes took a purge, and for how many objects.
#[derive(Debug, Clone, Default)]
pub struct PurgeTold {
    /// How many objects were named; `None` for all objects of the owner.
    pub objects: Option<usize>,
    /// Nodes that took it.
    pub nodes: BTreeSet<NodeName>,
    /// Nodes that did not take it. Edges that ask only these learn of it when these have it from the catalog that they
    /// share with others.
    pub missed: BTreeSet<NodeName>,
}

/// Why edges were not told. A retry is safe (idempotent).
#[derive(Debug, thiserror::Error)]
pub enum PurgeOrderError {
    /// No upload has the tag.
    #[error(
        "no upload in this index has the tag {tag:?}; uploads are listed with their tags since tags are kept there"
    )]
    NoTag {
        /// The tag asked for.
        tag: String,
    },
    /// This machine's clock is wrong: nodes would refuse the order, or take it for an old one.
    #[error("the order would have a wrong time")]
    Clock(#[from] ClockError),
    /// No node takes the order, or none can be reached.
    #[error("no node took the order; edges keep what they hold")]
    NoNode {
        /// The last failure.
        source: Option<TransportError>,
    },
}

impl Twin {
    /// Purges objects from the caches of all edges. With `hard`, edges drop what they hold (hard purge); without, they
    /// look up again what they know (soft purge). Edges receive the order within a second. This call does not wait for
    /// them.
    ///
    /// # Errors
    /// [`PurgeOrderError`].
    pub async fn purge(&self, selection: Selection, hard: bool) -> Result<PurgeTold, PurgeOrderError> {
        self.check_clock()?;
        let objects = match selection {
            Selection::All => return self.order(Purged::All, hard, PurgeTold::default()).await,
            Selection::Objects(objects) => {
                let families = self.families(&objects).await.into_iter();
                families.flat_map(|(top, family)| family.into_keys().chain([top])).collect()
            }
            Selection::Tag(tag) => self.tagged(tag).await?,
        };
        let mut told = PurgeTold { objects: Some(objects.len()), ..PurgeTold::default() };
        for part in objects.into_iter().collect::<Vec<_>>().chunks(PURGE_OBJECTS_MAX) {
            told = self.order(Purged::Objects(part.iter().copied().collect()), hard, told).await?;
        }
        Ok(told)
    }

    async fn order(&self, what: Purged, hard: bool, mut told: PurgeTold) -> Result<PurgeTold, PurgeOrderError> {
        let purge = Purge { owner: self.owner(), issued: now(), hard, what };
        let keys = self.keys.clone();
        let envelope = spawn_blocking(move || Bytes::from(purge.sign(&keys))).await.expect("signing does not panic");
        let (mut taken, mut source) = (false, None);
        // One node after the other: where nodes share a catalog, the second already has everything.
        for node in self.network.topology.origins().into_iter().map(|node| node.name).take(NODES_TOLD_MAX) {
            match self.network.transport.purge(&node, envelope.clone()).await {
                Ok(()) => {
                    taken = true;
                    told.nodes.insert(node);
                }
                Err(error) => {
                    tracing::warn!(%node, %error, "a node did not take a purge");
                    told.missed.insert(node);
                    source = Some(error);
                }
            }
        }
        if taken { Ok(told) } else { Err(PurgeOrderError::NoNode { source }) }
    }

    async fn tagged(&self, tag: String) -> Result<BTreeSet<Locator>, PurgeOrderError> {
        let wanted = tag.clone();
        let tagged: BTreeSet<Locator> = self
            .with_index(move |index| {
                let entries = index.entries().filter(|(_, entry)| entry.tags.contains(&wanted));
                entries.map(|(locator, _)| *locator).collect()
            })
            .await;
        if tagged.is_empty() { Err(PurgeOrderError::NoTag { tag }) } else { Ok(tagged) }
    }
}
