//! The rules of every Rust file: it begins with its purpose, it is not too long, and pure code stays pure.
//!
//! Place in the flow: `tidy` reads each file once.

use std::path::{Path, PathBuf};

use super::Findings;

/// Lines of one file: above the first number `tidy` warns, above the second it fails.
const LINES_THINK: usize = 500;
const LINES_MAX: usize = 800;

/// Code that decides without side effects; a folder or a file, without its extension.
const PURE: &[&str] = &[
    "format/src",
    "unixfs/src",
    "client/src/gather",
    "client/src/scatter",
    "client/src/rebuild",
    "edge/src/answer/conditions",
    "edge/src/answer/plan",
    "edge/src/answer/range",
    "edge/src/answer/representation",
    "edge/src/policy/decision",
    "edge/src/policy/program",
    "edge/src/policy/said",
];

/// Paths with side effects: files, sockets, clocks, randomness, the environment. A `clippy.toml` applies to the whole
/// workspace, so these cannot be banned there for some files only.
const ACTS: &[&str] = &[
    "tokio::",
    "std::fs",
    "std::env",
    "std::process",
    "std::thread::sleep",
    "net::Tcp",
    "net::Udp",
    "SystemTime::now",
    "Instant::now",
    "OffsetDateTime::now",
    "getrandom::",
    "rand::",
];

/// Most columns of a line, as in rustfmt.toml.
const COLUMNS_MAX: usize = 120;

/// Modules whose tests a plain run ignores: see CONTRIBUTING.md.
const IGNORED: [&str; 3] = ["needs_root", "long_lane", "role"];

/// Checks every Rust file.
pub(super) fn check(root: &Path, files: &[PathBuf], findings: &mut Findings) {
    for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "rs")) {
        let text = std::fs::read_to_string(root.join(file)).unwrap_or_default();
        judge(&file.to_string_lossy(), &text, findings);
    }
}

fn judge(file: &str, text: &str, findings: &mut Findings) {
    let mut fault = |what: String| findings.faults.push(format!("{file}: {what}"));
    if !text.starts_with("//!") {
        fault("does not open with `//!`: what it is, its place in the flow, what it keeps true".to_owned());
    }
    if file.ends_with("/mod.rs") {
        fault("is called mod.rs; a module is name.rs, with its parts in name/".to_owned());
    }
    if is_pure(file) {
        for (line, act) in acts(text) {
            fault(format!("line {line} uses `{act}`, but this code is pure: pass it in"));
        }
    }
    for line in wide_comments(file, text) {
        fault(format!("line {line} is a comment of over {COLUMNS_MAX} columns; rustfmt does not wrap those"));
    }
    for line in ignored_elsewhere(text) {
        fault(format!(
            "line {line} ignores a test outside of a module {}, by which `./x test` knows it",
            IGNORED.join(", ")
        ));
    }
    match text.lines().count() {
        lines if lines > LINES_MAX => fault(format!("{lines} lines; {LINES_MAX} is the most")),
        lines if lines > LINES_THINK => {
            findings.warnings.push(format!("{file}: {lines} lines; is it two things?"));
        }
        _ => {}
    }
}

/// Finds comments that are too wide. Rows of tables, quotes of an RFC and drawings are exempt. So are sources of
/// policies, whose line numbers are in the committed components.
fn wide_comments(file: &str, text: &str) -> Vec<usize> {
    let is_wide = |line: &str| {
        let words = line.trim_start().trim_start_matches(['/', '!']);
        line.chars().count() > COLUMNS_MAX
            && line.trim_start().starts_with("//")
            && !words.starts_with(['#', '='])
            && !words.trim_start().starts_with('|')
            && !words.starts_with("    ")
    };
    if file.starts_with("policies/") {
        return Vec::new();
    }
    text.lines().enumerate().filter(|(_, line)| is_wide(line)).map(|(index, _)| index + 1).collect()
}

/// Finds ignored tests whose module does not say why.
fn ignored_elsewhere(text: &str) -> Vec<usize> {
    let mut module = "";
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if let Some(name) = line.strip_prefix("mod ").and_then(|rest| rest.strip_suffix(" {")) {
            module = name;
        } else if line == "}" {
            module = "";
        }
        if line.trim_start().starts_with("#[ignore") && !IGNORED.contains(&module) {
            found.push(index + 1);
        }
    }
    found
}

fn is_pure(file: &str) -> bool {
    let of = |rest: &str| rest.starts_with('/') || rest == ".rs";
    PURE.iter().any(|pure| file.strip_prefix(pure).is_some_and(of)) && !file.ends_with("/tests.rs")
}

/// Finds paths with side effects above the file's tests, in code rather than in comments. Returns (line, path).
fn acts(text: &str) -> Vec<(usize, &'static str)> {
    let lines = text.lines().enumerate().take_while(|(_, line)| line.trim() != "#[cfg(test)]");
    let code = lines.filter(|(_, line)| !line.trim_start().starts_with("//"));
    code.flat_map(|(index, line)| {
        let found = ACTS.iter().filter(move |act| names(line, act));
        found.map(move |act| (index + 1, *act))
    })
    .collect()
}

/// Returns whether a line names this path from its start: `rand::` is not in `operand::`.
fn names(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(start, _)| {
        let before = line[..start].chars().next_back();
        !before.is_some_and(|character| character.is_alphanumeric() || character == '_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings_of(file: &str, text: &str) -> Findings {
        let mut findings = Findings::default();
        judge(file, text, &mut findings);
        findings
    }

    #[test]
    fn a_file_opens_with_its_purpose() {
        assert_eq!(findings_of("edge/src/dns.rs", "//! The DNS door.\n"), Findings::default());
        assert_eq!(findings_of("edge/src/dns.rs", "use std::net;\n").faults.len(), 1);
        assert_eq!(findings_of("edge/src/dns.rs", "").faults.len(), 1);
    }

    #[test]
    fn no_file_is_called_mod() {
        assert_eq!(findings_of("edge/src/dns/mod.rs", "//! The DNS door.\n").faults.len(), 1);
    }

    #[test]
    fn long_files_warn_and_too_long_ones_fail() {
        let lines = |count: usize| "//!\n".repeat(count);
        for (count, faults, warnings) in [(500, 0, 0), (501, 0, 1), (800, 0, 1), (801, 1, 0)] {
            let findings = findings_of("edge/src/dns.rs", &lines(count));
            assert_eq!((findings.faults.len(), findings.warnings.len()), (faults, warnings), "{count} lines");
        }
    }

    #[test]
    fn pure_code_does_not_act_but_its_tests_and_comments_may() {
        let acting = "//! x\nlet now = Instant::now();\n";
        assert_eq!(findings_of("format/src/names.rs", acting).faults.len(), 1);
        assert_eq!(findings_of("client/src/gather.rs", acting).faults.len(), 1);
        assert_eq!(findings_of("client/src/gather/plan.rs", acting).faults.len(), 1);
        assert_eq!(findings_of("client/src/gather_loop.rs", acting).faults.len(), 0);
        assert_eq!(findings_of("edge/src/http.rs", acting).faults.len(), 0);
        let quiet =
            "//! x\n/// Not `Instant::now`.\nlet operand::A = 1;\n#[cfg(test)]\nmod tests { std::fs::read(); }\n";
        assert_eq!(findings_of("format/src/names.rs", quiet).faults.len(), 0);
    }

    #[test]
    fn a_wide_comment_is_found_and_what_cannot_be_wrapped_is_not() {
        let wide = "word ".repeat(30);
        let text =
            format!("//! {wide}\n/// | {wide}|\n//# {wide}\n//!     {wide}\nlet a = \"{wide}\";\n    // {wide}\n");
        assert_eq!(wide_comments("edge/src/a.rs", &text), [1, 6]);
        assert_eq!(wide_comments("policies/geo/src/lib.rs", &text), [0; 0]);
    }

    #[test]
    fn an_ignored_test_is_in_a_module_that_says_why() {
        let text = "mod needs_root {\n    #[ignore = \"x\"]\n}\nmod other {\n    #[ignore]\n}\n#[ignore]\n";
        assert_eq!(ignored_elsewhere(text), [5, 7]);
    }
}
