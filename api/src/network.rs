//! `GET /network`: the nodes as the catalog last heard of them, and what is being repaired. What edges count of their
//! viewers no origin knows: their `/metrics` have it.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use format::{
    Moment,
    wire::{NodeEntry, RepairStatus, Role},
};
use serde::Serialize;
use serde_json::json;

use crate::{caller::Reader, health::place_path, refusal::Refusal, service::Service};

/// A node.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    name: String,
    kind: &'static str,
    /// Region, country, zone.
    place: String,
    operator: String,
    /// Of its node API; of an edge, those that viewers connect to.
    address: String,
    /// None: not heard of yet.
    seen: Option<String>,
    /// `up`, `silent`: not heard of for long; `draining`: it is being emptied; `full`.
    state: &'static str,
    /// Of origins alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_used: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_free: Option<u64>,
    /// How busy it is, 0 to 100.
    load: u8,
}

/// What is being repaired in the whole cluster.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Repair {
    /// Objects that wait, that are under repair, and that were given up.
    queued: u64,
    running: u64,
    given_up: u64,
    /// Of the first two, those that are healthy and move to fill nodes alike.
    balancing: u64,
    /// Bytes of shards that wait or are being made.
    backlog_bytes: u64,
    /// Bytes of shards made or moved since the origins started.
    repaired_bytes: u64,
    /// Every shard was hashed after this time; none before the first whole scrub, or while an origin is down.
    scrubbed_since: Option<String>,
    /// Why repairs failed, with the number of objects.
    obstacles: Vec<(String, u64)>,
}

/// `GET /network`.
pub(crate) async fn show(State(service): State<Arc<Service>>, _: Reader) -> Response {
    let network = service.twin.network();
    // Where no origin answers, the list of nodes says more than an error.
    let repair = network.repairs().await.map(|repairs| Repair::of(repairs.status));
    let repair = repair.map_err(|error| Refusal::away(&error)).ok();
    let nodes = network.topology().snapshot();
    let newest = NodeEntry::newest(&nodes);
    let nodes: Vec<Node> =
        nodes.iter().filter(|node| node.role != Role::Twin).map(|node| Node::of(node, newest)).collect();
    Json(json!({ "ok": true, "value": { "nodes": nodes, "repair": repair } })).into_response()
}

impl Node {
    fn of(node: &NodeEntry, newest: u64) -> Self {
        let is_origin = node.role == Role::Origin;
        let public: Vec<String> = node.public.iter().map(ToString::to_string).collect();
        Self {
            name: node.name.to_string(),
            kind: node.role.as_str(),
            place: place_path(&node.place),
            operator: node.place.operator.clone(),
            address: match &node.address {
                Some(address) if is_origin => address.to_string(),
                _ => public.join(" "),
            },
            seen: (node.seen > 0).then(|| Moment(node.seen).to_string()),
            state: match () {
                () if node.is_silent(newest) => "silent",
                () if node.draining => "draining",
                () if is_origin && node.free_bytes == 0 => "full",
                () => "up",
            },
            bytes_used: is_origin.then(|| node.capacity_bytes.saturating_sub(node.free_bytes)),
            bytes_free: is_origin.then_some(node.free_bytes),
            load: node.load,
        }
    }
}

impl Repair {
    fn of(status: RepairStatus) -> Self {
        Self {
            queued: status.waiting,
            running: status.running,
            given_up: status.dead,
            balancing: status.balancing,
            backlog_bytes: status.waiting_bytes.saturating_add(status.running_bytes),
            repaired_bytes: status.repaired_bytes,
            scrubbed_since: (status.scrubbed_since > 0).then(|| Moment(status.scrubbed_since).to_string()),
            obstacles: status.obstacles.into_iter().map(|it| (it.why, it.amount.objects)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_up_until_something_says_otherwise() {
        let node = NodeEntry { seen: 1000, ..testing::node("o1", testing::place("z1")) };
        let word = |change: fn(&mut NodeEntry), newest: u64| {
            let mut node = node.clone();
            change(&mut node);
            Node::of(&node, newest).state
        };
        assert_eq!(word(|_| {}, 1000), "up");
        assert_eq!(word(|_| {}, 1001 + Role::Origin.silent_seconds()), "silent");
        assert_eq!(word(|node| node.draining = true, 1000), "draining");
        assert_eq!(word(|node| node.free_bytes = 0, 1000), "full");
        let edge = Node::of(&NodeEntry { role: Role::Edge, free_bytes: 0, ..node.clone() }, 1000);
        assert_eq!((edge.state, edge.bytes_free), ("up", None));
    }
}
