//! `evernear ls`.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use serde::Serialize;
use tokio::task::spawn_blocking;
use twin::{Listed, Scope, State, Unfinished, UrlTemplate};

use super::{Options, stat::kind};
use crate::{
    moment,
    output::{bytes, count, table},
    owner_access::{ClusterAccess, KeyAccess, open_index},
};

/// List what this owner stored.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  evernear ls
  evernear ls --all --json           with everything inside stored folders
  evernear ls --unfinished           what was cut short; `evernear rm --unfinished` ends it

Reads the index beside the owner key; asks no node. What expired by this machine's clock is shown as that until `evernear index compact`. The size of a folder is that of all files in it. A folder that did
not end is one line, and its label stands for all that was stored of it. It may be one that another machine of yours is storing:
`evernear rm --unfinished` tells those apart. What earlier attempts left of a folder that was stored since is listed beside it.")]
pub(crate) struct Ls {
    /// Show what lies inside stored folders too
    #[arg(long)]
    all: bool,
    /// Show only what did not end
    #[arg(long, conflicts_with = "all")]
    unfinished: bool,
    #[command(flatten)]
    keys: KeyAccess,
    #[command(flatten)]
    cluster: ClusterAccess,
}

#[derive(Serialize)]
struct Line {
    label: String,
    url: String,
    locator: String,
    /// The name of a file or folder, then the path inside that folder.
    path: String,
    kind: &'static str,
    /// Bytes of the file, or of all files in the folder.
    bytes: u64,
    /// The object itself, and all in it.
    objects: usize,
    mime: String,
    created: u64,
    profile: String,
    policy: String,
    /// Where shards may lie, in the form of `put --places`.
    places: Vec<String>,
    /// How many shards may lie together, in the form of `put --at-most`.
    at_most: Vec<String>,
    /// Names of its tags.
    tags: Vec<String>,
    lease_version: u64,
    keep_until: u64,
    expires: u64,
    /// `stored`, `expired`, `unfinished` or `ending`.
    state: &'static str,
    /// False when the upload did not finish: nodes may or may not have the object, and `rm` removes it.
    complete: bool,
    /// What one `put` stored has one number, in hex digits.
    put: String,
}

/// The answer to `--unfinished`.
#[derive(Serialize)]
struct CutShort {
    /// Objects that nodes may have, whole or in part.
    objects: Vec<Line>,
    /// Uploads that the same `put` goes on with.
    uploads: Vec<Upload>,
}

#[derive(Serialize)]
struct Upload {
    put: String,
    /// What is stored; absent when what is known of it is damaged.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<PathBuf>,
    begun: u64,
    files_stored: usize,
}

impl Upload {
    fn of(Unfinished { batch, path, begun, files_stored, .. }: Unfinished) -> Self {
        Self { put: batch.to_string(), path, begun, files_stored }
    }
}

impl CutShort {
    fn text(&self) -> String {
        let row = |it: &Upload| {
            let path = it
                .path
                .as_ref()
                .map_or_else(|| "damaged: rm --unfinished ends it".to_owned(), |path| path.display().to_string());
            vec![moment::show(it.begun), count(it.files_stored, "file") + " stored", path]
        };
        let heading = ["begun", "so far", "the same put goes on with"].map(str::to_owned).to_vec();
        let uploads: Vec<_> = [heading].into_iter().chain(self.uploads.iter().map(row)).collect();
        let uploads = if self.uploads.is_empty() { String::new() } else { table(&uploads) };
        let between = if self.objects.is_empty() || self.uploads.is_empty() { "" } else { "\n" };
        text(&self.objects) + between + &uploads
    }
}

impl Ls {
    pub(crate) async fn run(self, options: &Options) -> anyhow::Result<()> {
        let state = options.state()?;
        let (secret, index) = open_index(&state, &self.keys, &self.cluster).await?;
        let url = state.url(&self.cluster)?;
        let scope = match (self.all, self.unfinished) {
            (_, true) => Scope::Unfinished,
            (true, false) => Scope::All,
            (false, false) => Scope::Tops,
        };
        let now = moment::now();
        let lines: Vec<_> = index.list(scope).into_iter().map(|listed| Line::of(listed, &url, now)).collect();
        if !self.unfinished {
            return options.answer(&lines, || text(&lines));
        }
        let uploads =
            spawn_blocking(move || twin::resumable(&index, &secret)).await.context("the look was cut short")?;
        let uploads = uploads?.into_iter().map(Upload::of).collect();
        let answer = CutShort { objects: lines, uploads };
        options.answer(&answer, || answer.text())
    }
}

impl Line {
    fn of(listed: Listed, url: &UrlTemplate, now: u64) -> Self {
        let Listed { locator, entry, path, kind: of, objects, bytes, is_finished: complete } = listed;
        let url = url.of_entry(&entry);
        let tenure = &entry.tenure;
        let expires = tenure.retention.expires;
        Self {
            label: entry.label().to_string(),
            url,
            locator: locator.to_string(),
            path,
            kind: if entry.name.is_some() { "name" } else { kind(of) },
            bytes,
            objects,
            mime: entry.mime,
            created: entry.created,
            profile: tenure.profile.to_string(),
            policy: tenure.policy.to_string(),
            places: tenure.places(),
            at_most: tenure.caps.iter().map(ToString::to_string).collect(),
            tags: entry.tags.into_iter().collect(),
            lease_version: tenure.version,
            keep_until: tenure.retention.keep_until,
            expires,
            state: match complete {
                _ if entry.state == State::Ending => "ending",
                false => "unfinished",
                true if expires != 0 && expires <= now => "expired",
                true => "stored",
            },
            complete,
            put: entry.batch.to_string(),
        }
    }
}

fn text(lines: &[Line]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let heading = ["created", "size", "objects", "policy", "expires", "state", "name", "url"];
    let row = |line: &Line| {
        let path = if line.path.is_empty() { "-" } else { &line.path };
        vec![
            moment::show(line.created),
            bytes(line.bytes),
            line.objects.to_string(),
            line.policy.clone(),
            moment::show(line.expires),
            line.state.to_owned(),
            path.to_owned(),
            line.url.clone(),
        ]
    };
    let rows: Vec<_> = [heading.map(str::to_owned).to_vec()].into_iter().chain(lines.iter().map(row)).collect();
    table(&rows) + &ending(lines.iter().filter(|line| line.state == "ending").count())
}

/// Says what waits so, and for what.
fn ending(lines: usize) -> String {
    let (what, are, they) = match lines {
        0 => return String::new(),
        1 => ("1 line".to_owned(), "is", "it"),
        _ => (count(lines, "line"), "are", "them"),
    };
    format!(
        "{what} {are} ending: too few of the nodes that have {they} were told. A twin that runs goes on with that (`evernear twin run`, `evernear up`); \
         `evernear rm --unfinished` does at once, and says what it waits for\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ending_is_told_with_what_it_waits_for() {
        assert_eq!(ending(0), "");
        for (lines, begins) in [(1, "1 line is ending: "), (2, "2 lines are ending: ")] {
            let told = ending(lines);
            assert!(told.starts_with(begins) && told.contains("`evernear rm --unfinished`"), "{told}");
        }
    }
}
