//! `evernear get`.

use std::{
    io::{self, IsTerminal},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use clap::Args;
use format::Kind;
use serde::Serialize;
use twin::{ByteRange, Delivered, Found, GetError, Target, part_of};

use super::{Options, signals::or_interrupted};
use crate::{
    fault::Usage,
    output::{bytes, count, shown},
    owner_access::{ClusterAccess, connect},
    progress_bar,
};

/// Fetch an object and verify it end to end.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  evernear get LABEL > cat.jpg
  evernear get https://LABEL.cdn.example/cat.jpg -o cat.jpg
  evernear get LABEL img/cat.jpg -o cat.jpg        a file in a stored folder
  evernear get LABEL -o site                       a stored folder, into a new folder
  evernear get LABEL -o /dev/null                  verify it and keep nothing
  evernear get LABEL --range 1000000-1999999 -o part

Nodes are trusted with nothing: every byte is checked against the label. A file or folder appears when it is whole. What was
there is replaced, a link too, but no folder; pipes and devices are written to. A folder, or a file of more than 4 MiB, that is cut short, by
Ctrl-C too, waits beside its place, and the same command goes on with it: what is there is verified and not fetched again. Of a
smaller file, and of a range, nothing stays. A read goes on as long as bytes come, and is tried again for 50 s when none do. No
owner key is needed.")]
pub(crate) struct Get {
    /// A label, or a URL whose host begins with one
    target: String,
    /// Path inside a stored folder
    path: Option<String>,
    /// Bytes, both ends included: FIRST-LAST, FIRST- or -COUNT
    #[arg(long)]
    range: Option<ByteRange>,
    /// Where to write; `-` is standard output [default: standard output]
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
    #[command(flatten)]
    cluster: ClusterAccess,
}

#[derive(Serialize)]
struct Answer {
    output: PathBuf,
    bytes: u64,
    pulled_bytes: u64,
    nodes: Vec<String>,
    recovered_stripes: u64,
    /// Nodes that sent wrong bytes. None of these bytes was used.
    wrong_nodes: Vec<String>,
    /// Files of a folder that an earlier `get` had left, verified anew and not fetched again.
    kept_files: usize,
    /// Bytes that an earlier `get` had left, of these and of other files, verified anew and not fetched again.
    kept_bytes: u64,
}

/// Names of standard output. A file that the shell opened to append to would be overwritten if it were opened by them.
const STDOUT: [&str; 4] = ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"];

impl Get {
    pub(crate) async fn run(self, options: &Options) -> anyhow::Result<()> {
        let output = self.output.filter(|path| !STDOUT.iter().any(|name| path.as_os_str() == *name));
        if options.json && output.is_none() {
            let what = "with --json the object cannot go to standard output too; name a file with -o";
            return Err(Usage(what.to_owned()).into());
        }
        let (_, network) = connect(&options.state()?, &self.cluster).await?;
        let found = find(&network, &self.target, self.path.as_deref()).await?;
        let Some(output) = output else { return to_stdout(&network, &found, self.range).await };
        let (progress, bar) = progress_bar::of_bytes(options.json);
        let fetch = async {
            Ok(match (found.object.kind(), self.range) {
                (Kind::Directory, Some(_)) => bail!(GetError::Directory),
                (Kind::Directory, None) => network.fetch_tree(&found, &output, &progress).await?,
                (Kind::File, range) => network.fetch_file(&found, resolve(&found, range)?, &output, &progress).await?,
            })
        };
        let delivered = or_interrupted(fetch).await;
        bar.finish_and_clear();
        let part = part_of(&output, &found.object.locator());
        let delivered = match delivered {
            Err(error) if part.exists() && !is_anothers(&error) => {
                let (part, goes_on) = (part.display(), self.range.is_none() && may_go_on(&error));
                Err(error.context(match goes_on {
                    true => {
                        format!("it is not whole; what was fetched is in {part}, and the same command goes on with it")
                    }
                    false => format!("it is not whole; {part} is there, and this command does not go on with it"),
                }))
            }
            delivered => delivered,
        };
        let answer = Answer::of(&delivered?, output);
        options.answer(&answer, || answer.text())
    }
}

/// Whether another program is fetching to the same place.
fn is_anothers(error: &anyhow::Error) -> bool {
    let busy = |source: &io::Error| source.kind() == io::ErrorKind::ResourceBusy;
    matches!(error.downcast_ref(), Some(GetError::Write { source, .. }) if busy(source))
}

/// Whether the same command comes further when it is given again: a name that the file system does not take stays one.
fn may_go_on(error: &anyhow::Error) -> bool {
    match error.downcast_ref() {
        Some(GetError::Name { .. } | GetError::Folded { .. }) => false,
        Some(GetError::Write { source, .. }) => source.kind() != io::ErrorKind::InvalidFilename,
        _ => true,
    }
}

/// Opens the object that a label or URL names. A path after a file in a URL is only a name, for media players that look
/// at its extension.
pub(super) async fn find(network: &twin::Network, target: &str, path: Option<&str>) -> anyhow::Result<Found> {
    let target: Target = target.parse().context("the object cannot be looked for")?;
    let segments =
        |path: &str| path.split('/').filter(|segment| !segment.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    let capability = &network.stands_for(&target.label).await?;
    let found = match path {
        Some(path) => network.find(capability, &segments(path)).await?,
        None => match network.find(capability, &[]).await? {
            found if found.object.kind() == Kind::File => found,
            _ => network.find(capability, &target.path).await?,
        },
    };
    Ok(found)
}

async fn to_stdout(network: &twin::Network, found: &Found, range: Option<ByteRange>) -> anyhow::Result<()> {
    if found.object.kind() == Kind::Directory {
        bail!(GetError::Directory);
    }
    if io::stdout().is_terminal() && !found.object.manifest().mime.starts_with("text/") {
        bail!(
            "the object is {}, no text; name a file with -o, or redirect standard output",
            found.object.manifest().mime
        );
    }
    network.read(found, resolve(found, range)?, io::stdout(), Path::new("standard output")).await?;
    Ok(())
}

fn resolve(found: &Found, range: Option<ByteRange>) -> Result<std::ops::Range<u64>, GetError> {
    let length = found.object.length();
    match range {
        None => Ok(0..length),
        Some(range) => range.of(length).ok_or(GetError::Range { length }),
    }
}

impl Answer {
    fn of(delivered: &Delivered, output: PathBuf) -> Self {
        let names =
            |nodes: &std::collections::BTreeSet<format::NodeName>| nodes.iter().map(ToString::to_string).collect();
        Self {
            output,
            bytes: delivered.bytes,
            pulled_bytes: delivered.pulled,
            nodes: names(&delivered.nodes),
            recovered_stripes: delivered.recovered,
            wrong_nodes: names(&delivered.wrong),
            kept_files: delivered.kept,
            kept_bytes: delivered.kept_bytes,
        }
    }

    fn text(&self) -> String {
        let wrong: String =
            self.wrong_nodes.iter().map(|node| format!("wrong bytes from {node}, healed around\n")).collect();
        let Self { output, recovered_stripes, .. } = self;
        let (nodes, recovered) = (count(self.nodes.len(), "node"), count(*recovered_stripes, "stripe"));
        let kept = match self.kept_bytes {
            0 => String::new(),
            kept => format!("; {} were there", bytes(kept)),
        };
        let (bytes, pulled) = (bytes(self.bytes), bytes(self.pulled_bytes));
        format!("{}: {bytes}, verified; {pulled} from {nodes}, {recovered} recovered{kept}\n{wrong}", shown(output))
    }
}
