//! The script `x` on machines of every kind. Stand-ins (test doubles) for rustup, cargo, apt-get and the compiler
//! record how they were called.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod ci;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

/// Programs that the script calls and that every Debian has.
const TOOLS: [&str; 9] = ["sh", "dirname", "readlink", "sed", "awk", "grep", "cat", "env", "uname"];

/// A machine: a clone of the repository, and one folder of programs, which is its whole `PATH`.
struct Machine {
    root: PathBuf,
}

impl Machine {
    /// Returns a machine with the programs that every Debian has; its user has this id.
    fn of_user(user: u32) -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("evernear-x-{}-{number}", std::process::id()));
        fs::create_dir_all(root.join("bin")).unwrap();
        fs::create_dir_all(root.join("my clone")).unwrap();
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        fs::copy(repository.join("x"), root.join("my clone/x")).unwrap();
        fs::write(root.join("my clone/Cargo.toml"), "[workspace.package]\nrust-version = \"1.95\"\n").unwrap();
        for tool in TOOLS {
            let found =
                ["/bin", "/usr/bin"].map(|folder| Path::new(folder).join(tool)).into_iter().find(|it| it.exists());
            symlink(found.unwrap(), root.join("bin").join(tool)).unwrap();
        }
        let machine = Self { root };
        machine.with("id", &format!("echo {user}"))
    }

    /// Adds a program. It records its calls, then runs `body`.
    fn with(self, name: &str, body: &str) -> Self {
        let path = self.root.join("bin").join(name);
        let notes = self.root.join("notes");
        let note =
            format!("#!/bin/sh\nprintf '%s\\n' \"{name}($RUSTUP_TOOLCHAIN) $*\" >>'{}'\n{body}\n", notes.display());
        fs::write(&path, note).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    /// Adds a compiler of this version to the path, which no toolchain file or setting selects.
    fn with_rustc(self, version: &str) -> Self {
        self.with("rustc", &format!("echo 'rustc {version} (0123456789 2026-01-01)'"))
    }

    /// Adds a cargo of this version, which runs `body`.
    fn with_cargo(self, version: &str, body: &str) -> Self {
        self.with("cargo", &format!("case $1 in --version) echo 'cargo {version} (x y)' ;; *) {body} ;; esac"))
    }

    /// Adds a rustup that has these toolchains, and installs `stable` of this version when asked.
    fn with_rustup(self, toolchains: &[(&str, &str)], stable: &str) -> Self {
        let list: String = toolchains.iter().map(|(name, _)| format!("echo '{name}'\n")).collect();
        let run: String = toolchains
            .iter()
            .map(|(name, version)| format!("{}) echo 'rustc {version} (x y)' ;;\n", first_word(name)))
            .collect();
        self.with(
            "rustup",
            &format!(
                "case \"$1 $2 $4\" in 'toolchain list '*) {list} ;; 'toolchain install '*) exit 0 ;; \
                 run*--version) case $2 in {run} stable) echo 'rustc {stable} (x y)' ;; *) exit 1 ;; esac ;; \
                 run*) RUSTUP_TOOLCHAIN=$2; export RUSTUP_TOOLCHAIN; shift 2; exec \"$@\" ;; esac"
            ),
        )
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new("/bin/sh")
            .arg(self.root.join("my clone/x"))
            .args(arguments)
            .env_clear()
            .env("PATH", self.root.join("bin"))
            .env("HOME", &self.root)
            .output()
            .unwrap()
    }

    /// Returns the calls of a program, each with the toolchain that was selected.
    fn calls(&self, program: &str) -> Vec<String> {
        let notes = fs::read_to_string(self.root.join("notes")).unwrap_or_default();
        let called =
            notes.lines().filter(|line| line.starts_with(&format!("{program}(")) && !line.ends_with("--version"));
        called.map(str::to_owned).collect()
    }

    /// Returns the only call of cargo.
    fn cargo(&self) -> String {
        let calls = self.calls("cargo");
        assert_eq!(calls.len(), 1, "{calls:?}");
        calls[0].clone()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

fn first_word(line: &str) -> &str {
    line.split(' ').next().unwrap()
}

/// Runs `./x demo` and expects a failure whose message contains all of these words.
fn refused(machine: &Machine, words: &[&str]) {
    let output = machine.run(&["demo"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    for word in words {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert_eq!(machine.calls("cargo"), [""; 0]);
}

#[test]
fn a_compiler_that_is_new_enough_is_taken_as_it_is_and_arguments_stay_whole() {
    for version in ["1.95.0", "1.96.0-nightly", "1.101.3", "2.0.0"] {
        let machine =
            Machine::of_user(1000).with_rustc(version).with("cc", "").with_cargo("2.0.0", "printf '<%s>' \"$@\"");
        let output = machine.run(&["demo", "my film.mp4", ""]);
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success() && said.ends_with("<--package><xtask><--><demo><my film.mp4><>"),
            "{version}: {said}"
        );
        assert!(said.contains("my clone/Cargo.toml>"), "{said}");
        assert!(machine.cargo().starts_with("cargo() "));
    }
}

#[test]
fn of_several_toolchains_one_that_is_new_enough_is_chosen_whatever_its_name() {
    for (toolchains, chosen) in [
        (&[("stable-x86_64-unknown-linux-gnu (default)", "1.95.2")][..], "stable-x86_64-unknown-linux-gnu"),
        (
            &[
                ("1.80.1-x86_64-unknown-linux-gnu (active, default)", "1.80.1"),
                ("1.95.0-x86_64-unknown-linux-gnu", "1.95.0"),
            ],
            "1.95.0-x86_64-unknown-linux-gnu",
        ),
        (&[("nightly-x86_64-unknown-linux-gnu", "1.99.0-nightly"), ("ours", "1.97.0")], "ours"),
        (&[("1.9.0", "1.9.0"), ("nightly-2026-05-01", "1.97.0-nightly")], "nightly-2026-05-01"),
    ] {
        let machine = Machine::of_user(1000)
            .with_rustc("1.80.1")
            .with_rustup(toolchains, "1.80.0")
            .with("cc", "")
            .with_cargo("1.95.0", ":");
        assert!(machine.run(&["test"]).status.success());
        assert!(machine.cargo().starts_with(&format!("cargo({chosen}) ")), "{}", machine.cargo());
        assert!(!machine.calls("rustup").iter().any(|call| call.contains("install")));
    }
}

#[test]
fn an_old_cargo_in_the_path_is_not_called_in_place_of_the_toolchains() {
    for (rustc, cargo) in [("1.63.0", "1.65.0"), ("1.95.0", "1.65.0")] {
        let machine = Machine::of_user(1000).with_rustc(rustc).with_rustup(&[("stable", "1.95.0")], "1.95.0");
        let machine = machine.with("cc", "").with_cargo(cargo, ":");
        assert!(machine.run(&["demo"]).status.success());
        assert!(
            machine.calls("rustup").iter().any(|call| call.contains("run stable cargo run ")),
            "{:?}",
            machine.calls("rustup")
        );
    }
}

#[test]
fn without_one_stable_is_installed_and_an_old_stable_is_told() {
    let machine =
        Machine::of_user(1000).with_rustup(&[("1.94.0", "1.94.0")], "1.95.0").with("cc", "").with_cargo("1.95.0", ":");
    assert!(machine.run(&["demo"]).status.success());
    assert!(machine.cargo().starts_with("cargo(stable) "));
    let old = Machine::of_user(1000).with_rustup(&[], "1.94.0").with("cc", "").with_cargo("1.95.0", ":");
    refused(&old, &["`stable` is older than 1.95", "rustup update stable"]);
}

#[test]
fn a_machine_without_rustup_is_told_where_it_is() {
    refused(
        &Machine::of_user(0).with("cc", "").with_cargo("1.95.0", ":"),
        &["1.95", "found: none", "https://rustup.rs"],
    );
    let old = Machine::of_user(0).with_rustc("1.63.0").with("cc", "").with_cargo("1.95.0", ":");
    refused(&old, &["found: rustc 1.63.0"]);
}

#[test]
fn a_c_compiler_is_installed_where_there_is_none() {
    let machine = Machine::of_user(0).with_rustc("1.95.0").with("apt-get", "").with_cargo("1.95.0", ":");
    assert!(machine.run(&["demo"]).status.success());
    let calls = machine.calls("apt-get");
    assert!(calls.len() == 2 && calls[0].contains("update") && calls[1].ends_with("gcc libc6-dev"), "{calls:?}");
    machine.cargo();

    let machine = Machine::of_user(1000)
        .with_rustc("1.95.0")
        .with("apt-get", "")
        .with("sudo", "shift; exec \"$@\"")
        .with_cargo("1.95.0", ":");
    assert!(machine.run(&["demo"]).status.success());
    assert_eq!((machine.calls("sudo").len(), machine.calls("apt-get").len()), (2, 2));
}

#[test]
fn who_cannot_install_is_told_what_to_install() {
    let machine = Machine::of_user(1000).with_rustc("1.95.0").with("apt-get", "").with_cargo("1.95.0", ":");
    refused(&machine, &["no C compiler `cc` that links", "as root: apt-get update && apt-get install gcc libc6-dev"]);
    refused(
        &Machine::of_user(0).with_rustc("1.95.0").with_cargo("1.95.0", ":"),
        &["no C compiler `cc`", "gcc or clang"],
    );
}

#[test]
fn a_wait_for_another_cargos_lock_is_seen() {
    // As cargo does: quiet, it waits without a word.
    let body =
        "case \" $* \" in *' --quiet '*) ;; *) echo 'Blocking waiting for file lock on artifact directory' >&2 ;; esac";
    let machine = Machine::of_user(1000).with_rustc("1.95.0").with("cc", "").with_cargo("1.95.0", body);
    let output = machine.run(&["tidy"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.contains("Blocking waiting for file lock"), "{said}");
}
