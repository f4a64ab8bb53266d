//! `evernear name new | set | renew | show | ls | history`.

use std::collections::BTreeMap;

use anyhow::{Context, Error};
use clap::{Args, Subcommand};
use format::{Label, Locator, StableName};
use serde::Serialize;
use twin::{Entry, NameChange, NameChangeError, NameState, NameTerms, Renamed, Target, TwinConfig};

use super::Options;
use crate::{
    failures::{Failed, Failures},
    moment,
    output::{count, table},
    owner_access::{ClusterAccess, KeyAccess, open_index, open_twin},
};

/// Have a label that never changes stand for an object that may.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  evernear name new site LABEL                   a new name, and what it stands for
  evernear name set site LABEL                   the name stands for another object now
  evernear name renew                            all names, for another 90 days
  evernear name history site

Edges follow a change within two seconds; resolvers and browsers within --seconds. After --fresh-until no edge
follows the name any more until it is moved or renewed: nodes that hold news back can do so until then and no longer.
A renewal sets no earlier end than a name has; `name set` does. `ls` and `show` ask no node: what is past, they tell by this
machine's clock.
Where nodes have an older version than this index, as after a restore from a backup, the name goes on from this index, which
is told. Policy, places and times are those of the object. `evernear rm LABEL` of the name's label ends the name for good.")]
pub(crate) struct Name {
    #[command(subcommand)]
    command: NameCommand,
}

#[derive(Debug, Subcommand)]
enum NameCommand {
    /// Make a name
    #[command(after_help = "\
Examples:
  evernear name new site LABEL
  evernear name new feed LABEL --seconds 5")]
    New(Change),
    /// Have a name stand for another object
    #[command(after_help = "\
Examples:
  evernear name set site LABEL")]
    Set(Change),
    /// Have names stand for what they stand for, for longer
    #[command(after_help = "\
Examples:
  evernear name renew
  evernear name renew site --fresh-until +365d")]
    Renew(Renew),
    /// Show a name: its label, its URL, and what it stands for
    #[command(after_help = "\
Examples:
  evernear name show site")]
    Show(Show),
    /// List the names of this index
    #[command(after_help = "\
Examples:
  evernear name ls
  evernear name ls --json")]
    Ls(Ls),
    /// Show what a name stood for
    #[command(after_help = "\
Examples:
  evernear name history site")]
    History(Show),
}

#[derive(Debug, Args)]
struct Change {
    /// What you call it, the same on each of your machines
    name: String,
    /// The object: its label or URL
    target: String,
    #[command(flatten)]
    terms: Terms,
    #[command(flatten)]
    keys: KeyAccess,
    #[command(flatten)]
    cluster: ClusterAccess,
}

#[derive(Debug, Args)]
struct Renew {
    /// What you call them [default: all of this index]
    names: Vec<String>,
    #[command(flatten)]
    terms: Terms,
    #[command(flatten)]
    keys: KeyAccess,
    #[command(flatten)]
    cluster: ClusterAccess,
}

#[derive(Debug, Args)]
struct Show {
    /// What you call it
    name: String,
    #[command(flatten)]
    keys: KeyAccess,
    #[command(flatten)]
    cluster: ClusterAccess,
}

#[derive(Debug, Args)]
struct Ls {
    #[command(flatten)]
    keys: KeyAccess,
    #[command(flatten)]
    cluster: ClusterAccess,
}

/// How long a name counts.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct Terms {
    /// No edge follows the name after this time: 2027-01-31, +90d [default: 90 days from now, or later if it is so]
    #[arg(long, value_name = "TIME", value_parser = moment::to_come("name a time to come, or leave the option out"))]
    fresh_until: Option<u64>,
    /// How long resolvers and browsers may keep what they got, 0 to 86400 [default: as it is; 60 for a new name]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(..=i64::from(format::limits::POINTER_SECONDS_MAX)))]
    seconds: Option<u32>,
}

impl Terms {
    pub(crate) fn of_name(self) -> NameTerms {
        NameTerms { fresh_until: self.fresh_until, seconds: self.seconds }
    }
}

#[derive(Serialize)]
struct Answer {
    name: String,
    label: String,
    url: String,
    /// The label of the object; absent when this index no longer has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    target_locator: String,
    version: u64,
    fresh_until: u64,
    seconds: u32,
    /// Whether an edge follows it now; where no node was asked, by this machine's clock.
    fresh: bool,
    /// Nodes that took the change.
    #[serde(skip_serializing_if = "Option::is_none")]
    nodes: Option<usize>,
    /// The version that nodes had before, when it is older than that of this index; zero for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    nodes_had: Option<u64>,
}

/// The answer to a renewal.
#[derive(Serialize)]
struct Renewed {
    renewed: Vec<Answer>,
    /// What stays as it was, and why.
    failed: Vec<Failed>,
}

#[derive(Serialize)]
struct Step {
    version: u64,
    at: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    target_locator: String,
    /// What the object was called.
    path: String,
}

impl Name {
    pub(crate) async fn run(self, options: &Options) -> anyhow::Result<()> {
        match self.command {
            NameCommand::New(change) => change.run(options, NameChange::New).await,
            NameCommand::Set(change) => change.run(options, NameChange::Move).await,
            NameCommand::Renew(renew) => renew.run(options).await,
            NameCommand::Show(show) => show.run(options).await,
            NameCommand::Ls(ls) => ls.run(options).await,
            NameCommand::History(show) => show.history(options).await,
        }
    }
}

impl Change {
    async fn run(self, options: &Options, change: impl FnOnce(Label) -> NameChange) -> anyhow::Result<()> {
        let target: Target = self.target.parse().context("the object cannot be looked for")?;
        let (config, twin) = open_twin(&options.state()?, &self.keys, &self.cluster).await?;
        let renamed = twin.point(&self.name, &change(target.label), self.terms.of_name()).await?;
        let known = twin.list().await;
        let answer = Answer::moved(&renamed, &config, &known);
        options.answer(&answer, || answer.text())
    }
}

impl Renew {
    async fn run(self, options: &Options) -> anyhow::Result<()> {
        let (config, twin) = open_twin(&options.state()?, &self.keys, &self.cluster).await?;
        let all = async || twin.names().await.into_iter().map(|(entry, _)| entry.path).collect();
        let names: Vec<String> = if self.names.is_empty() { all().await } else { self.names };
        let known = twin.list().await;
        let (mut renewed, mut failed) = (Vec::with_capacity(names.len()), Vec::new());
        for name in &names {
            match twin.point(name, &NameChange::Renew, self.terms.of_name()).await {
                Ok(it) => renewed.push(Answer::moved(&it, &config, &known)),
                // One that cannot be renewed lets no other end.
                Err(error) => failed.push((name.clone(), Error::from(error))),
            }
        }
        if names.len() == 1
            && let Some((name, error)) = failed.pop()
        {
            return Err(error.context(format!("{name:?} is not renewed")));
        }
        let failures = Failures::of(failed);
        let answer = Renewed { renewed, failed: failures.failed.clone() };
        options.answer(&answer, || list(&answer.renewed))?;
        failures.end(options)
    }
}

impl Show {
    async fn run(self, options: &Options) -> anyhow::Result<()> {
        let (config, known, (entry, state)) = self.find(options).await?;
        let answer = Answer::of(&entry, &state, &config, &known);
        options.answer(&answer, || answer.text())
    }

    async fn history(self, options: &Options) -> anyhow::Result<()> {
        let (_, known, (_, state)) = self.find(options).await?;
        let step = |it: &twin::Move| {
            let target = known.get(&it.target);
            Step {
                version: it.version,
                at: it.at,
                target: target.map(|entry| entry.label().to_string()),
                target_locator: it.target.to_string(),
                path: target.map(|entry| entry.path.clone()).unwrap_or_default(),
            }
        };
        let steps: Vec<Step> = state.moves.iter().map(step).collect();
        let row = |it: &Step| {
            let gone = || "removed from this index".to_owned();
            let (target, at) = (it.target.clone().unwrap_or_else(gone), moment::show(it.at));
            vec![it.version.to_string(), at, it.path.clone(), target]
        };
        options.answer(&steps, || table(&steps.iter().map(row).collect::<Vec<_>>()))
    }

    async fn find(
        self,
        options: &Options,
    ) -> anyhow::Result<(TwinConfig, BTreeMap<Locator, Entry>, (Entry, NameState))> {
        let state = options.state()?;
        let config = state.config(&self.cluster)?;
        let (secret, index) = open_index(&state, &self.keys, &self.cluster).await?;
        let name = StableName::derive(&secret, &self.name).map_err(NameChangeError::from)?;
        let known: BTreeMap<_, _> = index.entries().map(|(locator, entry)| (*locator, entry.clone())).collect();
        let filed = |entry: &Entry| entry.name.clone().filter(|name| !name.moves.is_empty());
        let found = known.get(&name.locator()).and_then(|entry| Some((entry.clone(), filed(entry)?)));
        let unknown = NameChangeError::Unknown { text: self.name };
        Ok((
            config,
            known,
            found.ok_or(unknown).context("this index does not have it; `evernear name ls` lists what it has")?,
        ))
    }
}

impl Ls {
    async fn run(self, options: &Options) -> anyhow::Result<()> {
        let state = options.state()?;
        let config = state.config(&self.cluster)?;
        let (_, index) = open_index(&state, &self.keys, &self.cluster).await?;
        let known: BTreeMap<_, _> = index.entries().map(|(locator, entry)| (*locator, entry.clone())).collect();
        let filed = |entry: &Entry| entry.name.clone().filter(|name| !name.moves.is_empty());
        let of = |entry: &Entry| filed(entry).map(|name| Answer::of(entry, &name, &config, &known));
        let mut answers: Vec<Answer> = known.values().filter_map(of).collect();
        answers.sort_by(|a, b| a.name.cmp(&b.name));
        options.answer(&answers, || list(&answers))
    }
}

impl Answer {
    fn of(entry: &Entry, state: &NameState, config: &TwinConfig, known: &BTreeMap<Locator, Entry>) -> Self {
        let (label, now) = (entry.label(), moment::now());
        let last = state.moves.last().expect("a name that is shown was filed");
        Self {
            name: entry.path.clone(),
            url: config.url.url(&label, ""),
            label: label.to_string(),
            target: known.get(&last.target).map(|entry| entry.label().to_string()),
            target_locator: last.target.to_string(),
            version: last.version,
            fresh_until: state.fresh_until,
            seconds: state.seconds,
            fresh: now < state.fresh_until,
            nodes: None,
            nodes_had: None,
        }
    }

    fn moved(renamed: &Renamed, config: &TwinConfig, known: &BTreeMap<Locator, Entry>) -> Self {
        Self {
            // It was signed for a time to come by the nodes' clocks.
            fresh: true,
            nodes: Some(renamed.nodes),
            nodes_had: renamed.behind,
            ..Self::of(&renamed.entry, &renamed.state, config, known)
        }
    }

    fn fresh(&self) -> String {
        let until = moment::show(self.fresh_until);
        if self.fresh { until } else { format!("{until}, past by this machine's clock: evernear name renew") }
    }

    fn behind(&self) -> String {
        behind(&self.name, self.version, self.nodes_had)
    }

    fn text(&self) -> String {
        let row = |name: &str, value: String| vec![name.to_owned(), value];
        let mut rows = vec![
            row("name", self.name.clone()),
            row("label", self.label.clone()),
            row("url", self.url.clone()),
            row("stands for", self.target.clone().unwrap_or_else(|| format!("locator {}", self.target_locator))),
            row("version", self.version.to_string()),
            row("fresh until", self.fresh()),
            row("kept for", count(self.seconds, "second")),
        ];
        rows.extend(self.nodes.map(|nodes| row("told", count(nodes, "node"))));
        table(&rows) + &self.behind()
    }
}

/// Says that nodes knew less of a name than the index, if they did.
pub(super) fn behind(name: &str, version: u64, nodes_had: Option<u64>) -> String {
    let had = match nodes_had {
        None => return String::new(),
        Some(0) => "no version".to_owned(),
        Some(version) => format!("only version {version}"),
    };
    format!(
        "the nodes had {had} of {name:?}: they were restored from an older backup, or hold news back. This index \
         knew more, and the name goes on with version {version}\n"
    )
}

fn list(answers: &[Answer]) -> String {
    let row = |it: &Answer| vec![it.name.clone(), it.url.clone(), it.fresh()];
    table(&answers.iter().map(row).collect::<Vec<_>>()) + &answers.iter().map(Answer::behind).collect::<String>()
}
