//! `evernear sign`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::Context;
use clap::Args;
use edge::{LinkKey, Terms, places::Net};
use format::{Country, Moment};
use http::Uri;
use sandbox::canonical_path;
use serde::Serialize;
use twin::{Target, TargetError};
use zeroize::Zeroizing;

use super::Options;
use crate::{country, fault::Usage, moment};

/// Sign a link that is valid for a while, for policies that ask for one.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  evernear sign https://LABEL.cdn.example/film.mp4 --key link.key --until +2h
  evernear sign https://LABEL.cdn.example/site/ --key link.key --until 2027-01-31 --path /site/
  evernear sign URL --key link.key --until +10m --country BE --country NL --network 192.0.2.0/24 --network 2001:db8::/32
  evernear sign URL --key link.key --until +1h --number 0=17     the policy reads 17 as token-claim(0)

The key is what the operator of the edges gives you: `evernear edge link-key`. A token is a Common Access Token (CTA-5007), so other
programs that have the key can sign too. A viewer who has both IPv4 and IPv6 needs a --network for each.")]
pub(crate) struct Sign {
    /// The URL to sign, as `evernear put` printed it
    url: Uri,
    /// The file of the link key
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// When the link ends: a date, an RFC 3339 time, or +30d, +12h, +45m
    #[arg(long, value_name = "MOMENT", value_parser = moment::to_come("name a time to come"))]
    until: u64,
    /// When the link becomes valid [default: at once]
    #[arg(long, value_name = "MOMENT", value_parser = moment::parse)]
    from: Option<u64>,
    /// Paths that begin with this [default: the URL's own path, as a prefix]
    #[arg(long, value_name = "PREFIX")]
    path: Option<String>,
    /// All objects of the owner, in place of the URL's own
    #[arg(long)]
    any_object: bool,
    /// Only viewers in this country; may be repeated
    #[arg(long, value_name = "CC", value_parser = country::parse)]
    country: Vec<Country>,
    /// Only viewers at addresses of this prefix; may be repeated
    #[arg(long, value_name = "PREFIX")]
    network: Vec<Net>,
    /// A number for the policy; may be repeated, for other slots (0 to 255)
    #[arg(long, value_name = "SLOT=NUMBER")]
    number: Vec<Slot>,
}

/// A number in a slot.
#[derive(Debug, Clone, Copy)]
struct Slot(u8, u32);

impl FromStr for Slot {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let read = || {
            let (slot, number) = text.split_once('=')?;
            Some(Self(slot.parse().ok()?, number.parse().ok()?))
        };
        read().context("use SLOT=NUMBER, such as 0=17, with a slot from 0 to 255")
    }
}

#[derive(Serialize)]
struct Answer {
    url: String,
    token: String,
    until: u64,
}

impl Sign {
    pub(crate) fn run(self, options: &Options) -> anyhow::Result<()> {
        let host = host(&self.url)?;
        if let Some(from) = self.from.filter(|from| *from >= self.until) {
            let (from, until) = (Moment(from), Moment(self.until));
            return Err(Usage(format!("the link would end (--until {until}) before it begins (--from {from})")).into());
        }
        let path = match self.path {
            None => self.url.path().to_owned(),
            Some(path) => covering(path, &self.url)?,
        };
        let key = read_key(&self.key)?;
        let terms = Terms {
            expires: Some(self.until),
            not_before: self.from,
            host: (!self.any_object).then_some(host),
            path: (path != "/").then_some(path),
            countries: self.country,
            networks: self.network,
            numbers: self.number.iter().map(|Slot(slot, number)| (*slot, *number)).collect::<BTreeMap<_, _>>(),
        };
        let token = terms.sign(&key);
        let and = if self.url.query().is_some() { '&' } else { '?' };
        let answer = Answer { url: format!("{}{and}token={token}", self.url), token, until: self.until };
        options.answer(&answer, || format!("{}\n", answer.url))
    }
}

/// Returns the host of a URL that an edge can answer: a web address of an object, with a path that can be walked and
/// without a token, as edges weigh the first one only.
fn host(url: &Uri) -> Result<String, Usage> {
    let wrong = |why: &str| Usage(format!("{url} {why}; sign the URL that `evernear put` printed"));
    let is_web = matches!(url.scheme_str(), Some("http" | "https"));
    let host = url.host().filter(|_| is_web).ok_or_else(|| wrong("is no http or https address"))?;
    let _: Target = url.to_string().parse().map_err(|error| match error {
        TargetError::Label(cause) => wrong(&format!("does not begin with a label ({cause})")),
        other => wrong(&format!("leads to nothing ({other})")),
    })?;
    let path = canonical_path(url.path());
    let mut inner = path.split('/').skip(1).peekable();
    while let Some(name) = inner.next() {
        let is_last = inner.peek().is_none();
        let is_name = !matches!(name, "." | "..") && (is_last || !name.is_empty());
        if !is_name || name.contains("%2F") || name.contains("%00") {
            return Err(wrong(&format!("leads to nothing ({name:?} is no name in a folder)")));
        }
    }
    if url.query().is_some_and(|query| query.split('&').any(|field| field.starts_with("token="))) {
        return Err(wrong("has a token already"));
    }
    Ok(host.to_ascii_lowercase())
}

/// Returns the prefix of paths that was asked for, when the URL's own path begins with it.
fn covering(prefix: String, url: &Uri) -> Result<String, Usage> {
    let own = url.path();
    if prefix.starts_with('/') && canonical_path(own).starts_with(&*canonical_path(&prefix)) {
        return Ok(prefix);
    }
    Err(Usage(format!(
        "--path {prefix} does not cover the URL's own path, {own}; name what that begins with, such as /"
    )))
}

fn read_key(path: &Path) -> anyhow::Result<LinkKey> {
    let bytes = std::fs::read(path).map(Zeroizing::new);
    let bytes = bytes.with_context(|| format!("the link key {} cannot be read", path.display()))?;
    let key = std::str::from_utf8(&bytes).ok().and_then(LinkKey::from_hex);
    key.with_context(|| format!("{} is no link key: `evernear edge link-key` makes one, 64 hex digits", path.display()))
}
