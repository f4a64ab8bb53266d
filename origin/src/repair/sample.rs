//! An object and clusters for the tests of what is decided without IO.

use std::{sync::LazyLock, time::Duration};

use format::{Compression, EncoderOptions, Lease, Locator, NodeName, OwnerId, Profile, Suite, wire::NodeEntry};
use testing::{Encoded, attributes, lease, place};

use super::standing::Standings;
use crate::catalog::ObjectRow;

/// A 4+2 object of four blocks, its column c on node c.
pub(super) fn row() -> ObjectRow {
    static ROW: LazyLock<ObjectRow> = LazyLock::new(encode);
    ROW.clone()
}

fn encode() -> ObjectRow {
    let profile: Profile = "4+2".parse().unwrap();
    let owner = OwnerId([1; 32]);
    let options = EncoderOptions { profile, suite: Suite::auto(), compression: Compression::Off, owner };
    let encoded = Encoded::of(&[&[7; 1 << 20]], options, [2; 32], attributes(), [3; 32]);
    let lease = Lease { profile, ..lease(Locator([4; 32]), owner, 1) };
    let shards = (0..6).map(|column| (column, name(column))).collect();
    ObjectRow { public: encoded.sealed.public, lease, locators: vec![], shards }
}

pub(super) fn name(number: usize) -> NodeName {
    format!("o{number}").parse().unwrap()
}

/// So many nodes, two in each zone; `change` says what is not as usual.
pub(super) fn cluster(nodes: usize, change: impl Fn(usize, &mut NodeEntry)) -> Standings {
    let node = |number: usize| {
        let place = place(&format!("z{}", number / 2));
        let sized = testing::node(name(number).as_str(), place);
        let mut entry = NodeEntry { capacity_bytes: 9, free_bytes: 9, seen: 1000, ..sized };
        change(number, &mut entry);
        entry
    };
    Standings::judge((0..nodes).map(node).collect(), 1000, Duration::from_secs(60), Duration::ZERO)
}
