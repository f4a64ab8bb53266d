//! `/names`: the owner's stable names, what they stand for and stood for.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use format::{Label, Locator, Moment};
use serde::{Deserialize, Serialize};
use serde_json::json;
use twin::{Entry, LeaseChangeError, NameChange, NameState, NameTerms, Position, Target, UrlTemplate};

use crate::{
    audit::Subject,
    caller::{Admin, Reader, Writer},
    files::{InPath, Sent, id},
    refusal::Refusal,
    service::{self, Service},
    wishes::time,
};

const NO_NAME: &str = "there is no such name; GET /names lists them";

/// A stable name.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Name {
    name: String,
    /// What lines of the audit log call it.
    id: String,
    /// The DNS label that stays. Whoever has it reads what the name stands for.
    label: String,
    url: String,
    target: Step,
    /// No edge follows the name after this time.
    fresh_until: String,
    /// For how long resolvers and browsers may keep an answer.
    seconds: u32,
    /// `fresh`, or `ended` by this machine's clock.
    state: &'static str,
    version: u64,
    /// All that it stood for, the newest first; `target` is the first.
    history: Vec<Step>,
}

/// What a name stood for.
#[derive(Debug, Clone, Serialize)]
struct Step {
    /// The id of a file or folder; none where it is not listed here, or no more.
    id: Option<String>,
    /// Its label and what it is called; none where this index does not know it.
    label: Option<String>,
    path: Option<String>,
    at: String,
    version: u64,
}

/// What is to become of a name. With neither `file` nor `label` it stands for what it stands for, for longer.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Change {
    /// The id of a file or folder.
    file: Option<String>,
    /// A label, or a URL whose host begins with one.
    label: Option<String>,
    /// `2027-01-31`, `2027-01-31T12:00:00Z`, or `+30d`.
    fresh_until: Option<String>,
    seconds: Option<u32>,
}

impl Name {
    fn of((entry, state): &(Entry, NameState), known: &BTreeMap<Locator, Entry>, url: &UrlTemplate, now: u64) -> Self {
        let step = |it: &twin::Move| {
            let target = known.get(&it.target);
            let is_listed = target.is_some_and(|entry| entry.position == Position::Top && entry.name.is_none());
            Step {
                id: is_listed.then(|| it.target.to_string()),
                label: target.map(|entry| entry.label().to_string()),
                path: target.map(|entry| entry.path.clone()),
                at: Moment(it.at).to_string(),
                version: it.version,
            }
        };
        let history: Vec<Step> = state.moves.iter().rev().map(step).collect();
        let target = history.first().cloned().expect("a name that is shown was filed");
        Self {
            name: entry.path.clone(),
            id: entry.capability.locator().to_string(),
            label: entry.label().to_string(),
            url: url.of_entry(entry),
            version: target.version,
            target,
            fresh_until: Moment(state.fresh_until).to_string(),
            seconds: state.seconds,
            state: if now < state.fresh_until { "fresh" } else { "ended" },
            history,
        }
    }
}

/// `GET /names`: all of them, by name.
pub(crate) async fn list(State(service): State<Arc<Service>>, _: Reader) -> Result<Response, Refusal> {
    service.twin.catch_up().await?;
    let names = shown(&service, service.twin.names().await).await?;
    Ok(Json(json!({ "ok": true, "value": names })).into_response())
}

/// `PUT /names/{name}`: makes, moves or renews one.
pub(crate) async fn set(
    State(service): State<Arc<Service>>,
    _: Writer,
    InPath(text): InPath<String>,
    sent: Sent,
) -> Result<Response, Refusal> {
    let Change { file, label, fresh_until, seconds } = sent.small(&service).await?;
    let fresh_until = time("freshUntil", fresh_until.as_deref(), service::now())?;
    if fresh_until == Some(0) {
        return Err(Refusal::wrong("freshUntil is a time: a name that nobody renews has an end"));
    }
    let change = match (file, label) {
        (Some(_), Some(_)) => return Err(Refusal::wrong("name either a file or a label")),
        (Some(file), None) => NameChange::Set(label_of(&service, &file).await?),
        (None, Some(label)) => NameChange::Set(label.parse::<Target>().map_err(|error| Refusal::caller(&error))?.label),
        (None, None) => NameChange::Renew,
    };
    let work = service.clone();
    // A task of its own: whoever hangs up leaves no name half moved.
    let moving = async move { work.twin.point(&text, &change, NameTerms { fresh_until, seconds }).await };
    let moved = service.tasks.spawn(moving).await.map_err(|_| Refusal::stopping())??;
    let locator = moved.entry.capability.locator();
    let name = shown(&service, vec![(moved.entry, moved.state)]).await?.pop();
    let mut answer = Json(json!({ "ok": true, "value": name })).into_response();
    answer.extensions_mut().insert(Subject { locator: Some(locator), bytes: 0 });
    Ok(answer)
}

/// `DELETE /names/{name}`: ends one for good; its label never comes back, so it is for admins.
pub(crate) async fn end(
    State(service): State<Arc<Service>>,
    _: Admin,
    InPath(text): InPath<String>,
) -> Result<Response, Refusal> {
    let locator = service.twin.name_locator(&text).map_err(|error| Refusal::caller(&error))?;
    service.twin.catch_up().await?;
    let is_it = |(entry, _): &(Entry, NameState)| entry.capability.locator() == locator;
    if !service.twin.names().await.iter().any(is_it) {
        return Err(Refusal::not_found(NO_NAME));
    }
    let work = service.clone();
    let ending = async move { work.twin.remove(&locator).await };
    match service.tasks.spawn(ending).await.map_err(|_| Refusal::stopping())? {
        Err(LeaseChangeError::Unknown | LeaseChangeError::NotOurs) => return Err(Refusal::not_found(NO_NAME)),
        ended => drop(ended?),
    }
    let mut answer = Json(json!({ "ok": true, "value": { "name": text } })).into_response();
    answer.extensions_mut().insert(Subject { locator: Some(locator), bytes: 0 });
    Ok(answer)
}

async fn label_of(service: &Service, file: &str) -> Result<Label, Refusal> {
    let listed = service.twin.upload(id(file)?).await?;
    Ok(listed.ok_or_else(|| Refusal::not_found("there is no such file; GET /files lists them"))?.entry.label())
}

/// Returns names as they are shown.
async fn shown(service: &Service, names: Vec<(Entry, NameState)>) -> Result<Vec<Name>, Refusal> {
    let targets = names.iter().flat_map(|(_, state)| state.moves.iter().map(|it| it.target)).collect();
    let (known, _) = service.twin.entries_and_files(targets, [].into(), 0).await?;
    let now = service::now();
    Ok(names.iter().map(|name| Name::of(name, &known, &service.url, now)).collect())
}
