//! `geo`: who may receive an object, by country, and which edges may answer with it and hold it.
//!
//! Config (all optional; sets hold countries like "DE" and groups like "eu"):
//! - `receive-allow`: only viewers there; `receive-deny`: all but those. A viewer whose country is unknown is in neither, unless
//!   the list names "unknown". So an allow list refuses such a viewer (fails closed), and a deny list lets it pass
//! - `hold-allow`, `hold-deny`: the same for the country of an edge, which always knows its own
//! - `status` (451, of 400 to 499 but 404, 412 and 416), `reason` (1): what a refused viewer gets; `hide = true`, in place of a status: to it the
//!   object looks as if it were not there; `hide-name = true`: DNS does not answer it at all
//! - `ttl` (1 day), `hold-ttl` (1 day), `dns-ttl` (60, of 5 to 300), `refused-ttl` (5 minutes): seconds
//!
//! Deny wins over allow: a country in both lists is refused.
#![no_std]

extern crate alloc;

use alloc::vec::Vec;
use guest as _;

wit_bindgen::generate!({
    path: "../../wit",
    inline: "
        package evernear:geo;
        world geo {
            include evernear:policy/facts@1.0.0;
            export evernear:policy/steer@1.0.0;
            export evernear:policy/serve@1.0.0;
            export evernear:policy/hold@1.0.0;
        }
    ",
    world: "evernear:geo/geo",
    generate_all,
});

use evernear::policy::types::{CountryCode, Marks, Outcome, Tier};
use evernear::policy::{client, config, edge};
use exports::evernear::policy::{hold, serve, steer};

guest::config_keys! {
    "receive-allow": "countries",
    "receive-deny": "countries",
    "hold-allow": "countries",
    "hold-deny": "countries",
    "status": "refusal",
    "reason": "number 0..=65535",
    "hide": "truth",
    "hide-name": "truth",
    "ttl": "number",
    "hold-ttl": "number",
    "dns-ttl": "number 5..=300",
    "refused-ttl": "number",
}

const DAY: u32 = 86_400;
const REFUSED_TTL_DEFAULT: u32 = 300;
const DNS_TTL_DEFAULT: u32 = 60;
const UNAVAILABLE_FOR_LEGAL_REASONS: u32 = 451;
const REASON_DEFAULT: u32 = 1;
const WEIGHT: u8 = 100;

struct Geo;

impl serve::Guest for Geo {
    fn serve() -> serve::Decision {
        if may_receive() {
            decision(Outcome::Allow, 0, 0, number("ttl", DAY))
        } else if config::truth("hide") {
            decision(Outcome::Hide, 0, number("reason", REASON_DEFAULT), number("refused-ttl", REFUSED_TTL_DEFAULT))
        } else {
            let status = number("status", UNAVAILABLE_FOR_LEGAL_REASONS);
            let reason = number("reason", REASON_DEFAULT);
            decision(Outcome::Deny, status, reason, number("refused-ttl", REFUSED_TTL_DEFAULT))
        }
    }
}

impl steer::Guest for Geo {
    fn steer(candidates: Vec<steer::Candidate>) -> steer::Answer {
        let answers = !config::truth("hide-name") || may_receive();
        let weight = |edge: &steer::Candidate| {
            if answers && may_hold(edge.country) { WEIGHT } else { 0 }
        };
        steer::Answer { ttl: number("dns-ttl", DNS_TTL_DEFAULT), weights: candidates.iter().map(weight).collect() }
    }
}

impl hold::Guest for Geo {
    fn hold() -> hold::Keep {
        let ttl = number("hold-ttl", DAY);
        let tier = if may_hold(edge::country()) { Tier::Disk } else { Tier::None };
        hold::Keep { tier, ttl, stale_revalidate: 0, stale_error: ttl, pin: false, prefetch: 0 }
    }
}

fn may_receive() -> bool {
    permitted(client::country(), "receive-allow", "receive-deny")
}

fn may_hold(country: CountryCode) -> bool {
    permitted(country, "hold-allow", "hold-deny")
}

/// Returns whether both lists permit a country. An absent list refuses nobody. For a list that is there, the host sets a truth of its name.
fn permitted(country: CountryCode, allow: &str, deny: &str) -> bool {
    let country = u32::from(country);
    !config::has(deny, country) && (!config::truth(allow) || config::has(allow, country))
}

fn number(key: &str, default: u32) -> u32 {
    config::number(key).unwrap_or(default)
}

fn decision(outcome: Outcome, status: u32, reason: u32, ttl: u32) -> serve::Decision {
    serve::Decision {
        outcome,
        // A number out of range becomes 65535, which the host refuses, because it is not a status.
        status: u16::try_from(status).unwrap_or(u16::MAX),
        reason: u16::try_from(reason).unwrap_or(u16::MAX),
        client_ttl: ttl,
        stale_revalidate: 0,
        stale_error: 0,
        marks: Marks::empty(),
        header_sets: 0,
        target: 0,
        rate_class: 0,
    }
}

export!(Geo);
