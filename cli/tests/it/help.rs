//! The help lists the commands and exit codes, and a wrong command line ends with exit code 2. That every command has
//! help and examples is tested in cli/src/main.rs.

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
        &["put", "x", "y", "--name", "z"],
        &["put", "x", "-"],
        &["rm"],
        &["rm", "x", "--elsewhere"],
        &["ls", "--all", "--unfinished"],
        &["put", "x", "--profile", "fast"],
        &["put", "x", "--places", "planet:earth"],
        &["put", "x", "--at-most", "zone=0"],
        &["put", "x", "--places", "!country:UK"],
        &["put", "x", "--type", "jpeg"],
        &["put", "x", "--type", ""],
        &["put", "x", "--type", "text/html\r\nx: y"],
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

/// With `--json` a script reads standard output, whatever went wrong.
#[test]
fn with_json_a_wrong_command_line_is_one_document_too() {
    let home = Home::new();
    for (wrong, error, advice) in [
        (&["put"][..], "required arguments were not provided: <PATH>...", "evernear put [OPTIONS] <PATH>..."),
        (&["put", "x", "--profil", "2+1"], "unexpected argument '--profil' found", "'--profile'"),
        (&["get", "x", "--range", "5-4"], "\"5-4\" is not a range", ""),
        (&["stor"], "unrecognized subcommand 'stor'", ""),
        (&[], "requires a subcommand", "evernear [OPTIONS] <COMMAND>"),
        (&["renew", "x"], "nothing to change", ""),
    ] {
        let (code, said) = home.json(wrong);
        assert_eq!((code, said["code"].as_u64()), (2, Some(2)), "{said}");
        assert!(said["error"].as_str().unwrap().contains(error), "{said}");
        assert!(said["try"].as_str().unwrap_or_default().contains(advice), "{said}");
        assert!(!said.to_string().contains("policy-compile"), "{said}");
    }
    let help = home.run(&["put", "--help", "--json"]);
    assert!(help.code == 0 && help.text().contains("Examples:"), "help is for people");
}

#[test]
fn a_usage_line_asks_for_nothing_that_the_environment_gives() {
    let home = Home::new();
    for (wrong, usage) in [
        (&["put"][..], "Usage: evernear put [OPTIONS] <PATH>...\n"),
        (&["renew"], "Usage: evernear renew [OPTIONS] <TARGET>...\n"),
        (&["policy", "publish"], "Usage: evernear policy publish [OPTIONS] <NAME> <FILE>\n"),
    ] {
        let mut command = home.command(wrong);
        let variables =
            ["STATE", "CONFIG", "PASSPHRASE_FILE", "KEY_FILE"].map(|name| (format!("EVERNEAR_{name}"), "x"));
        let said = command.envs(variables).output().unwrap().stderr;
        let said = String::from_utf8(said).unwrap();
        assert!(said.contains(usage), "{said}");
    }
}

#[test]
fn a_time_in_the_past_is_a_wrong_command_line_that_names_the_option_and_what_to_do() {
    // There is no owner key and no cluster, so the refusal comes before anything was asked.
    let home = Home::new();
    for (command, option, else_do) in [
        (&["put", "x"][..], "--expires", "to end an object now: evernear rm LABEL"),
        (&["put", "x"], "--keep-until", "leave the option out"),
        (&["renew", "x"], "--expires", "to end an object now: evernear rm LABEL"),
        (&["renew", "x"], "--keep-until", "leave the option out"),
        (&["sign", "http://x.example/", "--key", "k"], "--until", "name a time to come"),
    ] {
        for (time, read) in
            [("2020-01-01", "2020-01-01T00:00:00Z"), ("2001-02-03T04:05:06+01:00", "2001-02-03T03:05:06Z")]
        {
            let done = home.run(&[command, &[option, time]].concat());
            let says = [option, &format!("that is {read}, and it is 2"), else_do];
            assert!(done.code == 2 && says.iter().all(|text| done.err.contains(text)), "{option}: {}", done.err);
        }
        assert_eq!(home.run(&[command, &[option, "+0d"]].concat()).code, 2, "the moment itself is over");
    }
    for command in [["put", "x"], ["renew", "x"]] {
        let done = home.run(&[&command[..], &["--keep-until", "2100-01-02", "--expires", "2100-01-01"]].concat());
        let says = "--keep-until (2100-01-02T00:00:00Z) is later than --expires (2100-01-01T00:00:00Z)";
        assert!(done.code == 2 && done.err.contains(says), "{}", done.err);
    }
    assert_eq!(home.run(&["renew", "x"]).code, 2, "nothing to change");
}
