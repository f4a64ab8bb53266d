//! The chore `setup`: installs what a fresh Debian or Ubuntu with rustup lacks, and nothing that is already there.
//!
//! Place in the flow: every other chore calls [`install`] with its purposes. When everything is there, this costs a few
//! look-ups of files. Keeps true: it says what it installs, and why, before it installs it. It contacts no package
//! server when nothing is missing.

mod apt;
mod needs;
mod npm;
mod redbot;
mod rust;

pub(crate) use npm::has_npm;
pub(crate) use redbot::has_redbot;
pub(crate) use rust::path_with_tools;

use crate::fault::Fault;
use needs::{NEEDS, Need, Weight};

/// What a machine is prepared for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Compiling the workspace.
    Build,
    /// Compiling policies to WebAssembly.
    Guests,
    /// Requests as viewers send them: for the demo and the tests.
    Judges,
    /// Running all tests.
    Test,
    /// Measurements beside peers.
    Bench,
    /// Measuring what storing takes, beside a peer that is built here.
    Stores,
    /// Checks of our code: rustfmt, clippy.
    Lints,
    /// Checks of dependencies: cargo-deny, cargo-audit.
    Audits,
    /// The second reader of the object format.
    Python,
    /// Making the Debian package.
    Package,
    /// Reading systemd's units: the tests, and the package.
    Units,
    /// Making a bare system for `./x room`.
    Room,
}

/// What `./x test` needs.
pub(crate) const TESTING: [Purpose; 4] = [Purpose::Build, Purpose::Judges, Purpose::Test, Purpose::Units];

/// Installs what the options name; without options, what `./x test` needs.
pub(crate) fn run(arguments: &[String]) -> Result<(), Fault> {
    let (purposes, act) = purposes(arguments)?;
    match act {
        Act::Install => {
            install(&purposes)?;
            println!("setup: this machine has what is needed");
        }
        Act::Tell => tell(&purposes),
    }
    Ok(())
}

/// Installs whatever the machine lacks for these purposes.
///
/// # Errors
/// When something is missing and cannot be installed; the fault names it.
pub(crate) fn install(purposes: &[Purpose]) -> Result<(), Fault> {
    let missing = missing(purposes);
    if missing.iter().any(|need| need.weight == Weight::Must) {
        apt::install(&missing)?;
    } else {
        for need in missing {
            println!("setup: going on without {} ({}); what wants it is skipped", need.package, need.why);
        }
    }
    if purposes.contains(&Purpose::Guests) {
        rust::install_wasm_target()?;
    }
    if purposes.contains(&Purpose::Lints) {
        rust::install_components()?;
    }
    if purposes.contains(&Purpose::Test) {
        redbot::install();
        npm::install();
    }
    rust::install_tools(purposes)
}

/// Whether to install or only to report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Install,
    Tell,
}

fn purposes(arguments: &[String]) -> Result<(Vec<Purpose>, Act), Fault> {
    let mut purposes = Vec::new();
    let mut act = Act::Install;
    for argument in arguments {
        match argument.as_str() {
            "--build" => purposes.push(Purpose::Build),
            "--test" => purposes.extend(TESTING),
            "--bench" => {
                purposes.extend([Purpose::Build, Purpose::Judges, Purpose::Test, Purpose::Bench, Purpose::Stores]);
            }
            "--tools" => {
                purposes.extend(TESTING);
                purposes.extend([Purpose::Guests, Purpose::Lints, Purpose::Audits]);
            }
            "--dry-run" => act = Act::Tell,
            other => {
                return Err(Fault::new(
                    format!("setup does not know `{other}`"),
                    "use --build, --test, --bench, --tools or --dry-run; `./x help` has examples",
                ));
            }
        }
    }
    if purposes.is_empty() {
        purposes.extend(TESTING);
    }
    Ok((purposes, act))
}

fn missing(purposes: &[Purpose]) -> Vec<&'static Need> {
    NEEDS.iter().filter(|need| purposes.contains(&need.purpose) && !need.is_met()).collect()
}

fn tell(purposes: &[Purpose]) {
    for need in NEEDS.iter().filter(|need| purposes.contains(&need.purpose)) {
        let state = if need.is_met() { "there" } else { "missing" };
        println!("{state:<8} {:<18} {}", need.package, need.why);
    }
    if purposes.contains(&Purpose::Test) {
        redbot::tell();
        npm::tell();
    }
    rust::tell_tools(purposes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn without_options_it_readies_for_building_and_testing() {
        let (purposes, act) = purposes(&[]).unwrap();
        assert_eq!(purposes, TESTING);
        assert_eq!(act, Act::Install);
    }

    #[test]
    fn a_dry_run_installs_nothing() {
        assert_eq!(purposes(&words("--build --dry-run")).unwrap(), (vec![Purpose::Build], Act::Tell));
    }

    #[test]
    fn an_unknown_option_is_a_fault_that_names_it() {
        assert!(purposes(&words("--tool")).unwrap_err().to_string().contains("`--tool`"));
    }
}
