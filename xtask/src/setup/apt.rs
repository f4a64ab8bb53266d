//! Installs Debian packages by apt-get, as root or through sudo.
//!
//! Place in the flow: called by `setup` when, and only when, something is missing. Keeps true: the only question on the
//! terminal is sudo's password. On a machine without apt-get it prints the list.

use std::io::IsTerminal;
use std::process::Command;

use super::needs::{Need, Weight};
use crate::command;
use crate::fault::Fault;

/// Installs the packages of these needs.
///
/// # Errors
/// When there is no apt-get or no way to become root, or when a package that must be there does not install.
pub(super) fn install(missing: &[&Need]) -> Result<(), Fault> {
    println!("setup: this machine lacks");
    for need in missing {
        println!("  {:<16} {}", need.package, need.why);
    }
    let (must, may): (Vec<&Need>, Vec<&Need>) = missing.iter().partition(|need| need.weight == Weight::Must);
    let apt = Apt::of_this_machine(&must)?;
    // Package lists of an image are empty or old, and the server answers 404 for a version that was replaced since.
    command::run(&mut apt.get(&["update"]))?;
    if !must.is_empty() {
        command::run(&mut apt.get(&install_arguments(&must)))?;
    }
    for need in &may {
        if command::run(&mut apt.get(&install_arguments(&[need]))).is_err() {
            println!("setup: going on without {}; what wants it is skipped", need.package);
        }
    }
    match must.iter().find(|need| !need.is_met()) {
        None => Ok(()),
        Some(need) => Err(Fault::new(
            format!("{} is installed, but none of {} is there", need.package, need.any_of.join(", ")),
            "look at `apt-get install` above; is the package's folder in PATH?",
        )),
    }
}

fn install_arguments<'a>(needs: &[&'a Need]) -> Vec<&'a str> {
    let mut arguments = vec!["install", "--yes", "--no-install-recommends"];
    arguments.extend(needs.iter().map(|need| need.package));
    arguments
}

/// How apt-get is called on this machine.
struct Apt {
    sudo: Option<&'static [&'static str]>,
}

impl Apt {
    fn of_this_machine(must: &[&Need]) -> Result<Self, Fault> {
        let names = must.iter().map(|need| need.package).collect::<Vec<_>>().join(" ");
        if command::find(&["apt-get"]).is_none() {
            return Err(Fault::new(
                "there is no apt-get here, and setup knows only Debian's and Ubuntu's packages",
                format!("install what matches {names} by this system's own means, then run the same chore again"),
            ));
        }
        if command::output(&mut command::program("id", &["-u"]))?.trim() == "0" {
            return Ok(Self { sudo: None });
        }
        if command::find(&["sudo"]).is_none() {
            return Err(Fault::new(
                "installing packages needs root, and there is no sudo here",
                format!("as root: apt-get update && apt-get install {names}"),
            ));
        }
        // Without a terminal nobody can type a password: fail at once instead of waiting.
        let interactive: &'static [&'static str] = &[];
        Ok(Self { sudo: Some(if std::io::stdin().is_terminal() { interactive } else { &["--non-interactive"] }) })
    }

    fn get(&self, arguments: &[&str]) -> Command {
        // Another apt (the updates of a first boot) may hold the lock. 300 s is longer than those take.
        let fixed = ["DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-o", "DPkg::Lock::Timeout=300"];
        let mut command = match self.sudo {
            None => command::program("env", &[]),
            Some(options) => command::program("sudo", &[options, &["env"]].concat()),
        };
        command.args(fixed).args(arguments);
        command
    }
}
