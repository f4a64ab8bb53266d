//! An object and clusters for the tests of what is decided without IO.

use std::{collections::BTreeMap, sync::LazyLock, time::Duration};

use format::{
    Attributes, Compression, DataKey, Encoder, EncoderOptions, Kind, Lease, Locator, NodeName, OwnerId, Place,
    PolicyName, Profile, Retention, Suite,
    wire::{NodeEntry, Role},
};

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
    let mut encoder = Encoder::new(options, DataKey::fresh([2; 32]));
    let bytes = vec![7; 1 << 20];
    let mut input = &bytes[..];
    while encoder.write(&mut input).unwrap().is_some() {}
    let mut ending = encoder.end();
    while ending.stripe().unwrap().is_some() {}
    let attributes =
        Attributes { mime: "a/b".into(), name: String::new(), created: 0, kind: Kind::File, tags: BTreeMap::new() };
    let public = ending.seal(attributes, [3; 32]).unwrap().public;
    let lease = Lease {
        locator: Locator([4; 32]),
        owner,
        version: 1,
        profile,
        wanted: vec![],
        refused: vec![],
        caps: vec![],
        retention: Retention::default(),
        policy: PolicyName::default(),
        erased: false,
        unknown: vec![],
    };
    let shards = (0..6).map(|column| (column, name(column))).collect();
    ObjectRow { public, lease, locators: vec![], shards }
}

pub(super) fn name(number: usize) -> NodeName {
    format!("o{number}").parse().unwrap()
}

/// So many nodes, two in each zone; `change` says what is not as usual.
pub(super) fn cluster(nodes: usize, change: impl Fn(usize, &mut NodeEntry)) -> Standings {
    let node = |number: usize| {
        let mut entry = NodeEntry {
            name: name(number),
            role: Role::Origin,
            address: None,
            public: vec![],
            place: Place {
                country: "BE".parse().unwrap(),
                region: "eu".into(),
                zone: format!("z{}", number / 2),
                operator: String::new(),
                datacentre: String::new(),
                latitude: 0.0,
                longitude: 0.0,
            },
            capacity_bytes: 9,
            free_bytes: 9,
            load: 0,
            draining: false,
            seen: 1000,
        };
        change(number, &mut entry);
        entry
    };
    Standings::judge((0..nodes).map(node).collect(), 1000, Duration::from_secs(60), Duration::ZERO)
}
