//! One repairer: takes the most urgent object, decides what to make and where, lets `client::repair` do it, and tells
//! everybody where the shards are now.

use std::{sync::Arc, time::Duration};

use client::{PlacementAsk, PlacementError, RepairError, RepairPlan, Repaired, TransportError, place};
use format::{Lease, NodeName, RebuildError};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::{
    Diagnosis, HOLD, KEEP_EVERY, Standings, balance::is_well_with, diagnose, may_judge, outlook::plainly, standings,
};
use crate::{
    catalog::{AHEAD_MAX, ATTEMPTS_MAX, CatalogError, ObjectRow, Repair, RepairCause, RepairEnd, ShardRow},
    copies::RefreshError,
    node::Node,
};

/// Between looks at the queue when nobody says that there is work.
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// First pause after an attempt that failed; it doubles up to the last.
const AGAIN_FIRST: Duration = Duration::from_secs(2);
const AGAIN_LAST: Duration = Duration::from_secs(600);
const _: () = assert!(AGAIN_LAST.as_secs() < AHEAD_MAX.as_secs());

/// Why an object was not repaired this time.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the catalog does not answer")]
    Catalog(#[from] CatalogError),
    #[error("the copy of the record cannot be renewed")]
    Copy(#[from] RefreshError),
    #[error("{}", plainly(.0))]
    Placement(PlacementError),
    #[error("the shards cannot be made")]
    Repair(#[from] RepairError),
    /// The owner stored no codeword, or this machine's memory flips bits.
    #[error("the columns {lost:?} cannot be made again")]
    Broken { lost: Vec<usize>, source: RepairError },
    #[error("the columns {lost:?} cannot be made again, as two nodes found: their owner has to store the object anew")]
    Hopeless { lost: Vec<usize> },
    #[error("{count} of {of} shards were not taken by their new nodes; the last: {last}")]
    Targets { count: usize, of: usize, last: TransportError },
    #[error("the catalog's clock was set, so nobody can say which nodes are down")]
    Clock,
    /// Whoever had it died of it, or with it.
    #[error(
        "none of {attempts} attempts came to an end: the nodes that made them stopped or lost the catalog meanwhile; \
         look into their logs, and try again with `evernear repair retry`"
    )]
    Silent { attempts: u32 },
    #[error("another repairer has it now")]
    HoldLost,
}

/// Repairs until the node stops.
pub(crate) async fn run(node: Arc<Node>) {
    loop {
        let taken = if may_judge(&node) { node.catalog.take_repair(&node.config.name, HOLD).await } else { Ok(None) };
        match taken {
            Ok(Some(taken)) => {
                tokio::select! {
                    biased;
                    () = node.stop.cancelled() => return,
                    done = finish(&node, &taken) => if let Err(error) = done {
                        tracing::warn!(object = %taken.object, %error, "how a repair ended cannot be noted");
                    }
                }
                continue;
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "the repair queue cannot be read"),
        }
        tokio::select! {
            biased;
            () = node.stop.cancelled() => return,
            _ = timeout(LOOK_EVERY, node.repair_wanted.notified()) => {}
        }
    }
}

/// Repairs one object and notes how it ended.
async fn finish(node: &Arc<Node>, taken: &Repair) -> Result<(), CatalogError> {
    let done = match beyond_bound(taken) {
        Some(failure) => Err(failure),
        None => tokio::select! {
            biased;
            done = attempt(node, taken) => done,
            () = keep(node, taken) => Err(Failure::HoldLost),
        },
    };
    let end = match done {
        Ok(()) => RepairEnd::Done,
        Err(Failure::HoldLost) => return Ok(()),
        Err(failure) => {
            let error = crate::api::causes(&failure);
            tracing::warn!(object = %taken.object, attempts = taken.attempts, error, "a repair failed");
            node.metrics.repairs_failed.inc();
            end_of(taken, &node.config.name, failure, error)
        }
    };
    node.catalog.end_repair(&taken.object, &node.config.name, &end).await
}

/// Gives a repair up that was begun as often as any may be, and whose last attempts nobody told the end of: one that
/// kills the process that makes it would otherwise kill one after the other.
fn beyond_bound(taken: &Repair) -> Option<Failure> {
    (taken.attempts > ATTEMPTS_MAX).then(|| Failure::Silent { attempts: taken.attempts - 1 })
}

/// Says what becomes of a repair that failed `here`, with its causes as `error`.
fn end_of(taken: &Repair, here: &NodeName, failure: Failure, error: String) -> RepairEnd {
    // The head of it is kept.
    let is_as_before = taken.error.as_ref().is_some_and(|before| !before.is_empty() && error.starts_with(before));
    let is_anothers = taken.failed_by.as_ref().is_some_and(|by| by != here);
    match failure {
        // Nothing is lacking. The next walk says whether there still is a move to make, and which.
        _ if taken.target.is_some() => RepairEnd::Done,
        Failure::Hopeless { lost } => RepairEnd::Hopeless { error, lost },
        // A machine whose memory flips bits says the same again and again, so its own word is not enough.
        Failure::Broken { lost, .. } if is_as_before && is_anothers => RepairEnd::Hopeless { error, lost },
        _ if taken.attempts >= ATTEMPTS_MAX => RepairEnd::Dead { error },
        _ => RepairEnd::Again { error, after: again_after(taken.attempts) },
    }
}

fn again_after(attempts: u32) -> Duration {
    AGAIN_FIRST.saturating_mul(1 << attempts.saturating_sub(1).min(16)).min(AGAIN_LAST)
}

/// Says that the work goes on; returns when another has it.
async fn keep(node: &Arc<Node>, taken: &Repair) {
    let mut ticks = interval(KEEP_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match node.catalog.keep_repair(&taken.object, &node.config.name, HOLD).await {
            Ok(true) => {}
            Ok(false) => return,
            // The hold outlasts a few of these; when it does not, the next answer is false.
            Err(error) => tracing::warn!(%error, "the hold of a repair cannot be renewed"),
        }
    }
}

async fn attempt(node: &Arc<Node>, taken: &Repair) -> Result<(), Failure> {
    let Some(row) = node.catalog.object(&taken.object).await? else { return Ok(()) };
    let mut standings = standings(node).await?;
    if !may_judge(node) {
        return Err(Failure::Clock);
    }
    let mut found = diagnose(&row, &mut standings);
    let lost = found.lost.clone();
    let is_hopeless = !lost.is_empty() && lost == taken.unmakable;
    if is_hopeless {
        // They take no place from those that can move.
        found.lost.clear();
    }
    let targets = match &taken.target {
        Some((column, to)) if may_move(&row, &found, *column, to, &mut standings) => vec![(*column, to.clone())],
        None if !found.is_well() => match targets(&row, &found, &standings) {
            Targets { chosen, refusal: Some(refusal) } if chosen.is_empty() => return Err(Failure::Placement(refusal)),
            Targets { chosen, .. } => chosen,
        },
        _ if is_hopeless => return Err(Failure::Hopeless { lost }),
        _ => return Ok(()),
    };
    let plan = plan(node, &row, &found, &standings, targets);
    let wanted = plan.targets.len();
    let started = tokio::time::Instant::now();
    let done = client::repair(&node.transport, plan).await.map_err(|source| match source {
        RepairError::Rebuild(RebuildError::Inconsistent { .. }) => Failure::Broken { lost: lost.clone(), source },
        source => source.into(),
    })?;
    note(node, &row, &done).await?;
    if !done.durable.is_empty() {
        tell(node, &row, &done).await?;
        tracing::info!(
            object = %row.id(), columns = done.durable.len(), margin = found.margin, cause = %taken.cause,
            read = done.read_bytes, written = done.written_bytes, milliseconds = started.elapsed().as_millis(), "repaired"
        );
    }
    match done.failed.last() {
        Some((_, last)) => Err(Failure::Targets { count: done.failed.len(), of: wanted, last: last.clone() }),
        None if is_hopeless => Err(Failure::Hopeless { lost }),
        None => Ok(()),
    }
}

/// Returns whether a column may go to another node: all is still as it was when the move was chosen.
fn may_move(row: &ObjectRow, found: &Diagnosis, column: usize, to: &NodeName, standings: &mut Standings) -> bool {
    let Some(redundancy) = row.public.redundancy() else { return false };
    let caps = standings.caps(redundancy, &row.lease);
    found.is_well() && row.shards.iter().all(|(_, at)| at != to) && is_well_with(row, column, to, standings, &caps)
}

/// Where columns go that are lost or lie wrong.
pub(super) struct Targets {
    pub(super) chosen: Vec<(usize, NodeName)>,
    /// Why not all of them found a node.
    pub(super) refusal: Option<PlacementError>,
}

/// Chooses where the columns go that are lost or lie wrong: all of them or, where nodes or caps do not allow that, as
/// many as find a node, the lost ones first. One column more is one loss more that the object survives; the next walk
/// asks for the rest.
pub(super) fn targets(row: &ObjectRow, found: &Diagnosis, standings: &Standings) -> Targets {
    let moves = found.displaced.iter().map(|(column, _)| *column);
    let columns: Vec<usize> = found.lost.iter().copied().chain(moves).collect();
    let refusal = match placed(row, found, standings, &columns) {
        Ok(chosen) => return Targets { chosen, refusal: None },
        Err(refusal) => Some(refusal),
    };
    // What finds nodes finds them for fewer too.
    let fewer: Vec<&[usize]> = (1..columns.len()).map(|count| &columns[..count]).collect();
    let most = fewer.partition_point(|some| placed(row, found, standings, some).is_ok());
    let chosen = fewer[..most].last().and_then(|some| placed(row, found, standings, some).ok());
    Targets { chosen: chosen.unwrap_or_default(), refusal }
}

/// Chooses a node for each of these columns; the others stay as they are.
fn placed(
    row: &ObjectRow,
    found: &Diagnosis,
    standings: &Standings,
    columns: &[usize],
) -> Result<Vec<(usize, NodeName)>, PlacementError> {
    let redundancy = row.public.redundancy().expect("an object without columns has a diagnosis without losses");
    let there = || found.kept.iter().chain(&found.displaced);
    // A lost column that waits needs no node either: it counts as lying where another does.
    let mut held = vec![there().next().map(|(_, at)| at.clone()); row.public.columns()];
    for (column, at) in there() {
        held[*column] = Some(at.clone());
    }
    for column in columns {
        held[*column] = None;
    }
    let Lease { wanted, refused, caps, .. } = row.lease.clone();
    let ask = PlacementAsk { wanted, refused, caps, held, ..PlacementAsk::new(redundancy, row.id().0) };
    let placed = place(&ask, standings.takers())?;
    Ok(columns.iter().map(|column| (*column, placed.nodes[*column].clone())).collect())
}

/// Decides what is read where, nearest first.
fn plan(
    node: &Node,
    row: &ObjectRow,
    found: &Diagnosis,
    standings: &Standings,
    targets: Vec<(usize, NodeName)>,
) -> RepairPlan {
    let mut sources = [found.kept.clone(), found.displaced.clone()].concat();
    let here = &node.config.place;
    let far = |name: &NodeName| standings.entry(name).map_or(f64::MAX, |entry| here.kilometres_to(&entry.place));
    let bytes = |column: usize| row.public.shard_bytes(column);
    sources.sort_by(|a, b| far(&a.1).total_cmp(&far(&b.1)).then((bytes(a.0), a.0).cmp(&(bytes(b.0), b.0))));
    RepairPlan { public: row.public.clone(), sources, targets, bytes_per_second: node.config.limits.repair_rate() }
}

/// Counts, and takes back what the catalog said of nodes that do not have what they should.
async fn note(node: &Arc<Node>, row: &ObjectRow, done: &Repaired) -> Result<(), CatalogError> {
    node.metrics.repair_read_bytes.inc_by(done.read_bytes);
    node.metrics.repair_written_bytes.inc_by(done.written_bytes);
    node.metrics.repaired_shards.inc_by(done.durable.len() as u64);
    let not_there =
        done.absent.iter().filter(|(.., error)| matches!(error, TransportError::Refused { status: 404, .. }));
    let not_there = not_there.map(|(column, at, _)| (*column, at.clone()));
    for (column, at) in done.wrong.iter().cloned().chain(not_there) {
        super::lost(node, &ShardRow { node: at, object: row.id(), column, bytes: 0 }, RepairCause::Ticket).await?;
    }
    Ok(())
}

/// Renews the record everywhere it lies: the catalog and its feed, the nodes with shards, and the first of the
/// locator's order.
async fn tell(node: &Arc<Node>, row: &ObjectRow, done: &Repaired) -> Result<(), Failure> {
    for locator in &row.locators {
        let Some(mut record) = node.catalog.record(locator).await? else { continue };
        for (column, at) in &done.durable {
            record.placement[*column] = Some(at.clone());
        }
        node.catalog.move_columns(locator, &record.placement).await?;
        let origins = node.topology.origins();
        let homes = client::record_homes(&record, &origins);
        let holders: std::collections::BTreeSet<&NodeName> =
            homes.into_iter().chain(done.durable.iter().map(|(_, at)| at)).collect();
        let bytes = bytes::Bytes::from(record.encode());
        for holder in holders {
            // A copy is a convenience of readers: the next renewal or the next walk over all records brings it.
            if let Err(error) = node.transport.put_record(holder, locator, bytes.clone()).await {
                tracing::warn!(node = %holder, %error, "a copy of a record was not renewed");
            }
        }
    }
    node.feed.written();
    Ok(())
}

#[cfg(test)]
mod tests {
    use format::{Level, ObjectId, StripeIndex};

    use super::*;
    use crate::repair::sample::{cluster, name, row};

    fn chosen(row: &ObjectRow, standings: &mut Standings) -> Vec<(usize, NodeName)> {
        let caps = standings.caps(row.public.redundancy().unwrap(), &row.lease);
        let caps = if row.lease.caps.is_empty() { vec![(Level::Node, 1)] } else { caps };
        targets(row, &Diagnosis::of(row, standings, &caps), standings).chosen
    }

    #[test]
    fn what_the_owner_broke_is_given_up_for_good_once_two_nodes_found_it() {
        let broken = |stripe| Failure::Broken {
            lost: vec![4],
            source: RepairError::Rebuild(RebuildError::Inconsistent { stripe: StripeIndex(stripe) }),
        };
        let end = |attempts, before: Option<(&str, usize)>, failure: Failure| {
            let (object, failed_by) = (ObjectId([1; 32]), before.map(|(_, by)| name(by)));
            let (margin, bytes, cause, target, unmakable) = (0, 1, RepairCause::Scan, None, vec![]);
            let error = before.map(|(error, _)| error.to_owned());
            let taken = Repair { object, margin, bytes, cause, target, attempts, error, failed_by, unmakable };
            let error = crate::api::causes(&failure);
            end_of(&taken, &name(1), failure, error)
        };
        let found = crate::api::causes(&broken(3));
        let found = found.as_str();
        let is_again = |end| matches!(end, RepairEnd::Again { .. });
        assert!(is_again(end(1, None, broken(3))));
        assert!(is_again(end(2, Some(("no node has room", 2)), broken(3))));
        assert!(is_again(end(2, Some((found, 2)), broken(4))), "another stripe");
        assert!(is_again(end(2, Some((found, 1)), broken(3))), "the same node says it again");
        assert!(matches!(end(2, Some((&found[..9], 2)), broken(3)), RepairEnd::Hopeless { lost, .. } if lost == [4]));
        assert!(matches!(end(ATTEMPTS_MAX, Some((found, 1)), broken(3)), RepairEnd::Dead { .. }));
        let known = Failure::Hopeless { lost: vec![4] };
        assert!(matches!(end(ATTEMPTS_MAX, None, known), RepairEnd::Hopeless { .. }), "its other columns moved");
        assert!(matches!(end(ATTEMPTS_MAX, Some((found, 2)), Failure::Clock), RepairEnd::Dead { .. }));
    }

    #[test]
    fn as_many_columns_move_as_there_are_nodes_for_and_lost_ones_are_first() {
        // Nodes 0 and 1 are down and 2 is to be emptied, so three columns look for a node.
        let with_spares = |spares: usize| {
            let mut standings = cluster(6 + spares, |number, entry| {
                entry.draining = number == 2;
                if number < 2 {
                    entry.seen = 900;
                }
            });
            let chosen = chosen(&row(), &mut standings);
            let mut nodes: Vec<NodeName> = chosen.iter().map(|(_, node)| node.clone()).collect();
            nodes.sort();
            assert_eq!(nodes, (6..6 + chosen.len()).map(name).collect::<Vec<_>>());
            chosen.iter().map(|(column, _)| *column).collect::<Vec<_>>()
        };
        assert_eq!([0, 1, 2, 3].map(with_spares), [vec![], vec![0], vec![0, 1], vec![0, 1, 2]]);
    }

    #[test]
    fn a_cap_that_cannot_be_kept_holds_back_only_what_it_forbids() {
        let lease = Lease { caps: vec!["operator=4".parse().unwrap()], ..row().lease };
        let row = ObjectRow { lease, ..row() };
        // Nodes 0 to 5 are one operator's: two columns are too many there, and only one node is another's.
        let mut standings = cluster(8, |number, entry| {
            entry.place.operator = if number == 7 { "b" } else { "a" }.to_owned();
        });
        assert_eq!(chosen(&row, &mut standings), [(4, name(7))]);
        // One column is lost. Nobody is free but of the operator who has as many as may be, so what lies too many
        // stays, too.
        let mut standings = cluster(7, |number, entry| {
            entry.place.operator = "a".to_owned();
            if number == 0 {
                entry.seen = 900;
            }
        });
        assert_eq!(chosen(&row, &mut standings), vec![]);
    }
}
