//! `evernear purge`.

use std::collections::BTreeSet;

use anyhow::Context;
use clap::Args;
use serde::Serialize;
use twin::{PurgeTold, Selection, Target, Twin};

use super::Options;
use crate::{
    output::{count, missed},
    owner_access::{ClusterAccess, KeyAccess, open_twin},
};

/// Purge this owner's objects from the caches of all edges
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  evernear purge LABEL                a file, or a stored folder with all in it
  evernear purge --tag premium        everything put with this tag
  evernear purge --all                everything of this owner
  evernear purge --soft LABEL         keep the bytes, look up again what is known about them

The next reader costs a fetch from origins; the object itself stays. Edges hear of it within two seconds; browsers keep what
they have. To end an object: `evernear rm`.")]
#[group(required = true, multiple = false, args = ["targets", "tag", "all"])]
pub(crate) struct Purge {
    /// Labels, or URLs whose hosts begin with one
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
    /// All objects put with this tag
    #[arg(long, value_name = "NAME")]
    tag: Option<String>,
    /// All objects of this owner
    #[arg(long)]
    all: bool,
    /// Soft purge: edges look up record and lease again, and serve what they hold meanwhile
    #[arg(long)]
    soft: bool,
    #[command(flatten)]
    keys: KeyAccess,
    #[command(flatten)]
    cluster: ClusterAccess,
}

#[derive(Serialize)]
struct Answer {
    /// How many objects were named; absent for all objects.
    #[serde(skip_serializing_if = "Option::is_none")]
    objects: Option<usize>,
    soft: bool,
    nodes: usize,
    missed_nodes: Vec<String>,
}

impl Purge {
    pub(crate) async fn run(self, options: &Options) -> anyhow::Result<()> {
        let (_, twin) = open_twin(&options.state()?, &self.keys, &self.cluster).await?;
        let selection = self.selection(&twin).await?;
        let PurgeTold { objects, nodes, missed } = twin.purge(selection, !self.soft).await?;
        let missed_nodes = missed.iter().map(ToString::to_string).collect();
        let answer = Answer { objects, soft: self.soft, nodes: nodes.len(), missed_nodes };
        options.answer(&answer, || answer.text())
    }

    async fn selection(&self, twin: &Twin) -> anyhow::Result<Selection> {
        if let Some(tag) = &self.tag {
            return Ok(Selection::Tag(tag.clone()));
        }
        if self.all {
            return Ok(Selection::All);
        }
        let mut locators = BTreeSet::new();
        for target in &self.targets {
            let target: Target = target.parse().with_context(|| format!("{target} cannot be looked for"))?;
            locators.insert(twin.whole(&target).await?);
            // A name holds no bytes: what edges hold is the object's.
            locators.insert(twin.network().stands_for(&target.label).await?.locator());
        }
        Ok(Selection::Objects(locators))
    }
}

impl Answer {
    fn text(&self) -> String {
        let what = self.objects.map_or("all objects".to_owned(), |objects| count(objects, "object"));
        let doing = if self.soft { "look up again what they know of" } else { "forget what they hold of" };
        format!("told {}: edges {doing} {what}\n{}", count(self.nodes, "node"), missed(&self.missed_nodes))
    }
}
