//! `evernear stat`.

use std::collections::BTreeMap;

use clap::Args;
use format::{Kind, Label};
use serde::Serialize;
use twin::{Found, UrlTemplate};

use super::{Options, get::find};
use crate::{
    moment,
    output::{bytes, table},
    owner_access::{ClusterAccess, connect},
};

/// Show what an object is and where it lies.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  evernear stat LABEL
  evernear stat LABEL img --json        a folder inside a stored folder, with its names

No owner key is needed.")]
pub(crate) struct Stat {
    /// A label, or a URL whose host begins with one
    target: String,
    /// Path inside a stored folder
    path: Option<String>,
    #[command(flatten)]
    cluster: ClusterAccess,
}

#[derive(Serialize)]
struct Answer {
    /// By the label of the object itself, also when it was found by a path inside a folder.
    url: String,
    locator: String,
    kind: &'static str,
    name: String,
    mime: String,
    bytes: u64,
    created: u64,
    owner: String,
    suite: u8,
    /// `data+parity`; `None` for an object stored inside its record.
    redundancy: Option<String>,
    /// The node of each shard, if one is known.
    placement: Vec<Option<String>>,
    /// Where the lease lets shards lie, in the form of `put --places`. Empty: anywhere.
    places: Vec<String>,
    /// How many shards may lie together, in the form of `put --at-most`.
    at_most: Vec<String>,
    policy: String,
    lease_version: u64,
    keep_until: u64,
    expires: u64,
    tags: BTreeMap<String, u32>,
    /// The names in a directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    entries: Option<Vec<Name>>,
}

#[derive(Serialize)]
struct Name {
    name: String,
    kind: &'static str,
    bytes: u64,
    mime: String,
}

impl Stat {
    pub(crate) async fn run(self, options: &Options) -> anyhow::Result<()> {
        let (config, network) = connect(&options.state()?, &self.cluster).await?;
        let found = find(&network, &self.target, self.path.as_deref()).await?;
        let entries = match found.object.kind() {
            Kind::File => None,
            Kind::Directory => {
                let directory = network.directory(&found).await?;
                let name = |(name, entry): (&str, &format::Entry)| Name {
                    name: name.to_owned(),
                    kind: kind(entry.kind),
                    bytes: entry.length,
                    mime: entry.mime.clone(),
                };
                Some(directory.entries().map(name).collect())
            }
        };
        let answer = Answer::of(&found, entries, &config.url);
        options.answer(&answer, || answer.text())
    }
}

pub(super) fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::File => "file",
        Kind::Directory => "directory",
    }
}

impl Answer {
    fn of(found: &Found, entries: Option<Vec<Name>>, url: &UrlTemplate) -> Self {
        let (object, lease) = (&found.object, &found.record.lease);
        let manifest = object.manifest();
        let path = if object.kind() == Kind::Directory { "" } else { &manifest.name };
        Self {
            url: url.url(&Label::open(found.capability.clone()), path),
            locator: object.locator().to_string(),
            kind: kind(object.kind()),
            name: manifest.name.clone(),
            mime: manifest.mime.clone(),
            bytes: object.length(),
            created: manifest.created,
            owner: lease.owner.to_string(),
            suite: manifest.suite.id(),
            redundancy: object.public().redundancy().map(|redundancy| redundancy.to_string()),
            placement: found.record.placement.iter().map(|node| node.as_ref().map(ToString::to_string)).collect(),
            places: lease
                .wanted
                .iter()
                .map(ToString::to_string)
                .chain(lease.refused.iter().map(|domain| format!("!{domain}")))
                .collect(),
            at_most: lease.caps.iter().map(ToString::to_string).collect(),
            policy: lease.policy.to_string(),
            lease_version: lease.version,
            keep_until: lease.retention.keep_until,
            expires: lease.retention.expires,
            tags: manifest.tags.clone(),
            entries,
        }
    }

    fn text(&self) -> String {
        let placement: Vec<_> = self.placement.iter().map(|node| node.as_deref().unwrap_or("-")).collect();
        let tags: Vec<_> = self.tags.iter().map(|(tag, number)| format!("{tag}={number}")).collect();
        let row = |name: &str, value: String| vec![name.to_owned(), value];
        let mut rows = vec![
            row("name", self.name.clone()),
            row("url", self.url.clone()),
            row("type", format!("{} ({})", self.mime, self.kind)),
            row("size", format!("{} ({} bytes)", bytes(self.bytes), self.bytes)),
            row("created", moment::show(self.created)),
            row("locator", self.locator.clone()),
            row("owner", self.owner.clone()),
            row("redundancy", self.redundancy.clone().unwrap_or_else(|| "inside its record".to_owned())),
            row("shards on", placement.join(" ")),
            row("policy", format!("{} (lease version {})", self.policy, self.lease_version)),
            row("keep until", moment::show(self.keep_until)),
            row("expires", moment::show(self.expires)),
        ];
        for (name, values) in [("places", &self.places), ("at most", &self.at_most)] {
            if !values.is_empty() {
                rows.push(row(name, values.join(" ")));
            }
        }
        if !tags.is_empty() {
            rows.push(row("tags", tags.join(" ")));
        }
        let names = self.entries.iter().flatten();
        let names: Vec<_> =
            names.map(|it| vec![String::new(), it.name.clone(), bytes(it.bytes), it.mime.clone()]).collect();
        table(&rows) + &table(&names)
    }
}
