//! What the operator of an edge does not serve: lists in the compact denylist format (IPIP-383), which other networks
//! publish and share too.
//!
//! An object is named by its locator, which opens nothing: `/evernear/LOCATOR`, or, so that a list tells nobody what to
//! look for, `//HASH` with the SHA-256 of `LOCATOR/` in hex. A rule names one object wherever a path leads to it, so no
//! slip of a pen hits many. Rules that name things of other networks hit nothing here. It is the operator's policy, and
//! what is ready hangs on it as on the owner's.

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER_PERMISSIVE;
use format::Locator;
use tokio::{task::spawn_blocking, time::sleep};

use crate::metrics::Metrics;

/// Largest list in bytes: some 3.8 million rules of hashes.
const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// IPIP-383: a header is no longer.
const HEADER_BYTES_MAX: usize = 1024 * 1024;

type Hash = [u8; 32];

/// Objects that are not served. 32 bytes for each, and some.
#[derive(Debug, Default)]
pub struct Denylist(HashSet<Hash>);

/// What a list cannot be read for; the operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum DenylistError {
    /// The file cannot be read.
    #[error("the denylist {} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is too long.
    #[error("the denylist {} has over {FILE_BYTES_MAX} bytes", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// A line is no rule.
    #[error("line {line} of the denylist {}: {source}", path.display())]
    Rule {
        /// The file.
        path: PathBuf,
        /// Which, counted from 1.
        line: usize,
        /// What is wrong with it.
        source: RuleError,
    },
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// A later version of the format.
    #[error("version {0} of the format is not known here, only 1")]
    Version(String),
    /// What stands after `/evernear/` is no locator.
    #[error("/evernear/ wants a locator, 64 hex digits; `evernear edge deny URL` makes a rule of an address")]
    Locator,
    /// A path below an object.
    #[error("a rule names a whole object; what a path leads to is an object with a locator of its own")]
    Path,
    /// Neither a rule nor a comment.
    #[error("a rule begins with /evernear/, // or another network's /name/, an exception with !, a comment with #")]
    Unknown,
}

/// Returns the rule that denies an object without naming it.
#[must_use]
pub fn denylist_rule(locator: &Locator) -> String {
    format!("//{}", data_encoding::HEXLOWER.encode(&hash(locator)))
}

fn hash(locator: &Locator) -> Hash {
    let digest = digest(&SHA256, format!("{locator}/").as_bytes());
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

impl Denylist {
    /// Reads lists in their order; in each, and from one to the next, the later rule wins.
    ///
    /// # Errors
    /// [`DenylistError`]: a list counts whole or not at all.
    pub fn read(files: &[PathBuf]) -> Result<Self, DenylistError> {
        let mut denylist = Self::default();
        for path in files {
            let unread = |source| DenylistError::Read { path: path.clone(), source };
            if fs::metadata(path).map_err(unread)?.len() > FILE_BYTES_MAX {
                return Err(DenylistError::TooLong { path: path.clone() });
            }
            let text = fs::read_to_string(path).map_err(unread)?;
            let added = denylist.add(&text);
            let strange = added.map_err(|(line, source)| DenylistError::Rule { path: path.clone(), line, source })?;
            if strange > 0 {
                tracing::info!(list = %path.display(), strange, "rules of other networks hit nothing here");
            }
        }
        Ok(denylist)
    }

    /// Adds the rules of a list; returns how many name things of other networks. On an error, the line and what is
    /// wrong with it.
    fn add(&mut self, text: &str) -> Result<usize, (usize, RuleError)> {
        let header = header_lines(text);
        let mut strange = 0;
        for (at, line) in text.lines().enumerate() {
            let known = if at < header { version(line).map(|()| true) } else { self.rule(line) };
            strange += usize::from(!known.map_err(|error| (at + 1, error))?);
        }
        Ok(strange)
    }

    /// Takes one line; returns whether it says anything about this network, or about none.
    fn rule(&mut self, line: &str) -> Result<bool, RuleError> {
        // What follows a rule are hints, for people here.
        let Some(rule) = line.split_whitespace().next().filter(|rule| !rule.starts_with('#')) else { return Ok(true) };
        let (rule, is_exception) = rule.strip_prefix('!').map_or((rule, false), |rule| (rule, true));
        let hash = if let Some(named) = rule.strip_prefix("/evernear/") {
            let (locator, path) = named.split_once('/').unwrap_or((named, ""));
            if !matches!(path, "" | "*") {
                return Err(RuleError::Path);
            }
            hash(&locator.parse().map_err(|_| RuleError::Locator)?)
        } else if let Some(hex) = rule.strip_prefix("//") {
            // Otherwise it is a multihash of another network, in base58.
            let bytes = HEXLOWER_PERMISSIVE.decode(hex.as_bytes()).ok().and_then(|bytes| Hash::try_from(bytes).ok());
            let Some(hash) = bytes else { return Ok(false) };
            hash
        } else {
            let is_theirs = rule.strip_prefix('/').and_then(|rule| rule.split_once('/')).is_some();
            return if is_theirs { Ok(false) } else { Err(RuleError::Unknown) };
        };
        if is_exception {
            self.0.remove(&hash);
        } else {
            self.0.insert(hash);
        }
        Ok(true)
    }

    /// Returns whether an object is denied.
    #[must_use]
    pub fn denies(&self, locator: &Locator) -> bool {
        !self.0.is_empty() && self.0.contains(&hash(locator))
    }

    /// Returns how many objects are denied.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether nothing is denied.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Counts the lines of the header with the one that ends it; none without such a line.
fn header_lines(text: &str) -> usize {
    let mut bytes = 0;
    let within = text.lines().take_while(|line| {
        bytes += line.len() + 1;
        bytes <= HEADER_BYTES_MAX
    });
    within.enumerate().find(|(_, line)| line.trim_end() == "---").map_or(0, |(at, _)| at + 1)
}

/// Looks at a line of the header, of which only the version matters here.
fn version(line: &str) -> Result<(), RuleError> {
    match line.strip_prefix("version:").map(str::trim) {
        Some(other) if other != "1" => Err(RuleError::Version(other.to_owned())),
        _ => Ok(()),
    }
}

/// Takes up lists that changed, looking `every` so long; one that cannot be read changes nothing. For ever.
pub(crate) async fn follow(files: Vec<PathBuf>, every: Duration, held: Arc<ArcSwap<Denylist>>, metrics: Arc<Metrics>) {
    let mut seen = stamps(&files);
    loop {
        sleep(every).await;
        let now = stamps(&files);
        if now == seen {
            continue;
        }
        seen = now;
        let of_task = files.clone();
        match spawn_blocking(move || Denylist::read(&of_task)).await {
            Ok(Ok(denylist)) => {
                tracing::info!(objects = denylist.len(), "denylist taken up");
                held.store(Arc::new(denylist));
            }
            Ok(Err(error)) => {
                metrics.denylist_faults.inc();
                let error = client::causes(&error);
                tracing::error!(error, "the changed denylist is not used; the old one stays");
            }
            Err(error) => tracing::error!(%error, "the denylist was not read"),
        }
    }
}

/// When each file was written, and how long it is.
fn stamps(files: &[PathBuf]) -> Vec<Option<(SystemTime, u64)>> {
    let stamp = |path: &Path| {
        let metadata = fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    files.iter().map(|path| stamp(path)).collect()
}

/// The body of the fuzz target `denylist`: any bytes as a list.
pub fn fuzz(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let mut denylist = Denylist::default();
        let _ = denylist.add(text);
        assert!(denylist.len() <= text.lines().count(), "one object a line at most");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locator(byte: u8) -> Locator {
        format!("{byte:02x}").repeat(32).parse().unwrap()
    }

    fn denied(text: &str) -> Result<Vec<u8>, (usize, RuleError)> {
        let mut denylist = Denylist::default();
        denylist.add(text)?;
        Ok((0..10).filter(|byte| denylist.denies(&locator(*byte))).collect())
    }

    #[test]
    fn rules_name_objects_in_clear_and_by_hash_and_the_last_one_wins() {
        let (one, two, three) = (locator(1), denylist_rule(&locator(2)), locator(3));
        let text = format!(
            "version: 1\nname: a list\nhints:\n  gateway_status: 410\n---\n# comment\n\n/evernear/{one} why=this\n{two}\n\
             /evernear/{three}/*\n!/evernear/{one}\n/ipfs/QmVTF1yEejXd9iMgoRTFDxBv7HAz9kuZcQNBzHrceuK9HR/path*\n\
             /ipns/domain.example\n//QmX9dhRcQcKUw3Ws8485T5a9dtjrSCQaUAHnG4iK9i4ceM\n"
        );
        assert_eq!(denied(&text).unwrap(), [2, 3]);
        assert_eq!(Denylist::default().add(&text).unwrap(), 3);
        assert_eq!(denied(&format!("{text}/evernear/{one}\n")).unwrap(), [1, 2, 3]);
        assert_eq!(denied(&format!("{text}!{}", two.to_uppercase())).unwrap(), [3]);
        assert!(denied("").unwrap().is_empty());
        // By another program: printf '01..01/' | sha256sum.
        assert_eq!(denylist_rule(&one), "//f0d94b75bf3bf063dc132c15e671f8e883b502187a94814854061b724ded7ff6");
    }

    #[test]
    fn what_is_no_rule_is_told_with_its_line() {
        let short = "/evernear/0101";
        let path = format!("/evernear/{}/a/b", locator(1));
        for (text, line, error) in [
            (short, 1, RuleError::Locator),
            (&path, 1, RuleError::Path),
            ("# a\n\nhttps://label.evernear.example/", 3, RuleError::Unknown),
            ("/ipfs", 1, RuleError::Unknown),
            ("name: x\nversion: 2\n---\n", 2, RuleError::Version("2".to_owned())),
            // Without its end there is no header.
            ("version: 1\n", 1, RuleError::Unknown),
        ] {
            assert_eq!(denied(text), Err((line, error)), "{text}");
        }
    }

    #[test]
    fn a_header_has_its_limit() {
        let long = format!("name: {}\n---\n", "x".repeat(HEADER_BYTES_MAX));
        assert_eq!(denied(&long), Err((1, RuleError::Unknown)));
    }

    #[test]
    fn every_seed_of_the_corpus_is_survived() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/denylist");
        let seeds: Vec<_> = fs::read_dir(folder).unwrap().map(|seed| fs::read(seed.unwrap().path()).unwrap()).collect();
        assert!(!seeds.is_empty());
        for seed in seeds {
            for at in 0..seed.len() {
                fuzz(&seed[at..]);
                let mut changed = seed.clone();
                changed[at] ^= 1 << (at % 7);
                fuzz(&changed);
            }
        }
    }
}
