//! `ttl`: how long a viewer and an edge may keep an object, by tag, path and kind of content.
//!
//! The first rule that has a number wins:
//! 1. the object's own tag `ttl` with a number (given at upload)
//! 2. `tag-1` .. `tag-4`: names of tags, each with its `tag-1-ttl` ..
//! 3. `paths`: ordered globs over the request's path, each with a number (serve only; an edge holds by object)
//! 4. `ttl-image`, `ttl-video`, ...: one number for each kind of content
//! 5. `ttl`: the default; one hour when absent
//!
//! All numbers are seconds. `stale-revalidate` and `stale-error` (a minute and a day when absent) go to every answer;
//! 0 seconds means `no-store`. With `memory-only` no edge keeps anything on a disk, not even as ciphertext.
#![no_std]

use guest as _;

wit_bindgen::generate!({
    path: "../../wit",
    world: "serve-hold",
});

use evernear::policy::types::{ContentKind, Marks, Outcome, Tier};
use evernear::policy::{config, object};
use exports::evernear::policy::{hold, serve};

guest::config_keys! {
    "tag-1": "text with tag-1-ttl",
    "tag-2": "text with tag-2-ttl",
    "tag-3": "text with tag-3-ttl",
    "tag-4": "text with tag-4-ttl",
    "tag-1-ttl": "number with tag-1",
    "tag-2-ttl": "number with tag-2",
    "tag-3-ttl": "number with tag-3",
    "tag-4-ttl": "number with tag-4",
    "paths": "rules",
    "ttl-other": "number",
    "ttl-html": "number",
    "ttl-image": "number",
    "ttl-video": "number",
    "ttl-audio": "number",
    "ttl-script": "number",
    "ttl-style": "number",
    "ttl-font": "number",
    "ttl-model3d": "number",
    "ttl-archive": "number",
    "ttl-document": "number",
    "ttl-manifest": "number",
    "ttl-data": "number",
    "ttl": "number",
    "stale-revalidate": "number",
    "stale-error": "number",
    "immutable": "truth",
    "memory-only": "truth",
}

const TTL_DEFAULT: u32 = 3_600;
const STALE_REVALIDATE_DEFAULT: u32 = 60;
const STALE_ERROR_DEFAULT: u32 = 86_400;

/// Names of the tag rules; a fixed few, because a guest cannot list its config.
const TAG_RULES: [(&str, &str); 4] =
    [("tag-1", "tag-1-ttl"), ("tag-2", "tag-2-ttl"), ("tag-3", "tag-3-ttl"), ("tag-4", "tag-4-ttl")];

struct Ttl;

impl serve::Guest for Ttl {
    fn serve() -> serve::Decision {
        let ttl = by_tag().or_else(|| config::path_rule("paths")).unwrap_or_else(by_kind);
        let marks = match ttl {
            0 => Marks::NO_STORE,
            _ if config::truth("immutable") => Marks::IMMUTABLE,
            _ => Marks::empty(),
        };
        serve::Decision {
            outcome: Outcome::Allow,
            status: 0,
            reason: 0,
            client_ttl: ttl,
            stale_revalidate: stale_revalidate(),
            stale_error: stale_error(),
            marks,
            header_sets: 0,
            target: 0,
            rate_class: 0,
        }
    }
}

impl hold::Guest for Ttl {
    fn hold() -> hold::Keep {
        let ttl = by_tag().unwrap_or_else(by_kind);
        hold::Keep {
            tier: match ttl {
                0 => Tier::None,
                _ if config::truth("memory-only") => Tier::Memory,
                _ => Tier::Disk,
            },
            ttl,
            stale_revalidate: stale_revalidate(),
            stale_error: stale_error(),
            pin: false,
            prefetch: 0,
        }
    }
}

fn by_tag() -> Option<u32> {
    object::tag_number("ttl").or_else(|| {
        TAG_RULES.iter().find_map(|(tag, ttl)| {
            let tag = config::text(tag)?;
            let ttl = config::number(ttl)?;
            object::tagged(&tag).then_some(ttl)
        })
    })
}

fn by_kind() -> u32 {
    config::number(kind_key(object::kind())).or_else(|| config::number("ttl")).unwrap_or(TTL_DEFAULT)
}

fn stale_revalidate() -> u32 {
    config::number("stale-revalidate").unwrap_or(STALE_REVALIDATE_DEFAULT)
}

fn stale_error() -> u32 {
    config::number("stale-error").unwrap_or(STALE_ERROR_DEFAULT)
}

fn kind_key(kind: ContentKind) -> &'static str {
    match kind {
        ContentKind::Other => "ttl-other",
        ContentKind::Html => "ttl-html",
        ContentKind::Image => "ttl-image",
        ContentKind::Video => "ttl-video",
        ContentKind::Audio => "ttl-audio",
        ContentKind::Script => "ttl-script",
        ContentKind::Style => "ttl-style",
        ContentKind::Font => "ttl-font",
        ContentKind::Model3d => "ttl-model3d",
        ContentKind::Archive => "ttl-archive",
        ContentKind::Document => "ttl-document",
        ContentKind::Manifest => "ttl-manifest",
        ContentKind::Data => "ttl-data",
    }
}

export!(Ttl);
