//! Help says what there is, with examples and exit codes; a wrong command line is exit code 2.

use crate::program::Home;

#[test]
fn help_names_every_command_and_exit_code_but_not_the_hidden_one() {
    let done = Home::new().run(&["--help"]);
    assert_eq!(done.code, 0);
    for word in [
        "owner",
        "put",
        "get",
        "stat",
        "ls",
        "rm",
        "renew",
        "policy",
        "sign",
        "catalog",
        "cluster",
        "origin",
        "edge",
        "profiles",
        "Exit codes",
        "  4  ",
    ] {
        assert!(done.text().contains(word), "{word}");
    }
    assert!(!done.text().contains("policy-compile"));
}

#[test]
fn the_commands_of_owners_and_operators_show_examples() {
    let home = Home::new();
    for command in
        [&["owner", "new"][..], &["put"], &["get"], &["stat"], &["ls"], &["rm"], &["renew"], &["sign"], &["cluster"]]
    {
        let done = home.run(&[command, &["--help"]].concat());
        assert!(
            done.code == 0 && done.text().contains("Examples:") && done.text().contains("evernear "),
            "{command:?}"
        );
    }
}

#[test]
fn a_wrong_command_line_is_exit_code_2() {
    let home = Home::new();
    for wrong in [
        &[][..],
        &["store"],
        &["put"],
        &["put", "x", "--profile", "fast"],
        &["put", "x", "--places", "planet:earth"],
        &["put", "x", "--at-most", "zone=0"],
        &["put", "x", "--tag", "=3"],
        &["put", "x", "--keep-until", "tomorrow"],
        &["get", "x", "--range", "5-4"],
        &["cluster", "issue", "keys", "o1"],
        &["cluster", "issue", "keys", "O1", "--role", "origin"],
        &["policy", "publish", "-x", "file"],
    ] {
        let done = home.run(wrong);
        assert_eq!(done.code, 2, "{wrong:?}: {}", done.err);
        assert!(done.out.is_empty());
    }
}
