//! `evernear object health`.

use anyhow::Context;
use clap::{Args, Subcommand};
use format::{
    Locator,
    wire::{ColumnState, ObjectHealth},
};
use serde::Serialize;
use twin::Target;

use super::Options;
use crate::{
    output::{bytes, count, table},
    owner_access::{ClusterAccess, connect_operator},
};

/// Show the health of an object.
#[derive(Debug, Args)]
pub(crate) struct Object {
    #[command(subcommand)]
    command: ObjectCommand,
}

#[derive(Debug, Subcommand)]
enum ObjectCommand {
    /// Show each shard, its node, and how many more shards may be lost
    #[command(after_help = "\
Examples:
  evernear object health LABEL
  evernear object health LOCATOR --json | jq .margin

No owner key is needed. A locator is enough: it finds the object and opens nothing.")]
    Health {
        /// A label, a URL whose host begins with one, or a locator of 64 hex digits
        target: String,
        #[command(flatten)]
        cluster: ClusterAccess,
    },
}

#[derive(Serialize)]
struct Answer {
    locator: String,
    #[serde(flatten)]
    health: ObjectHealth,
}

impl Object {
    pub(crate) async fn run(self, options: &Options) -> anyhow::Result<()> {
        let ObjectCommand::Health { target, cluster } = self.command;
        let locator = locator(&target)?;
        let health = connect_operator(&options.state()?, &cluster).await?.health(&locator).await?;
        let answer = Answer { locator: locator.to_string(), health };
        options.answer(&answer, || answer.text())
    }
}

fn locator(target: &str) -> anyhow::Result<Locator> {
    match target.parse::<Locator>() {
        Ok(locator) => Ok(locator),
        Err(_) => {
            let target: Target = target.parse().context("this is neither a label nor a locator")?;
            Ok(target.label.capability().locator())
        }
    }
}

impl Answer {
    fn text(&self) -> String {
        let ObjectHealth { redundancy, margin, columns, repair, .. } = &self.health;
        let row = |name: &str, value: String| vec![name.to_owned(), value];
        let verdict = match (redundancy, *margin) {
            (None, _) => "lies inside its record, which several origins hold".to_owned(),
            (_, ..0) => format!("cannot be read: {} too few are up", count(margin.unsigned_abs(), "shard")),
            (_, 0) => "can be read; no other shard may be lost".to_owned(),
            (_, more) => format!("can be read; {} may be lost", count(more, "more shard")),
        };
        let mut head = vec![row("locator", self.locator.clone()), row("health", verdict)];
        if let Some(redundancy) = redundancy {
            head.push(row("redundancy", redundancy.clone()));
        }
        if let Some(cause) = repair {
            head.push(row("repair", format!("wanted ({cause})")));
        }
        let mut rows = vec![["column", "state", "bytes", "nodes"].map(str::to_owned).to_vec()];
        for (column, health) in columns.iter().enumerate() {
            let nodes: Vec<&str> = health.nodes.iter().map(format::NodeName::as_str).collect();
            let state = match health.state {
                ColumnState::Healthy => "healthy",
                ColumnState::Displaced => "moves",
                ColumnState::Lost => "lost",
                ColumnState::Empty => "empty",
            };
            rows.push(vec![column.to_string(), state.to_owned(), bytes(health.bytes), nodes.join(" ")]);
        }
        let rows = if columns.is_empty() { String::new() } else { "\n".to_owned() + &table(&rows) };
        table(&head) + &rows
    }
}
