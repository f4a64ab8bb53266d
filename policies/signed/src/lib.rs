//! `signed`: only viewers with a link that the owner signed (`evernear sign`) and that is still valid receive an object.
//!
//! Config (all optional):
//! - `open-tag`: everybody may receive objects with this tag
//! - `number`, with `slot` (0): the token must carry this number in that slot, a tenant or a tier
//! - `status` (403, of 400 to 499 but 404, 412 and 416): what all other viewers get
//! - `hide` (false), in its place: to them the object looks as if it were not there
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
    "status": "refusal",
    "hide": "truth",
    "ttl": "number",
}

const FORBIDDEN: u32 = 403;
const TTL_DEFAULT: u32 = 3_600;
/// Seconds that a refusal may be cached: none, because a refused viewer may get a new link at any time.
const REFUSED_TTL: u32 = 0;

struct Signed;

impl serve::Guest for Signed {
    fn serve() -> serve::Decision {
        let (outcome, status, ttl) = if is_open() || is_signed() {
            (Outcome::Allow, 0, config::number("ttl").unwrap_or(TTL_DEFAULT))
        } else if config::truth("hide") {
            (Outcome::Hide, 0, REFUSED_TTL)
        } else {
            (Outcome::Deny, config::number("status").unwrap_or(FORBIDDEN), REFUSED_TTL)
        };
        serve::Decision {
            outcome,
            // A number out of range becomes 65535, which the host refuses, because it is not a status.
            status: u16::try_from(status).unwrap_or(u16::MAX),
            reason: 0,
            client_ttl: ttl,
            stale_revalidate: 0,
            stale_error: 0,
            // A shared cache would give the answer to viewers who have no link.
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
