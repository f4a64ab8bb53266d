//! Whether nodes have room for what is to be stored, as far as they said: an upload that waits somewhere until it is
//! whole is better refused before its first byte.

use client::{PlacementAsk, place};
use format::{Redundancy, wire::NodeEntry};

use super::PutOptions;
use crate::{index::Tenure, twin::Twin};

/// Too few nodes have room. Its operators free some, or the owner allows more places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the network has no room for it: {redundancy} of {bytes} bytes takes {shard_bytes} bytes at each of {} nodes, and fewer \
     that may have it have them free; free some, or add nodes", redundancy.columns()
)]
pub struct NetworkFull {
    /// Data and parity shards.
    pub redundancy: Redundancy,
    /// Bytes that are to be stored.
    pub bytes: u64,
    /// Bytes of each shard.
    pub shard_bytes: u64,
}

impl Twin {
    /// Refuses what nodes have no room for, by what they said last, as if it could not be compressed. Asks nobody. What
    /// cannot be placed for another reason is let pass: that is told when it is stored.
    ///
    /// # Errors
    /// [`NetworkFull`].
    pub fn check_room(&self, options: &PutOptions, bytes: u64) -> Result<(), NetworkFull> {
        let Tenure { profile, wanted, refused, caps, .. } = options.tenure.clone();
        let Some(redundancy) = profile.redundancy(bytes) else { return Ok(()) };
        let preferences = options.preferences.clone();
        let ask = PlacementAsk { wanted, refused, caps, preferences, ..PlacementAsk::new(redundancy, [0; 32]) };
        let shard_bytes = bytes.div_ceil(redundancy.data() as u64);
        let is_full = lacks_room(&ask, &self.network.topology.origins(), shard_bytes);
        if is_full { Err(NetworkFull { redundancy, bytes, shard_bytes }) } else { Ok(()) }
    }
}

/// Whether it could be placed if all nodes had room for a shard, and cannot as it is.
fn lacks_room(ask: &PlacementAsk, nodes: &[NodeEntry], shard_bytes: u64) -> bool {
    let fits = |has_room: &dyn Fn(&NodeEntry) -> bool| {
        let nodes = nodes.iter().map(|node| NodeEntry { free_bytes: has_room(node).into(), ..node.clone() });
        place(ask, &nodes.collect::<Vec<_>>()).is_ok()
    };
    // A node of the configuration that was not heard yet says nothing of its room.
    let is_heard = |node: &NodeEntry| node.seen > 0 || node.capacity_bytes > 0;
    !fits(&|node| !is_heard(node) || node.free_bytes >= shard_bytes) && fits(&|_| true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_too_little_room_is_refused_and_only_where_nodes_said_so() {
        let nodes = |free: &[u64]| -> Vec<NodeEntry> {
            let node = |(at, free_bytes): (usize, &u64)| NodeEntry {
                free_bytes: *free_bytes,
                ..testing::node(&format!("o{at}"), testing::place(&format!("z{at}")))
            };
            free.iter().enumerate().map(node).collect()
        };
        let ask = PlacementAsk::new(Redundancy::new(2, 1).unwrap(), [0; 32]);
        for (free, shard_bytes, lacks) in [
            (&[10, 10, 10][..], 10, false),
            (&[10, 10, 9], 10, true),
            (&[10, 10, 9, 10], 10, false),
            (&[0, 0, 0], 1, true),
            (&[10, 10], 10, false),
        ] {
            assert_eq!(lacks_room(&ask, &nodes(free), shard_bytes), lacks, "{free:?}");
        }
        let mut unheard = nodes(&[10, 10, 0]);
        unheard[2].capacity_bytes = 0;
        assert!(!lacks_room(&ask, &unheard, 10));
        unheard[2].seen = 1;
        assert!(lacks_room(&ask, &unheard, 10), "full, and it holds nothing");
        let one_zone = PlacementAsk { wanted: vec!["zone:z1".parse().unwrap()], ..ask };
        assert!(!lacks_room(&one_zone, &nodes(&[0, 0, 0]), 10), "it has too few nodes");
    }
}
