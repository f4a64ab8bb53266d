//! The bodies over `sandbox`: what an owner publishes, before anything of it runs.

use sandbox::{Config, admit};

/// A policy component: admitted or refused by its structure, without compiling it.
pub fn component(bytes: &[u8]) {
    if let Ok(admitted) = admit(bytes, &[]) {
        assert_eq!(admitted.wasm(), bytes);
        assert!(!admitted.summary().hooks.is_empty());
    }
}

/// The configuration of a policy link, TOML text.
pub fn config(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(config) = Config::parse(text)
    {
        let _ =
            (config.number("ttl"), config.text("note"), config.path_rule("paths", "/a/b.png"), config.unread().count());
    }
}
