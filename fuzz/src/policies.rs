//! The bodies over `sandbox`: what an owner publishes, before anything of it runs.

use sandbox::{Config, Keys, admit};

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
        let _ = (config.number("ttl"), config.text("note"), config.path_rule("paths", "/a/b.png"));
        let keys = b"ttl: number 0..=60\nnote: header-value\nreceive-allow: countries\npaths: rules with ttl";
        let _ = config.check(&Keys::parse(keys).expect("each line is right"));
    }
}

/// What a component declares of the keys of its configuration.
pub fn keys(bytes: &[u8]) {
    if let Ok(keys) = Keys::parse(bytes) {
        assert!(keys.names().all(|key| (1..=64).contains(&key.len())));
        let _ = Config::default().check(&keys);
    }
}
