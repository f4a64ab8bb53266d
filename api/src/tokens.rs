//! `/tokens`: an admin lists, makes and ends tokens over HTTP, as `evernear twin token` does beside the twin.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use format::Moment;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    caller::Admin,
    files::{InPath, Sent},
    refusal::Refusal,
    service::{self, Service},
    token::{Grant, RATE_DEFAULT, Scope, Token, check_token_name},
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
    /// Bytes that it has stored.
    used: u64,
    /// Requests a second.
    rate: u32,
}

/// A token that is to be made.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    name: String,
    scope: String,
    /// `2027-01-31`, `2027-01-31T12:00:00Z`, `+30d`, or `never`. Absent: never.
    expires: Option<String>,
    quota: Option<u64>,
    /// Absent: 100.
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
        }
    }
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
pub(crate) async fn add(State(service): State<Arc<Service>>, _: Admin, sent: Sent) -> Result<Response, Refusal> {
    let Wanted { name, scope, expires, quota, rate } = sent.small(&service).await?;
    check_token_name(&name).map_err(|error| Refusal::caller(&error))?;
    let scope: Scope = scope.parse().map_err(|error| Refusal::caller(&error))?;
    let created = service::now();
    let expires = time("expires", expires.as_deref(), created)?.filter(|end| *end > 0);
    let rate = rate.unwrap_or(RATE_DEFAULT);
    if rate == 0 {
        return Err(Refusal::wrong("rate is a number of requests a second, from 1 on"));
    }
    if live(&service).await?.len() >= TOKENS_MAX {
        let message = format!("there are {TOKENS_MAX} tokens; end one first");
        return Err(Refusal::new(StatusCode::CONFLICT, "HTTP_ERROR", message));
    }
    let token = Token::draw(getrandom::fill).map_err(|error| Refusal::own(&error))?;
    let grant = Grant { id: token.id(), name, scope, created, expires, revoked: None, quota_bytes: quota, rate };
    service.store.add(grant.clone(), token.hash()).await?;
    let made = Made { line: Line::of(grant, 0), token: &token.expose() };
    Ok((StatusCode::CREATED, Json(json!({ "ok": true, "value": made }))).into_response())
}

#[derive(Serialize)]
struct Made<'a> {
    #[serde(flatten)]
    line: Line,
    token: &'a str,
}

/// `DELETE /tokens/{name}`: ends one, by its name or its id, and who is signed in by it.
pub(crate) async fn end(
    State(service): State<Arc<Service>>,
    _: Admin,
    InPath(text): InPath<String>,
) -> Result<Response, Refusal> {
    let unknown = || Refusal::not_found("there is no such token; GET /tokens lists them");
    let grant = service.store.find_token(&text).await?.ok_or_else(unknown)?;
    service.store.revoke(grant.id, service::now()).await?;
    Ok(Json(json!({ "ok": true, "value": { "id": grant.id.to_string(), "name": grant.name } })).into_response())
}

async fn live(service: &Service) -> Result<Vec<Grant>, Refusal> {
    let mut tokens = service.store.tokens().await?;
    tokens.retain(|grant| grant.revoked.is_none());
    Ok(tokens)
}
