//! Builds the ready-made policies and keeps `policies/prebuilt/` equal to their sources.
//!
//! `cargo run --manifest-path policies/Cargo.toml -p componentize -- [--check | --build]`
//!
//! Flow: cargo builds the guests for wasm32 -> wit-component turns each core module into a component -> the component is
//! written to `prebuilt/NAME.wasm`, or compared with it byte for byte (`--check`; differences are named, exit code 1), or
//! neither (`--build`).
//! Keeps true: the same sources and rustc give the same bytes, wherever the repository lies (paths are remapped).

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};

/// The guests, as named in `policies/Cargo.toml`.
const GUESTS: [&str; 7] = ["geo", "nft-immutable", "pages", "places", "signed", "template", "ttl"];
const TARGET: &str = "wasm32-unknown-unknown";
/// Stack of a guest, in bytes. The linker's default of 1 MiB alone would fill the memory that a policy may have.
const STACK_BYTES: u32 = 32 * 1024;

/// What went wrong while building the policies.
#[derive(Debug, thiserror::Error)]
enum BuildError {
    #[error("usage: componentize [--check | --build]")]
    Usage,
    #[error("cannot access {path}")]
    Io { path: PathBuf, source: io::Error },
    #[error("cargo could not build the guests ({status}); its messages stand above")]
    Cargo { status: ExitStatus },
    #[error("{guest} is no policy component: {reason}")]
    NoComponent { guest: &'static str, reason: String },
    #[error("differ from their sources: {names}; run componentize without --check and commit the result")]
    Differ { names: String },
}

/// What to do with the components after the build.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Write,
    Check,
    Build,
}

fn main() -> ExitCode {
    match mode().and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("componentize: {error}");
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                eprintln!("  because: {cause}");
                source = cause.source();
            }
            ExitCode::FAILURE
        }
    }
}

fn mode() -> Result<Mode, BuildError> {
    let mut arguments = env::args().skip(1);
    match (arguments.next().as_deref(), arguments.next()) {
        (None, None) => Ok(Mode::Write),
        (Some("--check"), None) => Ok(Mode::Check),
        (Some("--build"), None) => Ok(Mode::Build),
        _ => Err(BuildError::Usage),
    }
}

fn run(mode: Mode) -> Result<(), BuildError> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate lies inside policies/");
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    build_guests(root, &target)?;

    let mut differing = Vec::new();
    for guest in GUESTS {
        let built = target.join(TARGET).join("release").join(format!("{}.wasm", guest.replace('-', "_")));
        let component = component(guest, &read(&built)?)?;
        let committed = root.join("prebuilt").join(format!("{guest}.wasm"));
        match mode {
            Mode::Write => {
                fs::write(&committed, &component).map_err(|source| BuildError::Io { path: committed, source })?;
                println!("{guest}: {} bytes", component.len());
            }
            Mode::Check if fs::read(&committed).is_ok_and(|bytes| bytes == component) => {
                println!("{guest}: same")
            }
            Mode::Check => differing.push(guest),
            Mode::Build => println!("{guest}: builds"),
        }
    }
    if differing.is_empty() { Ok(()) } else { Err(BuildError::Differ { names: differing.join(", ") }) }
}

/// Builds all guests with one call of cargo. Its flags keep this machine's paths out of the bytes (reproducible build).
fn build_guests(root: &Path, target: &Path) -> Result<(), BuildError> {
    let repository = root.parent().expect("policies/ lies inside the repository");
    let cargo_home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")))
        .unwrap_or_default();
    let flags = [
        format!("-Clink-arg=-zstack-size={STACK_BYTES}"),
        format!("--remap-path-prefix={}=/evernear", repository.display()),
        format!("--remap-path-prefix={}=/cargo", cargo_home.display()),
    ];
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(root)
        .args(["build", "--release", "--locked", "--target", TARGET])
        .args(GUESTS.iter().flat_map(|guest| ["--package", guest]))
        // The unit separator keeps paths with spaces in one piece. This variable also overrides the caller's own flags.
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
        .env("CARGO_TARGET_DIR", target);
    let status = cargo.status().map_err(|source| BuildError::Io { path: "cargo".into(), source })?;
    if status.success() { Ok(()) } else { Err(BuildError::Cargo { status }) }
}

/// Wraps a core module, which carries its world in a custom section, into a component.
fn component(guest: &'static str, module: &[u8]) -> Result<Vec<u8>, BuildError> {
    wit_component::ComponentEncoder::default()
        .validate(true)
        .module(module)
        .and_then(|mut encoder| encoder.encode())
        .map_err(|error| BuildError::NoComponent { guest, reason: format!("{error:#}") })
}

fn read(path: &Path) -> Result<Vec<u8>, BuildError> {
    fs::read(path).map_err(|source| BuildError::Io { path: path.to_owned(), source })
}
