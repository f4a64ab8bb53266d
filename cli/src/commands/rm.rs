//! `evernear rm`.

use std::collections::BTreeSet;

use clap::Args;
use format::{Kind, Locator, limits::POINTER_SECONDS_MAX};
use serde::Serialize;
use twin::{Elsewhere, NameState, Removed, TargetError, Twin};

use super::Options;
use crate::{
    consent::Consent,
    failures::{Failed, Failures},
    moment,
    output::{bytes, count, escape, missed},
    owner_access::{ClusterAccess, KeyAccess, open_twin},
    progress_bar,
    targets::Targets,
};

/// What that means for the key, when all nodes that have it were told and when some were not.
const KEY_GONE: &str = "origins have destroyed its key, so nobody can decrypt it any more";
const KEY_LEFT: &str = "origins that were reached have destroyed its key; the others do when they are back";
/// What is gone when.
const GONE: &str = "
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
  evernear rm --all-of site/img --yes    what was stored from within that folder, of each version
  evernear rm --unfinished         all that did not end; what another `put` works on goes on
  evernear rm --unfinished --elsewhere    folders too that another machine of yours may be storing

`evernear ls --all` shows the paths that --all-of takes, which asks before it erases. One that cannot be erased stops no other. Nodes destroy the sealed manifest, this owner's index forgets the name: then no key to the bytes is left.
Refused before the time of --keep-until, and while a `put` works on it. What a viewer already fetched cannot be taken back.
A removal that was cut short cannot be taken back: `evernear ls` shows it as ending, and the same command, --unfinished, or a twin that runs brings it to its end.
The label of a stable name ends the name and nothing else: what it stood for stays under its own label.")]
pub(crate) struct Rm {
    /// Labels, or URLs whose host begins with one
    #[arg(required_unless_present_any = ["all_of", "unfinished"])]
    target: Vec<String>,
    /// All that was stored from this folder, by its path in `evernear ls --all`
    #[arg(long, value_name = "FOLDER")]
    all_of: Vec<String>,
    /// All that did not end, except folders that another machine of this owner may be storing: the newest of such is
    /// younger than a day, or nodes hold more of it than this machine knows
    #[arg(long)]
    unfinished: bool,
    /// With --unfinished: those folders too. A `put` that stores one fails or stores it anew
    #[arg(long, requires = "unfinished")]
    elsewhere: bool,
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    keys: KeyAccess,
    #[command(flatten)]
    cluster: ClusterAccess,
}

#[derive(Serialize)]
struct Answer {
    erased: Vec<Erased>,
    /// Objects that no node had to be told of: they had expired, were erased before, or were never committed.
    unknown: Vec<String>,
    /// Uploads that `put` would have gone on with. One that cannot be ended is among those that failed.
    uploads_ended: usize,
    /// Folders that did not end and stay: another machine of this owner may be storing them.
    elsewhere: Vec<Growing>,
    /// What stays, and why.
    failed: Vec<Failed>,
}

#[derive(Serialize)]
struct Growing {
    put: String,
    path: String,
    objects: usize,
    /// When the newest of them was stored, by the clock of that machine.
    newest: u64,
}

#[derive(Serialize)]
struct Erased {
    locator: String,
    /// It was a stable name; what it stood for stays.
    name: bool,
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
        if !self.all_of.is_empty() {
            self.consent.to(&erase(&self.all_of, &locators, &twin).await, options)?;
        }
        let names = targets.names();
        // What is known of them is forgotten with them.
        let states = twin.names().await.into_iter();
        let states = states.filter(|(entry, _)| names.contains(&entry.capability.locator())).map(|(_, state)| state);
        let states: Vec<NameState> = states.collect();
        let (mut uploads_ended, mut unended, mut elsewhere) = (0, Vec::new(), Vec::new());
        if self.unfinished {
            // While their journals say which are this machine's.
            let left = twin.unfinished().await?;
            locators.extend(left.locators);
            match self.elsewhere {
                true => locators.extend(left.elsewhere.iter().map(|it| it.locator)),
                false => elsewhere = left.elsewhere,
            }
            // First, so that nodes hold nothing more of what is erased next.
            for upload in twin.resumable().await? {
                match twin.end_resumable(upload.batch).await {
                    Ok(_) => uploads_ended += 1,
                    Err(error) => {
                        let path =
                            upload.path.map_or_else(|| upload.batch.to_string(), |path| path.display().to_string());
                        unended.push((path, error.into()));
                    }
                }
            }
        }
        let (progress, bar) = progress_bar::of_leases(options.json);
        let removed = twin.remove_all(&locators, &progress).await;
        bar.finish_and_clear();
        let (removed, failed) = removed?;
        let done = removed.ended.len() + removed.unknown.len() + uploads_ended;
        let mut failed = Failures::of_leases(failed, &named, locators.len() + unended.len(), done)?;
        failed.failed.extend(Failures::of(unended).failed);
        let answer = Answer::of(removed, &names, (uploads_ended, elsewhere), failed.failed.clone());
        options.answer(&answer, || answer.text(&states))?;
        failed.end(options)
    }
}

/// Says what is about to be erased.
async fn erase(folders: &[String], locators: &BTreeSet<Locator>, twin: &Twin) -> String {
    let known = twin.list().await;
    let files = locators.iter().filter_map(|locator| known.get(locator)).filter(|entry| entry.kind == Kind::File);
    let (files, size) = files.fold((0u64, 0u64), |(files, size), entry| (files + 1, size.saturating_add(entry.length)));
    let (objects, files, size) = (count(locators.len(), "object"), count(files, "file"), bytes(size));
    format!("erase {objects} of {} for ever, {files} of {size} among them", folders.join(", "))
}

/// Says what it means that names were ended, of which the index knew these.
fn ended(names: usize, states: &[NameState]) -> String {
    let seconds = states.iter().map(|state| state.seconds).max().unwrap_or(POINTER_SECONDS_MAX);
    let until = states.iter().map(|state| state.fresh_until).max().map_or_else(|| "its end".to_owned(), moment::show);
    format!(
        "ended {}: nobody can move or renew it, and the same word makes no new one
within seconds   edges answer 410 under its label
for a while      resolvers and browsers keep what they got: up to {}
at worst         an edge that no node can reach follows it until {until}
unchanged        what it stood for, under its own label: `evernear rm` of that label erases it
",
        count(names, "name"),
        count(seconds, "second")
    )
}

impl Answer {
    fn of(
        removed: Removed,
        names: &BTreeSet<Locator>,
        (uploads_ended, elsewhere): (usize, Vec<Elsewhere>),
        failed: Vec<Failed>,
    ) -> Self {
        let erased = removed.ended.into_iter().map(|(locator, told)| Erased {
            locator: locator.to_string(),
            name: names.contains(&locator),
            nodes: told.nodes.len(),
            missed_nodes: told.missed.iter().map(ToString::to_string).collect(),
        });
        let unknown = removed.unknown.iter().map(ToString::to_string).collect();
        let growing =
            |Elsewhere { batch, path, objects, newest, .. }| Growing { put: batch.to_string(), path, objects, newest };
        let elsewhere = elsewhere.into_iter().map(growing).collect();
        Self { erased: erased.collect(), unknown, uploads_ended, elsewhere, failed }
    }

    fn text(&self, states: &[NameState]) -> String {
        let uploads = match self.uploads_ended {
            0 => String::new(),
            ended => format!("ended {} that did not end: no put goes on with it\n", count(ended, "upload")),
        };
        let names = self.erased.iter().filter(|erased| erased.name).count();
        let ended = if names == 0 { String::new() } else { ended(names, states) };
        let gone = match self.erased.len() - names {
            0 if self.uploads_ended > 0 || names > 0 => String::new(),
            0 => "erased nothing\n".to_owned(),
            erased => {
                let is_missed = self.erased.iter().any(|erased| !erased.missed_nodes.is_empty());
                format!("erased {}: {}{GONE}", count(erased, "object"), if is_missed { KEY_LEFT } else { KEY_GONE })
            }
        };
        let unknown = match self.unknown.len() {
            0 => String::new(),
            unknown => format!(
                "{} unknown to all nodes: expired, erased before, or never stored whole\n",
                count(unknown, "object")
            ),
        };
        let elsewhere = match self.elsewhere.len() {
            0 => String::new(),
            folders => {
                let line = |it: &Growing| {
                    let (path, objects) = (escape(&it.path), count(it.objects, "object"));
                    format!("  {path}  {objects}, the newest of {}\n", moment::show(it.newest))
                };
                let lines: String = self.elsewhere.iter().map(line).collect();
                format!(
                    "left {} that another machine of yours may be storing; `evernear rm --unfinished --elsewhere` ends that too\n{lines}",
                    count(folders, "folder")
                )
            }
        };
        let nodes: BTreeSet<_> = self.erased.iter().flat_map(|erased| &erased.missed_nodes).collect();
        format!("{uploads}{ended}{gone}{unknown}{elsewhere}{}", missed(nodes))
    }
}
