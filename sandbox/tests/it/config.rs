//! Configs: what an owner may write, and the message for each mistake.

use proptest::prelude::*;
use sandbox::{Config, ConfigError, CountryCode};

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
        none = []
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
    assert_eq!((config.number("ttl"), config.text("note")), (Ok(Some(60)), Ok(Some("hi"))));
    assert_eq!((config.truth("strict"), config.truth("absent"), config.truth("none")), (Ok(true), Ok(false), Ok(true)));
    assert_eq!((config.has("ids", 2), config.has("ids", 4), config.has("none", 4)), (Ok(true), Ok(false), Ok(false)));
    assert_eq!((config.has_text("hosts", "a"), config.has_text("hosts", "c")), (Ok(true), Ok(false)));
    let receives = |country| config.has("receive-allow", country);
    assert_eq!((receives(0x4445), receives(0x4e4f), receives(0x5553)), (Ok(true), Ok(true), Ok(false)));
    assert_eq!(config.truth("nobody-allow"), Ok(true));
    assert_eq!((config.path_rule("paths", "/a/b"), config.path_rule("paths", "/b")), (Ok(Some(5)), Ok(None)));
    assert_eq!(config.header_set(0).unwrap()[0].name(), "x-frame-options");
    assert_eq!((config.target(0), config.target(1)), (Some("https://example.org/"), None));
    assert_eq!((config.rate_class(0), config.rate_class(1).map(|class| class.seconds)), (None, Some(60)));
}

#[test]
fn what_is_there_as_another_type_is_never_taken_for_absent() {
    let text = r#"
        number = 5
        text = "eu"
        truth = true
        numbers = [1]
        texts = ["a"]
        x-allow = ["eu"]
        rules = [{ glob = "/", number = 1 }]
        target = [{ url = "/" }]
        none = []
        "#;
    let config = Config::parse(text).unwrap();
    let keys = ["number", "text", "truth", "numbers", "texts", "x-allow", "rules", "target", "none"];
    let country = CountryCode::UNKNOWN;
    let faults = |ask: &dyn Fn(&str) -> bool| keys.into_iter().filter(|key| ask(key)).collect::<Vec<_>>();
    let but = |kept: &[&str]| keys.into_iter().filter(|key| !kept.contains(key)).collect::<Vec<_>>();
    assert_eq!(faults(&|key| config.number(key).is_err()), but(&["number"]));
    assert_eq!(faults(&|key| config.text(key).is_err()), but(&["text"]));
    assert_eq!(faults(&|key| config.truth(key).is_err()), ["number", "text"]);
    assert_eq!(faults(&|key| config.has(key, 1).is_err()), but(&["numbers", "x-allow", "none"]));
    assert_eq!(faults(&|key| config.has_country(key, country).is_err()), but(&["x-allow"]));
    assert_eq!(faults(&|key| config.has_text(key, "a").is_err()), but(&["texts", "none"]));
    assert_eq!(faults(&|key| config.path_rule(key, "/").is_err()), but(&["rules", "none"]));
    assert_eq!(config.number("text").unwrap_err().to_string(), "text is a text and was asked for as a whole number");
    assert_eq!((config.number("absent"), config.has("absent", 1)), (Ok(None), Ok(false)));
}

#[test]
fn keys_of_countries_are_lists_of_countries_and_nothing_else() {
    assert_eq!(
        error("receive-allow = \"eu\""),
        "receive-allow is a text; it must be a list of countries and groups, such as [\"DE\", \"eu\"]"
    );
    for text in ["x-deny = 5", "x-deny = true", "x-countries = 1.5"] {
        assert!(matches!(Config::parse(text), Err(ConfigError::Type { .. })), "{text}");
    }
    for text in
        ["x-allow = [1]", "x-allow = [[\"DE\"]]", "x-allow = [\"DE\", 1]", "[[x-allow]]\nglob = \"/\"\nnumber = 1"]
    {
        assert!(matches!(Config::parse(text), Err(ConfigError::Shape { .. })), "{text}");
    }
}

#[test]
fn what_no_country_and_no_group_is_called_is_refused_with_what_was_meant() {
    let meant = |member: &str| match Config::parse(&format!("receive-allow = [\"DE\", \"{member}\"]")) {
        Err(ConfigError::Country { nearest, .. }) => nearest,
        other => panic!("{member}: {other:?}"),
    };
    for (member, country) in [
        ("uk", Some("GB")),
        ("UK", Some("GB")),
        ("EU", Some("eu")),
        ("EU ", Some("eu")),
        ("eu ", Some("eu")),
        ("de", Some("DE")),
        (" FR", Some("FR")),
        ("schengn", Some("schengen")),
        ("Ofac", Some("ofac")),
        ("ZZ", None),
        ("Germany", None),
        ("", None),
    ] {
        assert_eq!(meant(member), country, "{member}");
    }
    assert!(Config::parse("receive-allow = [\"XK\", \"GB\", \"unknown\", \"five-eyes\"]").is_ok());
}

#[test]
fn an_empty_list_may_say_nobody_but_not_everybody() {
    assert_eq!(
        error("receive-deny = []"),
        "receive-deny is an empty list, which refuses nobody; leave it out, or say whom it refuses"
    );
    assert!(Config::parse("receive-allow = []\nprefer-countries = []\npaths = []").is_ok());
}

#[test]
fn nothing_is_there_twice() {
    assert!(matches!(Config::parse("ttl = 1\nttl = 2"), Err(ConfigError::NotToml { line: 2, .. })));
    assert_eq!(
        error("paths = [{ glob = \"/a\", number = 1 }, { glob = \"/b\", number = 1 }, { glob = \"/a\", number = 2 }]"),
        "paths has \"/a\" twice"
    );
    // In another spelling it is still the same rule, and would never be reached.
    assert_eq!(
        error("paths = [{ glob = \"/é*\", number = 1 }, { glob = \"/%c3%a9*\", number = 2 }]"),
        "paths has \"/%c3%a9*\" twice"
    );
    assert_eq!(error("header-set = [{ X-A = \"1\", x-a = \"2\" }]"), "header-set has \"x-a\" twice");
}

#[test]
fn errors_show_no_more_of_a_text_than_a_line_holds() {
    assert!(Config::parse(&format!("{} = 1", "k".repeat(64))).is_ok());
    let long = "k".repeat(60_000);
    for text in [
        format!("{long} = 1"),
        format!("x-allow = [\"{long}\"]"),
        format!("a = [{{ glob = \"{long}\", number = 1 }}]"),
        format!("header-set = [{{ {long} = \"1\" }}]"),
        format!("header-set = [{{ x = \"{long}\" }}]"),
    ] {
        assert!(error(&text).len() < 300, "{}", &text[..20]);
    }
}

#[test]
fn mistakes_name_the_key_and_what_belongs_there() {
    assert_eq!(
        error("receive-deny = [\"RU\", \"euu\"]"),
        "receive-deny holds \"euu\", which is neither a country like \"DE\", nor \"unknown\", nor one of the groups eu, eea, efta, schengen, gdpr-adequate, ofac, five-eyes; did you mean eu?"
    );
    assert_eq!(error("a = 1\nb = = 2"), "config is not TOML (line 2)");
    assert_eq!(error("ttl = -1"), "ttl is -1; it must be 0 to 4294967295");
    assert!(Config::parse("ttl = 4294967295").is_ok() && Config::parse("ttl = 4294967296").is_err());
    for text in ["a = 1.5", "a = 2026-01-01", "[a]\nb = 1", "header-set = 1", "[target]\nurl = \"/\""] {
        assert!(matches!(Config::parse(text), Err(ConfigError::Type { .. })), "{text}");
    }
    for text in [
        "a = [1, \"b\"]",
        "a = [true]",
        "a = [[1]]",
        "a = [{ glob = \"/\" }]",
        "a = [{ glob = \"/\", number = 1, more = 2 }]",
        "header-set = [1]",
        "header-set = [{ x = 1 }]",
        "target = [{ url = \"javascript:alert(1)\" }]",
        "target = [{ url = \"//evil.example\" }]",
        "target = [{ url = \"https://a/\\r\\nx: y\" }]",
        "target = [{ url = \"/\", status = 301 }]",
        "rate-class = [{ requests = 0, seconds = 1 }]",
        "rate-class = [{ requests = 1, secnds = 1 }]",
        "rate-class = [{ requests = 1, seconds = 1, burst = 1 }]",
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
        let rules: String = (0..count).map(|at| format!("{{ glob = \"/{at}\", number = 1 }},")).collect();
        format!("a = [{rules}]\nb = [{{ glob = \"/\", number = 1 }}]")
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
