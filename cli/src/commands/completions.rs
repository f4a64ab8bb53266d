//! `evernear completions`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::{Args, Command, CommandFactory};
use clap_complete::{Shell, generate};

use crate::{Arguments, output};

/// Print the completions of a shell, or write them and manual pages into a folder.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  evernear completions bash > ~/.local/share/bash-completion/completions/evernear
  evernear completions fish > ~/.config/fish/completions/evernear.fish
  evernear completions zsh > ~/.zfunc/_evernear    with `fpath+=~/.zfunc` before `compinit` in ~/.zshrc
  evernear completions --pages pages               then: man pages/man1/evernear-put.1

The Debian package brings those of bash, fish and zsh, and the manual pages.")]
pub(crate) struct Completions {
    /// The shell
    #[arg(required_unless_present = "pages", conflicts_with = "pages")]
    shell: Option<Shell>,
    /// Write a manual page for each command, and the completions of bash, fish and zsh, into this folder
    #[arg(long, value_name = "DIR")]
    pages: Option<PathBuf>,
}

impl Completions {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        match (self.shell, &self.pages) {
            (Some(shell), _) => output::print(&script(shell)?),
            (None, Some(folder)) => {
                write(folder).with_context(|| format!("the pages cannot be written to {}", folder.display()))
            }
            (None, None) => Ok(()),
        }
    }
}

fn write(folder: &Path) -> anyhow::Result<()> {
    let manual = folder.join("man1");
    fs::create_dir_all(&manual)?;
    clap_mangen::generate_to(Arguments::command(), &manual)?;
    for (shell, name) in [(Shell::Bash, "evernear.bash"), (Shell::Zsh, "_evernear"), (Shell::Fish, "evernear.fish")] {
        fs::write(folder.join(name), script(shell)?)?;
    }
    Ok(())
}

fn script(shell: Shell) -> anyhow::Result<String> {
    let mut command: Command = Arguments::command();
    let mut script = Vec::new();
    generate(shell, &mut command, "evernear", &mut script);
    String::from_utf8(script).context("the completions are no text")
}
