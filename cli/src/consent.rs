//! Asking before something is destroyed that was not named one by one.

use std::io::{self, BufRead, IsTerminal, Write};

use anyhow::{Context, bail};

use crate::{commands::Options, fault::Usage, output::escape};

/// Whether the command line agrees already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Args)]
pub(crate) struct Consent {
    /// Do not ask; needed with --json, and where there is no terminal to ask at
    #[arg(long)]
    yes: bool,
}

impl Consent {
    /// Returns whether nobody need be asked.
    pub(crate) fn is_given(self) -> bool {
        self.yes
    }

    /// Asks on the terminal whether to do `what`. Blocks until the answer.
    ///
    /// # Errors
    /// When the answer is no, or nobody can be asked.
    pub(crate) fn to(self, what: &str, options: &Options) -> anyhow::Result<()> {
        if self.yes {
            return Ok(());
        }
        if options.json || !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return Err(Usage(format!("this would {what}, and nobody can be asked here; --yes does it")).into());
        }
        let agreed = ask(what, io::stdin().lock(), io::stderr().lock()).context("the terminal cannot be asked")?;
        if agreed { Ok(()) } else { bail!("nothing was done") }
    }
}

/// Takes nothing but a yes for one.
fn ask(what: &str, mut answers: impl BufRead, mut questions: impl Write) -> io::Result<bool> {
    write!(questions, "{}? [y/N] ", escape(what))?;
    questions.flush()?;
    let mut answer = String::new();
    answers.read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_yes_is_one() {
        for (answer, agreed) in
            [("y\n", true), ("yes\r\n", true), ("", false), ("\n", false), ("n\n", false), ("yo\n", false)]
        {
            let mut asked = Vec::new();
            assert_eq!(ask("erase 2 files of a\u{1b}b", answer.as_bytes(), &mut asked).unwrap(), agreed, "{answer:?}");
            assert_eq!(String::from_utf8(asked).unwrap(), "erase 2 files of a\\u{1b}b? [y/N] ");
        }
    }
}
