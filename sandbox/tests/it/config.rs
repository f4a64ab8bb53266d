//! Configs: what an owner may write, and what each mistake is told.

use proptest::prelude::*;
use sandbox::{Config, ConfigError};

fn error(text: &str) -> String {
    Config::parse(text).unwrap_err().to_string()
}

#[test]
fn reads_each_shape() {
    let config = Config::parse(
        r#"
        ttl = 60
        note = "hi"
        strict = true
        ids = [3, 1, 2]
        hosts = ["b", "a"]
        receive-allow = ["eu", "NO"]
        nobody-allow = []
        [[paths]]
        glob = "/a/*"
        number = 5
        [[header-set]]
        X-Frame-Options = "DENY"
        [[target]]
        url = "https://example.org/"
        [[rate-class]]
        requests = 10
        seconds = 60
        "#,
    )
    .unwrap();
    assert_eq!((config.number("ttl"), config.text("note"), config.truth("strict")), (Some(60), Some("hi"), true));
    assert!(config.has("ids", 2) && !config.has("ids", 4) && config.has_text("hosts", "a"));
    assert!(
        config.has("receive-allow", 0x4445)
            && config.has("receive-allow", 0x4e4f)
            && !config.has("receive-allow", 0x5553)
    );
    assert!(config.truth("nobody-allow") && !config.truth("absent") && !config.truth("ttl"));
    assert_eq!((config.path_rule("paths", "/a/b"), config.path_rule("paths", "/b")), (Some(5), None));
    assert_eq!(config.header_set(0).unwrap()[0].name(), "x-frame-options");
    assert_eq!((config.target(0), config.target(1)), (Some("https://example.org/"), None));
    assert_eq!((config.rate_class(0), config.rate_class(1).map(|class| class.seconds)), (None, Some(60)));
    assert_eq!(config.number("note"), None);
}

#[test]
fn mistakes_name_the_key_and_what_belongs_there() {
    assert_eq!(
        error("receive-deny = [\"RU\", \"euu\"]"),
        "receive-deny holds \"euu\", which is neither a country like \"DE\", nor \"unknown\", nor one of the groups eu, eea, efta, schengen, gdpr-adequate, ofac, five-eyes"
    );
    assert_eq!(error("a = 1\nb = = 2"), "config is not TOML (line 2)");
    assert_eq!(error("ttl = -1"), "ttl is -1; numbers are 0 to 4294967295");
    assert!(Config::parse("ttl = 4294967295").is_ok() && Config::parse("ttl = 4294967296").is_err());
    for text in [
        "a = 1.5",
        "a = 2026-01-01",
        "[a]\nb = 1",
        "a = [1, \"b\"]",
        "a = [true]",
        "a = [[1]]",
        "a = [{ glob = \"/\" }]",
        "a = [{ glob = \"/\", number = 1, more = 2 }]",
        "header-set = 1",
        "header-set = [{ x = 1 }]",
        "target = [{ url = \"javascript:alert(1)\" }]",
        "target = [{ url = \"//evil.example\" }]",
        "target = [{ url = \"https://a/\\r\\nx: y\" }]",
        "rate-class = [{ requests = 0, seconds = 1 }]",
    ] {
        assert!(matches!(Config::parse(text), Err(ConfigError::Shape { .. })), "{text}");
    }
    assert!(matches!(
        Config::parse("header-set = [{ content-length = \"1\" }]"),
        Err(ConfigError::Header { set: 0, .. })
    ));
}

#[test]
fn takes_64_kib_and_256_rules_and_no_more() {
    let padded = |bytes: usize| format!("a = 1 #{}", "x".repeat(bytes - 7));
    assert!(Config::parse(&padded(65_536)).is_ok());
    assert!(matches!(Config::parse(&padded(65_537)), Err(ConfigError::TooLong { bytes: 65_537 })));
    let rules = |count: usize| {
        format!("a = [{}]\nb = [{{ glob = \"/\", number = 1 }}]", "{ glob = \"/\", number = 1 },".repeat(count))
    };
    assert!(Config::parse(&rules(255)).is_ok());
    assert!(matches!(Config::parse(&rules(256)), Err(ConfigError::TooMany { count: 257, limit: 256, .. })));
    assert!(matches!(
        Config::parse(&format!("a = [{{ glob = \"{}\", number = 1 }}]", "a".repeat(128))),
        Err(ConfigError::Glob { .. })
    ));
}

proptest! {
    #[test]
    fn no_text_panics_the_parser(text in "\\PC*") {
        let _ = Config::parse(&text);
    }

    #[test]
    fn no_toml_panics_the_parser(text in "([a-z-]{1,12} = (-?[0-9]{1,20}|\"[a-zA-Z*/?]{0,9}\"|\\[(\"[A-Z]{2}\", ?){0,3}\\])\n){0,8}") {
        let _ = Config::parse(&text);
    }
}
