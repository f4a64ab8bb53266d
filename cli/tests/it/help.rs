//! Help says what there is, with exit codes; a wrong command line is exit code 2. That every command has help and examples:
//! cli/src/main.rs.

use crate::program::Home;

#[test]
fn help_is_exit_code_0_and_tells_all_exit_codes_but_nothing_of_the_compiler() {
    let done = Home::new().run(&["--help"]);
    assert_eq!(done.code, 0);
    for code in 0..=5 {
        assert!(done.text().contains(&format!("\n  {code}  ")), "{code}");
    }
    assert!(!done.text().contains("policy-compile"));
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
