//! Installs redbot, which judges answers of HTTP: a program in Python, with all that it needs, from the Python package
//! index.
//!
//! Place in the flow: called by `setup` for tests. Keeps true: every package has a pinned version and hash, and all of
//! them lie in a folder of their own, beside our other tools. Where they cannot be had, tests that want it are skipped.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::rust::tools_folder;
use crate::command;
use crate::fault::Fault;

const NAME: &str = "redbot";
const VERSION: &str = "2.7.1";
/// By `pip-compile --generate-hashes` of `redbot==VERSION`.
const PACKAGES: &str = include_str!("redbot.txt");

/// Returns whether it is there: in `PATH`, or in our folder with this version.
pub(crate) fn has_redbot() -> bool {
    command::find(&[NAME]).is_some() || (packages().exists() && tools_folder().join("bin").join(NAME).exists())
}

/// Installs it, when it is missing, in half a minute. It says so when that cannot be done.
pub(super) fn install() {
    if has_redbot() {
        return;
    }
    println!("setup: fetching {NAME} {VERSION} (judges answers of HTTP), once, into {}", packages().display());
    if let Err(fault) = fetch(&packages(), &tools_folder().join("bin")) {
        println!("setup: {fault}\nsetup: going on without {NAME}; what wants it is skipped");
    }
}

/// Reports whether it is installed.
pub(super) fn tell() {
    let state = if has_redbot() { "there" } else { "missing" };
    println!("{state:<8} {:<18} judges answers of HTTP", format!("{NAME} {VERSION}"));
}

fn packages() -> std::path::PathBuf {
    tools_folder().join(format!("{NAME}-{VERSION}"))
}

fn fetch(packages: &Path, programs: &Path) -> Result<(), Fault> {
    let failed = |error| Fault::new(format!("{}: {error}", packages.display()), "may this user write there?");
    fs::create_dir_all(programs).map_err(failed)?;
    // Under another name until all is there.
    let unpacked = packages.with_extension("part");
    let _ = fs::remove_dir_all(&unpacked);
    fs::create_dir_all(&unpacked).map_err(failed)?;
    let list = unpacked.join("requirements.txt");
    fs::write(&list, PACKAGES).map_err(failed)?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    let mut install = command::program("python3", &pip);
    // One of them, of Python alone, is there as its source only.
    install.args(["--only-binary=:all:", "--no-binary=sniffpy", "--require-hashes"]).arg("--requirement").arg(&list);
    install.arg("--target").arg(unpacked.join("lib"));
    command::run(install.env("PIP_ROOT_USER_ACTION", "ignore"))?;
    fs::rename(&unpacked, packages).map_err(failed)?;
    let program = programs.join(NAME);
    let text = format!(
        "#!/bin/sh\nPYTHONPATH=\"{}${{PYTHONPATH:+:$PYTHONPATH}}\" exec python3 -m redbot.cli \"$@\"\n",
        packages.join("lib").display()
    );
    fs::write(&program, text).map_err(failed)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_package_of_redbot_has_a_version_and_a_hash() {
        let mut packages = 0;
        for package in PACKAGES.replace("\\\n", " ").lines() {
            let mut words = package.split_whitespace();
            let name = words.next().unwrap();
            assert!(name.split("==").count() == 2, "{name}");
            let is_hash = |word: &str| word.strip_prefix("--hash=sha256:").is_some_and(|hash| hash.len() == 64);
            let hashes: Vec<&str> = words.collect();
            assert!(!hashes.is_empty() && hashes.iter().all(|word| is_hash(word)), "{package}");
            packages += 1;
        }
        assert!(packages > 5 && PACKAGES.contains(&format!("{NAME}=={VERSION} ")), "{packages}");
    }
}
