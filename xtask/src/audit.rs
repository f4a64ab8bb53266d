//! The chore `audit`: finds dependencies with known vulnerabilities, by cargo-audit and a snapshot of the `RustSec`
//! advisory database.
//!
//! Place in the flow: a part of `check`. The snapshot is in `.ci/`, so that the result does not depend on a network.
//! `./x audit --fetch` uses today's database.

use std::ffi::OsStr;

use crate::command;
use crate::fault::Fault;
use crate::setup::{self, Purpose};

/// The folder `crates/` of github.com/RustSec/advisory-db on the day in its name, as a tar packed by zstd.
const SNAPSHOT: &str = ".ci/advisories-2026-08-21.tar.zst";

/// The lock files: of the programs, of the policies that come with them, of the fuzz targets.
const LOCKED: [&str; 3] = ["Cargo.lock", "policies/Cargo.lock", "fuzz/Cargo.lock"];

/// Audits all lock files against the snapshot, or with `--fetch` against today's database.
pub(crate) fn run(arguments: &[String]) -> Result<(), Fault> {
    setup::install(&[Purpose::Audits])?;
    let audit = |options: &[&OsStr]| {
        LOCKED.iter().try_for_each(|lock| {
            let mut audit = command::cargo(&["audit", "--file", lock]);
            command::run(audit.args(options).env("PATH", setup::path_with_tools()))
        })
    };
    match arguments {
        [] => {
            let unpacked = command::target_folder().join("advisories");
            let failed = |error| Fault::new(format!("{}: {error}", unpacked.display()), "may this user write there?");
            if unpacked.exists() {
                std::fs::remove_dir_all(&unpacked).map_err(failed)?;
            }
            std::fs::create_dir_all(&unpacked).map_err(failed)?;
            let mut tar = command::program("tar", &["--zstd", "-xf", SNAPSHOT, "-C"]);
            command::run(tar.arg(&unpacked))?;
            println!("audit: by {SNAPSHOT}; `./x audit --fetch` asks the database of today");
            audit(&["--no-fetch".as_ref(), "--stale".as_ref(), "--db".as_ref(), unpacked.as_os_str()])
        }
        [only] if only == "--fetch" => audit(&[]),
        _ => Err(Fault::new("audit knows only --fetch", "run `./x audit` or `./x audit --fetch`")),
    }
}
