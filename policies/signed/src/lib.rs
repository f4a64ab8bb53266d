//! `signed`: who has a link that the owner signed and that still counts (`evernear sign`).
//!
//! Config (all optional):
//! - `open-tag`: objects with this tag everybody may receive
//! - `number`, with `slot` (0): the token must carry this number in that slot, a tenant or a tier
//! - `status` (403, of 400 to 499): what everybody else gets; 404 tells nobody that there is anything
//! - `ttl` (1 hour): seconds that a viewer may keep the answer, never beyond the end of its link
#![no_std]

use guest as _;

wit_bindgen::generate!({
    path: "../../wit",
    world: "serve-only",
});

use evernear::policy::types::{Marks, Outcome, TokenState};
use evernear::policy::{config, object, request};
use exports::evernear::policy::serve;

guest::config_keys! {
    "open-tag": "text",
    "number": "number",
    "slot": "number 0..=255 with number",
    "status": "number 400..=499",
    "ttl": "number",
}

const FORBIDDEN: u32 = 403;
const TTL_DEFAULT: u32 = 3_600;
/// A new link may be on its way to who is refused.
const REFUSED_TTL: u32 = 0;

struct Signed;

impl serve::Guest for Signed {
    fn serve() -> serve::Decision {
        let (outcome, status, ttl) = if is_open() || is_signed() {
            (Outcome::Allow, 0, config::number("ttl").unwrap_or(TTL_DEFAULT))
        } else {
            (Outcome::Deny, config::number("status").unwrap_or(FORBIDDEN), REFUSED_TTL)
        };
        serve::Decision {
            outcome,
            // Out of range becomes 65535, which the host refuses as no status.
            status: u16::try_from(status).unwrap_or(u16::MAX),
            reason: 0,
            client_ttl: ttl,
            stale_revalidate: 0,
            stale_error: 0,
            // A cache that many share would give it to those who have no link.
            marks: Marks::PRIVATE,
            header_sets: 0,
            target: 0,
            rate_class: 0,
        }
    }
}

fn is_open() -> bool {
    config::text("open-tag").is_some_and(|tag| object::tagged(&tag))
}

fn is_signed() -> bool {
    let number = || match config::number("number") {
        None => true,
        Some(number) => {
            let slot = config::number("slot").unwrap_or(0);
            u8::try_from(slot).is_ok_and(|slot| request::token_claim(slot) == number)
        }
    };
    request::token() == TokenState::Valid && number()
}

export!(Signed);
