//! An order of a certificate, from the account to the chain.

use std::time::{Duration, Instant};

use data_encoding::BASE64URL_NOPAD;
use format::wire::Role;
use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, CertificateIdentifier, ChallengeType, Identifier, NewAccount,
    NewOrder, Order, OrderStatus, RetryPolicy,
};
use tokio::time::sleep;

use super::{
    Keeper,
    shared::{Certified, NoteError, Shared},
    sight::{UnseenError, wait_for},
    times::{fraction, leaf, now, now_after, renewal, seconds, times},
};
use crate::listen::certificate::{PairError, certified_key};

/// An order ends by then; authorities take seconds, their queues a minute.
pub(super) const ORDER_DEADLINE: Duration = Duration::from_secs(300);
/// Resolvers see what this edge shows by then: of what its zone said before they remember nothing for so long.
const SIGHT_DEADLINE: Duration = Duration::from_secs(8);
/// Until the other edges of a zone show it too, no longer is waited.
const SIGHT_DEADLINE_MAX: Duration = Duration::from_secs(100);
/// What was shown before an order is forgotten by then, by a resolver that the authority may ask too.
const FORGET: Duration = Duration::from_secs(2);
/// How an order is polled.
const POLL: RetryPolicy = RetryPolicy::new().timeout(Duration::from_secs(120));

/// Why an order failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum OrderError {
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
    /// The authority would not find the proof, and was not asked.
    #[error("no certificate is ordered before resolvers see the zone")]
    Unseen(#[from] UnseenError),
    /// The system gives no random numbers.
    #[error("the system gives no random bytes")]
    Random(#[from] getrandom::Error),
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

impl Keeper {
    /// Asks the authority when to renew, and orders when it is time.
    pub(super) async fn act(&mut self) -> Result<(), OrderError> {
        // A zone that was certified was found, and whether its edges' resolvers answer now is no matter of its renewal.
        if self.shared.certified.is_none() {
            self.show().await?;
        }
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
            let others = if self.has_company() { 2 * self.config.look_seconds } else { 0 };
            sleep(Duration::from_secs(others).max(FORGET)).await;
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

    /// Shows a value where the proof will be, and waits until resolvers see it.
    async fn show(&mut self) -> Result<(), OrderError> {
        let resolvers = self.config.resolvers.clone();
        if resolvers.as_ref().is_some_and(Vec::is_empty) {
            return Ok(());
        }
        let mut value = [0; 32];
        getrandom::fill(&mut value)?;
        let value = BASE64URL_NOPAD.encode(&value);
        let shown = value.clone();
        self.tell(|shared| shared.challenges = vec![shown]).await?;
        let others = 2 * Duration::from_secs(self.config.look_seconds);
        let deadline = Instant::now() + (SIGHT_DEADLINE + others).min(SIGHT_DEADLINE_MAX);
        let config = &self.node.config;
        Ok(wait_for(&value, &config.zone, &config.nameservers(), resolvers.as_deref(), deadline).await?)
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

/// The account's URL, out of its credentials.
pub(super) fn account_url(credentials: &str) -> Option<String> {
    let credentials: serde_json::Value = serde_json::from_str(credentials).ok()?;
    Some(credentials.get("id")?.as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_names_itself() {
        assert_eq!(account_url(r#"{"id":"https://ca.example/acct/1"}"#).as_deref(), Some("https://ca.example/acct/1"));
        assert_eq!(account_url(""), None);
    }
}
