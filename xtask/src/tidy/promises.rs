//! Each promise of ARCHITECTURE.md has a row of tests, and each test that a row names exists.
//!
//! Place in the flow: `tidy` reads the page and all our sources. A renamed test fails here until the page has the new
//! name.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::Findings;

const PAGE: &str = "ARCHITECTURE.md";
/// The heading above the numbered promises, and the one above their tests, which ends them.
const PROMISES: &str = "## What must always hold";
const TESTS: &str = "### The tests that show it";

/// Checks the page against all sources.
pub(super) fn check(root: &Path, files: &[PathBuf], findings: &mut Findings) {
    let read = |file: &Path| std::fs::read_to_string(root.join(file)).unwrap_or_default();
    let sources = files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "rs"));
    let there: HashSet<String> = sources.flat_map(|file| tests(&read(file))).collect();
    findings.faults.extend(judge(&read(Path::new(PAGE)), &there));
}

fn judge(page: &str, there: &HashSet<String>) -> Vec<String> {
    let promises = section(page, PROMISES).filter_map(|(_, line)| number(line, ". "));
    let rows: Vec<_> = section(page, TESTS)
        .filter_map(|(at, line)| Some((at, number(line.strip_prefix("| ")?, " ")?, line)))
        .collect();
    let without =
        promises.filter(|promise| !rows.iter().any(|(_, number, line)| number == promise && line.contains("| `")));
    let mut faults: Vec<String> =
        without.map(|promise| format!("{PAGE}: promise {promise} has no row under `{TESTS}`")).collect();
    if faults.is_empty() && rows.is_empty() {
        faults.push(format!("{PAGE}: there is nothing under `{PROMISES}` and `{TESTS}`"));
    }
    for (at, _, line) in rows {
        let names = line.split('`').skip(1).step_by(2).filter(|word| is_name(word));
        let gone = names.filter(|name| !there.contains(*name));
        faults.extend(gone.map(|name| format!("{PAGE}:{at}: names the test `{name}`, which is not there")));
    }
    faults
}

/// Returns the numbered lines between a heading and the next.
fn section<'a>(page: &'a str, heading: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
    let lines = page.lines().enumerate().map(|(index, line)| (index + 1, line));
    lines.skip_while(move |(_, line)| *line != heading).skip(1).take_while(|(_, line)| !line.starts_with('#'))
}

/// Returns the number that a line begins with, if `after` follows it.
fn number(line: &str, after: &str) -> Option<u32> {
    line.split_once(after)?.0.parse().ok()
}

fn is_name(word: &str) -> bool {
    word.contains('_') && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// Returns the names of a source's tests: the function after each attribute that makes one.
fn tests(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut is_test = false;
    for line in source.lines().map(str::trim_start) {
        is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
        if let Some((before, after)) = line.split_once("fn ")
            && !line.starts_with('/')
        {
            let name = after.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default();
            let is_function = before.split_whitespace().all(|word| matches!(word, "pub" | "async"));
            found.extend((is_test && is_function).then(|| name.to_owned()));
            is_test &= !is_function;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "#[test]\nfn one_is_one() {}\n#[tokio::test(flavor = \"multi_thread\")]\n#[ignore = \"a fn of root\"]\n\
                          async fn two_is_two() {}\nfn not_a_test() {}\n";

    fn faults_of(promises: &str, rows: &str) -> Vec<String> {
        let there = tests(SOURCE).into_iter().collect();
        judge(
            &format!(
                "# A\n{PROMISES}\n\n{promises}\n{TESTS}\n\n| a | b |\n|---|---|\n{rows}\n## B\n| 9 x | `gone_too` |\n"
            ),
            &there,
        )
    }

    #[test]
    fn the_functions_under_an_attribute_are_tests() {
        assert_eq!(tests(SOURCE), ["one_is_one", "two_is_two"]);
    }

    #[test]
    fn every_promise_has_tests_and_they_are_there() {
        let rows = "| 1 one | `one_is_one`; `./x tidy` |\n| 2 two | `two_is_two` |";
        assert_eq!(faults_of("1. One.\n   More.\n2. Two.", rows), [""; 0]);
        let missing = faults_of("1. One.\n2. Two.\n3. Three.", rows);
        assert_eq!(missing, ["ARCHITECTURE.md: promise 3 has no row under `### The tests that show it`"]);
        let gone = faults_of("1. One.", "| 1 one | `one_is_one`, `not_a_test` |");
        assert_eq!(gone.len(), 1, "{gone:?}");
        assert!(gone[0].contains("`not_a_test`"), "{gone:?}");
        assert_eq!(faults_of("", "").len(), 1);
    }
}
