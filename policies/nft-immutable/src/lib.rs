//! `nft-immutable`, the default policy: everybody receives the object, for ever.
//!
//! An object's bytes never change and its name commits to them, so the best cache time is the longest one (RFC 9111
//! calls a year "practically infinite"; RFC 8246 gives `immutable`). It asks for no fact: one remembered decision serves
//! the whole world.
#![no_std]

use guest as _;

wit_bindgen::generate!({
    path: "../../wit",
    world: "serve-hold",
});

use evernear::policy::types::{Marks, Outcome, Tier};
use exports::evernear::policy::{hold, serve};

guest::config_keys! {}

const YEAR: u32 = 31_536_000;
const DAY: u32 = 86_400;

struct NftImmutable;

impl serve::Guest for NftImmutable {
    fn serve() -> serve::Decision {
        serve::Decision {
            outcome: Outcome::Allow,
            status: 0,
            reason: 0,
            client_ttl: YEAR,
            stale_revalidate: DAY,
            stale_error: YEAR,
            marks: Marks::IMMUTABLE | Marks::CORS_ANY,
            header_sets: 0,
            target: 0,
            rate_class: 0,
        }
    }
}

impl hold::Guest for NftImmutable {
    fn hold() -> hold::Keep {
        hold::Keep { tier: Tier::Disk, ttl: YEAR, stale_revalidate: DAY, stale_error: YEAR, pin: false, prefetch: 0 }
    }
}

export!(NftImmutable);
