//! `evernear index check | compact`.

use std::path::PathBuf;

use anyhow::{Context, Error};
use clap::{Args, Subcommand};
use serde::Serialize;
use tokio::task::spawn_blocking;
use twin::IndexCheck;

use super::Options;
use crate::{
    moment,
    output::{bytes, count, table},
    owner_access::{ClusterAccess, KeyAccess, open_index, open_secret},
};

/// Check or compact the index of uploads.
#[derive(Debug, Args)]
pub(crate) struct Index {
    #[command(subcommand)]
    command: IndexCommand,
}

#[derive(Debug, Subcommand)]
enum IndexCommand {
    /// Read the whole index and tell what it holds, and its first fault
    #[command(after_help = "\
Examples:
  evernear index check
  evernear index check --json | jq .live

Changes nothing. Exit code 1 when the index cannot be used; the message says what to do.")]
    Check {
        #[command(flatten)]
        keys: KeyAccess,
        #[command(flatten)]
        cluster: ClusterAccess,
    },
    /// Rewrite the index without what later entries supersede, and forget what expired
    #[command(after_help = "\
Examples:
  evernear index compact

What later entries supersede goes by itself when that is half of the index, and by each `rm`. What `evernear ls` shows as expired is
forgotten by this command alone, a day after its end by this machine's clock: nodes have erased it. What another machine of yours renewed meanwhile
comes back by `evernear owner recover`.")]
    Compact {
        #[command(flatten)]
        keys: KeyAccess,
        #[command(flatten)]
        cluster: ClusterAccess,
    },
}

/// What the index holds.
#[derive(Serialize)]
struct Answer {
    path: PathBuf,
    bytes: u64,
    /// What was written at once is one frame.
    frames: usize,
    /// Entries that are the newest of their object.
    live: usize,
    /// Entries that later ones supersede.
    dead: usize,
    /// Whether a crash cut the last write short. Nothing that was acknowledged is lost, and the next write mends it.
    torn: bool,
}

#[derive(Serialize)]
struct Compacted {
    freed_bytes: u64,
    /// Objects that had expired, and are no longer listed.
    expired: usize,
}

impl Index {
    pub(crate) async fn run(self, options: &Options) -> anyhow::Result<()> {
        let state = options.state()?;
        match self.command {
            IndexCommand::Check { keys, cluster } => {
                let (secret, path) = (open_secret(&state, &keys, &cluster).await?, state.index());
                let look = {
                    let path = path.clone();
                    move || twin::Index::check(path, &secret)
                };
                let answer = Answer::of(path, spawn_blocking(look).await.context("the check was cut short")??)?;
                options.answer(&answer, || answer.text())
            }
            IndexCommand::Compact { keys, cluster } => {
                let (_, mut index) = open_index(&state, &keys, &cluster).await?;
                let now = moment::now();
                let done =
                    spawn_blocking(move || index.compact(now)).await.context("the rewriting was cut short")??;
                let answer = Compacted { freed_bytes: done.freed_bytes, expired: done.forgotten };
                let expired = count(answer.expired, "expired object");
                options.answer(&answer, || {
                    let hint = match answer.expired {
                        0 => "",
                        _ => " by this machine's clock; `evernear owner recover` finds again what nodes still have",
                    };
                    format!("{} freed, {expired} forgotten{hint}\n", bytes(answer.freed_bytes))
                })
            }
        }
    }
}

impl Answer {
    fn of(path: PathBuf, check: IndexCheck) -> anyhow::Result<Self> {
        let IndexCheck { bytes, good_bytes, frames, live, dead, is_torn: torn, fault } = check;
        match fault {
            None => Ok(Self { path, bytes, frames, live, dead, torn }),
            Some(fault) => Err(Error::new(fault).context(format!(
                "of {bytes} bytes the first {good_bytes} are good: {}, in which {live} uploads are live and {dead} entries dead",
                count(frames, "frame")
            ))),
        }
    }

    fn text(&self) -> String {
        let row = |name: &str, value: String| vec![name.to_owned(), value];
        let torn = "the last write was cut short by a crash; nothing acknowledged is lost, and the next write mends it";
        let rows = [
            row("file", self.path.display().to_string()),
            row("size", format!("{} ({} bytes)", bytes(self.bytes), self.bytes)),
            row("frames", self.frames.to_string()),
            row("live", format!("{} entries", self.live)),
            row("dead", format!("{} entries, superseded", self.dead)),
            row("state", if self.torn { torn.to_owned() } else { "good".to_owned() }),
        ];
        table(&rows)
    }
}
