//! `evernear twin token`: made once, listed without its secret, ended by name.

use crate::program::Home;

#[test]
fn a_token_is_shown_once_and_ends_by_its_name() {
    let home = Home::new();
    let early = home.run(&["twin", "token", "new", "laptop"]);
    assert!(early.code == 1 && early.err.contains("evernear owner new"), "{}", early.err);
    home.good(&["owner", "new", "--new-key-file", "unlock.key"]);
    assert_eq!(home.good(&["twin", "token", "ls"]), serde_json::json!([]));
    let made = home.good(&["twin", "token", "new", "laptop", "--scope", "read", "--expires", "+1d", "--quota", "1000"]);
    let token = made["token"].as_str().unwrap();
    assert!(token.starts_with("evn_") && token.len() == 58, "{token}");
    let again = home.run(&["twin", "token", "new", "laptop"]);
    assert!(again.code == 1 && again.err.contains("there is a token called \"laptop\""), "{}", again.err);
    let listed = home.good(&["twin", "token", "ls"]);
    assert_eq!(
        (&listed[0]["name"], &listed[0]["scope"], &listed[0]["quota"]),
        (&"laptop".into(), &"read".into(), &1000.into())
    );
    assert!(!listed.to_string().contains(token));
    home.good(&["twin", "token", "rm", "laptop"]);
    assert_eq!(home.good(&["twin", "token", "ls"]), serde_json::json!([]));
    assert_eq!(home.good(&["twin", "token", "ls", "--all"])[0]["id"], made["id"]);
    let gone = home.run(&["twin", "token", "rm", "laptop"]);
    assert!(gone.code == 1 && gone.err.contains("evernear twin token ls"), "{}", gone.err);
    let taken = home.run(&["twin", "token", "new", "console"]);
    assert!(taken.code == 2 && taken.err.contains("sign in by a link"), "{}", taken.err);
    for wrong in [["--scope", "root"], ["--expires", "2001-01-01"], ["--rate", "0"]] {
        assert_eq!(home.run(&[&["twin", "token", "new", "x"][..], &wrong].concat()).code, 2, "{wrong:?}");
    }
}

#[test]
fn a_damaged_file_of_tokens_is_named_with_the_next_step() {
    let home = Home::new();
    home.good(&["owner", "new", "--new-key-file", "unlock.key"]);
    home.good(&["twin", "token", "new", "laptop"]);
    let file = home.path().join(".evernear/api.sqlite");
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, vec![7; whole.len()]).unwrap();
    for command in [&["twin", "token", "new", "other"][..], &["twin", "token", "ls"]] {
        let refused = home.run(command);
        assert!(refused.code == 1 && refused.err.contains(file.to_str().unwrap()), "{command:?}: {}", refused.err);
        assert!(refused.err.contains("try: move it away"), "{command:?}: {}", refused.err);
    }
    std::fs::remove_file(&file).unwrap();
    home.good(&["twin", "token", "new", "other"]);
}
