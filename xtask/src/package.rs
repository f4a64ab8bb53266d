//! The chore `package`: a release of the program as a Debian package, by cargo-deb, and the check of that package.
//!
//! Place in the flow: a release; with `--check`, which packs the program of the demo, a part of `.ci/run`.
//! `cli/Cargo.toml` lists the package's files; `deploy/debian` has the scripts that run at installation.
//! Keeps true: the newest entry of the Debian changelog is for this version, and each package is checked after it is
//! made. The package runs on the release of Debian or Ubuntu on which it was built and on later ones, because it links
//! dynamically against their C library.

mod contents;

use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::command;
use crate::fault::Fault;
use crate::setup::{self, Purpose};

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The script that installs, upgrades, removes and purges the package in a copy of this machine.
const INSTALL: &str = "xtask/src/package/install.sh";
/// Where manual pages and completions wait to be packed.
const PAGES: &str = "target/pages";
/// The exit status of [`INSTALL`] where the kernel does not allow such a copy.
const NO_COPY: i32 = 77;

/// Installs what building and packaging need, runs `cargo deb ARGUMENTS` and checks the package. With `--check` alone
/// it packs the unoptimised program of the demo; that package is not for use.
pub(crate) fn run(arguments: &[String]) -> Result<(), Fault> {
    setup::install(&[Purpose::Build, Purpose::Package, Purpose::Units])?;
    let changelog = command::root().join("deploy/debian/changelog");
    is_of_version(&std::fs::read_to_string(changelog).unwrap_or_default(), VERSION)?;
    let quick = matches!(arguments, [only] if only == "--check");
    let folder = if quick { command::target_folder().join("package") } else { command::target_folder() };
    remove_older(&folder)?;
    let mut deb = command::cargo(&["deb", "--package", "cli", "--locked", "--output"]);
    deb.arg(&folder).env("PATH", setup::path_with_tools());
    if quick {
        // After the demo this compiles nothing. cargo-deb warns of the profile, because it is not one for releases.
        command::run(&mut command::build(&["build", "--package", "cluster", "--package", "cli", "--bins"])?)?;
        pages("debug")?;
        command::run(deb.args(["--profile", "dev", "--no-build", "--fast"]))?;
    } else {
        // cargo-deb finds it built.
        command::run(&mut command::cargo(&["build", "--package", "cli", "--locked", "--profile", "dist"]))?;
        pages("dist")?;
        command::run(deb.args(["--profile", "dist", "--dbgsym"]).args(arguments))?;
    }
    let package = packages(&folder).into_iter().next().ok_or_else(|| {
        Fault::new(format!("no package is in {}", folder.display()), "look at the output of cargo-deb above")
    })?;
    contents::check(&command::output(command::program("dpkg-deb", &["--contents"]).arg(&package))?)?;
    install(&package)
}

/// Lets the program write its manual pages and completions to where the list of assets looks for them.
fn pages(profile: &str) -> Result<(), Fault> {
    let folder = command::root().join(PAGES);
    // A page of a command that is gone would be packed too.
    let _ = std::fs::remove_dir_all(&folder);
    let program = command::target_folder().join(profile).join("evernear");
    command::run(command::program(program, &["completions", "--pages"]).arg(folder))
}

/// Removes the packages of earlier runs, so that the one that is checked is of this run.
fn remove_older(folder: &Path) -> Result<(), Fault> {
    packages(folder)
        .iter()
        .try_for_each(std::fs::remove_file)
        .map_err(|error| Fault::new(format!("a package in {}: {error}", folder.display()), "may this user remove it?"))
}

/// Returns the packages of the program in a folder.
fn packages(folder: &Path) -> Vec<PathBuf> {
    let is_ours = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("evernear_") && name.ends_with(".deb")
    };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(is_ours).collect()
}

/// Installs and removes the package in a copy of this machine, where the user is root and the kernel allows a copy.
fn install(package: &Path) -> Result<(), Fault> {
    let allowed = command::program("unshare", &["--mount", "true"]).stderr(Stdio::null()).status();
    let mut copy = command::program("unshare", &["--mount", "--fork", "sh", INSTALL]);
    copy.arg(package).arg(VERSION).stdin(Stdio::null());
    let ended = if allowed.is_ok_and(|status| status.success()) { command::status(&mut copy)? } else { Some(NO_COPY) };
    match ended {
        Some(0) => println!("package: {} can be installed and removed", package.display()),
        Some(NO_COPY) => {
            println!(
                "package: the installation was not tried, because this user cannot make an overlay of the machine"
            );
        }
        _ => {
            return Err(Fault::new(
                format!("{} does not install or remove as it should", package.display()),
                format!("read the last lines above; {INSTALL} says what should hold"),
            ));
        }
    }
    Ok(())
}

/// Refuses a Debian changelog that does not begin with an entry for this version.
fn is_of_version(changelog: &str, version: &str) -> Result<(), Fault> {
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
        assert_eq!(is_of_version(include_str!("../../deploy/debian/changelog"), VERSION), Ok(()));
        is_of_version("evernear (0.1.0) unstable", "0.1").unwrap_err();
        is_of_version("", "0.1.0").unwrap_err();
    }
}
