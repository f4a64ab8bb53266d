//! The audit log: every request of a known token that changed something, or may have, is durable before its answer
//! leaves. What is refused changed nothing: whoever may do little would else push out what others did.

use std::sync::Arc;

use axum::{
    Json, RequestExt,
    extract::{MatchedPath, RawPathParams, Request, State},
    http::Method,
    middleware::Next,
    response::{IntoResponse, Response},
};
use format::Locator;
use serde::Deserialize;
use serde_json::json;

use crate::{
    caller::{Admin, Known},
    files::InQuery,
    refusal::Refusal,
    service::{Service, now_ms},
    store::{Line, Write},
    upload::Kept,
};

const LIMIT: u32 = 100;
const LIMIT_MAX: u32 = 1000;
/// Characters of what a line is about; a name of a token or a policy has no more.
const ABOUT_MAX: usize = 64;

/// What a request was about; handlers leave it with their answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject {
    pub(crate) locator: Option<Locator>,
    pub(crate) bytes: u64,
}

impl Subject {
    /// What an upload became.
    pub(crate) fn of(kept: &Kept) -> Self {
        Self { locator: Some(kept.stored.entry.capability.locator()), bytes: kept.stored.bytes }
    }
}

/// Nothing was changed, though the status does not say so; handlers leave it with their answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unchanged;

/// The name of the token or the policy that a request was about; handlers leave it where the path has another or none.
/// Names of files and stable names are no part of the log: their ids are.
#[derive(Debug, Clone)]
pub(crate) struct About(pub(crate) String);

/// Writes a line for each request that changed something.
pub(crate) async fn note(State(service): State<Arc<Service>>, mut request: Request, next: Next) -> Response {
    let known = Known::default();
    request.extensions_mut().insert(known.clone());
    if matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
        return next.run(request).await;
    }
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str);
    // Routes and methods are ours, so both are short.
    let action = format!("{} {route}", request.method());
    let is_of_name = route == "/tokens/{name}" || route == "/policies/{name}";
    let about = if is_of_name { in_path(&mut request).await } else { None };
    // A task of its own: a caller that hangs up has it done all the same, and written down.
    let work = service.clone();
    let noted =
        service.tasks.spawn(async move { written(&work, next.run(request).await, &known, (&action, about)).await });
    noted.await.unwrap_or_else(|_| Refusal::stopping().into_response())
}

async fn in_path(request: &mut Request) -> Option<About> {
    let segments = request.extract_parts::<RawPathParams>().await.ok()?;
    segments.iter().next().map(|(_, text)| About(text.to_owned()))
}

/// Writes the line of a request that was answered. Returns what its caller is told.
async fn written(
    service: &Service,
    answer: Response,
    known: &Known,
    (action, about): (&str, Option<About>),
) -> Response {
    let Some(token) = known.token() else { return answer };
    let subject = answer.extensions().get::<Subject>().copied();
    let is_refused = answer.status().is_client_error() && subject.is_none();
    if is_refused || answer.extensions().get::<Unchanged>().is_some() {
        return answer;
    }
    let about = answer.extensions().get::<About>().cloned().or(about);
    let line = Line {
        at_ms: now_ms(),
        token,
        action: action.chars().take(64).collect(),
        subject: subject.and_then(|it| it.locator),
        about: about.map(|it| it.0.chars().filter(|it| !it.is_control()).take(ABOUT_MAX).collect()),
        status: answer.status().as_u16(),
        bytes: subject.map_or(0, |it| it.bytes),
    };
    match service.write(Write::Audit(line)).await {
        Ok(()) => answer,
        // What was done stays done, and an owner who reads the log finds it missing: so the answer says it.
        Err(error) => Refusal::from(error).into_response(),
    }
}

/// What the log is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ask {
    /// Lines, 1 to 1,000. Absent: 100.
    limit: Option<u32>,
    /// Only lines below this number.
    before: Option<u64>,
}

/// `GET /audit`: the newest lines first.
pub(crate) async fn list(
    State(service): State<Arc<Service>>,
    _: Admin,
    InQuery(Ask { limit, before }): InQuery<Ask>,
) -> Result<Response, Refusal> {
    let limit = limit.unwrap_or(LIMIT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(Refusal::wrong(format!("limit is a number from 1 to {LIMIT_MAX}")));
    }
    let lines = service.store.audit(before, limit).await?;
    let shown = |(number, line): &(u64, Line)| {
        json!({
            "number": number,
            "at_ms": line.at_ms,
            "token": line.token.to_string(),
            "action": line.action,
            "about": line.about,
            "id": line.subject.map(|it| it.to_string()),
            "status": line.status,
            "bytes": line.bytes,
        })
    };
    let value: Vec<_> = lines.iter().map(shown).collect();
    Ok(Json(json!({ "ok": true, "value": value })).into_response())
}
