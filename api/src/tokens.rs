//! `/tokens`: an admin lists, makes and ends tokens over HTTP, as `evernear twin token` does beside the twin.

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use format::Moment;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    audit::About,
    caller::Admin,
    files::{InPath, Sent},
    refusal::Refusal,
    service::{self, Service},
    token::{Grant, Maker, RATE_DEFAULT, Scope, Token, check_token_name},
    wishes::time,
};

/// Tokens that count at once.
const TOKENS_MAX: usize = 1000;

/// A token, without its secret.
#[derive(Debug, Serialize)]
struct Line {
    id: String,
    name: String,
    scope: Scope,
    created: String,
    /// None: it does not end.
    expires: Option<String>,
    /// Bytes that it may have stored at once; none for no bound.
    quota: Option<u64>,
    /// Bytes that it and those that it made have stored, or are about to.
    used: u64,
    /// Requests a second.
    rate: u32,
    /// The id of the token that made it; none for one that a command beside the twin made.
    maker: Option<String>,
}

/// A token that is to be made.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    name: String,
    scope: String,
    /// `2027-01-31`, `2027-01-31T12:00:00Z`, `+30d`, or `never`. Absent: never, or with its maker.
    expires: Option<String>,
    /// Absent: that of its maker.
    quota: Option<u64>,
    /// Absent: 100, or that of its maker where it is less.
    rate: Option<u32>,
}

impl Line {
    fn of(grant: Grant, used: u64) -> Self {
        Self {
            id: grant.id.to_string(),
            name: grant.name,
            scope: grant.scope,
            created: Moment(grant.created).to_string(),
            expires: grant.expires.map(|end| Moment(end).to_string()),
            quota: grant.quota_bytes,
            used,
            rate: grant.rate,
            maker: match grant.maker {
                Maker::Token(id) => Some(id.to_string()),
                Maker::Owner | Maker::Links => None,
            },
        }
    }
}

/// Returns when a token ends, what it may store and how often it may ask, at most as its maker: else whoever has a
/// token for a while has one for ever.
fn within(
    maker: &Grant,
    (expires, quota, rate): (Option<u64>, Option<u64>, Option<u32>),
) -> Result<(Option<u64>, Option<u64>, u32), Refusal> {
    let more = Refusal::lesser_maker;
    let end = maker.expires.unwrap_or(u64::MAX);
    // Zero is never.
    let expires = match expires.map(|end| if end == 0 { u64::MAX } else { end }) {
        Some(wanted) if wanted > end => return Err(more("end")),
        wanted => Some(wanted.unwrap_or(end)).filter(|end| *end < u64::MAX),
    };
    let quota = match (quota, maker.quota_bytes) {
        (Some(wanted), Some(bound)) if wanted > bound => return Err(more("quota")),
        (wanted, bound) => wanted.or(bound),
    };
    let rate = match rate {
        Some(0) => return Err(Refusal::wrong("rate is a number of requests a second, from 1 on")),
        // Who is signed in by a link may do all that the owner may; its rate is the browser's.
        Some(wanted) if wanted > maker.rate && maker.maker != Maker::Links => return Err(more("rate")),
        wanted => wanted.unwrap_or(RATE_DEFAULT.min(maker.rate)),
    };
    Ok((expires, quota, rate))
}

/// `GET /tokens`: those that count, the oldest first.
pub(crate) async fn list(State(service): State<Arc<Service>>, _: Admin) -> Result<Response, Refusal> {
    let mut lines = Vec::new();
    for grant in live(&service).await? {
        let used = service.store.used(grant.id).await?;
        lines.push(Line::of(grant, used));
    }
    Ok(Json(json!({ "ok": true, "value": lines })).into_response())
}

/// `POST /tokens`: makes one. Its secret is in this answer and nowhere else.
pub(crate) async fn add(
    State(service): State<Arc<Service>>,
    Admin(maker): Admin,
    sent: Sent,
) -> Result<Response, Refusal> {
    let Wanted { name, scope, expires, quota, rate } = sent.small(&service).await?;
    check_token_name(&name).map_err(|error| Refusal::caller(&error))?;
    let scope: Scope = scope.parse().map_err(|error| Refusal::caller(&error))?;
    let created = service::now();
    let expires = time("expires", expires.as_deref(), created)?;
    let (expires, quota_bytes, rate) = within(&maker, (expires, quota, rate))?;
    if live(&service).await?.len() >= TOKENS_MAX {
        let message = format!("there are {TOKENS_MAX} tokens; end one first");
        return Err(Refusal::new(StatusCode::CONFLICT, "HTTP_ERROR", message));
    }
    let token = Token::draw(getrandom::fill).map_err(|error| Refusal::own(&error))?;
    let (id, maker) = (token.id(), Maker::Token(maker.id));
    let grant = Grant { id, name, scope, created, expires, revoked: None, quota_bytes, rate, maker };
    service.store.add(grant.clone(), token.hash()).await?;
    service.lineage.learn(&grant);
    let about = About(grant.name.clone());
    let made = Made { line: Line::of(grant, 0), token: &token.expose() };
    Ok((StatusCode::CREATED, Extension(about), Json(json!({ "ok": true, "value": made }))).into_response())
}

#[derive(Serialize)]
struct Made<'a> {
    #[serde(flatten)]
    line: Line,
    token: &'a str,
}

/// `DELETE /tokens/{name}`: ends one, by its name or its id, those that it made, and who is signed in by one of them.
/// What they did not finish is forgotten.
pub(crate) async fn end(
    State(service): State<Arc<Service>>,
    _: Admin,
    InPath(text): InPath<String>,
) -> Result<Response, Refusal> {
    let unknown = || Refusal::not_found("there is no such token; GET /tokens lists them");
    let grant = service.store.find_token(&text).await?.ok_or_else(unknown)?;
    service.store.revoke(grant.id, service::now()).await?;
    let work = service.clone();
    // Nobody waits for the room that it gives back; what this does not reach the next sweep does.
    service.tasks.spawn(async move {
        if let Err(refusal) = work.sweep_ended().await {
            tracing::warn!(reason = refusal.message, "what an ended token did not finish is not forgotten yet");
        }
    });
    let body = Json(json!({ "ok": true, "value": { "id": grant.id.to_string(), "name": grant.name } }));
    Ok((Extension(About(grant.name)), body).into_response())
}

async fn live(service: &Service) -> Result<Vec<Grant>, Refusal> {
    let mut tokens = service.store.tokens().await?;
    tokens.retain(|grant| grant.revoked.is_none());
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_no_more_than_its_maker() {
        let bound = Grant { expires: Some(100), rate: 10, ..Grant::sample(1000) };
        let free = Grant { expires: None, quota_bytes: None, ..bound.clone() };
        let is = |maker: &Grant, wanted| within(maker, wanted).ok();
        assert_eq!(is(&bound, (None, None, None)), Some((Some(100), Some(1000), 10)), "as its maker");
        assert_eq!(is(&bound, (Some(100), Some(1000), Some(10))), Some((Some(100), Some(1000), 10)));
        assert_eq!(is(&bound, (Some(99), Some(0), Some(1))), Some((Some(99), Some(0), 1)));
        for more in [(Some(101), None, None), (Some(0), None, None), (None, Some(1001), None), (None, None, Some(11))] {
            assert_eq!(is(&bound, more), None, "{more:?}");
        }
        assert_eq!(is(&free, (Some(0), None, None)), Some((None, None, 10)));
        assert_eq!(is(&free, (None, Some(u64::MAX), None)), Some((None, Some(u64::MAX), 10)));
        assert_eq!(is(&free, (None, None, Some(0))), None);
        let links = Grant { maker: Maker::Links, ..free };
        assert_eq!(is(&links, (None, None, Some(11))), Some((None, None, 11)));
    }
}
