//! Looking records up at their nodes: one for reading an object, the newest of all for a stable name.

use std::{
    collections::BTreeSet,
    convert::Infallible,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use format::{Capability, Locator, NodeName, Object, OpenError, OwnerId, Pointer, Record, rendezvous};
use futures::{StreamExt, stream::FuturesUnordered};
use tokio::time::{Instant, timeout};

use super::{ReadError, Reader, nonsense};
use crate::{
    TransportError,
    pace::{Expectation, Failure},
};

/// Number of nodes asked for a record before it counts as unknown. Records lie on the first m + 1 nodes in the
/// locator's rendezvous order.
pub const RECORD_NODES_MAX: usize = 9;
/// Where most of these cannot say, so many more of the order are asked: the bytes of an inline object lie further on
/// where its owner's places refuse the first nodes.
const FURTHER_NODES_MAX: usize = 3 * RECORD_NODES_MAX;
/// So many of these at a time: after all that were asked have failed, and whenever nobody answered for so long.
const FURTHER_AT_ONCE: usize = 3;
const SILENCE: Duration = Duration::from_secs(1);
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

/// The records that nodes show under a locator.
#[derive(Debug)]
pub struct Shown {
    /// Each with its lease verified, whoever's it is.
    pub records: Vec<Record>,
    /// Whether most of the nodes that should have one said what they have. Of these at least one has every lease that
    /// was acknowledged; fewer may all be behind.
    pub by_most: bool,
}

/// What a caller makes of the record that one node has.
enum Heard<T> {
    /// It is what was looked for. No other node is waited for.
    Enough(T),
    /// It counts, and another node may have a newer one.
    Counts,
    /// It shows no living record, or one that anybody may have made up.
    Nothing,
}

/// What a node said of a record that it does not give, or that does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Said {
    /// It has none.
    Nothing,
    /// It has an older one than was seen before.
    Old,
    /// It has one that does not open.
    Open(OpenError),
}

/// How a look-up ended in which no record was enough.
struct Missed {
    /// Nodes that may have the record.
    asked: usize,
    /// Nodes that said they have none.
    none: usize,
    /// How the last of those failed that did.
    source: Option<TransportError>,
}

impl Missed {
    /// Returns the error of the look-up. `said` is what those nodes said that gave a record.
    ///
    /// A node that has no copy asks the catalog, so each honest "no" tells of the whole cluster; but a node may lie,
    /// and anybody can sign a record or an erasure under a locator with keys of their own. So "there is none" and "it
    /// was erased" are believed when more than half of all nodes asked give nothing to read, in the words of most of
    /// them. Fewer liars than that deny nobody an object whose other nodes are silent, and turn no name of nothing into
    /// a failure that is asked again for ever. Else the nodes count as not asked.
    fn told(self, locator: Locator, mut said: Vec<Said>) -> ReadError {
        said.resize(said.len() + self.none, Said::Nothing);
        let count = |one: &&Said| said.iter().filter(|other| other == one).count();
        match said.iter().max_by_key(count).filter(|_| is_most(said.len(), self.asked)) {
            Some(Said::Nothing) => ReadError::NotFound { locator },
            Some(Said::Old) => ReadError::Old { locator },
            Some(Said::Open(error)) => error.clone().into(),
            None => ReadError::Unavailable { locator, source: self.source },
        }
    }
}

fn is_most(some: usize, all: usize) -> bool {
    some > all / 2
}

impl Reader {
    /// Fetches a record. Its lease is verified, but its manifests are not opened. Cancel safe.
    ///
    /// # Errors
    /// [`ReadError::NotFound`] if most nodes have no such record. [`ReadError::Unavailable`] if no node returned it and
    /// too few said that they have none.
    pub async fn record(&self, locator: &Locator) -> Result<Record, ReadError> {
        let asked = self.ask_record(locator, DOUBT, |_, record| Heard::Enough(record)).await;
        asked.map_err(|missed| missed.told(*locator, Vec::new()))
    }

    /// Fetches the records that nodes hold under a locator until `is_enough` of them, each with its lease verified, and
    /// returns them all: an old copy at one node does not decide for who signs what comes next. Cancel safe.
    ///
    /// # Errors
    /// As [`Self::record`], when no node gave any.
    pub async fn records(&self, locator: &Locator, is_enough: impl Fn(&[Record]) -> bool) -> Result<Shown, ReadError> {
        let homes: BTreeSet<NodeName> = self.record_nodes(locator).into_iter().map(|(node, _)| node).collect();
        let (mut records, mut at_homes) = (Vec::new(), 0);
        let asked = self.ask_record(locator, DOUBT, |node, record| {
            records.push(record);
            at_homes += usize::from(homes.contains(node));
            if is_enough(&records) { Heard::Enough(()) } else { Heard::Counts }
        });
        let by_most = match asked.await {
            Err(missed) if records.is_empty() => return Err(missed.told(*locator, Vec::new())),
            Err(missed) => is_most(records.len() + missed.none, missed.asked),
            Ok(()) => is_most(at_homes, homes.len()),
        };
        Ok(Shown { records, by_most })
    }

    /// Fetches the newest of an owner's records under a locator that any node has. Its lease is verified, but its
    /// manifests are not opened. Cancel safe.
    ///
    /// # Errors
    /// As [`Self::record`].
    pub async fn newest_record(&self, locator: &Locator, owner: &OwnerId) -> Result<Record, ReadError> {
        let (mut newest, mut said): (Option<Record>, _) = (None, Vec::new());
        let rank = |record: &Record| (record.lease.erased, record.lease.version);
        let asked = self.ask_record(locator, DOUBT, |_, record| {
            if record.lease.owner != *owner {
                said.push(Said::Nothing);
                return Heard::Nothing;
            }
            if newest.as_ref().is_none_or(|held| rank(held) < rank(&record)) {
                newest = Some(record);
            }
            Heard::<Infallible>::Counts
        });
        let Err(missed) = asked.await;
        newest.ok_or_else(|| missed.told(*locator, said))
    }

    /// Returns what `hear` finds to be enough. All nodes are asked at once after the first record that is not, and have
    /// `doubt` to answer once a record counts or most nodes have nothing to read.
    async fn ask_record<T>(
        &self,
        locator: &Locator,
        doubt: Duration,
        mut hear: impl FnMut(&NodeName, Record) -> Heard<T>,
    ) -> Result<T, Missed> {
        let start = Instant::now();
        let mut nodes = self.record_nodes(locator).into_iter();
        let mut missed = Missed { asked: nodes.len(), none: 0, source: None };
        let mut further = None;
        let mut last = None;
        let mut asked = FuturesUnordered::new();
        let mut deadline = self.options.record_deadline;
        let (mut counts, mut nothing, mut is_doubted, mut is_late) = (0, 0, false, false);
        let ask = |node: NodeName| async move { (self.transport.record(&node, locator).await, node) };
        loop {
            match nodes.next() {
                Some((node, doubted_after)) => {
                    last = Some((node.clone(), doubted_after));
                    asked.push(ask(node));
                }
                None if asked.is_empty() || is_late => {
                    // Most of these cannot say, or do not.
                    let is_open = counts == 0 && !is_most(missed.none + nothing, missed.asked);
                    let further = further.get_or_insert_with(|| self.further_nodes(locator).into_iter());
                    let next: Vec<NodeName> = further.take(if is_open { FURTHER_AT_ONCE } else { 0 }).collect();
                    if next.is_empty() && asked.is_empty() {
                        break;
                    }
                    missed.asked += next.len();
                    asked.extend(next.into_iter().map(ask));
                }
                None => {}
            }
            let left = deadline.saturating_sub(start.elapsed());
            if left.is_zero() {
                break;
            }
            // Hedged request: the next node is asked if this one has no record or is late. On a link that may be slow,
            // a record takes as long as the strips do.
            let is_slow = self.link.as_ref().is_some_and(|link| link.is_known());
            let hedge = if is_slow { left } else { left.min(self.options.record_hedge) };
            let patience = match &last {
                Some((_, doubted_after)) if nodes.len() > 0 => hedge.min(*doubted_after),
                _ if is_doubted || is_slow => left,
                _ => left.min(SILENCE),
            };
            let answered = timeout(patience, asked.next()).await;
            is_late = answered.is_err() && nodes.len() == 0;
            let Ok(answered) = answered else {
                // Once for each node.
                if let Some((node, _)) = last.take() {
                    self.pace.late(&node, Instant::now());
                }
                continue;
            };
            let Some((answer, node)) = answered else { continue };
            last.take_if(|(last, _)| *last == node);
            self.pace.on_time(&node);
            match answer {
                Ok(None) => missed.none += 1,
                Err(error) => missed.source = Some(error),
                Ok(Some(bytes)) => match Record::decode(&bytes) {
                    Ok(record) if record.locator() == *locator => {
                        match hear(&node, record) {
                            Heard::Enough(enough) => return Ok(enough),
                            Heard::Counts => counts += 1,
                            Heard::Nothing => nothing += 1,
                        }
                        // Now all other nodes are asked at once, so that the reader of an erased object is told soon.
                        asked.extend(nodes.by_ref().map(|(node, _)| ask(node)));
                    }
                    Ok(_) => missed.source = Some(nonsense(&node, "a record of another locator")),
                    Err(error) => missed.source = Some(nonsense(&node, &error.to_string())),
                },
            }
            if !is_doubted && (counts > 0 || is_most(missed.none + nothing, missed.asked)) {
                asked.extend(nodes.by_ref().map(|(node, _)| ask(node)));
                deadline = deadline.min(start.elapsed() + doubt);
                is_doubted = true;
            }
        }
        Err(missed)
    }

    /// Returns the first nodes in the locator's rendezvous order, sorted nearest first, each with the time after which
    /// it is doubted.
    pub(super) fn record_nodes(&self, locator: &Locator) -> Vec<(NodeName, Duration)> {
        let origins = self.topology.origins();
        let mut names = rendezvous::order(locator.as_bytes(), origins.iter().map(|node| &node.name));
        names.truncate(RECORD_NODES_MAX);
        let mut nodes: Vec<(NodeName, Expectation)> =
            names.into_iter().map(|name| (name.clone(), self.expect(name, &origins))).collect();
        nodes.sort_by_key(|(_, expectation)| expectation.expected);
        nodes.into_iter().map(|(name, expectation)| (name, expectation.doubted_after)).collect()
    }

    /// Returns the next nodes in that order.
    fn further_nodes(&self, locator: &Locator) -> Vec<NodeName> {
        let origins = self.topology.origins();
        let names = rendezvous::order(locator.as_bytes(), origins.iter().map(|node| &node.name));
        names.into_iter().skip(RECORD_NODES_MAX).take(FURTHER_NODES_MAX).cloned().collect()
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
        let mut said = Vec::new();
        let asked = self.ask_record(&locator, DOUBT, |node, record| {
            let is_known_owners = known.map(|known| known.owner == record.lease.owner);
            let error = match Object::open(capability, &record, now) {
                _ if known.is_some_and(|known| known.is_after(&record)) => {
                    said.push(Said::Old);
                    return Heard::Nothing;
                }
                Ok(object) => return Heard::Enough(Ok((object, record))),
                // A lease that merely ended may have been renewed: other nodes are asked.
                Err(OpenError::Erased) if is_known_owners == Some(true) && record.lease.erased => {
                    return Heard::Enough(Err(OpenError::Erased));
                }
                Err(error) => error,
            };
            said.push(if is_known_owners == Some(false) { Said::Old } else { Said::Open(error.clone()) });
            doubted.push((node.clone(), record, error));
            Heard::Nothing
        });
        let (object, mut record) = asked.await.map_err(|missed| missed.told(locator, said))??;
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
        let asked = self.ask_record(&locator, NEWER, |node, record| {
            let opened = Pointer::open(capability, &record, now);
            let answer = Answer { node: node.clone(), record, opened };
            let counts = answer.counts(known);
            answers.push(answer);
            // No answer is enough: another node may have a newer one.
            if counts { Heard::<Infallible>::Counts } else { Heard::Nothing }
        });
        let Err(missed) = asked.await;
        // A record that opens proves who the owner is. Without one and without knowing, an erasure is anybody's word.
        let opened = answers.iter().find(|answer| answer.opened.is_ok());
        let version = known.map_or(0, |known| known.version);
        let proven = opened.map(|answer| Known { owner: answer.record.lease.owner, version }).or(known);
        let is_strangers = |answer: &&Answer| proven.is_some_and(|proven| proven.owner != answer.record.lease.owner);
        for Answer { node, opened, .. } in answers.iter().filter(is_strangers) {
            self.pace.failed(node, Failure::Wrong, Instant::now());
            tracing::warn!(%node, %locator, error = ?opened.as_ref().err(), "a node has a record that does not open");
        }
        let said = answers.iter().filter_map(|answer| answer.said(proven)).collect();
        match answers.into_iter().filter(|answer| answer.counts(proven)).max_by_key(Answer::rank) {
            Some(Answer { record, opened, .. }) => Ok((opened?, record)),
            None => Err(missed.told(locator, said)),
        }
    }
}

/// What a node answered about a stable name.
struct Answer {
    node: NodeName,
    record: Record,
    opened: Result<Pointer, OpenError>,
}

impl Answer {
    /// Whether it is the word of the name's owner, as far as is known who that is, and not older than what is known.
    fn counts(&self, known: Option<Known>) -> bool {
        let is_owners = match self.opened {
            Ok(_) => true,
            Err(OpenError::Erased) => known.is_some_and(|known| known.owner == self.record.lease.owner),
            Err(_) => false,
        };
        is_owners && !known.is_some_and(|known| known.is_after(&self.record))
    }

    /// Returns what it says that does not count.
    fn said(&self, known: Option<Known>) -> Option<Said> {
        let lease = &self.record.lease;
        match &self.opened {
            _ if known.is_some_and(|known| known.owner != lease.owner || known.is_after(&self.record)) => {
                Some(Said::Old)
            }
            Ok(_) => None,
            Err(error) => Some(Said::Open(error.clone())),
        }
    }

    /// The highest counts. Of two of one version, which only a lost catalog leaves behind, every reader takes the same.
    fn rank(&self) -> (bool, u64, [u8; 32]) {
        let lease = &self.record.lease;
        (lease.erased, lease.version, lease.manifest.0)
    }
}

/// Returns the seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
