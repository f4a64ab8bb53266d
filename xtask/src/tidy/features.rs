//! The demo and the tests are one build: a crate that both compile has the same features in both.
//!
//! Place in the flow: `tidy`. Cargo unifies features for each build. If a test enables a feature of a dependency that
//! no program enables, cargo compiles that crate, and all that use it, once for the demo and once more for the tests:
//! half the tree in the worst case.

use std::collections::{BTreeMap, BTreeSet};

use super::Findings;
use crate::command;
use crate::fault::Fault;

/// For each crate and version, the sets of features it is compiled with (two if build scripts use it too).
type Features = BTreeMap<String, BTreeSet<String>>;

/// Compares what `./x demo` builds with what `./x test` builds.
///
/// # Errors
/// When `cargo tree` fails.
pub(super) fn check(findings: &mut Findings) -> Result<(), Fault> {
    let demo = features(&["--package", "cluster", "--package", "cli", "--edges", "normal,build"])?;
    let test = features(&["--workspace", "--edges", "normal,build,dev"])?;
    findings.faults.extend(differing(&demo, &test).into_iter().map(|name| {
        format!("cluster/Cargo.toml: {name} has other features in tests; name there those that tests ask for")
    }));
    Ok(())
}

fn features(of: &[&str]) -> Result<Features, Fault> {
    let form = ["tree", "--locked", "--prefix", "none", "--no-dedupe", "--format", "{p} {f}"];
    Ok(read(&command::output(command::cargo(&form).args(of))?))
}

/// Reads lines of `name version [(path)] [feature,feature]`.
fn read(tree: &str) -> Features {
    let mut found = Features::new();
    for line in tree.lines() {
        // One of our crates shows its folder in brackets, which may have any characters.
        let (head, features) =
            match line.split_once(" (").and_then(|(head, rest)| Some((head, rest.rsplit_once(") ")?.1))) {
                Some(parts) => parts,
                None => line.rsplit_once(' ').unwrap_or((line, "")),
            };
        let mut words = head.split(' ');
        if let (Some(name), Some(version)) = (words.next(), words.next()) {
            found.entry(format!("{name} {version}")).or_default().insert(features.to_owned());
        }
    }
    found
}

/// Returns the crates of the demo that the tests would compile again.
fn differing<'a>(demo: &'a Features, test: &Features) -> Vec<&'a str> {
    let again =
        |(name, sets): &(&String, &BTreeSet<String>)| test.get(*name).is_none_or(|others| !sets.is_subset(others));
    demo.iter().filter(again).map(|(name, _)| name.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feature_that_only_tests_ask_for_is_found() {
        let demo = read("format v0.1.0 (/home/my clone/format) \nblake3 v1.8.2 std\nsemver v1.0.28 std\n");
        let test = read(
            "format v0.1.0 (/home/me/format) \nblake3 v1.8.2 rayon,std\nsemver v1.0.28 std\nproptest v1.0.0 std\n",
        );
        assert_eq!(differing(&demo, &test), ["blake3 v1.8.2"]);
    }
}
