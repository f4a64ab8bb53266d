//! `evernear catalog rebuild`.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};
use format::NodeName;
use origin::rebuild::Rebuilt;
use serde::Serialize;

use super::Options;
use crate::output::table;

/// Maintain a cluster's catalog.
#[derive(Debug, Args)]
pub(crate) struct Catalog {
    #[command(subcommand)]
    command: CatalogCommand,
}

#[derive(Debug, Subcommand)]
enum CatalogCommand {
    /// Rebuild the catalog from what is on origins' disks
    #[command(after_help = "\
Examples:
  evernear catalog rebuild --config o1.toml
  evernear catalog rebuild --config o1.toml --config o2.toml

For a catalog that was lost, or restored from an older copy. Stop all origins, run it on every machine with the
configurations of its origins, then start them: one that runs would repair what is not filed yet. The catalog is the
one that each configuration names; a missing one is made. Running it again does no harm.
Owners publish their policies again: no disk of an origin has them.")]
    Rebuild {
        /// The configuration of a stopped origin; repeat it for each
        #[arg(long, value_name = "FILE", required = true)]
        config: Vec<PathBuf>,
    },
}

#[derive(Serialize)]
struct Line {
    node: NodeName,
    #[serde(flatten)]
    done: Rebuilt,
}

impl Catalog {
    pub(crate) async fn run(self, options: &Options) -> anyhow::Result<()> {
        let CatalogCommand::Rebuild { config } = self.command;
        // All configurations are read before anything is written.
        let read = |path: &PathBuf| {
            origin::Config::read(path).with_context(|| format!("the configuration {} cannot be used", path.display()))
        };
        let configs = config.iter().map(read).collect::<anyhow::Result<Vec<_>>>()?;
        let mut lines = Vec::new();
        for config in &configs {
            let done = origin::rebuild::rebuild(config).await;
            let done = done.with_context(|| format!("the rebuild from {} failed", config.data_dir.display()))?;
            lines.push(Line { node: config.name.clone(), done });
        }
        // Leases end only after all disks were read, because a later disk may hold a renewed lease.
        for config in &configs {
            let ended = origin::rebuild::end_leases(config).await;
            ended.with_context(|| format!("the end of leases in the catalog of {}", config.name))?;
        }
        options.answer(&lines, || table(&rows(&lines)))
    }
}

fn rows(lines: &[Line]) -> Vec<Vec<String>> {
    let head = ["node", "records filed", "known", "older", "other", "damaged", "shards filed", "known", "gone"];
    let row = |Line { node, done }: &Line| {
        let records =
            [done.records_filed, done.records_known, done.records_older, done.records_other, done.records_damaged];
        let shards = [done.shards_filed, done.shards_known, done.shards_gone];
        let numbers = records.into_iter().chain(shards).map(|number| number.to_string());
        std::iter::once(node.to_string()).chain(numbers).collect()
    };
    std::iter::once(head.map(str::to_owned).to_vec()).chain(lines.iter().map(row)).collect()
}
