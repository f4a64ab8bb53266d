//! `/console/session`: a browser signs in by a one-time link or a token, asks what it may, and signs out.

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::State,
    http::{HeaderMap, StatusCode, header::SET_COOKIE},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

use crate::{
    audit::Unchanged,
    caller::{Known, Reader},
    files::Sent,
    policies,
    refusal::Refusal,
    service::{self, Service},
    session::{self, SESSION_SECONDS, Secret},
    store::Write,
    token::{Grant, Scope, Token, TokenFault},
};

/// What a browser shows to sign in: one of both.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Shown {
    /// The secret of a one-time link.
    key: Option<String>,
    token: Option<String>,
}

/// `POST /console/session`: signs a browser in, and tells its page the secret that goes beside the cookie. It is for
/// the console's page alone, so that no other page signs somebody in as somebody else.
pub(crate) async fn begin(
    State(service): State<Arc<Service>>,
    Extension(known): Extension<Known>,
    headers: HeaderMap,
    sent: Sent,
) -> Result<Response, Refusal> {
    if !session::is_own_page(&headers) {
        return Err(Refusal::foreign_page());
    }
    if !service.config.insecure_sign_in && !session::is_private(&headers) {
        return Err(Refusal::insecure_sign_in());
    }
    let Shown { key, token } = sent.small(&service).await?;
    let (grant, key) = match (key.map(Zeroizing::new), token.map(Zeroizing::new)) {
        (Some(key), None) => {
            let key: Secret = key.parse().map_err(|_| Refusal::spent_link())?;
            (service.store.key(key.hash(), service::now()).await?.ok_or_else(Refusal::spent_link)?, Some(key.hash()))
        }
        (None, Some(token)) => (by_token(&service, &token).await?, None),
        _ => return Err(Refusal::wrong("send either a key or a token")),
    };
    known.set(&service, grant.id)?;
    let draw = || Secret::draw(getrandom::fill).map_err(|error| Refusal::own(&error));
    let (created, secret, field) = (service::now(), draw()?, draw()?);
    let expires = grant.expires.unwrap_or(u64::MAX).min(created + SESSION_SECONDS);
    // Of two that open one link at once, one is signed in.
    let hash = secret.hash_with(&field);
    service.store.write(Write::Session { hash, token: grant.id, created, expires, key }).await?;
    let cookie = session::cookie(&secret.expose(), expires - created, &headers);
    let body = Json(json!({ "ok": true, "value": { "field": *field.expose() } }));
    Ok(noted(&grant, ([(SET_COOKIE, cookie)], body).into_response()))
}

/// Keeps sessions of who may only read out of the audit log.
fn noted(grant: &Grant, mut answer: Response) -> Response {
    if grant.scope == Scope::Read {
        answer.extensions_mut().insert(Unchanged);
    }
    answer
}

async fn by_token(service: &Service, text: &str) -> Result<Grant, Refusal> {
    let shown: Token = text.trim().parse().map_err(|_| Refusal::malformed_token())?;
    let (grant, kept) = service.store.token(shown.id()).await?.ok_or(TokenFault::Unknown)?;
    grant.check(&kept, &shown, service::now())?;
    service.count(&grant)?;
    Ok(grant)
}

/// `GET /console/session`: who is signed in, and what the console has to know of this twin.
pub(crate) async fn show(State(service): State<Arc<Service>>, Reader(grant): Reader) -> Json<serde_json::Value> {
    let policies: Vec<_> = policies::known(&service).await.unwrap_or_default().into_iter().collect();
    let defaults = service.defaults();
    let value = json!({
        "owner": service.twin.owner().to_string(),
        "scope": grant.scope,
        "token": grant.name,
        "version": env!("CARGO_PKG_VERSION"),
        "urlPattern": service.url.to_string(),
        "profile": defaults.profile.to_string(),
        "policy": defaults.policy.to_string(),
        "policies": policies,
    });
    Json(json!({ "ok": true, "value": value }))
}

/// `DELETE /console/session`: signs a browser out.
pub(crate) async fn end(
    State(service): State<Arc<Service>>,
    Reader(grant): Reader,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let mut answer = (StatusCode::NO_CONTENT, [(SET_COOKIE, session::cookie("", 0, &headers))]).into_response();
    if let Some(session) = session::shown(&headers) {
        service.store.write(Write::EndSession(session)).await?;
    } else {
        // Who came by a token has none.
        answer.extensions_mut().insert(Unchanged);
    }
    Ok(noted(&grant, answer))
}
