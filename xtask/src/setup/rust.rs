//! Installs what rustup and cargo provide: the wasm target of policies, rustfmt and clippy, and the tools of CI, of
//! the package and of measurements.
//!
//! Place in the flow: called by `setup`. The compiler itself was found, or installed, by the script `x`. Keeps true:
//! tools have pinned versions and are in our own cache folder, so they never replace the user's.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::Purpose;
use crate::command;
use crate::fault::Fault;

const WASM_TARGET: &str = "wasm32-unknown-unknown";

/// A tool: crate, pinned version, and features beyond its default.
struct Tool {
    purpose: Purpose,
    name: &'static str,
    version: &'static str,
    options: &'static [&'static str],
    /// Variables for cargo.
    build: &'static [(&'static str, &'static str)],
    why: &'static str,
}

const TOOLS: &[Tool] = &[
    Tool {
        purpose: Purpose::Audits,
        name: "cargo-deny",
        version: "0.20.2",
        options: &[],
        build: QUICK_BUILD,
        why: "licences, bans and sources of dependencies",
    },
    Tool {
        purpose: Purpose::Audits,
        name: "cargo-audit",
        version: "0.22.2",
        // Scanning binaries is its only default feature; we scan Cargo.lock.
        options: &["--no-default-features"],
        build: QUICK_BUILD,
        why: "dependencies with known faults",
    },
    Tool {
        purpose: Purpose::Test,
        name: "cargo-nextest",
        version: "0.9.143",
        options: &["--no-default-features", "--features", "default-no-update"],
        build: QUICK_BUILD,
        why: "runs the tests side by side, each with a time limit",
    },
    Tool {
        purpose: Purpose::Package,
        name: "cargo-deb",
        version: "3.8.0",
        options: &[],
        build: QUICK_BUILD,
        why: "makes the package",
    },
    Tool {
        purpose: Purpose::Stores,
        name: "garage",
        version: "2.5.0",
        options: &[],
        // It is measured, so it is optimised as `cargo install` does by default.
        build: &[],
        why: "what storing is measured beside",
    },
];

/// How most tools are compiled. They run for seconds, so only their build time matters.
const QUICK_BUILD: &[(&str, &str)] = &[
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0"),
    ("CARGO_PROFILE_RELEASE_LTO", "off"),
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16"),
    ("CARGO_PROFILE_RELEASE_DEBUG", "0"),
    ("CARGO_PROFILE_RELEASE_PANIC", "unwind"),
    ("CARGO_INCREMENTAL", "0"),
];

/// Installs the target that policies are compiled to, when it is missing.
///
/// # Errors
/// When rustup cannot.
pub(super) fn install_wasm_target() -> Result<(), Fault> {
    let arguments = ["--print", "target-libdir", "--target", WASM_TARGET];
    let folder = command::output(&mut command::program("rustc", &arguments))?;
    if Path::new(folder.trim()).exists() {
        return Ok(());
    }
    println!("setup: policies are compiled to {WASM_TARGET}, a target that this toolchain lacks");
    rustup(&["target", "add", WASM_TARGET])
}

/// Installs rustfmt and clippy, when they are missing.
///
/// # Errors
/// When rustup cannot.
pub(super) fn install_components() -> Result<(), Fault> {
    let sysroot = command::output(&mut command::program("rustc", &["--print", "sysroot"]))?;
    let programs = Path::new(sysroot.trim()).join("bin");
    if programs.join("cargo-fmt").exists() && programs.join("cargo-clippy").exists() {
        return Ok(());
    }
    rustup(&["component", "add", "rustfmt", "clippy"])
}

fn rustup(arguments: &[&str]) -> Result<(), Fault> {
    if command::find(&["rustup"]).is_none() {
        return Err(Fault::new(
            format!("there is no rustup here to run `rustup {}`", arguments.join(" ")),
            "install rustup (https://rustup.rs), or bring the same by the means that brought this compiler",
        ));
    }
    command::run(&mut command::program("rustup", arguments))
}

/// Installs the tools of these purposes, when the pinned versions are missing: minutes the first time.
///
/// # Errors
/// When a tool does not build.
pub(super) fn install_tools(purposes: &[Purpose]) -> Result<(), Fault> {
    let folder = tools_folder();
    let missing: Vec<&Tool> = wanted(purposes).filter(|tool| !tool.is_met(&folder)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    // All tools share one target folder, because they share half of their dependencies.
    let build = command::target_folder().join("tools");
    for tool in missing {
        println!("setup: building {} {} ({}), once, into {}", tool.name, tool.version, tool.why, folder.display());
        let crate_version = format!("{}@{}", tool.name, tool.version);
        let mut install = command::cargo(&["install", "--locked", "--force", &crate_version]);
        install.args(tool.options).envs(tool.build.iter().copied());
        install.arg("--root").arg(&folder).arg("--target-dir").arg(&build);
        command::run(&mut install)?;
    }
    if build.exists() && std::fs::remove_dir_all(&build).is_err() {
        println!("setup: {} may be removed", build.display());
    }
    Ok(())
}

/// Reports which tools of these purposes are installed.
pub(super) fn tell_tools(purposes: &[Purpose]) {
    let folder = tools_folder();
    for tool in wanted(purposes) {
        let state = if tool.is_met(&folder) { "there" } else { "missing" };
        println!("{state:<8} {:<18} {}", format!("{} {}", tool.name, tool.version), tool.why);
    }
}

fn wanted(purposes: &[Purpose]) -> impl Iterator<Item = &'static Tool> {
    TOOLS.iter().filter(move |tool| purposes.contains(&tool.purpose))
}

impl Tool {
    /// Returns whether the pinned version is there: in `PATH`, or in our folder, where cargo lists what it installed.
    fn is_met(&self, folder: &Path) -> bool {
        if let Some(program) = command::find(&[self.name]) {
            let said = command::output(&mut command::program(program, &["--version"])).unwrap_or_default();
            if said.split_whitespace().any(|word| word == self.version) {
                return true;
            }
        }
        let list = std::fs::read_to_string(folder.join(".crates.toml")).unwrap_or_default();
        list.contains(&format!("\"{} {} ", self.name, self.version)) && folder.join("bin").join(self.name).exists()
    }
}

/// Returns a `PATH` with the tools before everything else.
pub(crate) fn path_with_tools() -> OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(tools_folder().join("bin")).chain(std::env::split_paths(&path));
    // A folder with a colon in its name cannot be in `PATH`.
    std::env::join_paths(folders).unwrap_or(path)
}

/// Returns the folder of the tools. It is outside `target/`, or each fresh clone would build them again.
fn tools_folder() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache")));
    cache.unwrap_or_else(command::target_folder).join("evernear/tools")
}
