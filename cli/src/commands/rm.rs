//! `evernear rm`.

use std::collections::BTreeSet;

use clap::Args;
use serde::Serialize;
use twin::{Removed, TargetError};

use super::Options;
use crate::{
    failures::{Failed, Failures},
    output::{count, missed},
    owner_access::{ClusterAccess, KeyAccess, open_twin},
    progress_bar,
    targets::Targets,
};

/// What is gone when.
const GONE: &str = "\
origins have destroyed its key, so nobody can decrypt it any more
within seconds   edges answer 410 and forget their copies
after a while    origins free the space: erase_grace_seconds, a day by default
never            copies that viewers have are not taken back
";

/// End the lease of an object and erase its key.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  evernear rm LABEL                a file, or a stored folder with all in it
  evernear rm LABEL LABEL LABEL    several, many at once
  evernear rm --all-of site        each folder that was stored as `site`, from wherever, and what is left of one that did not end
  evernear rm --all-of site/img    what was stored from within that folder, of each version
  evernear rm --unfinished         all that did not end; what another `put` works on goes on

`evernear ls --all` shows the paths that --all-of takes. One that cannot be erased stops no other. Nodes destroy the sealed manifest, this owner's index forgets the name: then no key to the bytes is left.
Refused before the time of --keep-until. What a viewer already fetched cannot be taken back.")]
pub(crate) struct Rm {
    /// Labels, or URLs whose host begins with one
    #[arg(required_unless_present_any = ["all_of", "unfinished"])]
    target: Vec<String>,
    /// All that was stored from this folder, by its path in `evernear ls --all`
    #[arg(long, value_name = "FOLDER")]
    all_of: Vec<String>,
    /// All that did not end
    #[arg(long)]
    unfinished: bool,
    #[command(flatten)]
    keys: KeyAccess,
    #[command(flatten)]
    cluster: ClusterAccess,
}

#[derive(Serialize)]
struct Answer {
    erased: Vec<Erased>,
    /// Objects that no node knew: they had expired, were erased before, or were never committed.
    unknown: Vec<String>,
    /// Uploads that `put` would have gone on with.
    uploads_ended: usize,
    /// What stays, and why.
    failed: Vec<Failed>,
}

#[derive(Serialize)]
struct Erased {
    locator: String,
    nodes: usize,
    missed_nodes: Vec<String>,
}

impl Rm {
    pub(crate) async fn run(self, options: &Options) -> anyhow::Result<()> {
        let targets = Targets::parse(&self.target)?;
        let (_, twin) = open_twin(&options.state()?, &self.keys, &self.cluster).await?;
        let named = targets.whole(&twin).await?;
        let mut locators: BTreeSet<_> = named.keys().copied().collect();
        for folder in &self.all_of {
            let under = twin.under(folder).await;
            if under.is_empty() {
                return Err(TargetError::NoFolder { folder: folder.clone() }.into());
            }
            locators.extend(under);
        }
        let mut uploads_ended = 0;
        if self.unfinished {
            // First, so that nodes hold nothing more of what is erased next.
            for upload in twin.resumable().await? {
                twin.end_resumable(upload.batch).await?;
                uploads_ended += 1;
            }
            locators.extend(twin.unfinished().await);
        }
        let (progress, bar) = progress_bar::of_leases(options.json);
        let removed = twin.remove_all(&locators, &progress).await;
        bar.finish_and_clear();
        let (removed, failed) = removed?;
        let failed = Failures::of_leases(failed, &named, locators.len())?;
        let answer = Answer::of(removed, uploads_ended, failed.failed.clone());
        options.answer(&answer, || answer.text())?;
        failed.end(options)
    }
}

impl Answer {
    fn of(removed: Removed, uploads_ended: usize, failed: Vec<Failed>) -> Self {
        let erased = removed.ended.into_iter().map(|(locator, told)| Erased {
            locator: locator.to_string(),
            nodes: told.nodes.len(),
            missed_nodes: told.missed.iter().map(ToString::to_string).collect(),
        });
        let unknown = removed.unknown.iter().map(ToString::to_string).collect();
        Self { erased: erased.collect(), unknown, uploads_ended, failed }
    }

    fn text(&self) -> String {
        let ended = match self.uploads_ended {
            0 => String::new(),
            ended => format!("ended {} that did not end: no put goes on with it\n", count(ended, "upload")),
        };
        let gone = match self.erased.len() {
            0 if self.uploads_ended > 0 => String::new(),
            0 => "erased nothing\n".to_owned(),
            erased => format!("erased {}: {GONE}", count(erased, "object")),
        };
        let unknown = match self.unknown.len() {
            0 => String::new(),
            unknown => format!(
                "{} unknown to all nodes: expired, erased before, or never stored whole\n",
                count(unknown, "object")
            ),
        };
        let nodes: BTreeSet<_> = self.erased.iter().flat_map(|erased| &erased.missed_nodes).collect();
        format!("{ended}{gone}{unknown}{}", missed(nodes))
    }
}
