//! `evernear catalog rebuild` and `evernear catalog move`.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};
use format::NodeName;
use origin::{
    catalog::{CatalogUrl, move_catalog},
    rebuild::Rebuilt,
};
use serde::Serialize;

use super::Options;
use crate::{
    output::{count, table},
    progress_bar,
};

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
    /// Move the catalog to another database: from a file to a server, or back
    #[command(after_help = "\
Examples:
  evernear catalog move --from sqlite:///var/lib/evernear/catalog.db --to postgres://evernear@db.example/evernear
  evernear catalog move --from postgres://evernear@db.example/evernear --to sqlite:///var/lib/evernear/catalog.db

Stop all origins first; it refuses while one is connected. Then write the new URL into `catalog` of their configurations, and start them.
Everything goes: records, erasures, policies, the queue of repairs, the feed. What went is read back and compared. The new database must be
empty, or what this catalog left behind when it moved before. Cut short, it has changed nothing that counts, or the same command ends it.
What is left at the old place is a copy of that moment on which no origin starts: delete it once you trust the new one, as it opens objects
that are erased later. A password lies in ~/.pgpass and in no URL here. `evernear up --catalog URL` moves the catalog of `evernear up`.")]
    Move {
        /// Where it is: `sqlite:///absolute/path` or `postgres://USER@HOST/DATABASE`
        #[arg(long, value_name = "URL")]
        from: CatalogUrl,
        /// Where it is to be: the same forms
        #[arg(long, value_name = "URL")]
        to: CatalogUrl,
    },
}

/// What moved.
#[derive(Serialize)]
struct Gone {
    id: String,
    from: String,
    to: String,
    tables: Vec<Rows>,
}

#[derive(Serialize)]
struct Rows {
    table: &'static str,
    rows: u64,
}

#[derive(Serialize)]
struct Line {
    node: NodeName,
    #[serde(flatten)]
    done: Rebuilt,
}

impl Catalog {
    pub(crate) async fn run(self, options: &Options) -> anyhow::Result<()> {
        match self.command {
            CatalogCommand::Rebuild { config } => rebuild(&config, options).await,
            CatalogCommand::Move { from, to } => move_to(&from, &to, options).await,
        }
    }
}

async fn rebuild(configs: &[PathBuf], options: &Options) -> anyhow::Result<()> {
    // All configurations are read before anything is written.
    let read = |path: &PathBuf| {
        origin::Config::read(path).with_context(|| format!("the configuration {} cannot be used", path.display()))
    };
    let configs = configs.iter().map(read).collect::<anyhow::Result<Vec<_>>>()?;
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

async fn move_to(from: &CatalogUrl, to: &CatalogUrl, options: &Options) -> anyhow::Result<()> {
    let bar = progress_bar::of_rows(options.json);
    let moved = move_catalog(from, to, |at| progress_bar::show_move(&bar, at)).await;
    bar.finish_and_clear();
    let moved = moved?;
    let gone = Gone {
        id: moved.id.to_string(),
        from: from.without_password()?,
        to: to.without_password()?,
        tables: moved.tables.into_iter().map(|(table, rows)| Rows { table, rows }).collect(),
    };
    options.answer(&gone, || said(&gone))
}

/// Says what moved, and what is to be done now.
fn said(gone: &Gone) -> String {
    let Gone { id, from, to, tables } = gone;
    let what = match &tables[..] {
        [] => format!("The catalog {id} was copied by a run before this one; now it is in use at {to}.\n"),
        tables => {
            let rows: Vec<_> = tables.iter().map(|it| vec![it.table.to_owned(), it.rows.to_string()]).collect();
            let all = count(tables.iter().map(|it| it.rows).sum::<u64>(), "row");
            let lines: String = table(&rows).lines().map(|line| format!("  {line}\n")).collect();
            format!("{lines}The catalog {id} is at {to} now: {all}, read back and compared.\n")
        }
    };
    format!(
        "{what}Write into the configurations of its origins, and start them:\n\n  catalog = \"{to}\"\n\n\
         No origin starts on what is left at {from}: delete that once you trust the new one.\n"
    )
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
