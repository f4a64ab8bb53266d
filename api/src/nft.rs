//! nft.storage's routes, as its clients know them: their shapes, statuses and texts. CIDs are those that it made
//! (profile `nft-classic`). Better than it was: what is answered is readable at every edge, an erasure erases, errors
//! are JSON, and there is no bound but the token's quota.

mod metadata;
pub(crate) mod store;

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Extension, Json,
    extract::State,
    http::{HeaderMap, HeaderName, StatusCode},
    response::{IntoResponse, Response},
};
use format::{Kind, Locator, Moment};
use serde::Deserialize;
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use twin::{Batch, Entry};
use unixfs::{Cid, Profile};

use crate::{
    audit::{Subject, Unchanged},
    caller::{Asker, Reader, Writer},
    files::{InPath, InQuery, Sent, check_name, erase},
    form::{boundary, filing::Texts},
    intake::Body,
    refusal::Refusal,
    service::{self, Service, now_ms},
    store::{Source, Upload, Write},
    token::Grant,
    upload::{Empty, Wanted},
    wishes::{media_type, wishes},
};

const LIMIT: u32 = 10;
const LIMIT_MAX: u32 = 1000;
/// Uploads of one DAG that are read at a time.
const NEWEST_LOOKED_AT: u32 = 4;
const ERASED_AT_A_TIME: u32 = 100;
/// Files of a folder that an answer names.
const FILES_SHOWN: usize = 1000;
/// Longest name that a record may get.
const TITLE_BYTES_MAX: usize = 1024;

/// Reads a CID out of a path. One DAG has one spelling here.
pub(crate) fn cid(text: &str) -> Result<Cid, Refusal> {
    let wrong = || {
        let shown: String = text.chars().take(128).collect();
        Refusal::new(StatusCode::BAD_REQUEST, "ERROR_INVALID_CID", format!("Invalid CID: {shown}"))
    };
    text.parse::<Cid>().map(|cid| cid.to_v1()).map_err(|_| wrong())
}

/// Writes milliseconds since 1970 as JavaScript's `toISOString` does.
pub(crate) fn iso(ms: u64) -> String {
    let seconds = Moment(ms / 1000).to_string();
    format!("{}.{:03}Z", seconds.trim_end_matches('Z'), ms % 1000)
}

/// What the index has of uploads, for their records.
struct Known {
    tops: BTreeMap<Locator, Entry>,
    files: BTreeMap<Batch, Vec<(String, String)>>,
}

impl Known {
    async fn of(service: &Service, uploads: &[Upload]) -> Result<Self, Refusal> {
        let locators = uploads.iter().filter_map(|upload| upload.locator).collect();
        let forms = uploads.iter().filter(|upload| upload.source == Source::Form).map(|upload| upload.batch).collect();
        let (tops, files) = service.twin.entries_and_files(locators, forms, FILES_SHOWN).await?;
        Ok(Self { tops, files })
    }

    /// Returns the record of an upload; none when it was erased by another program.
    fn record(&self, upload: &Upload) -> Option<Value> {
        let cid = upload.cid.as_ref()?;
        let entry = upload.locator.map(|locator| self.tops.get(&locator));
        let kind = match (upload.source, entry) {
            // One of which parts are to come.
            (_, None) | (Source::Car, Some(Some(_))) => "application/car".to_owned(),
            (_, Some(None)) => return None,
            (Source::Metadata, _) => "nft".to_owned(),
            (_, Some(Some(entry))) if entry.kind == Kind::Directory => "directory".to_owned(),
            (_, Some(Some(entry))) => entry.mime.clone(),
        };
        let files = self.files.get(&upload.batch).into_iter().flatten();
        let files: Vec<_> = files.map(|(name, mime)| json!({ "name": name, "type": mime })).collect();
        let created = iso(upload.created_ms);
        let named = entry.flatten().map(|entry| entry.path.clone());
        Some(json!({
            "cid": cid,
            "created": created,
            "type": kind,
            "scope": upload.token_name,
            "files": files,
            "size": upload.dag_bytes,
            "name": upload.title.clone().or(named),
            "parts": [],
            "pin": pin(upload),
            "deals": [],
        }))
    }
}

fn pin(upload: &Upload) -> Value {
    let status = if upload.locator.is_some() { "pinned" } else { "pinning" };
    json!({ "cid": upload.cid, "created": iso(upload.created_ms), "size": upload.dag_bytes, "status": status })
}

/// Answers with the newest record of a DAG.
pub(crate) async fn record(service: &Service, cid: &str) -> Result<Value, Refusal> {
    newest(service, cid).await.map(|(_, record)| record)
}

/// Returns the newest upload of a DAG that is there, with its record. Those that other programs erased are few, so a
/// page mostly does, however many uploads there are.
async fn newest(service: &Service, cid: &str) -> Result<(Upload, Value), Refusal> {
    let mut before = u64::MAX;
    loop {
        let uploads = service.store.by_cid(cid, before, NEWEST_LOOKED_AT).await?;
        let known = Known::of(service, &uploads).await?;
        before = uploads.last().ok_or_else(|| Refusal::not_found("NFT not found"))?.created_ms;
        let found = uploads.into_iter().find_map(|upload| Some((known.record(&upload)?, upload)));
        if let Some((record, upload)) = found {
            return Ok((upload, record));
        }
    }
}

/// `POST /upload`: a file, a form of several, or a CAR.
pub(crate) async fn upload(
    State(service): State<Arc<Service>>,
    Writer(grant): Writer,
    sent: Sent,
) -> Result<Response, Refusal> {
    let content_type = sent.content_type()?.to_owned();
    let form = boundary(&content_type).transpose()?;
    let source = match &form {
        Some(_) => Source::Form,
        None if is_car(&content_type) => Source::Car,
        None => Source::Blob,
    };
    let announced = sent.length();
    let wanted = wanted(&service, (&grant, &sent.headers), (&content_type, announced), source).await?;
    let mut body = begin_body(&service, &grant, sent)?;
    if source == Source::Car {
        body.spool(service.spool_account(grant.id))?;
    }
    let (cid, subject) = match (source, form) {
        (_, Some(boundary)) => {
            let kept = service.store_form(&grant, body, boundary, wanted, Texts::Refused).await?;
            (kept.dag.cid, Subject::of(&kept))
        }
        (Source::Car, None) => service.store_car(&grant, body, wanted).await?,
        (_, None) => {
            let kept = service.store_file(&grant, body, announced, wanted).await?;
            (kept.dag.cid, Subject::of(&kept))
        }
    };
    let value = record(&service, &cid.to_v1().to_string()).await?;
    let mut answer = Json(json!({ "ok": true, "value": value })).into_response();
    answer.extensions_mut().insert(subject);
    Ok(answer)
}

/// Content types that clients send CARs with.
fn is_car(content_type: &str) -> bool {
    content_type.contains("application/car") || content_type.contains("application/vnd.ipld.car")
}

/// Opens the account of a token and begins to read a body.
pub(crate) fn begin_body(service: &Service, grant: &Grant, sent: Sent) -> Result<Body, Refusal> {
    let announced = sent.length();
    Ok(Body::begin(sent.body, announced, service.bounds(grant.id), service.account(grant.id))?)
}

/// Reads what is wished for an upload, and refuses what cannot be before the body is asked for.
async fn wanted(
    service: &Service,
    (grant, headers): (&Grant, &HeaderMap),
    (content_type, announced): (&str, Option<u64>),
    source: Source,
) -> Result<Wanted, Refusal> {
    let mut options = wishes(headers, None, &service.defaults(), service::now())?;
    let title = match &options.name {
        Some(name) if name.len() <= TITLE_BYTES_MAX => name.clone(),
        Some(_) => return Err(Refusal::wrong(format!("the name has over {TITLE_BYTES_MAX} bytes"))),
        None => format!("Upload at {}", iso(now_ms())),
    };
    // The title is for people. As the name of an object it may be too long, or have a slash.
    let named =
        options.name.take().filter(|name| name.len() <= 255 && !name.contains(|c: char| c == '/' || c.is_control()));
    options.name = named.filter(|name| check_name(name).is_ok()).or(Some("file".to_owned()));
    if source == Source::Blob {
        options.mime = media_type(Some(content_type))?;
    }
    let options = service.placed(grant.scope, options, announced.unwrap_or(0)).await?;
    let empty = if source == Source::Blob { Empty::Refused } else { Empty::Allowed };
    Ok(Wanted { options, profile: Profile::NFT_CLASSIC, source, title: Some(title), empty })
}

/// What a list is asked for.
#[derive(Debug, Deserialize)]
pub(crate) struct Ask {
    before: Option<String>,
    limit: Option<String>,
}

/// `GET /`: the newest uploads first.
pub(crate) async fn list(
    State(service): State<Arc<Service>>,
    _: Reader,
    InQuery(Ask { before, limit }): InQuery<Ask>,
) -> Result<Response, Refusal> {
    let wrong = || Refusal::wrong("invalid params");
    let limit = limit.map_or(Ok(LIMIT), |text| text.parse().map_err(|_| wrong()))?;
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(wrong());
    }
    let ms = |text: &str| {
        let moment = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| wrong())?;
        u64::try_from(moment.unix_timestamp_nanos() / 1_000_000).map_err(|_| wrong())
    };
    let before = before.as_deref().map(ms).transpose()?;
    let (uploads, count) = service.store.uploads(before, limit).await?;
    let known = Known::of(&service, &uploads).await?;
    let value: Vec<_> = uploads.iter().filter_map(|upload| known.record(upload)).collect();
    let count = [(HeaderName::from_static("count"), count.to_string())];
    Ok((count, Json(json!({ "ok": true, "value": value }))).into_response())
}

/// `GET /{cid}`.
pub(crate) async fn get(
    State(service): State<Arc<Service>>,
    _: Reader,
    InPath(text): InPath<String>,
) -> Result<Response, Refusal> {
    let value = record(&service, &cid(&text)?.to_string()).await?;
    Ok(Json(json!({ "ok": true, "value": value })).into_response())
}

/// `GET /check/{cid}`: whether a DAG is stored here. As on nft.storage, whoever knows the CID may ask, except a page in
/// a browser: what is stored on this machine is nothing for any page to find out.
pub(crate) async fn check(
    State(service): State<Arc<Service>>,
    _: Asker,
    InPath(text): InPath<String>,
) -> Result<Response, Refusal> {
    let cid = cid(&text)?.to_string();
    let (upload, _) = newest(&service, &cid).await?;
    let value = json!({ "cid": cid, "pin": pin(&upload), "deals": [] });
    Ok(Json(json!({ "ok": true, "value": value })).into_response())
}

/// `DELETE /{cid}`: erases every upload of the DAG.
pub(crate) async fn delete(
    State(service): State<Arc<Service>>,
    _: Writer,
    InPath(text): InPath<String>,
) -> Result<Response, Refusal> {
    let cid = cid(&text)?.to_string();
    let mut subject = None;
    let mut answer = match erase_all(&service, &cid, &mut subject).await {
        Ok(0) => return Err(Refusal::not_found("NFT not found")),
        Ok(_) => (StatusCode::ACCEPTED, Json(json!({ "ok": true }))).into_response(),
        // What was erased before that stays erased, and stands in the log.
        Err(refusal) => refusal.into_response(),
    };
    if let Some(subject) = subject {
        answer.extensions_mut().insert(subject);
    }
    Ok(answer)
}

/// Erases every upload of a DAG. Returns how many there were; `subject` is what was erased last.
async fn erase_all(service: &Arc<Service>, cid: &str, subject: &mut Option<Subject>) -> Result<usize, Refusal> {
    let (mut before, mut count) = (u64::MAX, 0);
    loop {
        let uploads = service.store.by_cid(cid, before, ERASED_AT_A_TIME).await?;
        let Some(last) = uploads.last() else { return Ok(count) };
        before = last.created_ms;
        for upload in uploads {
            match upload.locator {
                Some(locator) => {
                    erase(service, locator).await?;
                }
                None if service.drop_part(upload.batch, cid).await? => {}
                None => return Err(Refusal::being_stored()),
            }
            let locator = upload.locator.or_else(|| subject.and_then(|before| before.locator));
            *subject = Some(Subject { locator, bytes: 0 });
            count += 1;
        }
    }
}

#[derive(Debug, Deserialize)]
struct Rename {
    name: String,
}

/// `PATCH /upload/{cid}`: another name for the record. As on nft.storage, what fails is told with a status of 200.
pub(crate) async fn rename(
    State(service): State<Arc<Service>>,
    _: Writer,
    InPath(text): InPath<String>,
    sent: Sent,
) -> Result<Response, Refusal> {
    let renamed = async {
        let cid = cid(&text)?.to_string();
        let Rename { name } = sent.small(&service).await?;
        if name.len() > TITLE_BYTES_MAX || name.contains(char::is_control) {
            return Err(Refusal::wrong(format!(
                "a name has at most {TITLE_BYTES_MAX} bytes and no control characters"
            )));
        }
        let (upload, _) = newest(&service, &cid).await?;
        service.write(Write::Title { batch: upload.batch, title: name }).await?;
        record(&service, &cid).await
    };
    Ok(match renamed.await {
        Ok(value) => Json(json!({ "ok": true, "value": value })).into_response(),
        Err(refusal) => (Extension(Unchanged), Json(json!({ "ok": false, "value": refusal.message }))).into_response(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_javascript_does() {
        assert_eq!(iso(1_000), "1970-01-01T00:00:01.000Z");
        assert_eq!(iso(1_801_396_800_007), "2027-01-31T12:00:00.007Z");
    }

    #[test]
    fn one_dag_has_one_spelling() {
        let v0 = cid("QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn").unwrap();
        assert_eq!(v0.to_string(), "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354");
        assert_eq!(cid(&v0.to_string()).unwrap(), v0);
        assert_eq!(cid("../x").unwrap_err().message, "Invalid CID: ../x");
    }
}
