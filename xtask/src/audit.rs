//! The chore `audit`: dependencies with known faults, by cargo-audit and a snapshot of the RustSec database.
//!
//! Place in the flow: a part of `check`. The snapshot lies in `.ci/`, so that the answer does not hang on a network;
//! `./x audit --fetch` asks the database of today.

use crate::command;
use crate::fault::Fault;
use crate::setup::{self, Purpose};

/// The folder `crates/` of github.com/RustSec/advisory-db on the day in its name, as a tar packed by zstd.
const SNAPSHOT: &str = ".ci/advisories-2026-08-21.tar.zst";

/// Audits Cargo.lock by the snapshot, or with `--fetch` by the database as it is now.
pub(crate) fn run(arguments: &[String]) -> Result<(), Fault> {
    setup::install(&[Purpose::Tools])?;
    let mut audit = command::cargo(&["audit"]);
    audit.env("PATH", setup::path_with_tools());
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
            command::run(audit.args(["--no-fetch", "--stale", "--db"]).arg(&unpacked))
        }
        [only] if only == "--fetch" => command::run(&mut audit),
        _ => Err(Fault::new("audit knows only --fetch", "run `./x audit` or `./x audit --fetch`")),
    }
}
