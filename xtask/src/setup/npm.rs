//! Installs packages of npm that judge what we make: IPFS's own code in JavaScript.
//!
//! Place in the flow: called by `setup` for tests. A test has `npm-NAME` run a script that it gives on standard input,
//! with NAME's packages at hand. Keeps true: every package has a pinned version and hash, by a lock file in the tree,
//! none runs a script at its installation, and all lie in a folder of their own, beside our other tools. Where they
//! cannot be had, tests that want them are skipped.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::rust::tools_folder;
use crate::command;
use crate::fault::Fault;

/// What is installed together.
struct Packages {
    name: &'static str,
    why: &'static str,
    wanted: &'static str,
    lock: &'static str,
}

const ALL: &[Packages] = &[
    Packages {
        name: "npm-unixfs",
        why: "make CIDs and CARs as IPFS does",
        wanted: include_str!("../../../unixfs/tests/judge/package.json"),
        lock: include_str!("../../../unixfs/tests/judge/package-lock.json"),
    },
    Packages {
        name: "npm-api",
        why: "upload as clients of nft.storage and tus do",
        wanted: include_str!("../../../api/tests/judge/package.json"),
        lock: include_str!("../../../api/tests/judge/package-lock.json"),
    },
];

/// Returns whether all are there: programs of their names in `PATH`, or ours with these versions.
pub(crate) fn has_npm() -> bool {
    ALL.iter().all(Packages::is_there)
}

/// Installs those that are missing, in some seconds each. It says so when that cannot be done.
pub(super) fn install() {
    for packages in ALL.iter().filter(|packages| !packages.is_there()) {
        let Packages { name, why, .. } = packages;
        println!("setup: fetching {name} (packages that {why}), once, into {}", packages.folder().display());
        if let Err(fault) = packages.fetch(&tools_folder().join("bin")) {
            println!("setup: {fault}\nsetup: going on without {name}; what wants it is skipped");
        }
    }
}

/// Reports which are installed.
pub(super) fn tell() {
    for packages in ALL {
        let state = if packages.is_there() { "there" } else { "missing" };
        println!("{state:<8} {:<18} {}", packages.name, packages.why);
    }
}

impl Packages {
    fn is_there(&self) -> bool {
        let is_ours = || {
            let lock = fs::read(self.folder().join("package-lock.json"));
            lock.is_ok_and(|lock| lock == self.lock.as_bytes()) && tools_folder().join("bin").join(self.name).exists()
        };
        command::find(&[self.name]).is_some() || is_ours()
    }

    fn folder(&self) -> PathBuf {
        tools_folder().join(self.name)
    }

    fn fetch(&self, programs: &Path) -> Result<(), Fault> {
        let folder = self.folder();
        let failed = |error| Fault::new(format!("{}: {error}", folder.display()), "may this user write there?");
        fs::create_dir_all(programs).map_err(failed)?;
        // Under another name until all is there.
        let unpacked = folder.with_extension("part");
        let _ = fs::remove_dir_all(&unpacked);
        fs::create_dir_all(&unpacked).map_err(failed)?;
        fs::write(unpacked.join("package.json"), self.wanted).map_err(failed)?;
        fs::write(unpacked.join("package-lock.json"), self.lock).map_err(failed)?;
        let quiet = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"];
        command::run(command::program("npm", &quiet).current_dir(&unpacked))?;
        let _ = fs::remove_dir_all(&folder);
        fs::rename(&unpacked, &folder).map_err(failed)?;
        // A script from standard input finds packages from the folder it runs in.
        let program = programs.join(self.name);
        let text = format!("#!/bin/sh\ncd \"{}\" && exec node --input-type=module - \"$@\"\n", folder.display());
        fs::write(&program, text).map_err(failed)?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_package_from_there_has_a_hash_and_its_version_stands_in_the_list() {
        for packages in ALL {
            let entries = packages.lock.matches("\"node_modules/").count();
            assert!(entries > 5, "{}", packages.name);
            assert_eq!(packages.lock.matches("\"integrity\": \"sha512-").count(), entries, "{}", packages.name);
            let is_range = |line: &str| line.contains("\": \"^") || line.contains("\": \"~");
            assert!(!packages.wanted.lines().any(is_range), "{}", packages.name);
        }
    }
}
