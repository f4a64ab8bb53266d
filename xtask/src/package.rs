//! The chore `package`: a release of the program as a Debian package, by cargo-deb.
//!
//! Place in the flow: a release. `cli/Cargo.toml` lists the package's files; `deploy/debian` has the scripts that run
//! at installation. Keeps true: the newest entry of the Debian changelog is for this version. The package runs on the
//! release of Debian or Ubuntu on which it was built and on later ones, because it links dynamically against their C
//! library.

use crate::command;
use crate::fault::Fault;
use crate::setup::{self, Purpose};

/// Installs what building and packaging need, then runs `cargo deb ARGUMENTS`.
pub(crate) fn run(arguments: &[String]) -> Result<(), Fault> {
    setup::install(&[Purpose::Build, Purpose::Package])?;
    let changelog = command::root().join("deploy/debian/changelog");
    check(&std::fs::read_to_string(changelog).unwrap_or_default(), env!("CARGO_PKG_VERSION"))?;
    let mut deb = command::cargo(&["deb", "--package", "cli", "--profile", "dist", "--locked", "--dbgsym", "--output"]);
    command::run(deb.arg(command::target_folder()).args(arguments).env("PATH", setup::path_with_tools()))
}

/// Refuses a Debian changelog that does not begin with an entry for this version.
fn check(changelog: &str, version: &str) -> Result<(), Fault> {
    if changelog.starts_with(&format!("evernear ({version}) ")) {
        return Ok(());
    }
    Err(Fault::new(
        format!("deploy/debian/changelog does not begin with version {version}"),
        "give it an entry of that version, on top",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_container_is_built_by_the_pinned_compiler() {
        let container = include_str!("../../deploy/Containerfile");
        assert!(container.contains(&format!("ARG RUST={}\n", crate::policies::COMPILER)));
    }

    #[test]
    fn the_changelog_begins_with_the_version() {
        assert_eq!(check(include_str!("../../deploy/debian/changelog"), env!("CARGO_PKG_VERSION")), Ok(()));
        check("evernear (0.1.0) unstable", "0.1").unwrap_err();
        check("", "0.1.0").unwrap_err();
    }
}
