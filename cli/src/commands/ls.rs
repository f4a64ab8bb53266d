//! `evernear ls`.

use clap::Args;
use format::Locator;
use serde::Serialize;
use twin::{Entry, Position, State};

use super::{Options, stat::kind};
use crate::{
    moment,
    output::{bytes, table},
    owner_access::{KeyAccess, open_index},
};

/// List what this owner stored.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  evernear ls
  evernear ls --all --json        with everything inside stored folders

Reads the index beside the owner key; asks no node.")]
pub(crate) struct Ls {
    /// Show what lies inside stored folders too
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    keys: KeyAccess,
}

#[derive(Serialize)]
struct Line {
    label: String,
    locator: String,
    path: String,
    kind: &'static str,
    bytes: u64,
    mime: String,
    created: u64,
    profile: String,
    policy: String,
    lease_version: u64,
    keep_until: u64,
    expires: u64,
    /// False when the upload did not finish: nodes may or may not have the object, and `rm` removes it.
    complete: bool,
}

impl Ls {
    pub(crate) async fn run(self, options: &Options) -> anyhow::Result<()> {
        let (_, index) = open_index(&options.state()?, &self.keys).await?;
        let shown = index.entries().filter(|(_, entry)| self.all || entry.position == Position::Top);
        let mut lines: Vec<_> = shown.map(|(locator, entry)| Line::of(locator, entry)).collect();
        lines.sort_by(|a, b| (a.created, &a.path).cmp(&(b.created, &b.path)));
        options.answer(&lines, || text(&lines))
    }
}

impl Line {
    fn of(locator: &Locator, entry: &Entry) -> Self {
        let tenure = &entry.tenure;
        Self {
            label: entry.label().to_string(),
            locator: locator.to_string(),
            path: entry.path.clone(),
            kind: if entry.name.is_some() { "name" } else { kind(entry.kind) },
            bytes: entry.length,
            mime: entry.mime.clone(),
            created: entry.created,
            profile: tenure.profile.to_string(),
            policy: tenure.policy.to_string(),
            lease_version: tenure.version,
            keep_until: tenure.retention.keep_until,
            expires: tenure.retention.expires,
            complete: entry.state == State::Stored,
        }
    }
}

fn text(lines: &[Line]) -> String {
    let row = |line: &Line| {
        let unfinished = if line.complete { "" } else { " (did not end; rm ends it)" };
        let path = if line.path.is_empty() { "-" } else { &line.path };
        vec![
            line.label.clone(),
            moment::show(line.created),
            bytes(line.bytes),
            line.policy.clone(),
            format!("{path}{unfinished}"),
        ]
    };
    table(&lines.iter().map(row).collect::<Vec<_>>())
}
