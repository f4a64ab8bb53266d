//! docs/cli.md is generated from the program: the help of every command, in the program's order.

use std::{fs, path::Path};

use crate::program::Home;

/// The page.
const PAGE: &str = "../docs/cli.md";
/// `./x docs --cli` sets this variable: then the test writes the page instead of comparing it.
const WRITE: &str = "EVERNEAR_WRITE_REFERENCE";

const HEAD: &str = "\
# Every command

What `--help` prints, command by command. `./x docs --cli` writes this page from the program, and a test compares them. The
[quickstart](quickstart.md) shows the commands in use.
";

#[test]
fn the_reference_is_what_the_program_says() {
    let home = Home::new();
    let page = HEAD.to_owned() + &sections(&home, &[]);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    if std::env::var_os(WRITE).is_some() {
        fs::write(&path, &page).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    for (line, (written, said)) in written.lines().zip(page.lines()).enumerate() {
        assert_eq!(written, said, "docs/cli.md:{} differs; `./x docs --cli` writes it anew", line + 1);
    }
    assert!(written == page, "docs/cli.md has another length; `./x docs --cli` writes it anew");
}

/// Returns the section of a command, and those of its subcommands.
fn sections(home: &Home, command: &[&str]) -> String {
    let done = home.run(&[command, &["--help"]].concat());
    assert_eq!(done.code, 0, "{command:?}: {}", done.err);
    let name: String = std::iter::once("evernear").chain(command.iter().copied()).collect::<Vec<_>>().join(" ");
    // The environment of this test is empty, so the help shows every variable with an empty value, which is removed
    // here.
    let help: String = done.text().replace("=]", "]").lines().flat_map(|line| [line.trim_end(), "\n"]).collect();
    let mut text = format!("\n## {name}\n\n```text\n{}\n```\n", help.trim_end());
    for subcommand in subcommands(done.text()) {
        text += &sections(home, &[command, &[subcommand]].concat());
    }
    text
}

/// Returns the subcommands that a help text lists.
fn subcommands(help: &str) -> impl Iterator<Item = &str> {
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    listed.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help")
}
