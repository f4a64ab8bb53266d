//! The zone's certificate from an ACME authority (RFC 8555): ordered by one edge, answered for by the DNS door of every
//! edge (DNS-01, RFC 8555 section 8.4), shared sealed through the origins, renewed when the authority says so (RFC
//! 9773).
//!
//! Every edge looks at the shared note each `look_seconds`; when something is due, the first to write its name into it
//! does it. Keeps true: an edge that dies, an authority that refuses, origins that are away cost time and never the
//! certificate in use, not over a restart either: with a `state_dir` the newest note lies there too, sealed as it is.

mod shared;

use std::{
    cmp::Ordering,
    io,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use client::{Transport, keep, read_kept};
use format::wire::Role;
use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, CertificateIdentifier, ChallengeType, Identifier, NewAccount,
    NewOrder, Order, OrderStatus, RetryPolicy,
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use tokio::time::{sleep, timeout};
use x509_parser::parse_x509_certificate;

use self::shared::{Board, Certified, Holder, NoteError, PACKED_BYTES_MAX, Shared};
use crate::{
    clock,
    config::AcmeConfig,
    listen::certificate::{Certificate, PairError, certified_key},
    node::{Node, Published},
    secret::ZoneSecret,
};

/// An order ends by then; authorities take seconds, their queues a minute.
const ORDER_DEADLINE: Duration = Duration::from_secs(300);
/// Nobody else orders for so long, though the one at work died.
const HOLD_SECONDS: u64 = 2 * ORDER_DEADLINE.as_secs();
/// Longest wait after a failed order.
const RETRY_SECONDS_MAX: u64 = 4 * 3600;
/// A successor has the certificate by then, or does not start: sooner than its predecessor gives it up.
const SUCCESSION_DEADLINE: Duration = Duration::from_secs(15);
const SUCCESSION_RETRY: Duration = Duration::from_millis(200);
/// How an order is polled.
const POLL: RetryPolicy = RetryPolicy::new().timeout(Duration::from_secs(120));

/// Why an order failed.
#[derive(Debug, thiserror::Error)]
enum OrderError {
    /// The authority refuses, or cannot be reached.
    #[error("the certificate authority did not do as asked")]
    Authority(#[from] instant_acme::Error),
    /// The authority looked at the names and was not content.
    #[error("the certificate authority found {found:?} when it looked at the zone's names")]
    Names {
        /// The state of the order.
        found: OrderStatus,
    },
    /// The authority cannot be answered by DNS.
    #[error("the certificate authority offers no DNS-01 challenge")]
    NoChallenge,
    /// What came is no certificate for the key.
    #[error("what the certificate authority gave cannot be used")]
    Certificate(#[from] PairError),
    /// Its times cannot be read.
    #[error("the certificate that the authority gave cannot be read")]
    Times,
    /// The stored account cannot be read.
    #[error("the account in the note cannot be read")]
    Account(#[from] serde_json::Error),
    /// The note.
    #[error("the other edges could not be told")]
    Note(#[from] NoteError),
    /// Another edge took over.
    #[error("another edge wrote the note meanwhile")]
    Overtaken,
    /// It took too long.
    #[error("the order took more than {} s", ORDER_DEADLINE.as_secs())]
    TooSlow,
}

/// Keeps one edge's certificate.
pub(crate) struct Keeper {
    node: Arc<Node>,
    certificate: Arc<Certificate>,
    config: AcmeConfig,
    board: Board,
    /// The newest version seen, and what it says.
    version: u64,
    shared: Shared,
    /// Where it is kept over a restart, and the version that lies there.
    file: Option<PathBuf>,
    kept: u64,
    is_forgetful: bool,
    /// The configuration, read at the start, may name another authority than the certificate's. Edges that run under
    /// the one before it leave the new certificate alone, or two configurations would order against each other.
    moves: bool,
}

impl Keeper {
    pub(crate) fn new(
        node: Arc<Node>,
        certificate: Arc<Certificate>,
        config: AcmeConfig,
        secret: &ZoneSecret,
        transport: Arc<dyn Transport>,
    ) -> Self {
        let board =
            Board::new(transport, Arc::clone(&node.topology), node.config.place.clone(), secret, &node.config.zone);
        let file = node.config.state_dir.as_ref().map(|folder| folder.join("certificate.note"));
        let (version, shared) = (0, Shared::default());
        Self { node, certificate, config, board, version, shared, file, kept: 0, is_forgetful: false, moves: true }
    }

    /// Takes up what a former run kept. What does not read is logged and counts as nothing.
    pub(crate) async fn recall(&mut self) {
        let Some(file) = self.file.clone() else { return };
        let read = client::offload(move || read_kept(&file, PACKED_BYTES_MAX)).await;
        match read.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(None) => {}
            Ok(Some(packed)) => match self.board.unpack(&packed) {
                Ok((version, shared)) => {
                    self.kept = version;
                    self.take_in(version, shared);
                }
                Err(_) => tracing::warn!(
                    "the kept certificate does not open, `https.secret` is another one; it waits for an origin"
                ),
            },
            Err(error) => tracing::warn!(%error, "the kept certificate does not read; it waits for an origin"),
        }
    }

    /// Asks several origins for the certificate until one has one that counts, or most of them answer, which may know
    /// of none, or it is too late. Returns whether it is known what there is.
    pub(crate) async fn first(&mut self) -> bool {
        let mut last = NoteError::NoOrigin;
        let asked = async {
            loop {
                let (now, answers) = (now(), self.board.read_all().await);
                let asked = answers.len();
                let mut found = Vec::with_capacity(asked);
                for answer in answers {
                    match answer {
                        Ok(note) => found.push(note),
                        Err(error) => last = error,
                    }
                }
                let is_enough = found.len() * 2 > asked;
                let newest = found.into_iter().max_by_key(|(version, it)| (counts_until(it, now), *version));
                if let Some((version, shared)) = newest.filter(|(_, it)| is_enough || counts_until(it, now) > 0) {
                    if !self.goes_before(version, &shared, now) {
                        self.take_in(version, shared);
                    }
                    return;
                }
                sleep(SUCCESSION_RETRY).await;
            }
        };
        let answered = timeout(SUCCESSION_DEADLINE, asked).await.is_ok();
        if !answered {
            tracing::error!(error = &last as &dyn std::error::Error, "the certificate cannot be asked for");
        }
        answered
    }

    /// Keeps the newest version over a restart, if it has a certificate.
    async fn keep(&mut self) {
        let Some(file) = self.file.clone().filter(|_| self.kept != self.version) else { return };
        if self.shared.certified.is_none() {
            return;
        }
        let kept = match self.board.pack(self.version, &self.shared) {
            Ok(packed) => {
                let written = client::offload(move || keep(&file, &packed)).await;
                written.unwrap_or_else(|error| Err(io::Error::other(error)))
            }
            Err(error) => Err(io::Error::other(error)),
        };
        match kept {
            Ok(()) => (self.kept, self.is_forgetful) = (self.version, false),
            Err(error) if !self.is_forgetful => {
                tracing::warn!(%error, "the certificate cannot be kept; after a restart it waits for an origin");
                self.is_forgetful = true;
            }
            Err(_) => {}
        }
    }

    /// Keeps the certificate for ever. Dropped in the middle of an order, it leaves a hold that ends by itself.
    pub(crate) async fn run(mut self) {
        // instant-acme takes the process's provider; where two are built in, one has to be named. Set already: the
        // same.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut failing = String::new();
        loop {
            match self.look().await {
                Ok(()) => failing.clear(),
                Err(error) => {
                    self.node.metrics.certificate_faults.inc();
                    let said = error.to_string();
                    if said != failing {
                        tracing::warn!(error = &error as &dyn std::error::Error, "the certificate waits");
                        failing = said;
                    }
                }
            }
            self.keep().await;
            sleep(Duration::from_secs(self.config.look_seconds)).await;
        }
    }

    async fn look(&mut self) -> Result<(), NoteError> {
        let (version, shared) = self.board.read().await?;
        if self.goes_before(version, &shared, now()) {
            let mut kept = self.shared.clone();
            kept.holder = None;
            kept.challenges.clear();
            if self.board.write(version + 1, &kept).await? {
                self.take_in(version + 1, kept);
            }
            return Ok(());
        }
        self.take_in(version, shared);
        let (now, own) = (now(), &self.node.config.name);
        // Its own name is there when this edge ended in the middle of an order.
        let is_held = self.shared.holder.as_ref().is_some_and(|holder| holder.until > now && holder.edge != *own);
        self.moves &= self.shared.certified.as_ref().is_some_and(|held| held.directory != self.config.directory);
        if is_held || (now < self.shared.due && !(self.moves && self.shared.failures == 0)) {
            return Ok(());
        }
        let holder = Holder { edge: self.node.config.name.clone(), until: now + HOLD_SECONDS };
        if !self.write(|shared| shared.holder = Some(holder)).await? {
            return Ok(());
        }
        let done = timeout(ORDER_DEADLINE, self.act()).await.unwrap_or(Err(OrderError::TooSlow));
        let failed = done.as_ref().err().map(|error| {
            self.node.metrics.certificate_faults.inc();
            tracing::error!(error = error as &dyn std::error::Error, "no new certificate; the old one stays");
        });
        let first = self.config.retry_seconds;
        let end = |shared: &mut Shared| {
            shared.holder = None;
            shared.challenges.clear();
            shared.failures = if failed.is_some() { shared.failures.saturating_add(1) } else { 0 };
            if failed.is_some() {
                shared.due = now_after(retry_seconds(first, shared.failures));
            }
        };
        self.write(end).await.map(drop)
    }

    /// Whether what is known here goes before a version at the origins. Versions say nothing of certificates once the
    /// catalog was made anew, or an older one put in its place, and an edge that was off knows of none of that: of two
    /// certificates the one that ends later wins then, and one that has ended never wins. A later version that counts
    /// wins though it ends sooner, as where the zone moved to an authority that certifies for some days.
    fn goes_before(&self, version: u64, shared: &Shared, now: u64) -> bool {
        let (ours, theirs) = (counts_until(&self.shared, now), counts_until(shared, now));
        match ours.cmp(&theirs) {
            Ordering::Less => false,
            // All is lost there, the account too.
            Ordering::Equal => version == 0 && self.version > 0,
            Ordering::Greater => theirs == 0 || version <= self.version,
        }
    }

    /// Makes what a version says true here.
    fn take_in(&mut self, version: u64, shared: Shared) {
        if let Some(certified) = shared.certified.as_ref().filter(|new| self.shared.certified.as_ref() != Some(*new)) {
            match self.certificate.install(certified.chain.as_bytes(), certified.key.as_bytes()) {
                Ok(()) => {
                    let ends = times(&certified.chain).map_or(0, |(_, ends)| ends);
                    self.node.metrics.certificate_ends.set(ends);
                    tracing::info!(version, ends, "certificate taken up");
                }
                Err(error) => {
                    tracing::error!(error = &error as &dyn std::error::Error, "the shared certificate is no use");
                }
            }
        }
        let account = account_url(&shared.account);
        self.node.published.store(Arc::new(Published { challenges: shared.challenges.clone(), account }));
        (self.version, self.shared) = (version, shared);
    }

    /// Writes the next version. False: another edge was first, and its word will be read.
    async fn write(&mut self, change: impl FnOnce(&mut Shared)) -> Result<bool, NoteError> {
        let mut next = self.shared.clone();
        change(&mut next);
        let written = self.board.write(self.version + 1, &next).await?;
        if written {
            self.take_in(self.version + 1, next);
        }
        Ok(written)
    }

    /// Asks the authority when to renew, and orders when it is time.
    async fn act(&mut self) -> Result<(), OrderError> {
        let account = self.account().await?;
        let mut replaced = None;
        if let Some(certified) = &self.shared.certified {
            let is_of_account = certified.directory == self.config.directory;
            let leaf = leaf(&certified.chain).ok_or(OrderError::Times)?;
            let id = CertificateIdentifier::try_from(&leaf).ok().filter(|_| is_of_account);
            let (advice, ask_again) = match &id {
                None => (None, None),
                Some(id) => match account.renewal_info(id).await {
                    Ok((info, after)) => {
                        let window = info.suggested_window;
                        let window = (seconds(window.start.unix_timestamp()), seconds(window.end.unix_timestamp()));
                        (Some(window), Some(after))
                    }
                    // Not offered, or not now: the certificate's own times say enough.
                    Err(_) => (None, None),
                },
            };
            let times = times(&certified.chain).ok_or(OrderError::Times)?;
            let renew_at = renewal(times, advice, self.shared.renew_at, fraction());
            if !self.moves && now() < renew_at {
                let due = ask_again.map_or(renew_at, |after| renew_at.min(now_after(after.as_secs().max(60))));
                return self.tell(|shared| (shared.renew_at, shared.due) = (renew_at, due)).await;
            }
            replaced = id.filter(|_| advice.is_some()).map(CertificateIdentifier::into_owned);
        }
        let certified = self.order(&account, replaced).await?;
        let times = times(&certified.chain).ok_or(OrderError::Times)?;
        certified_key(certified.chain.as_bytes(), certified.key.as_bytes())?;
        let renew_at = renewal(times, None, 0, 0.0);
        self.tell(|shared| {
            shared.certified = Some(certified);
            // The next look asks the authority, if it is one to be asked.
            (shared.renew_at, shared.due) = (renew_at, now().max(renew_at.min(now_after(3600))));
        })
        .await
    }

    /// Opens the account of the note, or makes one.
    async fn account(&mut self) -> Result<Account, OrderError> {
        let builder = match &self.config.authority {
            Some(root) => Account::builder_with_root(root)?,
            None => Account::builder()?,
        };
        if !self.shared.account.is_empty() && self.shared.directory == self.config.directory {
            let credentials: AccountCredentials = serde_json::from_str(&self.shared.account)?;
            return Ok(builder.from_credentials(credentials).await?);
        }
        let contact: Vec<&str> = self.config.contact.iter().map(String::as_str).collect();
        let asked = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
        let (account, credentials) = builder.create(&asked, self.config.directory.clone(), None).await?;
        let credentials = serde_json::to_string(&credentials)?;
        let directory = self.config.directory.clone();
        self.tell(|shared| (shared.account, shared.directory) = (credentials, directory)).await?;
        Ok(account)
    }

    /// Orders a certificate for the zone and all names in it.
    async fn order(
        &mut self,
        account: &Account,
        replaced: Option<CertificateIdentifier<'static>>,
    ) -> Result<Certified, OrderError> {
        let zone = self.node.config.zone.as_str();
        let names = [Identifier::Dns(zone.to_owned()), Identifier::Dns(format!("*.{zone}"))];
        let mut asked = NewOrder::new(&names);
        if let Some(replaced) = replaced {
            asked = asked.replaces(replaced);
        }
        let mut order = account.new_order(&asked).await?;
        // Both names are proved at one place, so both values are there before either is looked at.
        let values = values(&mut order).await?;
        if !values.is_empty() {
            self.tell(|shared| shared.challenges = values).await?;
            if self.has_company() {
                sleep(Duration::from_secs(self.config.look_seconds) * 2).await;
            }
        }
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            if authorization.status == AuthorizationStatus::Pending {
                let challenge = authorization.challenge(ChallengeType::Dns01);
                challenge.ok_or(OrderError::NoChallenge)?.set_ready().await?;
            }
        }
        let found = order.poll_ready(&POLL).await?;
        if found != OrderStatus::Ready {
            return Err(OrderError::Names { found });
        }
        let key = order.finalize().await?;
        let chain = order.poll_certificate(&POLL).await?;
        Ok(Certified { directory: self.config.directory.clone(), chain, key })
    }

    /// Writes the next version while this edge holds the note.
    async fn tell(&mut self, change: impl FnOnce(&mut Shared)) -> Result<(), OrderError> {
        if self.write(change).await? { Ok(()) } else { Err(OrderError::Overtaken) }
    }

    /// Whether other edges answer for the zone.
    fn has_company(&self) -> bool {
        let nodes = self.node.topology.snapshot();
        nodes.iter().any(|node| node.role == Role::Edge && node.name != self.node.config.name)
    }
}

/// The values that DNS must show for an order.
async fn values(order: &mut Order) -> Result<Vec<String>, OrderError> {
    let mut values = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if authorization.status == AuthorizationStatus::Pending {
            let challenge = authorization.challenge(ChallengeType::Dns01).ok_or(OrderError::NoChallenge)?;
            values.push(challenge.key_authorization().dns_value());
        }
    }
    Ok(values)
}

/// Says when to renew, seconds since 1970: at a moment that `fraction` (0 to 1) picks from the window that the
/// authority advises, the one picked before when it still lies in the window (RFC 9773 section 4.2); without advice
/// after two thirds of the certificate's life.
fn renewal(times: (u64, u64), advice: Option<(u64, u64)>, picked: u64, fraction: f64) -> u64 {
    let (begins, ends) = times;
    match advice {
        Some((start, end)) if (start..=end).contains(&picked) => picked,
        Some((start, end)) => start + Duration::from_secs(end.saturating_sub(start)).mul_f64(fraction).as_secs(),
        None => begins + ends.saturating_sub(begins) / 3 * 2,
    }
}

/// How long to wait after so many failures; `first` after the first.
fn retry_seconds(first: u64, failures: u32) -> u64 {
    (first << failures.saturating_sub(1).min(16)).min(RETRY_SECONDS_MAX)
}

/// From 0 to 1, anywhere. Without randomness: now.
fn fraction() -> f64 {
    getrandom::u32().map_or(0.0, |random| f64::from(random) / f64::from(u32::MAX))
}

/// The first certificate of a chain.
fn leaf(chain: &str) -> Option<CertificateDer<'static>> {
    CertificateDer::from_pem_slice(chain.as_bytes()).ok()
}

/// When a chain's first certificate begins and ends, seconds since 1970.
fn times(chain: &str) -> Option<(u64, u64)> {
    let leaf = leaf(chain)?;
    let (_, parsed) = parse_x509_certificate(&leaf).ok()?;
    let valid = parsed.validity();
    Some((seconds(valid.not_before.timestamp()), seconds(valid.not_after.timestamp())))
}

/// Until when what edges share has a certificate that counts, seconds since 1970; 0 without one.
fn counts_until(shared: &Shared, now: u64) -> u64 {
    let ends = shared.certified.as_ref().and_then(|certified| times(&certified.chain)).map_or(0, |(_, ends)| ends);
    if ends > now { ends } else { 0 }
}

/// The account's URL, out of its credentials.
fn account_url(credentials: &str) -> Option<String> {
    let credentials: serde_json::Value = serde_json::from_str(credentials).ok()?;
    Some(credentials.get("id")?.as_str()?.to_owned())
}

fn seconds(timestamp: i64) -> u64 {
    u64::try_from(timestamp).unwrap_or(0)
}

fn now() -> u64 {
    clock::unix_seconds(SystemTime::now())
}

fn now_after(seconds: u64) -> u64 {
    now().saturating_add(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_renewed_when_the_authority_advises_or_after_two_thirds() {
        let times = (1_000, 10_000);
        assert_eq!(renewal(times, None, 0, 0.5), 7_000);
        assert_eq!(renewal(times, Some((4_000, 6_000)), 0, 0.0), 4_000);
        assert_eq!(renewal(times, Some((4_000, 6_000)), 0, 0.25), 4_500);
        assert_eq!(renewal(times, Some((4_000, 6_000)), 0, 1.0), 6_000);
        // What was picked stays, until the window moves: a revoked one's lies in the past.
        assert_eq!(renewal(times, Some((4_000, 6_000)), 5_123, 0.25), 5_123);
        assert_eq!(renewal(times, Some((10, 20)), 5_123, 0.5), 15);
        // A window that ends before it begins.
        assert_eq!(renewal(times, Some((6_000, 4_000)), 0, 0.5), 6_000);
    }

    #[test]
    fn failures_wait_twice_as_long_each_time_but_never_days() {
        assert_eq!([1, 2, 3, 9, 100].map(|failures| retry_seconds(60, failures)), [60, 120, 240, 14_400, 14_400]);
    }

    #[test]
    fn an_account_names_itself() {
        assert_eq!(account_url(r#"{"id":"https://ca.example/acct/1"}"#).as_deref(), Some("https://ca.example/acct/1"));
        assert_eq!(account_url(""), None);
    }
}
