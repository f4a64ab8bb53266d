//! `evernear rm`.

use std::collections::BTreeSet;

use anyhow::Context;
use clap::Args;
use serde::Serialize;
use twin::{Removed, Target};

use super::Options;
use crate::{
    output::{count, missed},
    owner_access::{ClusterAccess, KeyAccess, open_twin},
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
  evernear rm LABEL        a file, or a stored folder with all in it

Nodes destroy the sealed manifest, this owner's index forgets the name: then no key to the bytes is left.
Refused before the time of --keep-until. What a viewer already fetched cannot be taken back.")]
pub(crate) struct Rm {
    /// A label, or a URL whose host begins with one
    target: String,
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
}

#[derive(Serialize)]
struct Erased {
    locator: String,
    nodes: usize,
    missed_nodes: Vec<String>,
}

impl Rm {
    pub(crate) async fn run(self, options: &Options) -> anyhow::Result<()> {
        let target: Target = self.target.parse().context("the object cannot be looked for")?;
        let (_, twin) = open_twin(&options.state()?, &self.keys, &self.cluster).await?;
        let answer = Answer::of(twin.remove(&twin.whole(&target).await?).await?);
        options.answer(&answer, || answer.text())
    }
}

impl Answer {
    fn of(removed: Removed) -> Self {
        let erased = removed.ended.into_iter().map(|(locator, told)| Erased {
            locator: locator.to_string(),
            nodes: told.nodes.len(),
            missed_nodes: told.missed.iter().map(ToString::to_string).collect(),
        });
        Self { erased: erased.collect(), unknown: removed.unknown.iter().map(ToString::to_string).collect() }
    }

    fn text(&self) -> String {
        let gone = match self.erased.len() {
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
        format!("{gone}{unknown}{}", missed(nodes))
    }
}
