//! `pages`: scripts in HTML and SVG of this owner run. Without this link in the policy no script of an upload runs.
//!
//! Each object is its own web origin, so its scripts cannot reach another object or another owner (same-origin policy).
//!
//! Config (all optional):
//! - `csp`: the `Content-Security-Policy` instead of the one below, which keeps code of other sites out
//! - `ttl` (1 hour): seconds that a viewer may keep the answer
#![no_std]

use guest as _;

wit_bindgen::generate!({
    path: "../../wit",
    world: "serve-only",
});

use evernear::policy::types::{Marks, Outcome};
use evernear::policy::{config, effect};
use exports::evernear::policy::serve;

guest::config_keys! {
    "csp": "header-value",
    "ttl": "number",
}

const FIELD: &str = "content-security-policy";
const CSP_DEFAULT: &str = "default-src 'self' 'unsafe-inline' data: blob:; object-src 'none'; base-uri 'self'";
const TTL_DEFAULT: u32 = 3_600;

struct Pages;

impl serve::Guest for Pages {
    fn serve() -> serve::Decision {
        match config::text("csp") {
            Some(own) => effect::header(FIELD, &own),
            None => effect::header(FIELD, CSP_DEFAULT),
        }
        serve::Decision {
            outcome: Outcome::Allow,
            status: 0,
            reason: 0,
            client_ttl: config::number("ttl").unwrap_or(TTL_DEFAULT),
            stale_revalidate: 0,
            stale_error: 0,
            marks: Marks::empty(),
            header_sets: 0,
            target: 0,
            rate_class: 0,
        }
    }
}

export!(Pages);
