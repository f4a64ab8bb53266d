//! Learns the nodes of a cluster from several of them, so that no single node decides whom a twin knows: who is alone
//! on a list of nodes is alone in a quorum.
//!
//! Keeps true: what two lists say counts. What one list alone says counts where nobody knows better. So a node that
//! lies takes no honest node away, and moves none that was known before. It adds nodes at most, and only while fewer
//! than two others answer; these count in quorums, answer nobody, and so make an error of what they take part in.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use client::{Topology, Transport, TransportError};
use format::{Country, NodeName, Place, wire::NodeEntry};
use futures::{StreamExt, stream::FuturesUnordered};
use tokio::time::{Instant, timeout_at};

/// Lists that are put together.
const LISTS: usize = 3;
/// Lists that make a majority of them.
const MAJORITY: usize = LISTS / 2 + 1;
/// After the first list the other nodes have this long to give theirs.
const PATIENCE: Duration = Duration::from_secs(1);

/// A list of nodes.
struct NodeList {
    /// The node that gave it.
    from: NodeName,
    nodes: Vec<NodeEntry>,
}

/// Asks nodes for their lists, in this order, and adds what they say to the nodes known. For programs that run already:
/// the topology never has an address that a majority would not confirm.
///
/// # Errors
/// The last failure, when no node answers; the topology stays as it was.
pub(crate) async fn refresh(
    transport: &dyn Transport,
    topology: &Topology,
    order: &[NodeName],
) -> Result<(), TransportError> {
    let log = |error: &TransportError| tracing::debug!(node = %error.node(), %error, "no new list of nodes");
    let lists = ask(transport, order, LISTS, None, log).await?;
    topology.replace(merged(&topology.snapshot(), &lists));
    Ok(())
}

/// The same at the start. While there are too few lists, those that they tell of are asked as well, each where it is
/// told to be: a node that moved proves by its certificate that it is there.
///
/// # Errors
/// The last failure, when no node answers; the topology stays as it was.
pub(crate) async fn learn(
    transport: &dyn Transport,
    topology: &Topology,
    order: &[NodeName],
    here: &Place,
) -> Result<(), TransportError> {
    let known = topology.snapshot();
    let log = |error: &TransportError| tracing::warn!(node = %error.node(), %error, "a node does not answer");
    let mut lists = ask(transport, order, LISTS, None, log).await?;
    if lists.len() < LISTS {
        topology.replace(merged(&[], &lists));
        let has_moved = |name: &NodeName| {
            let (was, is) = (known.iter().find(|node| node.name == *name), topology.node(name));
            was.map(|node| &node.address) != is.as_ref().map(|node| &node.address)
        };
        let is_new = |name: &NodeName| !order.contains(name) || has_moved(name);
        let answered = |name: &NodeName| lists.iter().any(|list| list.from == *name);
        let mut told = topology.origins_by_distance(here);
        told.retain(|name| is_new(name) && !answered(name));
        let until = Instant::now() + PATIENCE;
        lists.extend(ask(transport, &told, LISTS - lists.len(), Some(until), |_| {}).await.unwrap_or_default());
    }
    topology.replace(merged(&known, &lists));
    Ok(())
}

/// Asks nodes for their lists, a few at a time and in this order, until so many answered, none is left or time is up.
async fn ask(
    transport: &dyn Transport,
    order: &[NodeName],
    wanted: usize,
    mut until: Option<Instant>,
    log: impl Fn(&TransportError),
) -> Result<Vec<NodeList>, TransportError> {
    let ask = |from: NodeName| async move {
        let nodes = transport.nodes(&from).await;
        nodes.map(|nodes| NodeList { from, nodes })
    };
    let mut order = order.iter().cloned();
    let mut asked: FuturesUnordered<_> = order.by_ref().take(wanted).map(ask).collect();
    let (mut lists, mut failure) = (Vec::new(), None);
    while lists.len() < wanted {
        let answer = match until {
            None => asked.next().await,
            Some(until) => timeout_at(until, asked.next()).await.unwrap_or(None),
        };
        match answer {
            None => break,
            Some(Ok(list)) => {
                lists.push(list);
                until.get_or_insert_with(|| Instant::now() + PATIENCE);
            }
            Some(Err(error)) => {
                log(&error);
                failure = Some(error);
                asked.extend(order.next().map(ask));
            }
        }
    }
    match failure {
        Some(failure) if lists.is_empty() => Err(failure),
        _ => Ok(lists),
    }
}

/// Puts lists together with the nodes known before. Pure; the result is in order of names.
///
/// A node is left out when two lists lack it. What two lists say of it is taken from them. Else its address, role and
/// place stay as they were known, but for the place that it gives itself.
fn merged(known: &[NodeEntry], lists: &[NodeList]) -> Vec<NodeEntry> {
    let by_name = |nodes: &'_ [NodeEntry]| nodes.iter().map(|node| (node.name.clone(), node.clone())).collect();
    let known: BTreeMap<NodeName, NodeEntry> = by_name(known);
    let told: Vec<(&NodeName, BTreeMap<NodeName, NodeEntry>)> =
        lists.iter().map(|list| (&list.from, by_name(&list.nodes))).collect();
    let newest = newest(lists);
    let names: BTreeSet<&NodeName> = told.iter().flat_map(|(_, list)| list.keys()).chain(known.keys()).collect();
    let node = |name: &NodeName| {
        let mut told: Vec<(&NodeName, &NodeEntry)> =
            told.iter().filter_map(|(from, list)| Some((*from, list.get(name)?))).collect();
        // A node that is full says so itself when it is sent something; no other can say it in its place.
        told.sort_by_key(|(_, node)| Reverse(node.free_bytes));
        if lists.len() - told.len() >= MAJORITY {
            return None;
        }
        let held = known.get(name);
        let agreeing = |node: &NodeEntry| told.iter().filter(|(_, other)| is_same(node, other)).count();
        let agreed = told.iter().find(|(_, node)| agreeing(node) >= MAJORITY);
        let own = told.iter().find(|(from, _)| *from == name);
        let told_best = agreed.or(own).or(told.first()).map(|(_, node)| *node);
        let mut entry = told_best.or(held)?.clone();
        if let (None, Some(held)) = (agreed, held) {
            (entry.role, entry.address) = (held.role, held.address.clone());
            // Of a configured node nothing but the address is known at first.
            if own.is_none() && held.place.country != Country::UNKNOWN {
                entry.place = held.place.clone();
            }
        }
        // The newest word of it counts, but none from the future, beside which all other nodes would look silent.
        entry.seen = told.iter().map(|(_, node)| node.seen).max().unwrap_or(entry.seen).min(newest);
        Some(entry)
    };
    names.into_iter().filter_map(node).collect()
}

/// Whether two lists say the same of a node, but for what changes all the time.
fn is_same(one: &NodeEntry, other: &NodeEntry) -> bool {
    let facts = |node: &NodeEntry| (node.role, node.address.clone(), node.place.clone(), node.draining);
    facts(one) == facts(other)
}

/// Returns the newest announcement by the lists' clocks: of three lists the middle one, of two the older.
fn newest(lists: &[NodeList]) -> u64 {
    let mut newest: Vec<u64> = lists.iter().map(|list| NodeEntry::newest(&list.nodes)).collect();
    newest.sort_unstable();
    newest.get(newest.len().saturating_sub(1) / 2).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use async_trait::async_trait;
    use bytes::Bytes;
    use client::ReadError;
    use format::{Lease, Locator, OwnerSecret, Profile, Record, wire::Role};
    use testing::{Call, Intercept, Intercepted, MemoryTransport, node, place};

    use super::*;
    use crate::{Index, LeaseChangeError, Network, Progress, PutOptions, Tenure, Twin};

    fn at(name: &str, port: u16) -> NodeEntry {
        let address = Some(format!("192.0.2.1:{port}").parse().unwrap());
        NodeEntry { address, seen: 1000, ..node(name, place("z")) }
    }

    fn list(from: &str, nodes: &[NodeEntry]) -> NodeList {
        NodeList { from: from.parse().unwrap(), nodes: nodes.to_vec() }
    }

    fn ports(nodes: &[NodeEntry]) -> Vec<(&str, u16)> {
        nodes.iter().map(|node| (node.name.as_str(), node.address.as_ref().unwrap().port())).collect()
    }

    #[test]
    fn one_list_of_three_changes_nothing_and_two_change_all() {
        let known = [at("o1", 1), at("o2", 1), at("o3", 1)];
        let truth = [at("o1", 1), at("o2", 1), at("o4", 1)];
        let hidden = NodeEntry { role: Role::Edge, draining: true, free_bytes: 0, ..at("o2", 1) };
        for lie in [vec![at("o1", 1)], vec![at("o1", 1), at("o2", 6), at("o4", 6), at("x", 6)], vec![hidden], vec![]] {
            for turn in 0..3 {
                let mut lists = [list("o1", &lie), list("o2", &truth), list("o4", &truth)];
                lists.rotate_left(turn);
                assert_eq!(merged(&known, &lists), truth, "{lie:?}");
            }
        }
        let moved = [at("o1", 2), at("o2", 2)];
        assert_eq!(merged(&known, &[list("o1", &moved), list("o2", &moved)]), moved);
    }

    #[test]
    fn one_list_of_one_or_two_adds_and_takes_nothing_away() {
        let known = [at("o1", 1), at("o2", 1), at("o3", 1)];
        let elsewhere = NodeEntry { role: Role::Edge, place: place("other"), ..at("o3", 6) };
        let lie = list("o1", &[at("o1", 1), at("o2", 6), elsewhere, at("x", 6)]);
        let told = merged(&known, &[list("o1", &lie.nodes)]);
        assert_eq!(ports(&told), [("o1", 1), ("o2", 1), ("o3", 1), ("x", 6)]);
        assert_eq!(told[..3], known);
        let told = merged(&known, &[lie, list("o2", &[at("o2", 1), at("o4", 1)])]);
        assert_eq!(ports(&told), [("o1", 1), ("o2", 1), ("o3", 1), ("o4", 1), ("x", 6)]);
        // What a node says of itself counts, but for where it is reached.
        let own = [NodeEntry { place: place("own"), free_bytes: 7, ..at("o3", 6) }];
        let told = merged(&known, &[list("o3", &own)]);
        assert_eq!(told[2], NodeEntry { address: known[2].address.clone(), ..own[0].clone() });
        // Of a configured node nothing but the address is known.
        let configured = NodeEntry { place: crate::config::nowhere(), ..at("o2", 1) };
        let told = merged(&[configured], &[list("o1", &[at("o2", 6)])]);
        assert_eq!(told, [at("o2", 1)]);
    }

    #[test]
    fn no_node_looks_silent_beside_one_of_the_future() {
        let late = [NodeEntry { seen: u64::MAX, ..at("x", 6) }];
        let truth = [at("o1", 1), at("o2", 1)];
        let lists = [list("x", &late), list("o1", &truth), list("o2", &truth)];
        for lists in [&lists[..2], &lists] {
            let told = merged(&[], lists);
            assert!(told.iter().all(|node| !node.is_silent(NodeEntry::newest(&told))), "{told:?}");
        }
    }

    /// A node that answers by itself, and tells of whom it likes.
    struct Liar {
        name: NodeName,
        own: MemoryTransport,
    }

    #[async_trait]
    impl Intercept for Liar {
        type Pass = ();

        async fn before(&self, _: &NodeName, _: Call) -> Result<(), TransportError> {
            Ok(())
        }

        fn instead(&self, node: &NodeName) -> Option<&dyn Transport> {
            (*node == self.name).then_some(&self.own)
        }
    }

    /// Five nodes. The first of them is a liar, which tells of itself and of as many that are none.
    struct Cluster {
        nodes: Vec<NodeEntry>,
        honest: Arc<MemoryTransport>,
        lying: MemoryTransport,
        folder: tempfile::TempDir,
    }

    impl Cluster {
        fn new(made_up: usize) -> Self {
            let nodes: Vec<_> = (0..5).map(|number| node(&format!("o{number}"), place("z"))).collect();
            let told: Vec<_> = (0..made_up).map(|number| node(&format!("x{number}"), place("z"))).collect();
            let lying = MemoryTransport::new(&[&nodes[..1], &told].concat());
            let honest = Arc::new(MemoryTransport::new(&nodes));
            Self { nodes, honest, lying, folder: tempfile::tempdir().unwrap() }
        }

        /// Returns the twin of somebody who knows some nodes and asks them for the others.
        async fn twin(&self, known: &[NodeEntry]) -> Twin {
            let liar = Liar { name: self.nodes[0].name.clone(), own: self.lying.clone() };
            let transport: Arc<dyn Transport> = Arc::new(Intercepted::over(self.honest.clone(), liar));
            let topology = Arc::new(Topology::new(known.to_vec()));
            let order: Vec<_> = known.iter().map(|node| node.name.clone()).collect();
            learn(&*transport, &topology, &order, &place("z")).await.unwrap();
            self.twin_over(Network::new(transport, topology, place("z")))
        }

        fn twin_over(&self, network: Network) -> Twin {
            let secret = OwnerSecret::from_bytes([1; 32]);
            Twin::new(&secret, Index::open(self.folder.path().join("index"), &secret).unwrap(), Arc::new(network))
        }

        /// Stores a file at the honest nodes, and gives its record to the liar too.
        async fn put(&self) -> Locator {
            let path = self.folder.path().join("file");
            std::fs::write(&path, "text").unwrap();
            let network = Network::new(self.honest.clone(), Arc::new(Topology::new(self.nodes.clone())), place("z"));
            let (quiet, tenure): (Arc<dyn Progress>, _) =
                (Arc::new(()), Tenure { profile: Profile::SmallCluster, ..Tenure::default() });
            let options = PutOptions { tenure, ..PutOptions::default() };
            let stored = self.twin_over(network).put(&path, &options, &quiet).await.unwrap();
            let locator = stored.entry.capability.locator();
            let record = self.honest.record(&self.nodes[1].name, &locator).await.unwrap().unwrap();
            self.lying.put_record(&self.nodes[0].name, &locator, record).await.unwrap();
            locator
        }

        /// Returns the lease that honest nodes have.
        async fn lease(&self, locator: &Locator) -> Lease {
            let record = self.honest.record(&self.nodes[1].name, locator).await.unwrap().unwrap();
            Record::decode(&record).unwrap().lease
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_node_that_lies_about_the_others_makes_no_removal_done_that_they_do_not_know_of() {
        for made_up in [0, 9] {
            for known in [0..2, 0..5] {
                let cluster = Cluster::new(made_up);
                let locator = cluster.put().await;
                let twin = cluster.twin(&cluster.nodes[known.clone()]).await;
                twin.remove(&locator).await.unwrap();
                assert!(cluster.lease(&locator).await.erased, "{made_up} made up, {known:?} known");
                assert!(twin.list().await.is_empty());
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_liar_that_alone_answers_makes_an_error_of_a_removal() {
        for made_up in [0, 9] {
            let cluster = Cluster::new(made_up);
            let locator = cluster.put().await;
            cluster.nodes[1..].iter().for_each(|node| cluster.honest.remove(&node.name));
            let twin = cluster.twin(&cluster.nodes).await;
            let removed = twin.remove(&locator).await;
            let is_told = |error: &_| {
                matches!(error, LeaseChangeError::TooFew { .. } | LeaseChangeError::Read(ReadError::Unavailable { .. }))
            };
            assert!(removed.as_ref().is_err_and(is_told), "{removed:?}");
            assert_eq!(twin.list().await.len(), 1);
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_erasure_that_one_node_knows_of_is_brought_to_the_others() {
        let cluster = Cluster::new(0);
        let locator = cluster.put().await;
        let lease = cluster.lease(&locator).await;
        let erased = Lease { version: lease.version + 1, erased: true, note: None, ..lease };
        let envelope = Bytes::from(erased.sign(&OwnerSecret::from_bytes([1; 32]).keys()));
        cluster.lying.put_lease(&cluster.nodes[0].name, &locator, envelope).await.unwrap();
        cluster.twin(&cluster.nodes).await.remove(&locator).await.unwrap();
        assert!(cluster.lease(&locator).await.erased);
    }

    /// Nodes that answer only where they are.
    struct Moved(Arc<Topology>, Vec<NodeEntry>);

    #[async_trait]
    impl Intercept for Moved {
        type Pass = ();

        async fn before(&self, node: &NodeName, _: Call) -> Result<(), TransportError> {
            let dialled = self.0.node(node).and_then(|node| node.address);
            let is_there = self.1.iter().any(|it| it.name == *node && it.address == dialled);
            let elsewhere = || TransportError::Unreachable { node: node.clone(), reason: "it moved".into() };
            is_there.then_some(()).ok_or_else(elsewhere)
        }
    }

    #[tokio::test]
    async fn a_node_that_moved_is_found_where_it_is_told_to_be() {
        let nodes = [at("o1", 1), at("o2", 2)];
        let topology = Arc::new(Topology::new(vec![at("o1", 1), at("o2", 1)]));
        let inner = Arc::new(MemoryTransport::new(&nodes));
        let transport = Intercepted::over(inner, Moved(topology.clone(), nodes.to_vec()));
        let order = ["o1", "o2"].map(|name| name.parse().unwrap());
        learn(&transport, &topology, &order, &place("z")).await.unwrap();
        assert_eq!(ports(&topology.snapshot()), [("o1", 1), ("o2", 2)]);
        // While a program runs, the word of one is not tried.
        topology.replace(vec![at("o1", 1), at("o2", 1)]);
        refresh(&transport, &topology, &order).await.unwrap();
        assert_eq!(ports(&topology.snapshot()), [("o1", 1), ("o2", 1)]);
    }
}
