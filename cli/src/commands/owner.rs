//! `evernear owner new | show | passwd`.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};
use serde::Serialize;
use tokio::task::spawn_blocking;
use twin::{Cost, LockKind};

use super::Options;
use crate::owner_access::KeyAccess;

/// Make, show or relock the owner key.
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

Whoever has the owner key owns what it stored; who loses it loses that. Keep a copy of owner.key and of index.")]
    New {
        #[command(flatten)]
        keys: KeyAccess,
        /// Make this file of 32 random bytes, and lock the owner key with it
        #[arg(long, value_name = "FILE")]
        new_key_file: Option<PathBuf>,
    },
    /// Show who the owner is; needs no passphrase
    Show,
    /// Lock the owner key with another passphrase or key file
    #[command(after_help = "\
Examples:
  evernear owner passwd                                       asks for the old and the new passphrase
  evernear owner passwd --new-passphrase-file new.txt         the new one is the file's first line")]
    Passwd {
        #[command(flatten)]
        keys: KeyAccess,
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

impl Owner {
    pub(crate) async fn run(self, options: &Options) -> anyhow::Result<()> {
        let store = options.state()?.owner_key();
        match self.command {
            OwnerCommand::Show => {}
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
            OwnerCommand::Passwd { keys, new_passphrase_file, new_key_file } => {
                let old = keys.unlock(store.card()?.lock)?;
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
