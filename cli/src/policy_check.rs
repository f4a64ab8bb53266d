//! The compiler of policies, which is this program by a word of its own, and a check of a policy as people read it.

use std::{path::PathBuf, time::Duration};

use anyhow::Context;
use api::CheckedLink;
use sandbox::guard::ChildCommand;

/// The compiler has 10 s of CPU time; the rest allows for a busy machine.
const DEADLINE: Duration = Duration::from_secs(30);

/// The word that makes this program the policy compiler's child process, which speaks on standard input and output.
pub(crate) const COMPILE: &str = "policy-compile";

/// The child process that compiles owners' policies: this program, by a word of its own.
pub(crate) fn compiler() -> anyhow::Result<ChildCommand> {
    // The path would not do: after an upgrade under a running edge, another program is there.
    let program = match cfg!(target_os = "linux") {
        true => PathBuf::from("/proc/self/exe"),
        false => std::env::current_exe().context("this program does not know where it lies")?,
    };
    Ok(ChildCommand { program, arguments: vec![COMPILE.into()], deadline: DEADLINE })
}

/// Formats the result for people.
pub(crate) fn text(links: &[CheckedLink]) -> String {
    links.iter().map(|link| format!("{link}\n")).collect()
}
