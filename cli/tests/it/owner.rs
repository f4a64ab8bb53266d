//! `evernear owner`: makes, shows, relocks; never replaces; says what is wrong.

use crate::program::Home;

#[test]
fn an_owner_is_made_once_shown_and_relocked() {
    let home = Home::new();
    home.write("words", "correct horse battery\n");
    let made = home.good(&["owner", "new"]);
    assert_eq!((made["lock"].as_str(), made["owner"].as_str().map(str::len)), (Some("passphrase"), Some(64)));
    assert_eq!(home.good(&["owner", "show"]), made);

    let (code, again) = home.json(&["owner", "new"]);
    assert_eq!((code, again["code"].as_u64()), (1, Some(1)));
    assert!(again["error"].as_str().unwrap().contains("never replaced"));

    home.write("new-words", "another passphrase\n");
    let relocked = home.good(&["owner", "passwd", "--new-passphrase-file", "new-words"]);
    assert_eq!(relocked["owner"], made["owner"]);
    let (code, wrong) = home.json(&["ls"]);
    assert_eq!((code, wrong["error"].as_str()), (5, Some("this passphrase does not open this owner key")));
    home.write("words", "another passphrase\n");
    assert_eq!(home.good(&["ls"]), serde_json::json!([]));
}

#[test]
fn a_key_file_locks_too() {
    let home = Home::new();
    let made = home.run(&["owner", "new", "--new-key-file", "key"]);
    assert_eq!(made.code, 0, "{}", made.err);
    assert!(made.text().contains("key-file"));
    assert_eq!(home.run(&["ls", "--key-file", "key"]).code, 0);
    let unnamed = home.run(&["ls"]);
    assert!(unnamed.code == 2 && unnamed.err.contains("--key-file"), "{}", unnamed.err);
    assert_eq!(
        home.run(&["owner", "new", "--state", "other", "--new-key-file", "key"]).code,
        1,
        "a key file is never replaced"
    );
}

#[test]
fn an_absent_owner_and_a_short_passphrase_say_what_to_do() {
    let home = Home::new();
    let absent = home.run(&["ls"]);
    assert_eq!(absent.code, 5);
    assert!(absent.err.starts_with("error: there is no owner key"), "{}", absent.err);
    assert!(absent.err.ends_with("try: `evernear owner new` makes one\n"), "{}", absent.err);
    let no_terminal = home.run(&["owner", "new"]);
    assert!(no_terminal.code == 2 && no_terminal.err.contains("--passphrase-file"), "{}", no_terminal.err);
    home.write("words", "short\n");
    let short = home.run(&["owner", "new", "--passphrase-file", "words"]);
    assert!(short.code == 1 && short.err.contains("cause: a passphrase has at least"), "{}", short.err);
    assert!(!home.path().join(".evernear/owner.key").exists());
}

#[test]
fn an_option_that_does_not_open_the_key_is_refused_and_a_variable_is_not() {
    let home = Home::new();
    home.write("words", "correct horse battery\n");
    home.write("file", [7; 32]);
    let run = |arguments: &[&str]| {
        let mut command = home.command(arguments);
        let output =
            command.env("EVERNEAR_PASSPHRASE_FILE", "words").env("EVERNEAR_KEY_FILE", "file").output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let refused = |arguments: &[&str], says: &str| {
        let (code, said) = run(arguments);
        assert!(code == 2 && said.contains(says), "{arguments:?}: {code} {said}");
    };
    // Both variables, and one new lock.
    for more in [&[][..], &["--key-file", "file", "--passphrase-file", "words"]] {
        refused(&[&["owner", "new"], more].concat(), "several locks are named for one key");
    }
    refused(&["owner", "new", "--new-key-file", "other", "--key-file", "file"], "several locks are named for one key");
    assert!(!home.path().join("other").exists());

    for (state, named, fits, not) in [
        ("by-words", ["--passphrase-file", "words"], "a passphrase", ["--key-file", "file"]),
        ("by-file", ["--key-file", "file"], "a key file", ["--passphrase-file", "words"]),
    ] {
        let with = |command: &[&'static str], more: &[&'static str]| [command, more, &["--state", state]].concat();
        assert_eq!(run(&with(&["owner", "new"], &named)).0, 0, "the option comes before both variables");
        assert_eq!(run(&with(&["ls"], &[])).0, 0, "the variable that fits");
        assert_eq!(run(&with(&["ls"], &named)).0, 0);
        refused(&with(&["ls"], &not), &format!("is locked with {fits}, and {} does not open it", not[0]));
        refused(&with(&["owner", "passwd"], &not), &format!("leave {} out", not[0]));
    }
}

#[test]
fn an_index_is_checked_and_compacted_and_a_damaged_one_says_what_to_do() {
    let home = Home::new();
    home.write("words", "correct horse battery\n");
    home.good(&["owner", "new"]);
    let (code, none) = home.json(&["index", "check"]);
    assert!(code == 1 && none["causes"].to_string().contains("No such file"), "{none}");
    assert_eq!(home.good(&["index", "compact"])["freed_bytes"], 0);
    let check = home.good(&["index", "check"]);
    let counts = ["bytes", "frames", "live", "dead"].map(|key| check[key].as_u64());
    assert_eq!((counts, check["torn"].as_bool()), ([Some(44), Some(0), Some(0), Some(0)], Some(false)));

    let index = home.path().join(".evernear/index");
    let good = std::fs::read(&index).unwrap();
    std::fs::write(&index, [&good[..], &[1; 100]].concat()).unwrap();
    for command in [&["index", "check"][..], &["index", "compact"], &["ls"]] {
        let (code, bad) = home.json(command);
        assert!(code == 1 && bad.to_string().contains("damaged at byte 44"), "{bad}");
        assert!(bad["try"].as_str().unwrap().contains("evernear owner recover"), "{bad}");
    }
    let told = home.json(&["index", "check"]).1;
    assert!(told["error"].as_str().unwrap().starts_with("of 144 bytes the first 44 are good: 0 frames"), "{told}");
}
