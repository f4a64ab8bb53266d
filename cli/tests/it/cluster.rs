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
