//! The chore `console`: builds the console's pages into `console/dist`, which is committed and becomes part of the
//! program; compares it with what the sources make; has Chromium drive the pages.
//!
//! Place in the flow: after a change of a page. It is the only chore that needs Node. Keeps true: packages are those of
//! the lock file, and none runs a script at its installation.

use std::process::Command;

use crate::command;
use crate::fault::Fault;
use crate::setup;

const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// What is to be done; nothing said: build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    Build,
    Check,
    Drive,
}

/// Fetches the packages and does what the arguments name, in their order.
pub(crate) fn run(arguments: &[String]) -> Result<(), Fault> {
    let tasks = tasks(arguments)?;
    if command::find(&["npm"]).is_none() {
        if tasks.contains(&Task::Build) {
            return Err(Fault::new("npm is not here", "install Node.js 20 or later with npm"));
        }
        println!("console: npm is not here, so its pages are neither compared nor driven");
        return Ok(());
    }
    command::run(&mut npm(&["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]))?;
    for task in tasks {
        match task {
            Task::Build => {
                command::run(&mut npm(&["run", "check"]))?;
                command::run(&mut npm(&["run", "build"]))?;
            }
            Task::Check => {
                command::run(&mut npm(&["run", "check"]))?;
                command::run(&mut npm(&["run", "build", "--", "--check"]))?;
            }
            Task::Drive => drive()?,
        }
    }
    Ok(())
}

fn tasks(arguments: &[String]) -> Result<Vec<Task>, Fault> {
    let task = |argument: &String| match argument.as_str() {
        "--check" => Ok(Task::Check),
        "--test" => Ok(Task::Drive),
        other => {
            Err(Fault::new(format!("console does not know `{other}`"), "use --check or --test, or nothing to build"))
        }
    };
    let tasks: Vec<Task> = arguments.iter().map(task).collect::<Result<_, _>>()?;
    Ok(if tasks.is_empty() { vec![Task::Build] } else { tasks })
}

/// Runs the pages' tests against the program as it was built last.
fn drive() -> Result<(), Fault> {
    let Some(browser) = command::find(&BROWSERS) else {
        println!("console: no Chromium is here, so the pages are not driven");
        return Ok(());
    };
    setup::install(&[setup::Purpose::Build])?;
    // The packages of the demo, so that cargo chooses the same features and compiles nothing twice.
    command::run(&mut command::build(&["build", "--package", "cluster", "--package", "cli", "--bins"])?)?;
    let program = command::target_folder().join("debug/evernear");
    command::run(npm(&["test"]).env("EVERNEAR", program).env("CHROMIUM", browser))
}

fn npm(arguments: &[&str]) -> Command {
    let mut npm = command::program("npm", arguments);
    npm.current_dir(command::root().join("console"));
    npm
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_arguments_it_builds_and_what_it_does_not_know_is_refused() {
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(tasks(&[]), Ok(vec![Task::Build]));
        assert_eq!(tasks(&words("--check --test")), Ok(vec![Task::Check, Task::Drive]));
        assert!(tasks(&words("--chekc")).is_err());
    }
}
