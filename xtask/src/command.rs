//! Starting other programs: shown before they run, in the repository's root, with a fault that says what failed.
//!
//! Place in the flow: every chore uses it. Keeps true: every command is shown, except look-ups ([`output`]).

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::fault::Fault;
use crate::json::Json;

/// Returns the repository's root folder.
///
/// The variable that `cargo run` sets takes precedence over the compiled-in path, because two clones may share one
/// target folder.
pub(crate) fn root() -> PathBuf {
    let here = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").to_owned());
    Path::new(&here).parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// Returns cargo's target folder. It asks cargo, because variables and configuration can change the folder.
pub(crate) fn target_folder() -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let ask = || {
        let metadata = output(&mut cargo(&["metadata", "--format-version", "1", "--no-deps"])).ok()?;
        Some(PathBuf::from(Json::parse(&metadata)?.field("target_directory")?.text()?))
    };
    FOLDER.get_or_init(|| ask().unwrap_or_else(|| root().join("target"))).clone()
}

/// Returns a command in the repository's root.
pub(crate) fn program(name: impl AsRef<Path>, arguments: &[&str]) -> Command {
    let mut command = Command::new(name.as_ref());
    command.args(arguments).current_dir(root());
    command
}

/// Returns a cargo command in the repository's root.
///
/// The command does not inherit the variables that `cargo run` sets for xtask's own package. Build scripts of some
/// crates read these variables, and would run again each time somebody switches between `cargo` and `./x`.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = program(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()), arguments);
    let of_package = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(of_package)) {
        command.env_remove(name);
    }
    command
}

/// The variable with which [`build`] lints, as in CI.
const LINTED: &str = "EVERNEAR_LINTED";

/// Returns whether every build of the workspace lints its crates on the way.
pub(crate) fn is_linted() -> bool {
    std::env::var_os(LINTED).is_some()
}

/// Returns a cargo command that compiles the workspace. In CI, which needs both programs and lints, one compilation
/// gives both, so commands of the same target folder must all come from here: cargo keeps what was linted apart from
/// what was not, and would compile our crates a second time.
///
/// # Errors
/// When there is no compiler.
pub(crate) fn build(arguments: &[&str]) -> Result<Command, Fault> {
    let mut command = cargo(arguments);
    if is_linted() {
        linted(&mut command)?;
    }
    Ok(command)
}

/// Makes clippy lint the crates during a cargo build: a warning in one of our crates is an error. Dependencies are
/// compiled only once for the programs and for clippy.
///
/// # Errors
/// When there is no compiler.
pub(crate) fn linted(build: &mut Command) -> Result<&mut Command, Fault> {
    build.env("RUSTC_WORKSPACE_WRAPPER", linter()?);
    Ok(build.env("CLIPPY_ARGS", "-Dwarnings__CLIPPY_HACKERY__"))
}

/// Returns clippy's compiler.
///
/// # Errors
/// When there is no compiler.
pub(crate) fn linter() -> Result<PathBuf, Fault> {
    let sysroot = output(&mut program("rustc", &["--print", "sysroot"]))?;
    Ok(Path::new(sysroot.trim()).join("bin/clippy-driver"))
}

/// Returns the target triple of this machine.
///
/// # Errors
/// When there is no compiler.
pub(crate) fn host() -> Result<String, Fault> {
    Ok(output(&mut program("rustc", &["--print", "host-tuple"]))?.trim().to_owned())
}

/// Shows a command and runs it until it ends.
///
/// # Errors
/// When it can't start, or ends with another status than 0.
pub(crate) fn run(command: &mut Command) -> Result<(), Fault> {
    println!("$ {}", shown(command));
    let status = command.status().map_err(|error| not_started(command, &error))?;
    if status.success() { Ok(()) } else { Err(failed(command, &status.to_string())) }
}

/// Shows a command, runs it to its end and returns its exit status, or nothing when a signal ended it.
///
/// # Errors
/// When it can't start.
pub(crate) fn status(command: &mut Command) -> Result<Option<i32>, Fault> {
    println!("$ {}", shown(command));
    Ok(command.status().map_err(|error| not_started(command, &error))?.code())
}

/// Shows a command and runs it. Passes its standard output and standard error, line by line, to the terminal and to
/// `see`. Returns whether it ended with status 0.
///
/// # Errors
/// When it can't start.
pub(crate) fn run_and_read(command: &mut Command, mut see: impl FnMut(&str)) -> Result<bool, Fault> {
    println!("$ {}", shown(command));
    let mut start = || {
        let (said, writer) = std::io::pipe()?;
        Ok((said, command.stdout(writer.try_clone()?).stderr(writer).spawn()?))
    };
    let (said, mut child) = start().map_err(|error| not_started(command, &error))?;
    // `Command` keeps its ends of the pipe for a second start. Replace them, or the pipe would never end.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut lines = BufReader::new(said);
    let mut line = Vec::new();
    // Reads bytes instead of `lines()`, because a test may print what is not UTF-8.
    while lines.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
        let text = String::from_utf8_lossy(&line);
        print!("{text}");
        see(text.trim_end());
        line.clear();
    }
    let status = child.wait().map_err(|error| not_started(command, &error))?;
    Ok(status.success())
}

/// Shows a command and replaces this process by it (exec), so that Ctrl-C and the exit status are the command's.
/// Returns only when it can't start.
pub(crate) fn become_program(command: &mut Command) -> Fault {
    println!("$ {}", shown(command));
    let error = command.exec();
    not_started(command, &error)
}

/// Runs a command without showing it and returns its standard output.
///
/// # Errors
/// When it can't start, or ends with another status than 0.
pub(crate) fn output(command: &mut Command) -> Result<String, Fault> {
    let output = command.stderr(Stdio::inherit()).output().map_err(|error| not_started(command, &error))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(failed(command, &output.status.to_string()))
    }
}

/// Returns the first of these executables that is in `PATH`, or in the folders of system programs, which a plain
/// user's `PATH` often lacks.
pub(crate) fn find(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from)).collect();
    names.iter().find_map(|name| folders.iter().map(|folder| folder.join(name)).find(|file| is_executable(file)))
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

fn shown(command: &Command) -> String {
    let name = Path::new(command.get_program()).file_name().unwrap_or_default();
    let words = std::iter::once(name).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

fn not_started(command: &Command, error: &std::io::Error) -> Fault {
    let name = command.get_program().to_string_lossy().into_owned();
    Fault::new(format!("`{name}` does not start: {error}"), format!("check that `{name}` is installed and in PATH"))
}

fn failed(command: &Command, status: &str) -> Fault {
    Fault::new(format!("`{}` ended with {status}", shown(command)), "read its output above, mend, run again")
}
