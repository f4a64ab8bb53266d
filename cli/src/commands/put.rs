//! `evernear put`.

use std::{
    collections::BTreeSet,
    io::{self, Read},
    path::{Path, PathBuf},
};

use anyhow::Context;
use api::{About, Placer};
use clap::Args;
use format::{Cap, Compression, Domain, Kind, Moment, PolicyName, Profile, Retention};
use serde::Serialize;
use twin::{
    Changes, Deduplication, Inspection, Link, MediaType, NameChange, NameTerms, PutOptions, Renamed, Resumption,
    Stored, Tenure, Twin, TwinConfig,
};

use super::{Options, name::behind};
use crate::{
    country,
    failures::{Failed, Failures},
    fault::Usage,
    held_room,
    lease_times::LeaseTimes,
    output::{bytes, count, escape, shown},
    owner_access::{ClusterAccess, KeyAccess, open_twin},
    policy_check, progress_bar,
};

/// Store a file, a folder, or standard input.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  evernear put cat.jpg
  evernear put *.jpg notes.txt               several, many at once; one that fails stops no other
  evernear put site/ --policy europe-only --name site
  tar c . | evernear put - --name backup.tar --profile archive --keep-until +365d
  evernear put film.mp4 --places country:BE,region:eu-west --places '!country:US' --tag premium=1
  evernear put ledger.db --at-most zone=2,operator=4
  evernear put film.mp4 --resume
  evernear put site/ --as site                  at the label of the name \"site\", which stays

twin.toml says how to reach the cluster:
  url = \"https://{label}.cdn.example/{name}\"
  profile = \"small-cluster\"
  [identity]
  authority = \"authority.pem\"
  certificate = \"me.pem\"
  key = \"me.key\"
  [[node]]
  name = \"o1\"
  address = \"192.0.2.10:7400\"

An upload that was interrupted goes on where it was: the same command again sends only what nodes do not hold. What was stored and
not told, because the command was killed or could not write its answer, it tells, with the end that is asked for now, and stores
nothing twice. A folder that goes on keeps the end that --expires +30d meant when it was begun, and says so. What was stored of it and is no part of
it any more is told, and `evernear rm --unfinished` ends it. A path that another `put` with the same options stores just now is refused.
Hidden files of a folder are stored too; links, sockets and devices are left out and told. Before the first byte is sent all
of a folder is looked at: what cannot be stored is told at once. With --json one path is answered by one object, several by
an object with `stored` and `failed`.
The label is the read key: whoever has the link reads the file.")]
pub(crate) struct Put {
    /// What to store: files and folders; `-` is standard input
    #[arg(required = true)]
    path: Vec<PathBuf>,
    /// Redundancy: standard, eco, archive, small-cluster, or data+parity: 4+2, 1+0, .. [default: from twin.toml]
    #[arg(long)]
    profile: Option<Profile>,
    /// Media type of a file [default: detected from the bytes and the name]
    #[arg(long = "type", value_name = "MIME")]
    mime: Option<MediaType>,
    /// One of the owner's policies [default: from twin.toml]
    #[arg(long)]
    policy: Option<PolicyName>,
    /// Places where shards may lie, in addition to the policy's rules, such as country:BE, region:eu-west,
    /// operator:acme, zone:bru1; with ! in front: where they may not
    #[arg(long, value_delimiter = ',', value_name = "PLACE", value_parser = parse_place)]
    places: Vec<PlaceChoice>,
    /// How many shards may lie in one country, region, operator, datacentre or zone [default: half the parity in a
    /// zone]
    #[arg(long, value_delimiter = ',', value_name = "LEVEL=NUMBER")]
    at_most: Vec<Cap>,
    /// A tag that the policy may ask for, with a number
    #[arg(long = "tag", value_name = "NAME[=NUMBER]", value_parser = parse_tag)]
    tags: Vec<(String, u32)>,
    /// Do not compress: the stored size then tells only the length
    #[arg(long)]
    no_compress: bool,
    /// Share shards with equal files of this owner; nodes then see that they are equal. Reads the file twice
    #[arg(long)]
    dedup: bool,
    /// Leave out of a folder what cannot be stored, by its name or because it cannot be read, and tell it
    #[arg(long)]
    skip_bad: bool,
    /// Store a file that changes while it is read, as it is read
    #[arg(long)]
    allow_changing: bool,
    /// Name of the object [default: the file's]
    #[arg(long)]
    name: Option<String>,
    /// Go on with an upload of this path that did not end, and fail if there is none. Without it one goes on too where
    /// the options are the same and the file did not change
    #[arg(long)]
    resume: bool,
    /// Have this stable name of yours stand for what is stored; makes the name if there is none (see `evernear name`)
    #[arg(long = "as", value_name = "NAME")]
    stable: Option<String>,
    #[command(flatten)]
    times: LeaseTimes,
    #[command(flatten)]
    keys: KeyAccess,
    #[command(flatten)]
    cluster: ClusterAccess,
}

#[derive(Debug, Clone)]
enum PlaceChoice {
    Wanted(Domain),
    Refused(Domain),
}

#[derive(Serialize)]
struct Answer {
    label: String,
    url: String,
    html: String,
    locator: String,
    kind: &'static str,
    name: String,
    mime: String,
    /// Bytes of the file, or of all files of the folder.
    bytes: u64,
    objects: usize,
    profile: String,
    policy: String,
    #[serde(flatten)]
    times: Times,
    /// What was asked for, where that is something else: what goes on keeps the times that it was begun with.
    #[serde(skip_serializing_if = "Option::is_none")]
    asked: Option<Times>,
    /// Durable shards of the object itself; zero for an object that needs no shards.
    durable_shards: usize,
    shards: usize,
    record_copies: usize,
    /// How many whole zones may be lost now, of the shards that are durable; `None` for an object without shards.
    zones_survived: Option<usize>,
    /// Links, sockets and devices that were left out.
    skipped: Vec<PathBuf>,
    /// What --skip-bad left out, and why.
    bad: Vec<Bad>,
    /// Objects that earlier attempts stored and that are no part of the folder any more; `rm --unfinished` ends them.
    left_over: usize,
    /// The stable name that stands for it now.
    #[serde(skip_serializing_if = "Option::is_none")]
    named: Option<Named>,
}

#[derive(Serialize)]
struct Times {
    /// Seconds since 1970 until which nodes refuse to erase it; zero: they do not.
    keep_until: u64,
    /// Seconds since 1970 at which its lease ends; zero: it does not end.
    expires: u64,
}

#[derive(Serialize)]
struct Named {
    name: String,
    label: String,
    url: String,
    /// The name was not there before.
    new: bool,
    version: u64,
    /// The version that nodes had before, when it is older than that of this index; zero for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    nodes_had: Option<u64>,
}

#[derive(Serialize)]
struct Bad {
    path: PathBuf,
    reason: String,
}

/// The answer for several paths.
#[derive(Serialize)]
struct Answers {
    stored: Vec<Answer>,
    failed: Vec<Failed>,
}

impl Put {
    pub(crate) async fn run(self, options: &Options) -> anyhow::Result<()> {
        self.times.check()?;
        let is_stream = |path: &PathBuf| path.as_os_str() == "-";
        let several = self.path.len() > 1;
        let is_for_one = self.name.is_some() || self.mime.is_some() || self.stable.is_some();
        if several && (is_for_one || self.path.iter().any(is_stream)) {
            let what = "--name, --type, --as and standard input are for one path: store it by a command of its own";
            return Err(Usage(what.to_owned()).into());
        }
        let retention =
            Retention { keep_until: self.times.keep_until().unwrap_or(0), expires: self.times.expires().unwrap_or(0) };
        let (config, twin) = open_twin(&options.state()?, &self.keys, &self.cluster).await?;
        let (wanted, refused) = split(self.places);
        let put = PutOptions {
            tenure: Tenure {
                profile: self.profile.unwrap_or(config.profile),
                policy: self.policy.unwrap_or_else(|| config.policy.clone()),
                wanted,
                refused,
                caps: self.at_most,
                retention,
                ..Tenure::default()
            },
            compression: if self.no_compress { Compression::Off } else { Compression::Auto },
            deduplication: if self.dedup { Deduplication::On } else { Deduplication::Off },
            changes: if self.allow_changing { Changes::Allowed } else { Changes::Refused },
            bad: if self.skip_bad { twin::Bad::LeftOut } else { twin::Bad::Refused },
            mime: self.mime,
            name: self.name,
            tags: self.tags.into_iter().collect(),
            resumption: if self.resume { Resumption::Only } else { Resumption::Auto },
            asked_times: self.times.words(),
            ..PutOptions::default()
        };
        let placer = Placer::new(config.place.clone(), policy_check::compiler()?);
        let placing = placer.load(&twin, &put.tenure.policy).await?;
        if let Some(name) = &self.stable {
            twin.check_name(name).await?;
        }
        if is_stream(&self.path[0]) {
            let of = about(&self.path[0], put.mime.as_ref());
            let put = placing.of(put, of).await?;
            let (progress, bar) = progress_bar::of_bytes(options.json);
            let stored = twin.put_stream(Box::new(io::stdin()), &put, &progress).await;
            bar.finish_and_clear();
            let stored = match stored {
                Ok(stored) => stored,
                Err(error) => return Err(held_room::explain(error, &twin).await),
            };
            let answer = Answer::named(stored, &put, self.stable.as_deref(), &twin, &config).await?;
            return options.answer(&answer, || answer.text());
        }
        let (mut uploads, mut seen) = (Vec::new(), BTreeSet::new());
        for path in self.path {
            // What is not there is told before anything is sent.
            let real = std::fs::canonicalize(&path).with_context(|| format!("{} cannot be stored", path.display()))?;
            // A file that is given twice, `*.jpg cat.jpg`, is stored once.
            if !seen.insert(real) {
                continue;
            }
            let of = about(&path, put.mime.as_ref());
            uploads.push((path, placing.of(put.clone(), of).await?));
        }
        let (progress, bar) = progress_bar::of_bytes(options.json);
        let mut put = twin.put_all(&uploads, &progress).await;
        bar.finish_and_clear();
        let mut results = std::mem::take(&mut put.results);
        if !several && let Some(stored) = results.pop() {
            let stored = match stored {
                Ok(stored) => stored,
                Err(error) => return Err(held_room::explain(error, &twin).await),
            };
            let answer = Answer::named(stored, &uploads[0].1, self.stable.as_deref(), &twin, &config).await;
            // An error tells the label, too.
            if answer.as_ref().map_or(Ok(true), |answer| options.tell(answer, || answer.text()))? {
                put.told().await;
            }
            return answer.map(drop);
        }
        let (mut stored, mut failed) = (Vec::new(), Vec::new());
        for ((path, asked), put) in uploads.iter().zip(results) {
            match put {
                Ok(it) => stored.push(Answer::of(it, asked, None, &config)),
                Err(error) => failed.push((path.display().to_string(), held_room::explain(error, &twin).await)),
            }
        }
        let failures = Failures::of(failed);
        let answers = Answers { stored, failed: failures.failed.clone() };
        let is_heard = options.tell(&answers, || {
            answers.stored.iter().map(|it| format!("{}\n{}", it.name, it.text())).collect::<Vec<_>>().join("\n")
        })?;
        if is_heard {
            put.told().await;
        }
        failures.end(options)
    }
}

impl Times {
    fn of(Retention { keep_until, expires }: Retention) -> Self {
        Self { keep_until, expires }
    }

    /// Says how long something stays, and what was asked for where that is something else.
    fn text(&self, asked: Option<&Self>, label: &str) -> String {
        match (self.words(), asked) {
            (None, None) => String::new(),
            (Some(held), None) => format!("times  {held}\n"),
            (held, Some(asked)) => {
                let [held, asked] = [held, asked.words()].map(|words| words.unwrap_or_else(|| "no end".to_owned()));
                let next = match self.keep_until {
                    0 => format!(". `evernear renew {label} --expires TIME` changes it"),
                    // A promise is only prolonged.
                    _ => String::new(),
                };
                format!("times  {held}; now was asked: {asked}{next}\n")
            }
        }
    }

    fn words(&self) -> Option<String> {
        match (self.keep_until, self.expires) {
            (0, 0) => None,
            (0, end) => Some(format!("ends at {}", Moment(end))),
            (until, 0) => Some(format!("kept until {}", Moment(until))),
            (until, end) => Some(format!("kept until {}, ends at {}", Moment(until), Moment(end))),
        }
    }
}

impl Answer {
    /// Has a stable name stand for what was stored, if one is named.
    async fn named(
        stored: Stored,
        asked: &PutOptions,
        name: Option<&str>,
        twin: &Twin,
        config: &TwinConfig,
    ) -> anyhow::Result<Self> {
        let named = match name {
            None => None,
            Some(name) => {
                let label = &stored.label;
                let set = twin.point(name, &NameChange::Set(label.clone()), NameTerms::default()).await;
                let again =
                    || format!("it is stored, and only the name is not set; `evernear name set {name:?} {label}`");
                Some(set.with_context(again)?)
            }
        };
        Ok(Self::of(stored, asked, named, config))
    }

    fn of(stored: Stored, asked: &PutOptions, named: Option<Renamed>, config: &TwinConfig) -> Self {
        let named = named.map(|Renamed { label, entry, is_new, behind, .. }| Named {
            name: entry.path,
            url: config.url.url(&label, ""),
            label: label.to_string(),
            new: is_new,
            version: entry.tenure.version,
            nodes_had: behind,
        });
        let Link { url, html } = config.url.link(&stored);
        let Stored { label, entry, receipt, objects, bytes, skipped, bad, left_over } = stored;
        let kind = match entry.kind {
            Kind::File => "file",
            Kind::Directory => "directory",
        };
        Self {
            label: label.to_string(),
            url,
            html,
            locator: label.capability().locator().to_string(),
            kind,
            name: entry.path,
            mime: entry.mime,
            bytes,
            objects,
            profile: entry.tenure.profile.to_string(),
            policy: entry.tenure.policy.to_string(),
            times: Times::of(entry.tenure.retention),
            asked: Some(asked.tenure.retention).filter(|asked| *asked != entry.tenure.retention).map(Times::of),
            durable_shards: receipt.durable,
            shards: receipt.placement.len(),
            record_copies: receipt.records,
            zones_survived: receipt.zones_survived,
            skipped,
            bad: bad.into_iter().map(|twin::LeftOut { path, reason }| Bad { path, reason }).collect(),
            left_over,
            named,
        }
    }

    fn text(&self) -> String {
        let how = match (self.kind, self.zones_survived) {
            ("directory", _) => format!("{}, {}", count(self.objects, "object"), bytes(self.bytes)),
            (_, None) => {
                format!("{}, inside its record on {}", bytes(self.bytes), count(self.record_copies, "node"))
            }
            (_, Some(zones)) => {
                let (stored, shards) = (bytes(self.bytes), count(self.shards, "shard"));
                let zones = match zones {
                    0 => "no zone may be lost now".to_owned(),
                    _ => format!("any {} may be lost now", count(zones, "zone")),
                };
                format!("{stored}, {} of {shards} durable, {zones}", self.durable_shards)
            }
        };
        let skipped: String = self.skipped.iter().map(|path| format!("left out  {}\n", shown(path))).collect();
        let named = self.named.as_ref().map(|Named { name, url, new, version, nodes_had, .. }| {
            let new = if *new { ", a new name" } else { "" };
            format!("name   {url} stands for it ({name:?}{new})\n{}", behind(name, *version, *nodes_had))
        });
        let bad: String = self.bad.iter().map(|bad| format!("left out  {}\n", escape(&bad.reason))).collect();
        let left = match self.left_over {
            0 => String::new(),
            left => format!(
                "left   {} of earlier attempts, no part of it any more: `evernear rm --unfinished` ends them\n",
                count(left, "object")
            ),
        };
        let Self { label, url, html, mime, .. } = self;
        let (named, times) = (named.unwrap_or_default(), self.times.text(self.asked.as_ref(), label));
        format!(
            "label  {label}\nurl    {url}\nhtml   {html}\ntype   {mime}\nstored {how}\n{times}{skipped}{bad}{left}{named}"
        )
    }
}

/// Looks at what is to be stored. The upload reports what cannot be read.
fn about(path: &Path, told: Option<&MediaType>) -> About {
    let metadata = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file);
    let bytes = metadata.as_ref().map_or(0, std::fs::Metadata::len);
    let mime = told.map(|mime| mime.as_str().to_owned()).or_else(|| {
        let mut sample = Vec::new();
        let file = metadata.and_then(|_| std::fs::File::open(path).ok())?;
        file.take(Inspection::SAMPLE_BYTES as u64).read_to_end(&mut sample).ok()?;
        let mut inspection = Inspection::default();
        inspection.see(&sample);
        Some(inspection.media_type(&path.file_name()?.to_string_lossy()))
    });
    About { bytes, mime: mime.unwrap_or_default() }
}

fn split(places: Vec<PlaceChoice>) -> (Vec<Domain>, Vec<Domain>) {
    let (mut wanted, mut refused) = (Vec::new(), Vec::new());
    for place in places {
        match place {
            PlaceChoice::Wanted(domain) => wanted.push(domain),
            PlaceChoice::Refused(domain) => refused.push(domain),
        }
    }
    (wanted, refused)
}

fn parse_place(text: &str) -> anyhow::Result<PlaceChoice> {
    let domain = text.strip_prefix('!').unwrap_or(text).parse()?;
    if let Domain::Country(country) = domain {
        country::check(country)?;
    }
    Ok(if text.starts_with('!') { PlaceChoice::Refused(domain) } else { PlaceChoice::Wanted(domain) })
}

fn parse_tag(text: &str) -> Result<(String, u32), String> {
    let (name, number) = text.split_once('=').unwrap_or((text, "1"));
    let number = number.parse().map_err(|_| format!("{number:?} is not a number from 0 to {}", u32::MAX))?;
    if name.is_empty() { Err("a tag has a name".to_owned()) } else { Ok((name.to_owned(), number)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_durable_and_what_may_be_lost_is_told_also_where_it_is_less_than_asked() {
        let answer = |kind, durable_shards, shards, zones_survived| Answer {
            label: "LABEL".into(),
            url: "URL".into(),
            html: "HTML".into(),
            locator: "LOCATOR".into(),
            kind,
            name: "a".into(),
            mime: "text/plain".into(),
            bytes: 2048,
            objects: 1,
            profile: "small-cluster".into(),
            policy: "default".into(),
            times: Times { keep_until: 0, expires: 0 },
            asked: None,
            durable_shards,
            shards,
            record_copies: 3,
            zones_survived,
            skipped: Vec::new(),
            bad: Vec::new(),
            left_over: 0,
            named: None,
        };
        for (durable, zones, told) in [
            (6, Some(2), "2.00 KiB, 6 of 6 shards durable, any 2 zones may be lost now"),
            (5, Some(1), "2.00 KiB, 5 of 6 shards durable, any 1 zone may be lost now"),
            (5, Some(0), "2.00 KiB, 5 of 6 shards durable, no zone may be lost now"),
        ] {
            let text = answer("file", durable, 6, zones).text();
            assert!(text.contains(&format!("\nstored {told}\n")), "{text}");
        }
        let text = answer("file", 0, 0, None).text();
        assert!(text.contains("\nstored 2.00 KiB, inside its record on 3 nodes\n"), "{text}");
    }

    #[test]
    fn how_long_it_stays_is_told_and_what_was_asked_where_that_is_something_else() {
        let (first, second) = ("1970-01-02T00:00:00Z", "1970-01-03T00:00:00Z");
        let times = |keep_until, expires| Times { keep_until, expires };
        let says = |held: Times, asked: Option<Times>| held.text(asked.as_ref(), "LABEL");
        assert_eq!(says(times(0, 0), None), "");
        assert_eq!(says(times(0, 86_400), None), format!("times  ends at {first}\n"));
        assert_eq!(says(times(86_400, 0), None), format!("times  kept until {first}\n"));
        assert_eq!(says(times(86_400, 172_800), None), format!("times  kept until {first}, ends at {second}\n"));
        let renews = "`evernear renew LABEL --expires TIME` changes it\n";
        assert_eq!(
            says(times(0, 86_400), Some(times(0, 172_800))),
            format!("times  ends at {first}; now was asked: ends at {second}. {renews}")
        );
        assert_eq!(
            says(times(86_400, 0), Some(times(0, 0))),
            format!("times  kept until {first}; now was asked: no end\n")
        );
    }
}
