//! Who asks, by the token or the session that came along, and whether they may. Only handlers that name one of these
//! extractors are reached by nobody else.

use std::{
    net::IpAddr,
    sync::{Arc, OnceLock},
};

use axum::{
    extract::FromRequestParts,
    http::{
        HeaderMap,
        header::{AUTHORIZATION, HOST, ORIGIN},
        request::Parts,
        uri::Authority,
    },
};

use crate::{
    callers::Answering,
    refusal::Refusal,
    service::{self, Service},
    session,
    token::{Grant, Scope, Token, TokenFault, TokenId},
    wishes::KEEP_UNTIL,
};

/// A caller that may read.
pub(crate) struct Reader(pub(crate) Grant);

/// A caller that may store and erase.
pub(crate) struct Writer(pub(crate) Grant);

/// A caller that may see who did what.
pub(crate) struct Admin(pub(crate) Grant);

/// Whoever may ask about what everybody may know who is no page in a browser; those need a token that may read. Who has
/// a name of theirs lead to this machine has a browser take its own page for one of this host, and then it may say
/// nothing of pages: so a host counts that is no name, or one that is known.
pub(crate) struct Asker;

impl FromRequestParts<Arc<Service>> for Asker {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, service: &Arc<Service>) -> Result<Self, Refusal> {
        // Browsers say by `Sec-Fetch-Site` who asks; `none` is a person who typed the address.
        let fields = &parts.headers;
        let asks_for_page = fields.get("sec-fetch-site").is_some_and(|site| site != "none");
        if asks_for_page || fields.contains_key(ORIGIN) || fields.contains_key(AUTHORIZATION) {
            Reader::from_request_parts(parts, service).await?;
        } else if !is_known_host(fields, &service.config.hosts) {
            return Err(Refusal::unknown_host());
        }
        Ok(Self)
    }
}

/// Whether a request names this machine by an address, as a browser's own name for it, or by one of `names`. One that
/// names no host is of no browser.
fn is_known_host(fields: &HeaderMap, names: &[String]) -> bool {
    let mut hosts = fields.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return !fields.contains_key(HOST) };
    let Some(authority) = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok()) else { return false };
    let host = authority.host();
    let is_address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
    is_address || session::is_loopback(host) || names.iter().any(|name| name.eq_ignore_ascii_case(host))
}

/// Who the caller of a request turned out to be, for the audit log; and that the request is under way.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known(Arc<OnceLock<Answering>>);

impl Known {
    /// Says who it is, and counts the request for them.
    pub(crate) fn set(&self, service: &Service, token: TokenId) -> Result<(), Refusal> {
        let (callers, root) = (&service.callers, service.lineage.root(token));
        let answering = callers.enter(token, root).ok_or_else(|| Refusal::too_many(callers.max))?;
        let _ = self.0.set(answering);
        Ok(())
    }

    pub(crate) fn token(&self) -> Option<TokenId> {
        self.0.get().map(|answering| answering.token)
    }
}

macro_rules! caller {
    ($($name:ident: $scope:expr),*) => { $(
        impl FromRequestParts<Arc<Service>> for $name {
            type Rejection = Refusal;

            async fn from_request_parts(parts: &mut Parts, service: &Arc<Service>) -> Result<Self, Refusal> {
                let grant = recognised(service, &parts.headers).await?;
                // First: a caller that comes too often is no line of the audit log.
                service.count(&grant)?;
                if let Some(known) = parts.extensions.get::<Known>() {
                    known.set(service, grant.id)?;
                }
                // A promise that its owner cannot take back is not for every token that stores.
                let needed = if parts.headers.contains_key(KEEP_UNTIL) { Scope::Admin } else { $scope };
                if grant.scope < needed { Err(Refusal::scope(needed)) } else { Ok(Self(grant)) }
            }
        }
    )* };
}

caller!(Reader: Scope::Read, Writer: Scope::Write, Admin: Scope::Admin);

/// Returns what the token of a request allows, or that of the session which the console's page shows.
async fn recognised(service: &Service, headers: &HeaderMap) -> Result<Grant, Refusal> {
    if !headers.contains_key(AUTHORIZATION)
        && let Some(session) = session::shown(headers)
    {
        return service.store.session(session, service::now()).await?.ok_or_else(Refusal::signed_out);
    }
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return Err(Refusal::no_token()) };
    let text = value.to_str().map_err(|_| Refusal::malformed_token())?;
    // RFC 9110 section 11.1: the scheme is case-insensitive.
    let (scheme, shown) = text.split_once(' ').ok_or_else(Refusal::no_token)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Refusal::no_token());
    }
    let shown: Token = shown.trim().parse().map_err(|_| Refusal::malformed_token())?;
    let (grant, kept) = service.store.token(shown.id()).await?.ok_or(TokenFault::Unknown)?;
    grant.check(&kept, &shown, service::now())?;
    Ok(grant)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_name_that_leads_here_is_no_host_of_ours_unless_it_is_known() {
        let names = ["files.example".to_owned()];
        let is_known = |hosts: &[&'static str]| {
            let mut fields = HeaderMap::new();
            for host in hosts {
                fields.append(HOST, HeaderValue::from_static(host));
            }
            is_known_host(&fields, &names)
        };
        for hosts in [
            &["127.0.0.1:8081"][..],
            &["192.0.2.7"],
            &["[::1]:8081"],
            &["localhost"],
            &["LOCALHOST:1"],
            &["twin.localhost:8081"],
            &["Files.Example:443"],
            &[],
        ] {
            assert!(is_known(hosts), "{hosts:?}");
        }
        for hosts in [
            &["evil.example:8081"][..],
            &["localhost.evil.example"],
            &["127.0.0.1.evil.example"],
            &["a.files.example"],
            &["notlocalhost"],
            &["a@b c"],
            &[""],
            &["127.0.0.1", "127.0.0.1"],
        ] {
            assert!(!is_known(hosts), "{hosts:?}");
        }
    }
}
