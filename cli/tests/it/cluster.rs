//! `evernear cluster`: files that nodes can use, private, never replaced.

use crate::program::Home;

#[test]
fn an_authority_issues_and_never_replaces() {
    let home = Home::new();
    let early = home.run(&["cluster", "issue", "keys", "o1", "--role", "origin"]);
    assert!(early.code == 1 && early.err.contains("evernear cluster init keys"), "{}", early.err);
    home.good(&["cluster", "init", "keys"]);
    let issued = home.good(&["cluster", "issue", "keys", "o1", "--role", "origin"]);
    assert_eq!(issued, serde_json::json!({ "certificate": "keys/o1.pem", "key": "keys/o1.key" }));
    #[cfg(unix)]
    for file in ["authority.key", "o1.key"] {
        let metadata = std::fs::metadata(home.path().join("keys").join(file)).unwrap();
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777, 0o600);
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
        (config("").replace("keys/e1.key", "keys/e2.key"), "the identity in"),
    ] {
        home.write("e1.toml", text);
        let done = home.run(&check);
        assert!(done.code == 1 && done.err.contains(says) && done.err.contains("e1.toml"), "{}", done.err);
    }
    home.write("e1.toml", config(""));
    assert_eq!(home.good(&check)["https"], serde_json::Value::Null);
}
