//! What an operator may write.

use origin::{Config, config::ConfigError};

const SAMPLE: &str = include_str!("../../origin.sample.toml");

#[test]
fn the_sample_is_a_configuration_and_its_comments_are_the_defaults() {
    let config = Config::from_toml(SAMPLE).unwrap();
    // Every commented key, taken in, must read and change nothing.
    let spelled_out: String = SAMPLE
        .lines()
        .map(|line| line.strip_prefix("# ").filter(|rest| is_setting(rest)).unwrap_or(line).to_owned() + "\n")
        .collect();
    assert_ne!(spelled_out, SAMPLE);
    let mut spelled_out = Config::from_toml(&spelled_out).unwrap();
    assert_eq!(spelled_out.advertise.take(), Some(config.listen.into()));
    assert_eq!(format!("{spelled_out:?}"), format!("{config:?}"));
}

fn is_setting(text: &str) -> bool {
    text.split_once(" = ").is_some_and(|(key, _)| key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
}

#[test]
fn the_object_store_of_the_sample_reads_and_wants_a_capacity() {
    let with: String = SAMPLE.lines().map(|line| line.strip_prefix("#   ").unwrap_or(line).to_owned() + "\n").collect();
    let bucket = Config::from_toml(&with).unwrap().bucket.unwrap();
    assert_eq!(bucket.url.to_string(), "s3://evernear-bru1/bru1-a");
    assert!(bucket.endpoint.is_some() && bucket.credentials.is_some() && bucket.authority.is_some());
    let without = with.replacen("capacity_bytes", "# capacity_bytes", 1);
    assert!(matches!(Config::from_toml(&without), Err(ConfigError::Capacity)));
    assert!(Config::from_toml(&with.replacen("s3://", "gs://", 1)).is_err());
}

#[test]
fn unknown_keys_are_refused_at_every_depth() {
    for (at, key) in [
        ("name =", "nmae = 1\n"),
        ("country =", "planet = 1\n"),
        ("authority =", "ca = 1\n"),
        ("# connections_max", "x = 1\n"),
    ] {
        let text = SAMPLE.replacen(at, &format!("{key}{at}"), 1);
        assert!(matches!(Config::from_toml(&text), Err(ConfigError::Toml(_))), "{key}");
    }
}

#[test]
fn what_cannot_work_is_refused_before_anything_opens() {
    let with = |from: &str, to: &str| {
        assert!(SAMPLE.contains(from), "{from}");
        Config::from_toml(&SAMPLE.replacen(from, to, 1))
    };
    assert!(matches!(with("192.0.2.10:7400", "0.0.0.0:7400"), Err(ConfigError::Advertise { .. })));
    for (from, bad) in [("7400\"\n", "0\"\nadvertise = \"o1\"\n"), ("7400\"\n", "0\"\nadvertise = \"0.0.0.0:1\"\n")] {
        assert!(with(from, bad).is_err(), "{bad}");
    }
    let shared = with("127.0.0.1:9101", "0.0.0.0:7400");
    assert!(matches!(shared, Err(ConfigError::Ports { .. })), "{shared:?}");
    let named = with("7400\"\n", "0\"\nadvertise = \"o1.example.org:7400\"\n").unwrap();
    assert_eq!(named.advertised(named.listen).to_string(), "o1.example.org:7400");
    assert!(matches!(with("latitude = 50.85", "latitude = 99.0"), Err(ConfigError::Place(_))));
    assert!(matches!(
        with("# sweep_seconds = 60", "sweep_seconds = 0"),
        Err(ConfigError::Limit { key: "sweep_seconds", .. })
    ));
    assert!(with("# announce_seconds = 10", "announce_seconds = 9").is_ok());
    let rare = with("# announce_seconds = 10", "announce_seconds = 11").unwrap_err();
    assert!(matches!(rare, ConfigError::LimitAbove { key: "announce_seconds", max: 10, .. }), "{rare}");
    assert!(matches!(with("# request_seconds = 60", "request_seconds = 39"), Err(ConfigError::Limit { .. })));
    for bad in ["sqlite://relative.db", "sqlite:///", "postgres://db", "/var/catalog.db"] {
        assert!(with("sqlite:///var/lib/evernear/catalog.db", bad).is_err(), "{bad}");
    }
    assert!(with("sqlite:///var/lib/evernear/catalog.db", "postgres://evernear@db.example/evernear").is_ok());
    for own in ["catalog", "feed", "tmp/catalog.db"] {
        let file = format!("sqlite:///var/lib/evernear/origin/{own}");
        let refusal = with("sqlite:///var/lib/evernear/catalog.db", &file).unwrap_err();
        assert!(matches!(refusal, ConfigError::CatalogFile { .. }) && refusal.to_string().contains(own), "{refusal}");
    }
    assert!(with("sqlite:///var/lib/evernear/catalog.db", "sqlite:///var/lib/evernear/origin/catalog.db").is_ok());
    assert!(with("name = \"bru1-a\"", "name = \"Bru1\"").is_err());
}
