//! Which edges a DNS answer names: those that the owner's policy allows, the nearest first, as [`steer`](super::steer)
//! orders them.

use std::{
    borrow::Cow,
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use format::{
    Locator, OwnerId,
    wire::{NodeEntry, Role},
};
use sandbox::{Candidate, CountryCode, Steering};
use tokio::time::timeout;

use super::steer::{Choice, steer};
use crate::{
    clock,
    error::Fault,
    node::{Node, WEIGHED_BYTES_MIN},
    policy::{
        ask::{Ask, Client, continent, country_code},
        places::{Coordinates, ViewerPlace},
        program::Program,
    },
    store::{
        objects::Opened,
        records::DNS_PATIENCE,
        room::{Room, Taken},
    },
};

/// How long a DNS question waits for the owner's policy to be there; for its weights it waits as for an object.
const POLICY_PATIENCE: Duration = Duration::from_secs(2);
/// Lifetime of a DNS answer given without knowing the owner's wishes.
const GUESS_SECONDS: u32 = 5;

/// Which edges to name, best first, and for how long.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Steered {
    pub(super) addresses: Vec<IpAddr>,
    pub(super) seconds: u32,
}

/// Returns all edges with addresses, this one among them even when nobody told us of ourselves yet.
fn edges(node: &Node) -> Vec<(NodeEntry, bool)> {
    let nodes = node.topology.snapshot();
    let newest = NodeEntry::newest(&nodes);
    let others = nodes
        .iter()
        .filter(|other| other.role == Role::Edge && other.name != node.config.name && !other.public.is_empty());
    let mut edges: Vec<_> = others.map(|other| (other.clone(), !other.is_silent(newest))).collect();
    edges.push((node.entry(), node.can_shake_hands()));
    // One order at every edge, so that the same question has the same answer everywhere.
    edges.sort_by(|a, b| a.0.name.cmp(&b.0.name));
    edges
}

/// Decides about one object's DNS answer for a viewer; no addresses where the owner allows no edge.
pub(super) async fn steer_to(
    node: &Arc<Node>,
    opened: &Arc<Opened>,
    address: IpAddr,
    viewer: ViewerPlace,
    now: SystemTime,
) -> Steered {
    let lease = &opened.record.lease;
    let locator = opened.object.locator();
    // A resolver does not wait for a policy to be compiled; by its next question it is.
    let program = timeout(POLICY_PATIENCE, node.policies.program(lease.owner, &lease.policy)).await;
    let Ok(Ok(program)) = program else { return guess(node, viewer, &locator) };
    let ask = Arc::new(Ask {
        now: clock::unix_seconds(now),
        viewer,
        client: Client { address, buckets: node.buckets },
        edge: node.edge_facts(),
        request: None,
        object: Some(Arc::clone(&opened.object)),
        policy: Some((lease.owner, Cow::Owned(lease.policy.clone()))),
    });
    let edges = edges(node);
    let candidates: Vec<Candidate> = edges.iter().map(|(edge, _)| candidate(node, edge, &locator)).collect();
    match weigh(node, program, opened, ask, candidates).await {
        Ok(steering) => {
            Steered { addresses: order(node, &edges, &steering.weights, viewer, &locator), seconds: steering.ttl }
        }
        Err(fault) => {
            if fault == Fault::Policy {
                node.metrics.policy_faults.inc();
            }
            guess(node, viewer, &locator)
        }
    }
}

/// Has a policy weigh edges, as far as a resolver waits for it. What it says later is remembered for the next question.
async fn weigh(
    node: &Arc<Node>,
    program: Arc<Program>,
    opened: &Arc<Opened>,
    ask: Arc<Ask<'static>>,
    candidates: Vec<Candidate>,
) -> Result<Steering, Fault> {
    if let Some(known) = program.recall_weights(&ask, &candidates) {
        return known;
    }
    let Some(place) = place(&node.weighed, opened.record.lease.owner, &candidates) else {
        node.metrics.dns_weighings_turned_away.inc();
        return Err(Fault::Busy);
    };
    let (of_task, opened) = (Arc::clone(node), Arc::clone(opened));
    soon(place, async move { of_task.steer(program, &opened, &ask, candidates).await }).await
}

/// Returns a place for a question that waits for its owner's policy, by the bytes that it holds meanwhile.
fn place(weighed: &Arc<Room>, owner: OwnerId, candidates: &[Candidate]) -> Option<Taken> {
    let bytes = u32::try_from(size_of_val(candidates)).unwrap_or(u32::MAX);
    weighed.try_take(owner, bytes.max(WEIGHED_BYTES_MIN))
}

/// Waits for what is made as long as a resolver does. It is made to its end in a task of its own, for who asks next,
/// and has its place until then.
///
/// # Errors
/// [`Fault::Slow`], or the fault of what is made.
async fn soon<T: Send + 'static>(
    place: Taken,
    making: impl Future<Output = Result<T, Fault>> + Send + 'static,
) -> Result<T, Fault> {
    let made = tokio::spawn(async move {
        let made = making.await;
        drop(place);
        made
    });
    timeout(DNS_PATIENCE, made).await.map_err(|_| Fault::Slow)?.unwrap_or(Err(Fault::Busy))
}

/// Names the nearest edges without knowing the object or its owner's wishes; HTTP decides again anyway.
pub(super) fn guess(node: &Node, viewer: ViewerPlace, locator: &Locator) -> Steered {
    node.metrics.dns_failed_open.inc();
    Steered { addresses: nearest(node, viewer, locator), seconds: GUESS_SECONDS }
}

/// Names the nearest edges.
pub(super) fn nearest(node: &Node, viewer: ViewerPlace, locator: &Locator) -> Vec<IpAddr> {
    let edges = edges(node);
    order(node, &edges, &vec![1; edges.len()], viewer, locator)
}

fn order(
    node: &Node,
    edges: &[(NodeEntry, bool)],
    weights: &[u8],
    viewer: ViewerPlace,
    locator: &Locator,
) -> Vec<IpAddr> {
    let choices: Vec<Choice<'_>> = edges
        .iter()
        .zip(weights)
        .map(|((edge, healthy), weight)| Choice {
            name: edge.name.as_str(),
            place: &edge.place,
            healthy: *healthy,
            load: edge.load,
            weight: *weight,
        })
        .collect();
    // A viewer of whom nothing is known most likely came to the edge near it.
    let from = viewer.coordinates.unwrap_or_else(|| Coordinates::of(&node.config.place));
    steer(&choices, from, locator).into_iter().flat_map(|at| edges[at].0.public.iter().copied()).collect()
}

fn candidate(node: &Node, edge: &NodeEntry, locator: &Locator) -> Candidate {
    let known = ViewerPlace::of_country(edge.place.country);
    let country: CountryCode = country_code(edge.place.country);
    Candidate {
        country,
        continent: continent(known.continent),
        region: 0,
        rtt_ms: 0,
        load: edge.load / 10 * 10,
        holds: edge.name == node.config.name && node.objects.holds(locator),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use format::limits::NODES_MAX;
    use sandbox::Continent;
    use tokio::time::sleep;

    use super::*;
    use crate::node::WEIGHED_BYTES_MAX;

    const A: OwnerId = OwnerId([1; 32]);
    const B: OwnerId = OwnerId([2; 32]);
    const C: OwnerId = OwnerId([3; 32]);

    /// So many edges.
    fn candidates(count: usize) -> Vec<Candidate> {
        let country = CountryCode::UNKNOWN;
        vec![Candidate { country, continent: Continent::Europe, region: 0, rtt_ms: 0, load: 0, holds: false }; count]
    }

    /// Returns places for as many of an owner's questions as wait at a time.
    fn all_places(weighed: &Arc<Room>, owner: OwnerId, candidates: &[Candidate]) -> Vec<Taken> {
        std::iter::from_fn(|| place(weighed, owner, candidates)).collect()
    }

    #[test]
    fn one_owners_names_leave_room_for_those_of_others_to_be_weighed() {
        let (weighed, few) = (Room::new(WEIGHED_BYTES_MAX), candidates(3));
        let of_a = all_places(&weighed, A, &few);
        assert_eq!(of_a.len(), 32);
        let of_b = all_places(&weighed, B, &few);
        assert_eq!(of_b.len(), 16);
        assert!(place(&weighed, C, &few).is_some(), "whoever comes next finds room");
        drop(of_a);
        assert!(place(&weighed, B, &few).is_some(), "B has half of what is left now");
    }

    #[test]
    fn what_waits_to_be_weighed_is_bounded_in_bytes() {
        let (weighed, many) = (Room::new(WEIGHED_BYTES_MAX), candidates(NODES_MAX));
        let waiting = all_places(&weighed, A, &many).len();
        let bytes = waiting * size_of_val(&*many);
        assert!((1..32).contains(&waiting) && bytes <= WEIGHED_BYTES_MAX as usize / 2, "{waiting}: {bytes}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_too_late_for_one_question_is_made_for_the_next_one() {
        let (weighed, made) = (Room::new(WEIGHED_BYTES_MIN), Arc::new(AtomicUsize::new(0)));
        let place = || place(&weighed, A, &[]);
        let make = |time: Duration| {
            let made = Arc::clone(&made);
            async move {
                sleep(time).await;
                Ok(made.fetch_add(1, Ordering::Relaxed))
            }
        };
        assert_eq!(soon(place().unwrap(), make(DNS_PATIENCE / 2)).await, Ok(0));
        assert_eq!(soon(place().unwrap(), make(2 * DNS_PATIENCE)).await, Err(Fault::Slow));
        assert!(place().is_none(), "its place is taken until it is made");
        sleep(2 * DNS_PATIENCE).await;
        assert_eq!(made.load(Ordering::Relaxed), 2, "it was made, though nobody waits");
        assert!(place().is_some());
    }
}
