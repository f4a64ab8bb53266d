//! `./x CHORE`: the chores of this repository, one file each.
//!
//! Place in the flow: the first command that a user or CI runs on a fresh machine. Each chore calls [`setup`] for the
//! tools it needs, shows what it runs, and leaves the work to cargo. Keeps true: only the standard library is used, so
//! its first words come seconds after the command.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a chore talks to the person at the terminal")]

mod audit;
mod bench;
mod check;
mod command;
mod console;
mod demo;
mod docs;
mod fault;
mod fuzz;
mod json;
mod package;
mod planted;
mod policies;
mod room;
mod setup;
mod test;
mod tidy;
mod torture;
mod up;
mod vectors;

use std::process::ExitCode;

use fault::Fault;

/// One chore: its name on the command line, one line of what it does, examples, and what runs.
struct Chore {
    name: &'static str,
    summary: &'static str,
    examples: &'static [&'static str],
    run: fn(&[String]) -> Result<(), Fault>,
}

/// Every chore, in the order in which a newcomer needs them.
const CHORES: &[Chore] = &[
    Chore {
        name: "up",
        summary: "build and start a network on this machine that lasts: `evernear up`",
        examples: &[
            "./x up                        in ~/.evernear, until Ctrl-C; the same again goes on with it",
            "./x up --release              optimised: builds longer, and serves large files fast",
            "./x up /mnt/a /mnt/b /mnt/c   over three disks, of which one may be lost",
        ],
        run: up::run,
    },
    Chore {
        name: "demo",
        summary: "build and start a small network on this machine and show a file's whole road",
        examples: &[
            "./x demo                      the shipped samples, until Ctrl-C",
            "./x demo photo.jpg film.mp4   your own files",
            "./x demo --check              the same as assertions, then end",
        ],
        run: demo::run,
    },
    Chore {
        name: "test",
        summary: "every test of every crate, then the demo as a check",
        examples: &["./x test", "./x test -p format   only this crate, no demo"],
        run: test::run,
    },
    Chore {
        name: "torture",
        summary: "kill processes, flip bits, delete folders under load; nothing acknowledged may be lost",
        examples: &[
            "./x torture                        one minute",
            "./x torture --minutes 60 --seed 7  the long lane",
        ],
        run: torture::run,
    },
    Chore {
        name: "planted",
        summary: "plant twelve bugs one after another; the test that watches for it must find each",
        examples: &["./x planted", "./x planted FolderSync   only this one"],
        run: planted::run,
    },
    Chore {
        name: "setup",
        summary: "install what this machine lacks; the other chores call it, so it is seldom typed",
        examples: &[
            "./x setup                     what building and testing need",
            "./x setup --build             only what building needs",
            "./x setup --bench             also what the measurements need",
            "./x setup --tools             also cargo-deny and cargo-audit, which CI needs",
            "./x setup --dry-run --tools   only say what would be installed",
        ],
        run: setup::run,
    },
    Chore {
        name: "policies",
        summary: "build the ready-made policies into policies/prebuilt",
        examples: &["./x policies", "./x policies --check   rebuild and compare with the committed bytes"],
        run: policies::run,
    },
    Chore {
        name: "console",
        summary: "build the console's pages into console/dist; needs Node",
        examples: &[
            "./x console                  after a change in console/src",
            "./x console --check          rebuild and compare with the committed bytes",
            "./x console --check --test   then Chromium drives the pages of the built program, a minute and a half",
        ],
        run: console::run,
    },
    Chore {
        name: "tidy",
        summary: "prove the layers, the homes of dependencies, pure code, file sizes, and links and tests in documents",
        examples: &["./x tidy"],
        run: tidy::run,
    },
    Chore {
        name: "check",
        summary: "what must hold of the text before it lands: form, tidy, lints, licences, known faults",
        examples: &["./x check"],
        run: check::run,
    },
    Chore {
        name: "audit",
        summary: "dependencies with known faults",
        examples: &[
            "./x audit           by the snapshot in .ci/, at most 180 days older than the commit",
            "./x audit --fetch   by the database of today",
        ],
        run: audit::run,
    },
    Chore {
        name: "fuzz",
        summary: "every decoder of foreign bytes under libFuzzer",
        examples: &[
            "./x fuzz                     a minute each",
            "./x fuzz --seconds 600 label",
            "./x fuzz --seconds 0         build and lint all, and replay the corpus",
            "./x fuzz --ours --seconds 5  coverage in our crates alone; compiles no dependency that the tests have",
        ],
        run: fuzz::run,
    },
    Chore {
        name: "vectors",
        summary: "every vector is read by a second reader, in Python, and by the crate without C",
        examples: &["./x vectors"],
        run: vectors::run,
    },
    Chore {
        name: "docs",
        summary: "the API documentation, with every warning an error, and its examples",
        examples: &["./x docs", "./x docs --open", "./x docs --cli   write docs/cli.md from the program's help"],
        run: docs::run,
    },
    Chore {
        name: "bench",
        summary: "the measurements beside their peers, in release mode",
        examples: &["./x bench", "./x bench --help   what it can measure"],
        run: bench::run,
    },
    Chore {
        name: "package",
        summary: "a Debian package of the program, its units and examples",
        examples: &[
            "./x package          target/evernear_VERSION_ARCHITECTURE.deb, and one of debug symbols",
            "./x package --fast   larger files sooner; any option of cargo-deb goes here",
            "./x package --check  pack the demo's build, install and remove it in a copy of this machine",
        ],
        run: package::run,
    },
    Chore {
        name: "room",
        summary: "the README's commands in a bare Debian 12 made for them; as root, with network, a quarter of an hour",
        examples: &[
            "./x room                      ./x demo --check there, the toolchain being `stable`",
            "./x room --toolchain 1.95.0   the same with that name",
            "./x room --test               then ./x test",
        ],
        run: room::run,
    },
];

fn main() -> ExitCode {
    let asked = docs::in_place_of_rustdoc();
    match asked.unwrap_or_else(|| chore(&std::env::args().skip(1).collect::<Vec<String>>())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("xtask: {fault}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the chore that the first argument names, with the arguments after it.
fn chore(arguments: &[String]) -> Result<(), Fault> {
    let Some((name, rest)) = arguments.split_first() else {
        print_help();
        return Ok(());
    };
    if matches!(name.as_str(), "help" | "--help" | "-h") {
        print_help();
        return Ok(());
    }
    match CHORES.iter().find(|chore| chore.name == name) {
        Some(chore) if matches!(rest.first().map(String::as_str), Some("--help" | "-h")) => {
            print_chore(chore);
            Ok(())
        }
        Some(chore) => {
            if command::is_linted() {
                setup::install(&[setup::Purpose::Lints])?;
            }
            (chore.run)(rest)
        }
        None => Err(Fault::new(format!("there is no chore named `{name}`"), "`./x help` lists them")),
    }
}

fn print_chore(chore: &Chore) {
    println!("{:<9} {}", chore.name, chore.summary);
    for example in chore.examples {
        println!("            {example}");
    }
}

fn print_help() {
    println!("usage: ./x CHORE [ARGUMENTS]\n");
    CHORES.iter().for_each(print_chore);
    println!("\nEvery chore installs what it lacks (apt-get, rustup) before it starts.");
}
