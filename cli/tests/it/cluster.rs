//! `evernear cluster`: files that nodes can use, private, never replaced.

use std::{fs::Permissions, net::TcpListener, os::unix::fs::PermissionsExt};

use crate::program::Home;

#[test]
fn an_authority_issues_and_never_replaces() {
    let home = Home::new();
    let early = home.run(&["cluster", "issue", "keys", "o1", "--role", "origin"]);
    assert!(early.code == 1 && early.err.contains("evernear cluster init keys"), "{}", early.err);
    home.good(&["cluster", "init", "keys"]);
    let issued = home.good(&["cluster", "issue", "keys", "o1", "--role", "origin"]);
    assert_eq!(issued, serde_json::json!({ "certificate": "keys/o1.pem", "key": "keys/o1.key" }));
    for (file, mode) in [("authority.key", 0o600), ("o1.key", 0o600), ("authority.pem", 0o644), ("o1.pem", 0o644)] {
        let metadata = std::fs::metadata(home.path().join("keys").join(file)).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, mode, "{file}");
    }
    let before = std::fs::read(home.path().join("keys/o1.key")).unwrap();
    assert_eq!(home.run(&["cluster", "init", "keys"]).code, 1);
    assert_eq!(home.run(&["cluster", "issue", "keys", "o1", "--role", "edge"]).code, 1);
    assert_eq!(std::fs::read(home.path().join("keys/o1.key")).unwrap(), before);
}

#[test]
fn a_configuration_is_checked_with_all_that_it_names_before_a_port_opens() {
    let home = Home::new();
    home.good(&["cluster", "init", "keys"]);
    for name in ["e1", "e2"] {
        home.good(&["cluster", "issue", "keys", name, "--role", "edge"]);
    }
    let config = |https: &str| {
        format!(
            "name = \"e1\"\nzone = \"localhost\"\nplace = {{ country = \"BE\", region = \"eu\", zone = \"z\", latitude = 50.0, \
             longitude = 4.0 }}\ndns = {{ listen = \"127.0.0.1:5300\" }}\nhttp = {{ listen = \"127.0.0.1:8080\" }}\n{https}\
             tls = {{ authority = \"keys/authority.pem\", certificate = \"keys/e1.pem\", key = \"keys/e1.key\" }}\n\
             seeds = [{{ name = \"o1\", address = \"127.0.0.1:7401\" }}]\n"
        )
    };
    let check = ["edge", "check-config", "--config", "e1.toml"];
    home.write("e1.toml", config(""));
    assert_eq!(home.good(&check)["http"], "127.0.0.1:8080");
    let done = home.run(&check);
    assert!(done.code == 0 && String::from_utf8_lossy(&done.out).starts_with("e1.toml is good: edge e1 of localhost"));

    let absent = "https = { listen = \"127.0.0.1:8443\", certificate = \"no.pem\", key = \"no.key\" }\n";
    for (text, says) in [
        (config(absent), "no.pem"),
        (config("htps = 1\n"), "htps"),
        (config("").replace("keys/e1.key", "keys/none.key"), "keys/none.key"),
        (config("").replace("keys/e1.key", "keys/e2.key"), "fit each other"),
    ] {
        home.write("e1.toml", text);
        let done = home.run(&check);
        assert!(done.code == 1 && done.err.contains(says) && done.err.contains("e1.toml"), "{}", done.err);
    }
    home.write("e1.toml", config(""));
    assert_eq!(home.good(&check)["https"], serde_json::Value::Null);
}

/// Checks that `run` and `check-config` refuse a configuration in the same words.
fn both_refuse(home: &Home, kind: &str, text: &str, says: &str) {
    home.write("node.toml", text);
    for command in ["check-config", "run"] {
        let done = home.run(&[kind, command, "--config", "node.toml"]);
        assert!(done.code == 1 && done.err.contains(says), "{kind} {command}: {says:?} is not in {:?}", done.err);
    }
}

#[test]
fn an_edge_that_cannot_serve_is_refused_by_check_and_run_alike() {
    let home = Home::new();
    home.good(&["cluster", "init", "keys"]);
    for (name, role) in [("e1", "edge"), ("e2", "edge"), ("o1", "origin")] {
        home.good(&["cluster", "issue", "keys", name, "--role", role]);
    }
    home.write("zone.secret", "07".repeat(32));
    home.write("open.secret", "07".repeat(32));
    std::fs::copy(home.path().join("keys/e1.key"), home.path().join("open.key")).unwrap();
    for open in ["open.key", "open.secret"] {
        std::fs::set_permissions(home.path().join(open), Permissions::from_mode(0o644)).unwrap();
    }
    let good = "name = \"e1\"\nzone = \"localhost\"\nadmin = \"127.0.0.1:0\"\n\
        links = { secret = \"zone.secret\" }\ncache = { disk = { path = \"disk\", bytes_max = 67108864 } }\n\
        place = { country = \"BE\", region = \"eu\", zone = \"z\", latitude = 50.0, longitude = 4.0 }\n\
        dns = { listen = \"127.0.0.1:0\" }\nhttp = { listen = \"127.0.0.1:0\" }\n\
        tls = { authority = \"keys/authority.pem\", certificate = \"keys/e1.pem\", key = \"keys/e1.key\" }\n\
        seeds = [{ name = \"o1\", address = \"127.0.0.1:7401\" }]\n";
    home.write("node.toml", good);
    let checked = home.good(&["edge", "check-config", "--config", "node.toml"]);
    assert_eq!(checked["in_use"], serde_json::json!([]));
    assert!(!home.path().join("disk").exists(), "a check makes nothing");
    for (from, to, says) in [
        ("/e1.", "/o1.", "is of role origin; issue one of role edge"),
        ("\"e1\"", "\"e9\"", "the certificate names e1, the configuration e9"),
        ("keys/e1.key", "keys/e2.key", "fit each other"),
        ("keys/e1.key", "open.key", "open to every user of this machine (mode 644); close it: chmod o= open.key"),
        ("zone.secret", "open.secret", "chmod o= open.secret"),
        ("zone.secret", "no.secret", "no.secret"),
        ("admin = \"127.0.0.1:0\"", "admin = \"192.0.2.1:9100\"", "admin cannot listen on 192.0.2.1:9100"),
        ("dns = { listen = \"127.0.0.1:0\" }", "dns = { listen = \"192.0.2.1:53\" }", "192.0.2.1:53"),
        ("path = \"disk\"", "path = \"zone.secret/disk\"", "zone.secret/disk cannot be used"),
        ("links = ", "places = { database = \"no.mmdb\" }\nlinks = ", "no.mmdb"),
        ("tls = { authority", "# tls = { authority", "there is no [tls]"),
    ] {
        assert!(good.contains(from), "{from}");
        both_refuse(&home, "edge", &good.replace(from, to), says);
    }
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let listen = format!("http = {{ listen = \"{address}\" }}");
    let admin = format!("admin = \"{address}\"");
    both_refuse(
        &home,
        "edge",
        &good.replace("http = { listen = \"127.0.0.1:0\" }", &listen).replace("admin = \"127.0.0.1:0\"", &admin),
        "cannot both be had",
    );
    // The running edge has its own address in use, so `check-config` only reports it. A second edge does not start.
    home.write("node.toml", good.replace("http = { listen = \"127.0.0.1:0\" }", &listen));
    assert_eq!(home.good(&["edge", "check-config", "--config", "node.toml"])["in_use"], serde_json::json!([address]));
    let done = home.run(&["edge", "run", "--config", "node.toml"]);
    assert!(done.code == 1 && done.err.contains("http cannot listen on"), "{}", done.err);
}

#[test]
fn an_origin_that_cannot_serve_is_refused_by_check_and_run_alike() {
    let home = Home::new();
    home.good(&["cluster", "init", "keys"]);
    for (name, role) in [("o1", "origin"), ("o2", "origin"), ("e1", "edge")] {
        home.good(&["cluster", "issue", "keys", name, "--role", role]);
    }
    std::fs::copy(home.path().join("keys/o1.key"), home.path().join("open.key")).unwrap();
    std::fs::set_permissions(home.path().join("open.key"), Permissions::from_mode(0o644)).unwrap();
    home.write("file", "");
    let folder = home.path().display();
    let good = format!(
        "name = \"o1\"\nlisten = \"127.0.0.1:0\"\ndata_dir = \"data\"\ncatalog = \"sqlite://{folder}/catalog.db\"\n\
         place = {{ country = \"BE\", region = \"eu\", zone = \"z\", latitude = 50.0, longitude = 4.0 }}\n\
         tls = {{ authority = \"keys/authority.pem\", certificate = \"keys/o1.pem\", key = \"keys/o1.key\" }}\n"
    );
    home.write("node.toml", &good);
    let checked = home.good(&["origin", "check-config", "--config", "node.toml"]);
    assert_eq!((checked["name"].as_str(), checked["in_use"].as_bool()), (Some("o1"), Some(false)));
    assert!(!home.path().join("data").exists(), "a check makes nothing");
    for (from, to, says) in [
        ("/o1.", "/e1.", "is of role edge; issue one of role origin"),
        ("\"o1\"", "\"o9\"", "the certificate names o1, the configuration o9"),
        ("keys/o1.key", "keys/o2.key", "fit each other"),
        ("keys/o1.key", "open.key", "chmod o= open.key"),
        ("127.0.0.1:0", "192.0.2.1:7400", "192.0.2.1:7400 cannot be listened on"),
        ("\"data\"", "\"file/data\"", "file/data, the folder of `data_dir`"),
        ("catalog.db", "file/catalog.db", "the folder of `catalog`"),
        ("tls = ", "# tls = ", "names no certificate"),
    ] {
        assert!(good.contains(from), "{from}");
        both_refuse(&home, "origin", &good.replace(from, to), says);
    }
}
