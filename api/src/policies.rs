//! `/policies`: which policies the owner has, a check of one as an edge makes it, and a new version of one. Components
//! are ready-made ones: no file of this machine is read for a text that came over HTTP.

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    Extension, Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use format::{Moment, PolicyName};
use futures::{StreamExt, stream};
use sandbox::guard::GuardError;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::task::spawn_blocking;
use twin::{POLICY_SECONDS, PolicyNameError, PolicySource, PolicySourceError};

use crate::{
    audit::Unchanged,
    caller::{Admin, Reader, Writer},
    files::{InPath, InQuery, Sent},
    policy_check::{CheckedLink, PolicyCheckError, check_policy},
    refusal::{Refusal, causes},
    service::{self, Service},
    store::Write,
    wishes::time,
};

/// Longest text of a policy; the table of kept policies has it too.
const SOURCE_BYTES_MAX: usize = 128 << 10;
/// Policies of a list, each a question to nodes, and how many of these are asked at once.
const LIST_MAX: usize = 200;
const ASKED_AT_ONCE: usize = 8;

/// A policy of the owner.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Policy {
    name: String,
    /// The number of its newest version; none where no node told.
    version: Option<u64>,
    /// When it ends, and what it governs with it; none: never, or not known.
    fresh_until: Option<String>,
    /// `fresh`; `ended`; `missing`: no node has it, so what names it is not served; `unknown`: too few nodes answer.
    state: &'static str,
    /// Whether `/policies/NAME/source` has its text.
    source: bool,
}

/// What is wrong with a text.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Problem {
    /// Counted from 1; none where it is not one line's.
    line: Option<usize>,
    message: String,
}

/// When a new version ends.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ask {
    /// `2027-01-31`, `+30d`, or `never`. Absent: in 400 days.
    expires: Option<String>,
}

/// Returns the names of the owner's policies: those that were published here, and those that uploads name.
pub(crate) async fn known(service: &Service) -> Result<BTreeSet<PolicyName>, Refusal> {
    service.twin.catch_up().await?;
    let mut names = service.twin.policies_in_use().await;
    names.extend(service.store.policies().await?);
    Ok(names)
}

/// `GET /policies`: by name. One that another program published is there once an upload names it.
pub(crate) async fn list(State(service): State<Arc<Service>>, _: Reader) -> Result<Response, Refusal> {
    let kept: BTreeSet<PolicyName> = service.store.policies().await?.into_iter().collect();
    let names = known(&service).await?.into_iter().take(LIST_MAX);
    let policies = stream::iter(names).map(async |name| Policy::of(&service, &name, kept.contains(&name)).await);
    let policies: Vec<Policy> = policies.buffered(ASKED_AT_ONCE).collect().await;
    Ok(Json(json!({ "ok": true, "value": policies })).into_response())
}

impl Policy {
    async fn of(service: &Service, name: &PolicyName, source: bool) -> Self {
        let (version, end, state) = match service.twin.policy(name).await {
            Ok(manifest) if manifest.expires != 0 && manifest.expires <= service::now() => {
                (Some(manifest.sequence), manifest.expires, "ended")
            }
            Ok(manifest) => (Some(manifest.sequence), manifest.expires, "fresh"),
            Err(PolicyNameError::Unknown { .. }) => (None, 0, "missing"),
            Err(PolicyNameError::Unavailable { .. }) => (None, 0, "unknown"),
        };
        let fresh_until = (end != 0).then(|| Moment(end).to_string());
        Self { name: name.to_string(), version, fresh_until, state, source }
    }
}

/// `GET /policies/{name}/source`: the text of the newest version that was published here.
pub(crate) async fn source(
    State(service): State<Arc<Service>>,
    _: Reader,
    InPath(name): InPath<String>,
) -> Result<Response, Refusal> {
    let name: PolicyName = name.parse().map_err(|error| Refusal::caller(&error))?;
    let unknown = || Refusal::not_found("the text of this policy is not kept here: another program published it");
    let (version, source) = service.store.policy(&name).await?.ok_or_else(unknown)?;
    Ok(Json(json!({ "ok": true, "value": { "name": name, "version": version, "source": source } })).into_response())
}

/// `POST /policies/check`: says what edges would refuse of the text that is the body.
pub(crate) async fn check(
    State(service): State<Arc<Service>>,
    Writer(grant): Writer,
    sent: Sent,
) -> Result<Response, Refusal> {
    let text = sent.text(&service, SOURCE_BYTES_MAX).await?;
    let turn = async {
        let place = service.checks.take(service.lineage.root(grant.id), service.config.wait()).await;
        place.ok_or_else(Refusal::checking)
    };
    let (links, problems) = match checked(&service, text, turn).await? {
        Ok((_, links)) => (links, Vec::new()),
        Err(problem) => (Vec::new(), vec![problem]),
    };
    let value = json!({ "ok": problems.is_empty(), "problems": problems, "links": links });
    Ok((Extension(Unchanged), Json(json!({ "ok": true, "value": value }))).into_response())
}

/// `PUT /policies/{name}`: checks the text that is the body and publishes it as the next version. It governs all that
/// names the policy, whoever stored it: so it is for admins.
pub(crate) async fn publish(
    State(service): State<Arc<Service>>,
    _: Admin,
    InPath(name): InPath<String>,
    InQuery(Ask { expires }): InQuery<Ask>,
    sent: Sent,
) -> Result<Response, Refusal> {
    let name: PolicyName = name.parse().map_err(|error| Refusal::caller(&error))?;
    let now = service::now();
    let expires = time("expires", expires.as_deref(), now)?.unwrap_or(now.saturating_add(POLICY_SECONDS));
    let text = sent.text(&service, SOURCE_BYTES_MAX).await?;
    let turn = async { service.publishing.clone().acquire_owned().await.map_err(|_| Refusal::stopping()) };
    let (source, links) = match checked(&service, text.clone(), turn).await? {
        Ok(checked) => checked,
        Err(problem) => return Err(Refusal::wrong(problem.message)),
    };
    let (work, of) = (service.clone(), name.clone());
    // A task of its own: whoever hangs up has it published all the same, and its text kept.
    let publishing = async move {
        let published = work.twin.publish_until(&of, &source, expires).await?;
        let version = published.manifest.sequence;
        work.store.write(Write::Policy { name: of, version, source: text }).await?;
        Ok::<_, Refusal>(published)
    };
    let published = service.tasks.spawn(publishing).await.map_err(|_| Refusal::stopping())??;
    let fresh_until = (expires != 0).then(|| Moment(expires).to_string());
    let version = published.manifest.sequence;
    let value = json!({
        "name": name, "version": version, "freshUntil": fresh_until, "state": "fresh", "nodes": published.nodes, "links": links,
    });
    Ok((StatusCode::OK, Json(json!({ "ok": true, "value": value }))).into_response())
}

/// Checks a text, in its turn: each check compiles, with up to 512 MiB of memory.
async fn checked<T: Send + 'static>(
    service: &Service,
    text: String,
    turn: impl Future<Output = Result<T, Refusal>>,
) -> Result<Result<(PolicySource, Vec<CheckedLink>), Problem>, Refusal> {
    let source = match PolicySource::ready_made(&text) {
        Ok(source) => source,
        Err(error) => return Ok(Err(Problem::of_source(&error, &text))),
    };
    let turn = turn.await?;
    let compiler = service.placer.compiler().clone();
    let judge = move || {
        let _turn = turn;
        check_policy(&source, &compiler).map(|links| (source, links))
    };
    let error = match spawn_blocking(judge).await.map_err(|_| Refusal::stopping())? {
        Ok(checked) => return Ok(Ok(checked)),
        Err(error) => error,
    };
    match &*error {
        PolicyCheckError::Compile { source: GuardError::Spawn { .. } | GuardError::Pipe { .. }, .. } => {
            Err(Refusal::own(&*error))
        }
        error => Ok(Err(Problem::of_check(error, &text))),
    }
}

impl Problem {
    fn of_source(error: &PolicySourceError, text: &str) -> Self {
        let line = match error {
            PolicySourceError::Toml(error) => error.span().map(|span| line_at(text, span.start)),
            PolicySourceError::Component { link }
            | PolicySourceError::File { link }
            | PolicySourceError::Unknown { link, .. }
            | PolicySourceError::Large { link, .. }
            | PolicySourceError::Config { link, .. } => line_of(text, *link),
            PolicySourceError::Io { .. } | PolicySourceError::Shape | PolicySourceError::Outside { .. } => None,
        };
        Self { line, message: causes(error) }
    }

    fn of_check(error: &PolicyCheckError, text: &str) -> Self {
        let (PolicyCheckError::Config { link, .. }
        | PolicyCheckError::Component { link, .. }
        | PolicyCheckError::Compile { link, .. }) = error;
        Self { line: line_of(text, *link), message: causes(error) }
    }
}

/// Returns the number of the line of a byte.
fn line_at(text: &str, byte: usize) -> usize {
    text.bytes().take(byte).filter(|byte| *byte == b'\n').count() + 1
}

/// Returns the line on which a link begins, counted from 1 as links are.
fn line_of(text: &str, link: usize) -> Option<usize> {
    let begins =
        |line: &str| line.trim_start().strip_prefix("[[").is_some_and(|rest| rest.trim_start().starts_with("link"));
    let mut lines = (1..).zip(text.lines()).filter(|(_, line)| begins(line)).map(|(number, _)| number);
    lines.nth(link.checked_sub(1)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> Problem {
        Problem::of_source(&PolicySource::ready_made(text).unwrap_err(), text)
    }

    #[test]
    fn a_problem_names_the_line_where_its_link_begins_or_where_toml_ends() {
        for (text, line, says) in [
            ("# mine\n[[link]]\nuse = \"geo\"\n\n[[link]]\nuse = \"goe\"\n", Some(5), "not ready-made"),
            ("\n[[ link ]]\ncomponent = \"/etc/passwd\"\n", Some(2), "names a file of this machine"),
            ("[[link]]\nuse = \"geo\"\nx = = 1\n", Some(3), "not TOML"),
            ("", None, "[[link]]"),
            ("a = 1\n[[link]]\nuse = \"geo\"\n", None, "outside of the links"),
        ] {
            let found = problem(text);
            assert!(found.line == line && found.message.contains(says), "{text}: {found:?}");
        }
    }
}
