//! A policy to copy: cats for everybody, the rest only with a token.
//!
//! 1. copy this folder, rename the package in `Cargo.toml`, add it to `members` in `policies/Cargo.toml`
//! 2. write `serve` (and `hold`, `steer`, `place`: a policy exports the hooks that it implements; choose the world accordingly)
//! 3. declare the keys of its configuration in `config_keys!`, so that a misspelt key is an error and not taken for an absent one
//! 4. `cargo run --manifest-path policies/Cargo.toml -p componentize` writes `policies/prebuilt/NAME.wasm`
//!
//! A policy is a pure function. Ask for as few facts as you need, cheap and coarse ones first: the answer is remembered
//! under exactly the questions asked, so each question splits the memory (cache key cardinality).
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
    "ttl": "number",
}

struct Template;

impl serve::Guest for Template {
    fn serve() -> serve::Decision {
        let allowed = object::tagged("cat") || request::token() == TokenState::Valid;
        serve::Decision {
            outcome: if allowed { Outcome::Allow } else { Outcome::Deny },
            status: 0, // 0: the default status of the outcome
            reason: 0,
            client_ttl: config::number("ttl").unwrap_or(60),
            stale_revalidate: 0,
            stale_error: 0,
            marks: Marks::empty(),
            header_sets: 0,
            target: 0,
            rate_class: 0,
        }
    }
}

export!(Template);
