//! `evernear owner new | show | passwd | recover`.

use std::{collections::BTreeSet, path::PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};
use format::Locator;
use serde::Serialize;
use tokio::task::spawn_blocking;
use twin::{Cost, LockKind, Recovered};

use super::Options;
use crate::{
    fault::{Class, Told},
    output::count,
    owner_access::{ClusterAccess, KeyAccess, StateFolder, open_twin},
    progress_bar,
};

/// Make, show or relock the owner key, or make its index again.
#[derive(Debug, Args)]
pub(crate) struct Owner {
    #[command(subcommand)]
    command: OwnerCommand,
}

#[derive(Debug, Subcommand)]
enum OwnerCommand {
    /// Draw a new owner key and keep it sealed
    #[command(after_help = "\
Examples:
  evernear owner new                                  asks for a passphrase, twice
  evernear owner new --new-key-file /media/usb/key    makes a key file that opens it instead

Whoever has the owner key owns what it stored; who loses it loses that. Keep a copy of owner.key; the index can be made again from it.")]
    New {
        #[command(flatten)]
        keys: KeyAccess,
        /// Make this file of 32 random bytes, and lock the owner key with it
        #[arg(long, value_name = "FILE")]
        new_key_file: Option<PathBuf>,
    },
    /// Show who the owner is; needs no passphrase
    Show,
    /// Make the index of uploads again from the owner key, or add what other machines stored
    #[command(after_help = "\
Examples:
  evernear owner recover

Asks the nodes for all that this owner stored and adds to the index what it lacks: after the index was lost, or when two
machines have one owner key. What another machine renewed or erased is taken over. Repeated calls do no harm.
What did not end, and what expired or was erased, does not come back.")]
    Recover {
        #[command(flatten)]
        keys: KeyAccess,
        #[command(flatten)]
        cluster: ClusterAccess,
    },
    /// Lock the owner key with another passphrase or key file
    #[command(after_help = "\
Examples:
  evernear owner passwd                                       asks for the old and the new passphrase
  evernear owner passwd --new-passphrase-file new.txt         the new one is the file's first line")]
    Passwd {
        #[command(flatten)]
        keys: KeyAccess,
        #[command(flatten)]
        cluster: ClusterAccess,
        /// The first line of this file is the new passphrase
        #[arg(long, value_name = "FILE", conflicts_with = "new_key_file")]
        new_passphrase_file: Option<PathBuf>,
        /// Make this file of 32 random bytes, and lock the owner key with it
        #[arg(long, value_name = "FILE")]
        new_key_file: Option<PathBuf>,
    },
}

#[derive(Serialize)]
struct Card {
    owner: String,
    lock: &'static str,
    path: PathBuf,
}

/// What a recovery found.
#[derive(Serialize)]
struct Found {
    /// Objects of this owner that nodes list.
    found: usize,
    added: usize,
    /// Renewed elsewhere.
    updated: usize,
    /// Erased elsewhere.
    forgotten: usize,
    /// Objects that could not be read now.
    unread: Vec<String>,
    /// Objects that nothing but their label opens.
    without_note: Vec<String>,
    /// Origins that did not answer.
    silent_nodes: Vec<String>,
}

impl Owner {
    pub(crate) async fn run(self, options: &Options) -> anyhow::Result<()> {
        let state = options.state()?;
        let store = state.owner_key();
        match self.command {
            OwnerCommand::Show => {}
            OwnerCommand::Recover { keys, cluster } => return recover(options, &state, &keys, &cluster).await,
            OwnerCommand::New { keys, new_key_file } => {
                // Check this before the prompt: nobody should invent a passphrase for a key that cannot be made.
                if store.path().exists() {
                    return Err(twin::OwnerError::Exists { path: store.path().to_owned() }.into());
                }
                let lock = keys.new_lock(new_key_file.as_deref())?;
                let store = store.clone();
                let create = move || store.create(&lock, Cost::RECOMMENDED).map(drop);
                spawn_blocking(create).await.context("making the owner key was cut short")??;
            }
            OwnerCommand::Passwd { keys, cluster, new_passphrase_file, new_key_file } => {
                let old = keys.unlock(store.card()?.lock, &state, &cluster)?;
                let new = KeyAccess::of_passphrase(new_passphrase_file).new_lock(new_key_file.as_deref())?;
                let store = store.clone();
                let relock = move || store.relock(&old, &new, Cost::RECOMMENDED);
                spawn_blocking(relock).await.context("relocking the owner key was cut short")??;
            }
        }
        let card = store.card()?;
        let lock = match card.lock {
            LockKind::Passphrase => "passphrase",
            LockKind::KeyFile => "key-file",
        };
        let card = Card { owner: card.owner.to_string(), lock, path: store.path().to_owned() };
        options.answer(&card, || format!("owner {}\nlock  {}\nfile  {}\n", card.owner, card.lock, card.path.display()))
    }
}

async fn recover(
    options: &Options,
    state: &StateFolder,
    keys: &KeyAccess,
    cluster: &ClusterAccess,
) -> anyhow::Result<()> {
    let (_, twin) = open_twin(state, keys, cluster).await?;
    let (progress, bar) = progress_bar::of_leases(options.json);
    let recovered = twin.recover(&progress).await;
    bar.finish_and_clear();
    let Recovered { found, added, updated, forgotten, unread, without_note, silent } = recovered?;
    let names = |locators: &BTreeSet<Locator>| locators.iter().map(ToString::to_string).collect();
    let answer = Found {
        found,
        added,
        updated,
        forgotten,
        unread: names(&unread),
        without_note: names(&without_note),
        silent_nodes: silent.iter().map(ToString::to_string).collect(),
    };
    options.answer(&answer, || answer.text())?;
    // The answer says what to do.
    if unread.is_empty() { Ok(()) } else { Err(Told { code: Class::Cluster.code() }.into()) }
}

impl Found {
    fn text(&self) -> String {
        let line = |number: usize, what: &str| match number {
            0 => String::new(),
            number => format!("{} {what}\n", count(number, "object")),
        };
        [
            format!("{} of this owner at the nodes\n", count(self.found, "object")),
            line(self.added, "added to the index"),
            line(self.updated, "renewed elsewhere"),
            line(self.forgotten, "erased elsewhere, and forgotten"),
            line(self.without_note.len(), "without a note: only who has the label reads them"),
            line(self.unread.len(), "could not be read now: repeat this when more nodes are up"),
            match &self.silent_nodes[..] {
                [] => String::new(),
                silent => format!("no answer from {}\n", silent.join(", ")),
            },
        ]
        .concat()
    }
}
