//! `places`: where shards of new objects may lie, and for how long. It is asked at the upload; the lease keeps the answer.
//!
//! Config (all optional; sets hold countries like "DE" and groups like "eu"):
//! - `store-allow`: only sites there; `store-deny`: not there; deny wins
//! - `prefer-countries`: sites there get ten times the share of other sites
//! - `data`, `parity`: shards of each kind, both or none
//! - `per-country`, `per-operator`, `per-datacentre`: most shards of one object in one of them
//! - `keep-until`, `erase-after`: seconds since 1970
#![no_std]

extern crate alloc;

use alloc::vec::Vec;
use guest as _;

wit_bindgen::generate!({
    path: "../../wit",
    world: "place-only",
});

use evernear::policy::config;
use exports::evernear::policy::place::{Guest, Plan, Site};

guest::config_keys! {
    "store-allow": "countries",
    "store-deny": "countries",
    "prefer-countries": "countries",
    "data": "number 0..=255 with parity",
    "parity": "number 0..=255 with data",
    "per-country": "number 0..=255",
    "per-operator": "number 0..=255",
    "per-datacentre": "number 0..=255",
    "keep-until": "number",
    "erase-after": "number",
}

const PREFERRED: u8 = 250;
const USUAL: u8 = 25;

struct Places;

impl Guest for Places {
    fn place(sites: Vec<Site>) -> Plan {
        Plan {
            weights: sites.iter().map(weight).collect(),
            data_shards: small("data"),
            parity_shards: small("parity"),
            per_datacentre: small("per-datacentre"),
            per_country: small("per-country"),
            per_operator: small("per-operator"),
            keep_until: config::number("keep-until").unwrap_or(0),
            erase_after: config::number("erase-after").unwrap_or(0),
        }
    }
}

fn weight(site: &Site) -> u8 {
    let country = u32::from(site.country);
    // An absent list refuses nobody. If there is a list, the host sets a truth of the list's name.
    if config::has("store-deny", country) || (config::truth("store-allow") && !config::has("store-allow", country)) {
        0
    } else if config::has("prefer-countries", country) {
        PREFERRED
    } else {
        USUAL
    }
}

/// A number out of range becomes 255. As a number of shards the host refuses it; as a cap it caps nothing.
fn small(key: &str) -> u8 {
    config::number(key).map_or(0, |number| u8::try_from(number).unwrap_or(u8::MAX))
}

export!(Places);
