//! Nodes as they speak of themselves.

use format::{
    Place,
    wire::{NodeEntry, Role},
};

/// Returns a place in Belgium, in a zone of its own name and of no operator.
#[must_use]
pub fn place(zone: &str) -> Place {
    Place {
        country: "BE".parse().unwrap(),
        region: "eu".into(),
        zone: zone.into(),
        operator: String::new(),
        datacentre: String::new(),
        latitude: 50.8,
        longitude: 4.3,
    }
}

/// Returns an origin without an address, with 1 TiB free.
#[must_use]
pub fn node(name: &str, place: Place) -> NodeEntry {
    NodeEntry {
        name: name.parse().unwrap(),
        role: Role::Origin,
        address: None,
        public: vec![],
        place,
        capacity_bytes: 1 << 40,
        free_bytes: 1 << 40,
        load: 0,
        draining: false,
        seen: 0,
    }
}
