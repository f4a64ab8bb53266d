//! `evernear up`.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    io::IsTerminal,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use api::Link;
use clap::Args;
use indicatif::ProgressBar;
use sd_notify::NotifyState;
use serde::Serialize;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use up::{
    Account, CatalogChoice, DiskAccount, Listen, ListenError, PublicAccount, PublicOptions, PublicZone, Reading,
    UpOptions, Wait,
};

use super::{Options, signals::Signals};
use crate::{
    output::{count, table},
    policy_check, progress_bar,
};

/// How often a log and a service manager hear that a start goes on.
const TELL_EVERY: Duration = Duration::from_secs(30);
/// What a service manager then waits for more, in microseconds: longer than this network waits for a disk that does
/// nothing.
const MORE_TIME: u32 = 20 * 60 * 1_000_000;
/// How often a bar moves.
const MOVE_EVERY: Duration = Duration::from_millis(100);

/// Run a whole small network on this machine.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  evernear up                                 a network in ~/.evernear, until Ctrl-C; the same again goes on with it
  evernear up /mnt/a /mnt/b /mnt/c            over three disks, of which any one may be lost
  evernear up /mnt/d                          adds a disk; those that are known need not be named again
  evernear up --replace /mnt/b                what was there is lost; the new disk has other files, which stay
  evernear up --nodes 192.0.2.10              other machines may join by this address: evernear node invite
  evernear --state /srv/evernear up --http 127.0.0.1:80 --dns off
  evernear up --public media.example.org --address 203.0.113.5   everybody reads at https://LABEL.media.example.org/
  evernear up --catalog postgres://evernear@localhost/evernear   moves the catalog there; `--catalog sqlite` moves it back

While it runs, `evernear put FILE` in another terminal stores a file and prints its URL, without any option. On a terminal it logs warnings,
elsewhere what other nodes log; EVERNEAR_LOG=info says more.")]
pub(crate) struct Up {
    /// Folders that are disks of the network [default: those it has; on the first start one in the state folder]
    #[arg(value_name = "DIR")]
    disks: Vec<PathBuf>,
    /// This folder, in the place of a disk that is lost, is its replacement, whatever lies in it; repeat it for each
    #[arg(long, value_name = "DIR")]
    replace: Vec<PathBuf>,
    /// Where HTTP is answered [default: where it was; at first 127.0.0.1:8080, or the next free port]
    #[arg(long, value_name = "IP:PORT")]
    http: Option<SocketAddr>,
    /// Where DNS is answered, or `off` [default: where it was; at first 127.0.0.1:5300, or the next free port]
    #[arg(long, value_name = "IP:PORT")]
    dns: Option<Listen>,
    /// Where the twin answers programs and browsers of the owner, or `off` [default: where it did; at first
    /// 127.0.0.1:8081, or the next free port]
    #[arg(long, value_name = "IP:PORT")]
    twin: Option<Listen>,
    /// This machine's address for other machines, which may then join, or `off` [default: what it was; at first off;
    /// port 7499, or the next free one]
    #[arg(long, value_name = "IP[:PORT]", value_parser = nodes)]
    nodes: Option<Listen>,
    /// Where the catalog is to be: `postgres://USER@HOST/DATABASE`, or `sqlite` for a file in the state folder; this
    /// start moves it there [default: where it is; at first `sqlite`]
    #[arg(long, value_name = "URL")]
    catalog: Option<CatalogChoice>,
    #[command(flatten)]
    public: Public,
}

/// A zone that everybody reads at.
#[derive(Debug, Args)]
#[command(next_help_heading = "For everybody")]
struct Public {
    /// A zone that is delegated to this machine: everybody reads at names in it, over HTTPS. `off`: only this machine
    /// again. It is remembered, with what is named beside it [default: what was]
    #[arg(long, value_name = "ZONE")]
    public: Option<PublicZone>,
    /// Where viewers and resolvers reach this machine; once for IPv4 and once for IPv6
    #[arg(long, value_name = "IP", requires = "public")]
    address: Vec<IpAddr>,
    /// Where HTTPS is answered [default: port 443 of every address]
    #[arg(long, value_name = "IP:PORT", requires = "public")]
    https: Option<SocketAddr>,
    /// The authority that certifies the zone; naming one agrees to its terms of service [default: Let's Encrypt]
    #[arg(long, value_name = "URL", requires = "public", value_parser = https_url)]
    acme: Option<String>,
    /// Where the authority may write to
    #[arg(long, value_name = "mailto:ADDRESS", requires = "public", value_parser = mailto)]
    contact: Option<String>,
    /// The root that the authority's own HTTPS is trusted by [default: those of the system]
    #[arg(long, value_name = "PEM", requires = "public")]
    acme_root: Option<PathBuf>,
    /// A resolver that must see the zone before a certificate is ordered; repeat it for each [default: those of
    /// /etc/resolv.conf]
    #[arg(long, value_name = "IP:PORT", requires = "public")]
    resolver: Vec<SocketAddr>,
}

fn https_url(text: &str) -> Result<String, String> {
    let is_url = text.strip_prefix("https://").is_some_and(|rest| !rest.is_empty());
    is_url.then(|| text.to_owned()).ok_or_else(|| "name the authority's directory, https://...".to_owned())
}

fn mailto(text: &str) -> Result<String, String> {
    let is_mail = text.strip_prefix("mailto:").is_some_and(|rest| rest.contains('@'));
    is_mail.then(|| text.to_owned()).ok_or_else(|| "write it as mailto:you@example.org".to_owned())
}

impl Public {
    fn told(self) -> Option<PublicOptions> {
        let Self { public, address: addresses, https, acme, contact, acme_root, resolver: resolvers } = self;
        Some(PublicOptions { zone: public?, addresses, https, acme, contact, acme_root, resolvers })
    }
}

/// Reads an address; port 0 stands for the one that it had.
fn nodes(text: &str) -> Result<Listen, ListenError> {
    match text.parse::<IpAddr>() {
        Ok(ip) => Ok(Listen::At(SocketAddr::new(ip, 0))),
        Err(_) => text.parse(),
    }
}

impl Up {
    pub(crate) async fn run(self, options: &Options) -> anyhow::Result<()> {
        let mut signals = Signals::new()?;
        let state = options.state()?;
        let compiler = policy_check::compiler()?;
        let Self { disks, replace: replaced, http, dns, twin, nodes, catalog, public } = self;
        let (readers, wait) = watch::channel(Wait::default());
        let (state_of, public) = (state.path().to_owned(), public.told());
        let told = UpOptions { state: state_of, disks, replaced, http, dns, twin, nodes, catalog, public, readers };
        let bar = progress_bar::of_rows(options.json);
        let up = tokio::select! {
            up = up::Up::start(told, compiler) => up,
            // A start that is cut short is gone on with by the next.
            _ = signals.next() => return Ok(()),
            never = show(wait, &bar) => match never {},
        };
        bar.finish_and_clear();
        let up = up?;
        let account = up.account();
        // It is a secret, so no log of a service has it.
        let link = match account.twin.is_some() && (options.json || std::io::stdout().is_terminal()) {
            true => console(state.path()).await,
            false => None,
        };
        let link = link.as_ref().map(Link::expose);
        let said = Said { account, console: link };
        options.line(&said, || text(account, link, &program(), options.is_default_state()))?;
        if let Err(error) = sd_notify::notify(&[NotifyState::Ready]) {
            tracing::warn!(%error, "the service manager is not told");
        }
        // Every signal stops it, SIGHUP too: the terminal is gone.
        signals.next().await;
        tokio::select! {
            () = up.stop() => {}
            _ = signals.next() => {}
        }
        Ok(())
    }
}

/// What a program is told once the network runs.
#[derive(Serialize)]
struct Said<'a> {
    #[serde(flatten)]
    account: &'a Account,
    /// A link that signs one browser into the console.
    console: Option<&'a str>,
}

/// Makes a link into the console; without one the network runs all the same.
async fn console(state: &Path) -> Option<Link> {
    let made = api::console_link(state).await;
    made.inspect_err(|error| tracing::warn!(%error, "there is no link into the console; try `evernear twin console`"))
        .ok()
}

/// Shows for ever how far a start is with what takes long: on a terminal by a bar, elsewhere in the log, and to the
/// service manager, so that it waits.
async fn show(mut wait: watch::Receiver<Wait>, bar: &ProgressBar) -> Infallible {
    let mut told: Option<Instant> = None;
    while wait.changed().await.is_ok() {
        let wait = wait.borrow_and_update().clone();
        let status = match &wait {
            Wait::Nothing => continue,
            Wait::Reading(Reading { disk, records, of, shards }) => {
                bar.set_length(*of);
                bar.set_position(*records);
                bar.set_message(format!("records and {shards} shards of {}", disk.display()));
                format!("reading {}: {records} of {of} records, {shards} shards", disk.display())
            }
            Wait::Moving(moving) => {
                progress_bar::show_move(bar, *moving);
                format!("moving the catalog: {} of {} rows copied and compared", moving.rows, moving.of)
            }
        };
        if told.is_none_or(|told| told.elapsed() > TELL_EVERY) {
            told = Some(Instant::now());
            tracing::info!(status, "the catalog is not ready yet");
            // Without a service manager there is nobody to tell.
            let _ = sd_notify::notify(&[NotifyState::Status(&status), NotifyState::ExtendTimeoutUsec(MORE_TIME)]);
        }
        sleep(MOVE_EVERY).await;
    }
    std::future::pending().await
}

/// Formats the account for people. `program` is what to type for this program.
fn text(account: &Account, link: Option<&str>, program: &str, is_default_state: bool) -> String {
    let Account { state, http, dns, url, profile, disks, catalog, .. } = account;
    let catalog = catalog.as_ref().map_or_else(String::new, |place| format!("  catalog  {place}\n"));
    let dns = dns.map_or_else(|| "off".to_owned(), |dns| dns.to_string());
    let begun = if account.is_new { "A new network" } else { "The network" };
    let copy = if account.has_key_file { "owner.key and unlock.key" } else { "owner.key" };
    let rows: Vec<Vec<String>> = disks.iter().map(row).collect();
    let program = with_state(program, state, is_default_state);
    let url = url.replace("{label}", "LABEL").replace("{name}", "cat.jpg");
    let web = match &account.public {
        Some(public) => format!("https {}, {url}\n  http  {http}, which leads there", public.https),
        None => format!("http  {http}, {url}"),
    };
    format!(
        "{begun} runs, in {}. Keep a copy of {copy} elsewhere: who loses them cannot erase or change what is stored.\n\n{}\n{}{}\n\
         \x20 {web}\n  dns   {dns}\n  twin  {}\n{}{catalog}\n{}In another terminal:\n\n\
         \x20 {program} put cat.jpg     store a file or a folder, and print its URL\n\
         \x20 {program} ls              list what is stored\n\
         \x20 {program} get LABEL       fetch it, verified\n\
         \x20 {program} rm LABEL        erase it\n\n\
         Ctrl-C stops the network; `{program} up` goes on with it.\n",
        state.display(),
        table(&rows).lines().map(|line| format!("  {line}\n")).collect::<String>(),
        bears(account, profile),
        aside(account),
        twin(account, link, &program),
        nodes_at(account, &program),
        account.public.as_ref().filter(|public| !public.is_certified).map_or_else(String::new, delegation),
    )
}

/// Says what is to be entered where the names above a zone are kept.
fn delegation(public: &PublicAccount) -> String {
    let PublicAccount { zone, nameserver, addresses, .. } = public;
    let rows = addresses.iter().map(|address| {
        let kind = if address.is_ipv4() { "A" } else { "AAAA" };
        vec![format!("{nameserver}."), kind.to_owned(), address.to_string()]
    });
    let all = std::iter::once(vec![format!("{zone}."), "NS".to_owned(), format!("{nameserver}.")]).chain(rows);
    let records = table(&all.collect::<Vec<_>>());
    let records: String = records.lines().map(|line| format!("  {line}\n")).collect();
    format!(
        "{zone} has no certificate yet. It is ordered by itself once resolvers find the zone here; a warning says what is missing. Where the names\n\
         above {zone} are kept, enter:\n\n{records}\n"
    )
}

/// Says where the twin answers programs and browsers, or why it does not.
fn twin(account: &Account, link: Option<&str>, program: &str) -> String {
    match (&account.twin_url, &account.twin_gone) {
        (Some(url), _) => {
            let console = match link {
                Some(link) => format!("{link}, for one browser within ten minutes"),
                None => format!("{program} twin console prints a link for a browser"),
            };
            format!("{url}, for programs with a token: {program} twin token new NAME\n  console  {console}")
        }
        (None, Some(why)) => format!("LEFT OUT: {why}"),
        (None, None) => "off".to_owned(),
    }
}

/// Says where machines join, if they may.
fn nodes_at(account: &Account, program: &str) -> String {
    let line = |nodes| format!("  nodes {nodes}, for machines that join: {program} node invite --role edge\n");
    account.nodes.map(line).unwrap_or_default()
}

fn row(disk: &DiskAccount) -> Vec<String> {
    let what = match &disk.gone {
        None => count(disk.origins.len(), "origin"),
        Some(why) => format!("LEFT OUT: {why}"),
    };
    vec![disk.name.clone(), disk.path.display().to_string(), what]
}

/// Says what loss the network bears.
fn bears(account: &Account, profile: &str) -> String {
    let there: Vec<&DiskAccount> = account.disks.iter().filter(|disk| disk.gone.is_none()).collect();
    let loss = match (account.disks_survived, there.len()) {
        _ if !account.stores => {
            "too few disks are there for it: what is stored is read, and new files are refused until\n\
                                 another disk is there."
                .to_owned()
        }
        (0, _) if profile == "1+0" => {
            "there is one copy of each. What is damaged, or lost with its disk, is lost for good.".to_owned()
        }
        (0, 1) => "a damaged file is made good, and whoever loses the disk loses everything.\n\
                   With a folder on another disk, `evernear up DIR`, new files bear the loss of one."
            .to_owned(),
        (0, _) => "a damaged file is made good, and whoever loses a disk loses what lies on it.".to_owned(),
        (1, _) => "any 1 of these disks may be lost.".to_owned(),
        (survived, _) => format!("any {survived} of these disks may be lost."),
    };
    let mut mounts: BTreeMap<&Path, Vec<&str>> = BTreeMap::new();
    for disk in there {
        mounts.entry(&disk.mount).or_default().push(&disk.name);
    }
    let together = mounts.iter().filter(|(_, disks)| disks.len() > 1).map(|(mount, disks)| {
        let (disks, mount) = (disks.join(", "), mount.display());
        format!("On one file system ({mount}): {disks}; what takes that takes them all.\n")
    });
    let older = match account.is_new {
        true => "",
        false => "Older files bear what they were stored for; `evernear object health LABEL` tells how much is left.\n",
    };
    format!("New files are stored as {profile}: {loss}\n{older}{}", together.collect::<String>())
}

/// Says where damaged catalogs lie, and until when.
fn aside(account: &Account) -> String {
    let say = |path: &PathBuf| {
        format!(
            "A damaged catalog was set aside, which opens what was erased since. Once all disks are there and your policies are\n\
             published again, delete it: rm {}*\n",
            word(path)
        )
    };
    account.damaged_catalogs.iter().map(say).collect()
}

/// Returns what to type for this program: its name, where the shell finds it, or else its path.
pub(super) fn program() -> String {
    let Ok(me) = std::env::current_exe() else { return "evernear".to_owned() };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join("evernear")).find(|file| file.is_file());
    let is_me =
        found.and_then(|file| file.canonicalize().ok()).is_some_and(|file| Some(file) == me.canonicalize().ok());
    if is_me { "evernear".to_owned() } else { word(&me) }
}

/// Adds the state folder to what is typed, where that is not the one of those who name none.
pub(super) fn with_state(program: &str, state: &Path, is_default_state: bool) -> String {
    match is_default_state {
        true => program.to_owned(),
        false => format!("{program} --state {}", word(state)),
    }
}

/// Quotes a path as one word of a shell.
pub(super) fn word(path: &Path) -> String {
    let text = path.to_string_lossy();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if text.chars().all(is_plain) { text.into_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(disks: &[(&str, Option<&str>)], profile: &str, survived: usize) -> Account {
        let disk = |(number, (mount, gone)): (usize, &(&str, Option<&str>))| DiskAccount {
            name: format!("disk{}", number + 1),
            path: format!("/mnt/{number}").into(),
            mount: mount.into(),
            origins: vec![format!("o{}", number + 1)],
            gone: gone.map(str::to_owned),
        };
        Account {
            state: "/home/me/.evernear".into(),
            owner: format::OwnerSecret::from_bytes([1; 32]).keys().id(),
            has_key_file: true,
            http: "127.0.0.1:8080".parse().unwrap(),
            dns: None,
            public: None,
            twin: Some("127.0.0.1:8081".parse().unwrap()),
            twin_url: Some("http://127.0.0.1:8081".to_owned()),
            twin_gone: None,
            nodes: None,
            catalog: None,
            url: "http://{label}.localhost:8080/{name}".to_owned(),
            profile: profile.to_owned(),
            stores: true,
            disks_survived: survived,
            disks: disks.iter().enumerate().map(disk).collect(),
            damaged_catalogs: Vec::new(),
            is_new: false,
        }
    }

    #[test]
    fn the_account_says_what_loss_is_borne_and_what_to_type() {
        let one = text(&account(&[("/", None)], "2+1", 0), None, "evernear", true);
        for line in [
            "loses the disk loses everything",
            "http://LABEL.localhost:8080/cat.jpg",
            "  evernear put cat.jpg",
            "  twin  http://127.0.0.1:8081, for programs with a token: evernear twin token new NAME\n",
            "  console  evernear twin console prints a link for a browser\n",
        ] {
            assert!(one.contains(line), "{line}: {one}");
        }
        let linked = text(&account(&[("/", None)], "2+1", 0), Some("http://x/#key=y"), "evernear", true);
        assert!(linked.contains("  console  http://x/#key=y, for one browser"), "{linked}");
        let out = Account { twin_url: None, twin_gone: Some("why".into()), ..account(&[("/", None)], "2+1", 0) };
        assert!(text(&out, None, "evernear", true).contains("  twin  LEFT OUT: why\n"));
        let off = Account { twin_gone: None, nodes: Some("192.0.2.1:7499".parse().unwrap()), ..out };
        let joins = "  nodes 192.0.2.1:7499, for machines that join: evernear node invite --role edge\n";
        assert!(!one.contains("  nodes ") && text(&off, None, "evernear", true).contains(joins));
        assert!(text(&off, None, "evernear", true).contains("  twin  off\n"));
        let damaged_catalogs = vec!["/my home/catalog.damaged-7.sqlite".into()];
        let aside = Account { damaged_catalogs, ..account(&[("/", None)], "2+1", 0) };
        let said = text(&aside, None, "evernear", true);
        assert!(said.contains("delete it: rm '/my home/catalog.damaged-7.sqlite'*\n"), "{said}");
        let three = account(&[("/a", None), ("/b", Some("its folder is not there")), ("/c", None)], "1+1", 1);
        let said = text(&three, None, "'/my programs/evernear'", false);
        for line in [
            "LEFT OUT: its folder is not there",
            "any 1 of these disks may be lost.",
            "'/my programs/evernear' --state /home/me/.evernear ls",
        ] {
            assert!(said.contains(line), "{line}: {said}");
        }
        assert!(!said.contains("On one file system"));
        let shared = text(&account(&[("/", None), ("/b", None), ("/", None)], "2+1", 1), None, "evernear", true);
        assert!(shared.contains("On one file system (/): disk1, disk3; what takes that takes them all."), "{shared}");
        let once = text(&account(&[("/", None)], "1+0", 0), None, "evernear", true);
        assert!(once.contains("is lost for good") && !once.contains("made good"), "{once}");
        let public = |is_certified| PublicAccount {
            zone: "media.example".parse().unwrap(),
            nameserver: "ns1.media.example".into(),
            addresses: ["192.0.2.1", "2001:db8::1"].map(|address| address.parse().unwrap()).into(),
            https: "[::]:443".parse().unwrap(),
            is_certified,
        };
        let url = "https://{label}.media.example/{name}";
        let open =
            |is_certified| Account { public: Some(public(is_certified)), url: url.into(), ..account(&[], "2+1", 0) };
        let said = text(&open(false), None, "evernear", true);
        for line in [
            "  https [::]:443, https://LABEL.media.example/cat.jpg\n  http  127.0.0.1:8080, which leads there\n",
            "  media.example.      NS    ns1.media.example.\n",
            "  ns1.media.example.  A     192.0.2.1\n",
            "  ns1.media.example.  AAAA  2001:db8::1\n",
        ] {
            assert!(said.contains(line), "{line}: {said}");
        }
        assert!(!text(&open(true), None, "evernear", true).contains("NS"));
        let moved = Account { catalog: Some("postgres://u@h/d".to_owned()), ..three.clone() };
        assert!(text(&moved, None, "evernear", true).contains("\n  catalog  postgres://u@h/d\n"));
        let few = Account { stores: false, ..three };
        assert!(text(&few, None, "evernear", true).contains("new files are refused"));
    }

    #[test]
    fn an_address_for_other_machines_needs_no_port() {
        for (text, is) in
            [("192.0.2.1", "192.0.2.1:0"), ("2001:db8::1", "[2001:db8::1]:0"), ("192.0.2.1:7", "192.0.2.1:7")]
        {
            assert_eq!(nodes(text), Ok(Listen::At(is.parse().unwrap())));
        }
        assert!(nodes("off") == Ok(Listen::Off) && nodes("localhost").is_err());
    }

    #[test]
    fn a_path_is_one_word_of_a_shell() {
        for (path, is) in [("/a-b_c.d", "/a-b_c.d"), ("/a b", "'/a b'"), ("/it's", r"'/it'\''s'")] {
            assert_eq!(word(Path::new(path)), is);
        }
    }
}
