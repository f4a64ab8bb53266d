//! The chore `vectors`: a second reader of the object format, in Python and with its own packages, reads every vector
//! of format/tests/vectors. Then tests and examples of `format` and of `unixfs` run with their portable engines, which
//! no other test has.
//!
//! Place in the flow: after a change of the format. Keeps true: the packages are those of requirements.txt, in a folder
//! of their own below target/, so that nothing else on the machine changes.

use crate::command;
use crate::fault::Fault;
use crate::setup::{self, Purpose};

/// Installs Python and the reader's packages where they are missing, then runs the reader and the tests.
pub(crate) fn run(arguments: &[String]) -> Result<(), Fault> {
    if let Some(other) = arguments.first() {
        return Err(Fault::new(format!("vectors takes no argument `{other}`"), "run `./x vectors`"));
    }
    setup::install(&[Purpose::Build, Purpose::Test, Purpose::Python])?;
    let (second, target) = (command::root().join("format/tests/second"), command::target_folder());
    let (packages, asked) = (target.join("python"), second.join("requirements.txt"));
    let wanted = std::fs::read(&asked)
        .map_err(|error| Fault::new(format!("{}: {error}", asked.display()), "is this clone whole?"))?;
    let installed = packages.join("requirements.txt");
    if std::fs::read(&installed).ok().as_ref() != Some(&wanted) {
        command::run(command::program("python3", &["-m", "venv", "--clear"]).arg(&packages))?;
        let mut pip = command::program(packages.join("bin/pip"), &["install", "--quiet", "--requirement"]);
        command::run(pip.arg(&asked))?;
        std::fs::write(&installed, wanted)
            .map_err(|error| Fault::new(format!("{}: {error}", installed.display()), "is the disk full?"))?;
    }
    let mut reader = command::program(packages.join("bin/python"), &[]);
    let tests = command::root().join("format/tests");
    command::run(reader.arg(second.join("reader.py")).args([tests.join("vectors"), tests.join("golden")]))?;
    // Of `format`, the others ask nothing more of the engines, but some check thousands of signatures.
    let chosen = [
        ("format", "kind(lib) + test(/^(golden|streaming|vectors)::/)"),
        ("unixfs", "all() - test(npm_) - test(of_a_gib)"),
    ];
    for (package, tests) in chosen {
        let portable = ["--package", package, "--no-default-features", "--features", "portable"];
        let mut run = command::cargo(&["nextest", "run", "-E", tests]);
        command::run(run.args(portable).env("PATH", setup::path_with_tools()))?;
        command::run(command::cargo(&["test", "--doc"]).args(portable))?;
    }
    Ok(())
}
