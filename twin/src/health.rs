//! How objects are, and what is being repaired, as origins tell it to anybody with a node's certificate.

use std::collections::{BTreeMap, BTreeSet};

use client::{Transport, TransportError};
use format::{
    Locator, NodeName,
    wire::{ObjectHealth, RepairStatus, Survey},
};
use futures::{
    StreamExt,
    future::{BoxFuture, join_all},
    stream,
};

use crate::{network::Network, operator::OperatorError, twin::Twin};

/// Objects of one upload that are asked about at once.
const ASKED_AT_ONCE: usize = 8;

/// What is being repaired.
#[derive(Debug, Clone)]
pub struct Repairs {
    /// The cluster's answer.
    pub status: RepairStatus,
    /// Bytes that each origin that answered has made or moved since it started. For a rate, compare two answers of the
    /// same origins.
    pub repaired_bytes: BTreeMap<NodeName, u64>,
}

impl Repairs {
    /// Returns the bytes made or moved since an earlier answer, over the origins that answered both times.
    #[must_use]
    pub fn repaired_since(&self, earlier: &Self) -> u64 {
        let grown = |(node, bytes): (&NodeName, &u64)| Some(bytes.saturating_sub(*earlier.repaired_bytes.get(node)?));
        self.repaired_bytes.iter().filter_map(grown).sum()
    }
}

/// How an upload is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadHealth {
    /// The object of it that may lose the fewest shards. What lies inside its record has none, and stands for the
    /// upload only where all of it does. None: nodes have no record of one of its objects.
    pub weakest: Option<ObjectHealth>,
    /// Objects that it has.
    pub objects: usize,
    /// Objects that were asked about.
    pub checked: usize,
}

impl Twin {
    /// Asks for the health of an upload and of everything that belongs to it, of at most so many objects.
    ///
    /// # Errors
    /// [`OperatorError`]; an object without a record is no error.
    pub async fn health(&self, locator: &Locator, objects_max: usize) -> Result<UploadHealth, OperatorError> {
        let families = self.families(&[*locator].into()).await;
        let members: BTreeSet<Locator> = families.into_values().flat_map(BTreeMap::into_keys).collect();
        // Locators are hashes: the first of them are a fair sample.
        let asked: Vec<Locator> = std::iter::once(*locator)
            .chain(members.iter().copied().filter(|it| it != locator))
            .take(objects_max)
            .collect();
        let network = self.network();
        let ask = |locator: Locator| async move { network.health(&locator).await };
        let answers: Vec<_> = stream::iter(asked.clone()).map(ask).buffer_unordered(ASKED_AT_ONCE).collect().await;
        let mut found = Vec::with_capacity(answers.len());
        for answer in answers {
            match answer {
                Ok(health) => found.push(health),
                Err(OperatorError::NoRecord { .. }) => {
                    return Ok(UploadHealth { weakest: None, objects: members.len().max(1), checked: asked.len() });
                }
                Err(error) => return Err(error),
            }
        }
        let weakest = found.into_iter().min_by_key(|it| (it.redundancy.is_none(), it.margin));
        Ok(UploadHealth { weakest, objects: members.len().max(1), checked: asked.len() })
    }
}

impl Network {
    /// Asks for the health of an object.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub async fn health(&self, locator: &Locator) -> Result<ObjectHealth, OperatorError> {
        health(&*self.transport, &self.topology.origins_by_distance(self.here()), locator).await
    }

    /// Asks all origins about repairs, and adds up what they say.
    ///
    /// # Errors
    /// [`OperatorError::NoAnswer`].
    pub async fn repairs(&self) -> Result<Repairs, OperatorError> {
        repairs(&*self.transport, &self.topology.origins_by_distance(self.here())).await
    }
}

/// Asks for the health of an object.
pub(crate) async fn health(
    transport: &dyn Transport,
    origins: &[NodeName],
    locator: &Locator,
) -> Result<ObjectHealth, OperatorError> {
    let found = first(origins, |node| transport.health(node, locator)).await?;
    found.ok_or(OperatorError::NoRecord { locator: *locator })
}

/// Asks all origins about repairs. The queue is the same for the whole cluster. The repaired bytes are the sum over
/// all origins that answer. The scrub is the one furthest behind, or zero when an origin does not answer. The
/// survey is the newest.
pub(crate) async fn repairs(transport: &dyn Transport, origins: &[NodeName]) -> Result<Repairs, OperatorError> {
    let answers = join_all(origins.iter().map(|node| transport.repairs(node))).await;
    let (mut status, mut scrubbed_since, mut survey, mut source) = (None, u64::MAX, None, None);
    let (mut repaired_bytes, mut repair_read_bytes) = (BTreeMap::new(), 0);
    for (node, answer) in origins.iter().zip(answers) {
        match answer {
            Ok(answer) => {
                repaired_bytes.insert(node.clone(), answer.repaired_bytes);
                repair_read_bytes += answer.repair_read_bytes;
                survey = [survey, answer.survey.clone()].into_iter().flatten().max_by_key(|it: &Survey| it.ended);
                scrubbed_since = scrubbed_since.min(answer.scrubbed_since);
                status = Some(answer);
            }
            Err(error) => {
                scrubbed_since = 0;
                source = Some(error);
            }
        }
    }
    let status = status.ok_or(OperatorError::NoAnswer { asked: origins.len(), source })?;
    let summed = repaired_bytes.values().sum();
    let status = RepairStatus { repaired_bytes: summed, repair_read_bytes, scrubbed_since, survey, ..status };
    Ok(Repairs { status, repaired_bytes })
}

/// Asks the origins, nearest first, until one answers.
pub(crate) async fn first<'n, T>(
    origins: &'n [NodeName],
    ask: impl Fn(&'n NodeName) -> BoxFuture<'n, Result<T, TransportError>>,
) -> Result<T, OperatorError> {
    let mut source = None;
    for node in origins {
        match ask(node).await {
            Ok(answer) => return Ok(answer),
            Err(error) if error.is_retryable() => source = Some(error),
            Err(error) => return Err(OperatorError::Refused(error)),
        }
    }
    Err(OperatorError::NoAnswer { asked: origins.len(), source })
}
