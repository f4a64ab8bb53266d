//! Looking records up at their nodes: one for reading an object, the newest of all for a stable name.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use format::{Capability, Locator, NodeName, Object, OpenError, OwnerId, Pointer, Record, rendezvous};
use futures::{StreamExt, stream::FuturesUnordered};
use tokio::time::{Instant, timeout};

use super::{ReadError, Reader, nonsense};
use crate::pace::{Expectation, Failure, kilometres};

/// Number of nodes asked for a record before it counts as unknown. Records lie on the first m + 1 nodes in the
/// locator's rendezvous order.
pub const RECORD_NODES_MAX: usize = 9;
/// After a record that does not open, the other nodes have this long to return one that does.
const DOUBT: Duration = Duration::from_secs(1);
/// After the first answer about a stable name, the other nodes have this long to return a newer one: twice a round trip
/// around the world.
const NEWER: Duration = Duration::from_millis(500);

/// What a reader knows of a record that it saw before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// The owner, whom the name commits to. Nobody else's erasure counts.
    pub owner: OwnerId,
    /// The highest version of the lease. An older one does not count.
    pub version: u64,
}

impl Known {
    /// Returns what a record shows.
    #[must_use]
    pub fn of(record: &Record) -> Self {
        Self { owner: record.lease.owner, version: record.lease.version }
    }

    /// Whether a record is older than what is known.
    fn is_after(self, record: &Record) -> bool {
        self.owner == record.lease.owner && record.lease.version < self.version
    }
}

impl Reader {
    /// Fetches a record. Its lease is verified, but its manifests are not opened. Cancel safe.
    ///
    /// # Errors
    /// [`ReadError::NotFound`] if no node asked has the record. [`ReadError::Unavailable`] if no node returned it and
    /// some did not answer.
    pub async fn record(&self, locator: &Locator) -> Result<Record, ReadError> {
        let found = self.ask_record(locator, DOUBT, |_, record| Some(record)).await?;
        found.ok_or(ReadError::NotFound { locator: *locator })
    }

    /// Fetches the records that nodes hold under a locator until `is_enough` of them, each with its lease verified, and
    /// returns them all: an old copy at one node does not decide for who signs what comes next. Cancel safe.
    ///
    /// # Errors
    /// As [`Self::record`], when no node gave any.
    pub async fn records(
        &self,
        locator: &Locator,
        is_enough: impl Fn(&[Record]) -> bool,
    ) -> Result<Vec<Record>, ReadError> {
        let mut found = Vec::new();
        let asked = self.ask_record(locator, DOUBT, |_, record| {
            found.push(record);
            is_enough(&found).then_some(())
        });
        match asked.await {
            Err(error) if found.is_empty() => Err(error),
            Ok(None) if found.is_empty() => Err(ReadError::NotFound { locator: *locator }),
            _ => Ok(found),
        }
    }

    /// Fetches the newest of an owner's records under a locator that any node has. Its lease is verified, but its
    /// manifests are not opened. Cancel safe.
    ///
    /// # Errors
    /// As [`Self::record`].
    pub async fn newest_record(&self, locator: &Locator, owner: &OwnerId) -> Result<Record, ReadError> {
        let mut newest: Option<Record> = None;
        let rank = |record: &Record| (record.lease.erased, record.lease.version);
        self.ask_record(locator, DOUBT, |_, record| {
            if record.lease.owner == *owner && newest.as_ref().is_none_or(|held| rank(held) < rank(&record)) {
                newest = Some(record);
            }
            None::<()>
        })
        .await?;
        newest.ok_or(ReadError::NotFound { locator: *locator })
    }

    /// Returns the result of `accept` for the first record that it accepts, or `None` if it accepts no record that
    /// nodes returned. After the first that it does not accept all nodes are asked, and have `doubt` to answer.
    async fn ask_record<T>(
        &self,
        locator: &Locator,
        doubt: Duration,
        mut accept: impl FnMut(&NodeName, Record) -> Option<T>,
    ) -> Result<Option<T>, ReadError> {
        let start = Instant::now();
        let mut nodes = self.record_nodes(locator).into_iter();
        let mut last = None;
        let mut asked = FuturesUnordered::new();
        let mut failure = None;
        let mut deadline = self.options.record_deadline;
        let mut doubted = false;
        let ask = |node: NodeName| async move { (self.transport.record(&node, locator).await, node) };
        loop {
            match nodes.next() {
                Some((node, doubted_after)) => {
                    last = Some((node.clone(), doubted_after));
                    asked.push(ask(node));
                }
                None if asked.is_empty() => break,
                None => {}
            }
            let left = deadline.saturating_sub(start.elapsed());
            if left.is_zero() {
                failure.get_or_insert(None);
                break;
            }
            // Hedged request: the next node is asked if this one has no record or is late.
            let patience = match &last {
                Some((_, doubted_after)) if nodes.len() > 0 => left.min(self.options.record_hedge).min(*doubted_after),
                _ => left,
            };
            let Ok(answered) = timeout(patience, asked.next()).await else {
                if let Some((node, _)) = &last {
                    self.pace.late(node, Instant::now());
                }
                continue;
            };
            if let Some((_, node)) = &answered {
                last.take_if(|(last, _)| last == node);
                self.pace.on_time(node);
            }
            match answered {
                None | Some((Ok(None), _)) => {}
                Some((Err(error), _)) => failure = Some(Some(error)),
                Some((Ok(Some(bytes)), node)) => match Record::decode(&bytes) {
                    Ok(record) if record.locator() == *locator => {
                        if let Some(accepted) = accept(&node, record) {
                            return Ok(Some(accepted));
                        }
                        // Now all other nodes are asked at once, so that the reader of an erased object is told soon.
                        asked.extend(nodes.by_ref().map(|(node, _)| ask(node)));
                        if !doubted {
                            deadline = deadline.min(start.elapsed() + doubt);
                        }
                        doubted = true;
                    }
                    Ok(_) => failure = Some(Some(nonsense(&node, "a record of another locator"))),
                    Err(error) => failure = Some(Some(nonsense(&node, &error.to_string()))),
                },
            }
        }
        match failure {
            _ if doubted => Ok(None),
            None => Err(ReadError::NotFound { locator: *locator }),
            Some(source) => Err(ReadError::Unavailable { locator: *locator, source }),
        }
    }

    /// Returns the first nodes in the locator's rendezvous order, sorted nearest first, each with the time after which
    /// it is doubted.
    pub(super) fn record_nodes(&self, locator: &Locator) -> Vec<(NodeName, Duration)> {
        let origins = self.topology.origins();
        let mut names = rendezvous::order(locator.as_bytes(), origins.iter().map(|node| &node.name));
        names.truncate(RECORD_NODES_MAX);
        let now = Instant::now();
        let expect = |name: &NodeName| {
            let node = origins.iter().find(|node| node.name == *name);
            (name.clone(), self.pace.expect(name, kilometres(&self.here, node), now))
        };
        let mut nodes: Vec<(NodeName, Expectation)> = names.into_iter().map(expect).collect();
        nodes.sort_by_key(|(_, expectation)| expectation.expected);
        nodes.into_iter().map(|(name, expectation)| (name, expectation.doubted_after)).collect()
    }

    /// Fetches and opens an object. Cancel safe.
    ///
    /// A record that does not open proves nothing, because anybody can sign one under this locator with keys of their
    /// own. So other nodes are asked. If one returns a record that opens, an erasure counts only if the object's own
    /// owner signed it later.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn object(&self, capability: &Capability) -> Result<(Arc<Object>, Record), ReadError> {
        self.object_after(capability, None).await
    }

    /// The same for an object that was seen before: neither an older lease nor another's erasure counts.
    ///
    /// # Errors
    /// [`ReadError`]; [`ReadError::Old`] when no node has a record that is new enough.
    pub async fn object_after(
        &self,
        capability: &Capability,
        known: Option<Known>,
    ) -> Result<(Arc<Object>, Record), ReadError> {
        let locator = capability.locator();
        let now = now();
        let mut doubted: Vec<(NodeName, Record, OpenError)> = Vec::new();
        let mut is_old = false;
        let opened = self.ask_record(&locator, DOUBT, |node, record| match Object::open(capability, &record, now) {
            Ok(_) if known.is_some_and(|known| known.is_after(&record)) => {
                is_old = true;
                None
            }
            Ok(object) => Some((object, record)),
            Err(error) => {
                doubted.push((node.clone(), record, error));
                None
            }
        });
        let Some((object, mut record)) = opened.await? else {
            let is_owners = |record: &Record| known.is_none_or(|known| known.owner == record.lease.owner);
            let is_erased = |it: &&(NodeName, Record, OpenError)| it.2 == OpenError::Erased && is_owners(&it.1);
            let erased = doubted.iter().find(is_erased).or(doubted.first());
            return Err(match erased {
                Some((_, record, error)) if !is_old && is_owners(record) => error.clone().into(),
                None if !is_old => ReadError::NotFound { locator },
                _ => ReadError::Old { locator },
            });
        };
        for (node, other, error) in doubted {
            if other.lease.owner != record.lease.owner {
                self.pace.failed(&node, Failure::Wrong, Instant::now());
                tracing::warn!(%node, %locator, %error, "a node has a record that does not open");
            } else if other.lease.version > record.lease.version
                && (other.lease.object, other.lease.manifest) == (record.lease.object, record.lease.manifest)
            {
                // The record that opened proves who the owner is, so this newer lease is the owner's.
                if other.lease.erased {
                    return Err(OpenError::Erased.into());
                }
                (record.lease, record.lease_envelope) = (other.lease, other.lease_envelope);
            }
        }
        Ok((Arc::new(object), record))
    }

    /// Fetches a stable name and opens its pointer: the newest that any of the record's nodes has, so that one node
    /// with an old copy sets nothing back, and none older than what is known. Takes as long as the slowest of the
    /// nodes, half a second at most after the first answer. Cancel safe.
    ///
    /// # Errors
    /// [`ReadError`]; [`OpenError::Erased`] when the name's own owner ended it, [`ReadError::Old`] when no node has a
    /// pointer that is new enough.
    pub async fn pointer(&self, capability: &Capability, known: Option<Known>) -> Result<(Pointer, Record), ReadError> {
        let (locator, now) = (capability.locator(), now());
        let mut answers: Vec<Answer> = Vec::new();
        // No answer is enough: another node may have a newer one.
        self.ask_record(&locator, NEWER, |node, record| {
            let opened = Pointer::open(capability, &record, now);
            answers.push(Answer { node: node.clone(), record, opened });
            None::<()>
        })
        .await?;
        // A record that opens proves who the owner is. Without one and without knowing, an erasure is anybody's word.
        let opened = answers.iter().find(|answer| answer.opened.is_ok());
        let owner = opened.map(|answer| answer.record.lease.owner).or(known.map(|known| known.owner));
        let is_owners = |answer: &Answer| owner.is_none_or(|owner| owner == answer.record.lease.owner);
        for Answer { node, opened, .. } in answers.iter().filter(|answer| !is_owners(answer)) {
            self.pace.failed(node, Failure::Wrong, Instant::now());
            tracing::warn!(%node, %locator, error = ?opened.as_ref().err(), "a node has a record that does not open");
        }
        let had_any = !answers.is_empty();
        match answers.into_iter().filter(is_owners).max_by_key(Answer::rank) {
            Some(Answer { record, .. }) if known.is_some_and(|known| known.is_after(&record)) => {
                Err(ReadError::Old { locator })
            }
            Some(Answer { record, opened, .. }) => Ok((opened?, record)),
            None if had_any => Err(ReadError::Old { locator }),
            None => Err(ReadError::NotFound { locator }),
        }
    }
}

/// What a node said about a stable name.
struct Answer {
    node: NodeName,
    record: Record,
    opened: Result<Pointer, OpenError>,
}

impl Answer {
    /// The highest counts. Of two of one version, which only a lost catalog leaves behind, every reader takes the same.
    fn rank(&self) -> (bool, bool, u64, [u8; 32]) {
        let is_whole = matches!(self.opened, Ok(_) | Err(OpenError::Erased));
        let lease = &self.record.lease;
        (lease.erased, is_whole, lease.version, lease.manifest.0)
    }
}

/// Returns the seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
