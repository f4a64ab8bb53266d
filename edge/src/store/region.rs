//! The other edges of the region, which are asked for a strip before its origin: one of them, the stripe's home, brings
//! it for all, so that a region pulls it from far away once.
//!
//! The home of a stripe is the first in rendezvous order of the region's edges that have an address for it, were heard
//! of lately, and neither failed nor lied a moment ago. All that know the same edges choose the same. One that they do
//! not agree about costs a second pull and no more: a home asks origins alone, never another edge. Keeps true: what
//! leaves here for an edge was proven under the object's root, is ciphertext, and of no object that its owner lets
//! nobody keep; memory and strips under way are bounded.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use client::{Reader, ShardAsk, Shelf};
use format::{
    NodeName, ObjectId, OwnerId, PublicManifest, StripeIndex, rendezvous,
    wire::{NodeEntry, Role, StripPath},
};

use super::{
    disk::{DiskShelf, DiskTier},
    room::{Room, Taken},
    strips::Strips,
};
use crate::metrics::{Metrics, StripLabels};

/// Strips on their way to other edges at one time, until they are sent; with proof and row each takes 300 KiB at most,
/// so 75 MiB. One edge has at most half of what the others leave.
const BRINGING_MAX: u32 = 256;

/// Who brings the strips of a stripe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Home {
    /// This edge, for all others.
    Here,
    /// Another one.
    At(NodeName),
}

/// Why no strip is brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotBrought {
    /// The request names no strip of an origin.
    NoStrip,
    /// Too many are being brought.
    Busy,
    /// Its origin does not give it, or not in time.
    Missing,
}

/// A strip on its way to another edge, which has room until it is sent.
struct Brought {
    strip: Bytes,
    _room: Taken<NodeName>,
}

impl AsRef<[u8]> for Brought {
    fn as_ref(&self) -> &[u8] {
        &self.strip
    }
}

/// The edges of the region, and what this one keeps for them.
pub(crate) struct Region {
    reader: Arc<Reader>,
    name: NodeName,
    region: String,
    strips: Strips,
    room: Arc<Room<NodeName>>,
    metrics: Arc<Metrics>,
}

impl Region {
    /// Keeps up to `strip_bytes_max` bytes for the edges of `region`; `name` is this one.
    pub(crate) fn new(
        reader: Arc<Reader>,
        (name, region): (NodeName, String),
        strip_bytes_max: u64,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (strips, room) = (Strips::new(strip_bytes_max), Room::new(BRINGING_MAX));
        Self { reader, name, region, strips, room, metrics }
    }

    /// Returns the home of a stripe; none where no other edge of the region brings strips.
    pub(crate) fn home(&self, object: &ObjectId, stripe: StripeIndex) -> Option<Home> {
        let key = *blake3::keyed_hash(&object.0, &stripe.0.to_le_bytes()).as_bytes();
        let nodes = self.reader.topology().snapshot();
        home(&nodes, (&self.name, self.region.as_str()), &key, |node| self.reader.leaves_out(node))
    }

    /// What this edge has of an owner's strips as a reader of its own sees it; those of stripes whose home is here are
    /// kept for others.
    pub(crate) fn shelf<'s>(&'s self, owner: OwnerId, disk: Option<DiskShelf<'s>>) -> RegionShelf<'s> {
        RegionShelf { strips: &self.strips, owner, disk, fills_disk: true }
    }

    /// Brings a strip for another edge: from memory, from the disk, else from the origin that the edge names. Cancel
    /// safe.
    pub(crate) async fn bring(
        &self,
        disk: Option<&DiskTier>,
        asker: &NodeName,
        path: StripPath,
        within: Option<Duration>,
    ) -> Result<Bytes, NotBrought> {
        let brought = self.try_bring(disk, asker, path, within).await;
        let result = match &brought {
            Ok((_, result)) => result,
            Err(NotBrought::Busy) => "busy",
            Err(NotBrought::NoStrip | NotBrought::Missing) => "missing",
        };
        self.metrics.strips_brought.get_or_create(&StripLabels { result }).inc();
        brought.map(|(strip, _)| strip)
    }

    async fn try_bring(
        &self,
        disk: Option<&DiskTier>,
        asker: &NodeName,
        path: StripPath,
        within: Option<Duration>,
    ) -> Result<(Bytes, &'static str), NotBrought> {
        let StripPath { public, column, stripe, node } = path;
        let public = PublicManifest::decode(public).map_err(|_| NotBrought::NoStrip)?;
        let is_origin = self.reader.topology().node(&node).is_some_and(|node| node.role == Role::Origin);
        let is_strip = column < public.row_columns() && stripe < public.column_strips(column);
        if !is_origin || !is_strip {
            return Err(NotBrought::NoStrip);
        }
        let room = self.room.try_take(asker.clone(), 1).ok_or(NotBrought::Busy)?;
        let ask = ShardAsk { object: public.id(), column, first: stripe, count: 1 };
        // Whether its owner lets it lie on a disk is not known here, so none is written.
        let disk = disk.map(|disk| disk.shelf(false));
        let shelf = RegionShelf { fills_disk: false, ..self.shelf(public.owner(), disk) };
        let result = if shelf.holds(&ask) { "held" } else { "pulled" };
        let strip = self.reader.strip(Some(&shelf), &public, &node, ask, within).await;
        let strip = strip.ok_or(NotBrought::Missing)?;
        Ok((Bytes::from_owner(Brought { strip, _room: room }), result))
    }

    /// Forgets all strips of an owner in memory.
    pub(crate) fn forget(&self, owner: &OwnerId) {
        self.strips.forget(owner);
    }
}

/// Returns the home of what `key` is made of, among `nodes` and this edge, which is `own` of a name and region.
fn home(
    nodes: &[NodeEntry],
    own: (&NodeName, &str),
    key: &[u8; 32],
    leaves_out: impl Fn(&NodeName) -> bool,
) -> Option<Home> {
    let newest = NodeEntry::newest(nodes);
    let (name, region) = own;
    let is_neighbour = |node: &&NodeEntry| {
        node.role == Role::Edge
            && node.address.is_some()
            && node.place.region == region
            && node.name != *name
            && !node.is_silent(newest)
            && !leaves_out(&node.name)
    };
    let mut neighbours = nodes.iter().filter(is_neighbour).map(|node| &node.name).peekable();
    neighbours.peek()?;
    let first = *rendezvous::order(key, neighbours.chain([name])).first()?;
    Some(if first == name { Home::Here } else { Home::At(first.clone()) })
}

/// Strips in memory, and on a disk under it, for one read.
pub(crate) struct RegionShelf<'s> {
    strips: &'s Strips,
    /// Whose strips are read.
    owner: OwnerId,
    disk: Option<DiskShelf<'s>>,
    /// Whether what comes may be written to the disk.
    fills_disk: bool,
}

#[async_trait]
impl Shelf for RegionShelf<'_> {
    fn holds(&self, ask: &ShardAsk) -> bool {
        self.strips.holds(ask) || self.disk.as_ref().is_some_and(|disk| disk.holds(ask))
    }

    async fn get(&self, ask: &ShardAsk) -> Option<Bytes> {
        if let Some(strip) = self.strips.get(ask) {
            return Some(strip);
        }
        match &self.disk {
            Some(disk) if disk.holds(ask) => disk.get(ask).await,
            _ => None,
        }
    }

    fn offer(&self, ask: &ShardAsk, body: &Bytes, begun: Instant) {
        self.strips.insert(self.owner, *ask, body.clone(), begun);
        if let Some(disk) = self.disk.as_ref().filter(|_| self.fills_disk) {
            disk.offer(ask, body, begun);
        }
    }

    fn wrong(&self, ask: &ShardAsk) {
        self.strips.remove(ask);
        if let Some(disk) = &self.disk {
            disk.wrong(ask);
        }
    }
}

#[cfg(test)]
mod tests {
    use client::{ReaderOptions, Topology, Transport};
    use futures::FutureExt;
    use testing::{Fault, FaultyTransport, MemoryTransport, Sample};

    use super::*;

    const SEEN: u64 = 1_800_000_000;

    fn edge(name: &str, region: &str) -> NodeEntry {
        let (place, address) = (testing::place(name), Some("192.0.2.1:7402".parse().unwrap()));
        let place = format::Place { region: region.to_owned(), ..place };
        NodeEntry { role: Role::Edge, address, seen: SEEN, ..testing::node(name, place) }
    }

    fn homes(nodes: &[NodeEntry], own: &str, leaves_out: impl Fn(&NodeName) -> bool) -> Vec<Option<Home>> {
        let own = own.parse().unwrap();
        let mut homes = Vec::new();
        for key in 0..60 {
            homes.push(home(nodes, (&own, "asia"), &[key; 32], &leaves_out));
        }
        homes
    }

    /// Returns the name of a home as all edges know it.
    fn name(home: Option<&Home>, own: &str) -> String {
        match home {
            Some(Home::At(name)) => name.to_string(),
            _ => own.to_owned(),
        }
    }

    #[test]
    fn all_edges_of_a_region_agree_on_the_home_of_a_stripe() {
        let names = ["e1", "e2", "e3"];
        let nodes = names.map(|name| edge(name, "asia"));
        let of = names.map(|own| homes(&nodes, own, |_| false));
        let [one, two, three] = &of;
        for ((one, two), three) in one.iter().zip(two).zip(three) {
            let one = name(one.as_ref(), "e1");
            assert!(one == name(two.as_ref(), "e2") && one == name(three.as_ref(), "e3"));
        }
        for own in &of {
            let here = own.iter().filter(|home| **home == Some(Home::Here)).count();
            assert!((10..=30).contains(&here), "each has its share: {here} of 60");
        }
    }

    #[test]
    fn who_is_away_elsewhere_or_brings_nothing_is_no_home() {
        let away = NodeEntry { seen: SEEN - Role::Edge.silent_seconds() - 1, ..edge("away", "asia") };
        let mute = NodeEntry { address: None, ..edge("mute", "asia") };
        let origin = NodeEntry { role: Role::Origin, ..edge("o1", "asia") };
        let strangers = [edge("e1", "asia"), edge("far", "europe"), away, mute, origin];
        assert!(homes(&strangers, "e1", |_| false).iter().all(Option::is_none), "e1 is alone, and keeps nothing");
        let [one, two] = ["e1", "e2"].map(|name| edge(name, "asia"));
        let with_two: Vec<NodeEntry> = strangers.into_iter().skip(1).chain([one, two]).collect();
        let found = homes(&with_two, "e1", |_| false);
        assert!(found.iter().all(|home| ["e1", "e2"].contains(&&*name(home.as_ref(), "e1"))));
        assert!(homes(&with_two, "e1", |node| node.as_str() == "e2").iter().all(Option::is_none), "it failed lately");
    }

    /// An origin with one object, and what an edge near it brings.
    async fn scene() -> (Arc<MemoryTransport>, Sample, Region) {
        scene_with(|origins| origins).await
    }

    /// The same over a way to the origin.
    async fn scene_with<T: Transport>(
        way: impl FnOnce(Arc<MemoryTransport>) -> Arc<T>,
    ) -> (Arc<MemoryTransport>, Sample, Region) {
        let node = testing::node("o1", testing::place("o1"));
        let origins = Arc::new(MemoryTransport::new(std::slice::from_ref(&node)));
        let sample = Sample::new(1, 300_000);
        for (column, cells) in sample.columns.iter().enumerate() {
            let upload = origins.create_upload(&node.name, column, sample.columns.len()).await.unwrap();
            origins.append(&node.name, &upload, 0, cells).await.unwrap();
            let public = sample.sealed.public.encoded().clone();
            origins.commit(&node.name, &upload, column, public).await.unwrap();
        }
        let topology = Arc::new(Topology::new(vec![node, edge("e2", "asia")]));
        let way = way(Arc::clone(&origins));
        let reader = Reader::new(way, topology, testing::place("e1"), ReaderOptions::default());
        let own = ("e1".parse().unwrap(), "asia".to_owned());
        (origins, sample, Region::new(Arc::new(reader), own, 1 << 22, Arc::new(Metrics::new())))
    }

    fn asker() -> NodeName {
        "e3".parse().unwrap()
    }

    fn path(sample: &Sample, column: usize, stripe: u64, node: &str) -> StripPath {
        StripPath { public: sample.sealed.public.encoded().clone(), column, stripe, node: node.parse().unwrap() }
    }

    #[tokio::test]
    async fn a_strip_is_brought_once_and_then_held_until_its_owner_purges() {
        let (origins, sample, region) = scene().await;
        let first = region.bring(None, &asker(), path(&sample, 0, 0, "o1"), None).await.unwrap();
        // What is held needs no origin.
        origins.remove(&"o1".parse().unwrap());
        assert_eq!(region.bring(None, &asker(), path(&sample, 0, 0, "o1"), None).await.unwrap(), first);
        assert_eq!(region.bring(None, &asker(), path(&sample, 1, 0, "o1"), None).await, Err(NotBrought::Missing));
        region.forget(&sample.owner.id());
        assert_eq!(region.bring(None, &asker(), path(&sample, 0, 0, "o1"), None).await, Err(NotBrought::Missing));
        let brought = |result| region.metrics.strips_brought.get_or_create(&StripLabels { result }).get();
        assert_eq!((brought("pulled"), brought("held"), brought("missing"), brought("busy")), (1, 1, 2, 0));
    }

    #[tokio::test]
    async fn a_question_that_joins_a_call_of_before_a_purge_brings_nothing_back() {
        let late = |_: &NodeName| Fault::Late(Duration::from_millis(20));
        let (origins, sample, region) = scene_with(|origins| Arc::new(FaultyTransport::new(origins, late))).await;
        let node: NodeName = "o1".parse().unwrap();
        let asker = asker();
        let bring = || region.bring(None, &asker, path(&sample, 0, 0, "o1"), None);
        let mut before = Box::pin(bring());
        assert!((&mut before).now_or_never().is_none(), "the origin is asked");
        region.forget(&sample.owner.id());
        let (before, after) = tokio::join!(before, bring());
        assert!(before.is_ok() && before == after);
        origins.remove(&node);
        assert_eq!(bring().await, Err(NotBrought::Missing), "it was kept");
    }

    #[tokio::test]
    async fn nothing_is_brought_that_is_no_strip_of_an_origin_and_no_more_at_once_than_the_bound() {
        let (_, sample, region) = scene().await;
        for wrong in [
            path(&sample, 0, 0, "e2"),
            path(&sample, 0, 0, "o2"),
            path(&sample, sample.columns.len(), 0, "o1"),
            path(&sample, 0, 9, "o1"),
            StripPath { public: Bytes::from_static(b"none"), ..path(&sample, 0, 0, "o1") },
        ] {
            assert_eq!(region.bring(None, &asker(), wrong.clone(), None).await, Err(NotBrought::NoStrip), "{wrong:?}");
        }
        let mut edges = ["e2", "e3", "e4"].map(|name| (name.parse::<NodeName>().unwrap(), Vec::new()));
        for (edge, strips) in &mut edges {
            while let Ok(strip) = region.bring(None, edge, path(&sample, 0, 0, "o1"), None).await {
                strips.push(strip);
            }
        }
        let counts = edges.each_ref().map(|(_, strips)| strips.len());
        assert_eq!(counts, [128, 64, 32], "each has half of what the others leave, until it is sent");
        let late = "e5".parse().unwrap();
        assert!(region.bring(None, &late, path(&sample, 0, 0, "o1"), None).await.is_ok(), "and others find room");
        let crowded = region.bring(None, &edges[0].0, path(&sample, 0, 0, "o1"), None).await;
        assert_eq!(crowded, Err(NotBrought::Busy));
        drop(edges);
        assert!(region.room.try_take(late, BRINGING_MAX).is_some(), "what is sent leaves its room");
    }
}
