//! The chore `policies`: builds guests in Rust into the components committed under `policies/prebuilt`.
//!
//! Place in the flow: `policies/` is a separate Cargo workspace (target wasm32, another profile). Its program
//! `componentize` does the work. It is the only chore that needs the wasm target. Keeps true: committed components are
//! built by [`COMPILER`], because another version makes different bytes from the same sources (reproducible builds need
//! one compiler).

use crate::command;
use crate::fault::Fault;
use crate::setup::{self, Purpose};

/// The version of rustc that built the committed components.
pub(crate) const COMPILER: &str = "1.95.0";

/// Installs what building guests needs, then runs `componentize ARGUMENTS`.
pub(crate) fn run(arguments: &[String]) -> Result<(), Fault> {
    setup::install(&[Purpose::Build, Purpose::Guests])?;
    let manifest = ["run", "--manifest-path", "policies/Cargo.toml", "--package", "componentize", "--"];
    let mut componentize = command::cargo(&manifest);
    let version = command::output(&mut command::program("rustc", &["--version"]))?;
    let pinned = command::program("rustup", &["run", COMPILER, "rustc", "--version"]).output();
    if !is_of(&version) && pinned.is_ok_and(|said| said.status.success()) {
        componentize = command::program("rustup", &["run", COMPILER, "cargo"]);
        return command::run(componentize.args(manifest).args(arguments).env_remove("CARGO"));
    }
    if is_of(&version) {
        return command::run(componentize.args(arguments));
    }
    match arguments {
        [only] if only == "--check" => {
            command::run(componentize.arg("--build"))?;
            println!(
                "policies: built, not compared: the committed bytes are those of rustc {COMPILER}, this is {version}"
            );
            Ok(())
        }
        _ => Err(Fault::new(
            format!("the committed components are made by rustc {COMPILER}, this is {}", version.trim()),
            format!("run `rustup toolchain install {COMPILER}`, then `RUSTUP_TOOLCHAIN={COMPILER} ./x policies`"),
        )),
    }
}

/// Returns whether `rustc --version` printed this version.
fn is_of(version: &str) -> bool {
    version.split(' ').nth(1) == Some(COMPILER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_pinned_compiler_writes_and_compares() {
        assert!(is_of(&format!("rustc {COMPILER} (59807616e 2026-04-14)\n")));
        for other in ["rustc 1.95.1 (x 2026-05-01)", "rustc 1.96.0-nightly (x y)", "rustc", ""] {
            assert!(!is_of(other), "{other}");
        }
    }
}
