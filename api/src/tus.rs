//! Resumable uploads: tus 1.0 with creation, creation-with-upload, termination, checksum, expiration and concatenation.
//! Source: <https://tus.io/protocols/resumable-upload>.
//!
//! Chunks are spooled on the twin's disk: the twin's own journal goes on from a source that it can read again from the
//! start, which a chunk on a connection is not. An offset that was told is durable, bytes and row. When all came, the
//! file is stored as any other; a twin that is killed before that does it at its next start. While it cannot be stored
//! it is tried again, after pauses that grow, and its owner is told why.
//!
//! An upload takes its bytes of its token's quota, and of the spool, when it is created. One that is made of parts
//! takes none: its parts have them, and are its own from then on.

mod chunk;
mod finish;
mod metadata;
mod request;

use std::{io, sync::Arc, time::Duration};

use axum::{
    Json,
    extract::State,
    http::{
        HeaderMap, HeaderName, HeaderValue, StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
};
use serde_json::json;
use twin::Batch;

use self::{
    metadata::Metadata,
    request::{Concat, PROTOCOL, Request},
};
use crate::{
    audit::Subject,
    caller::{Reader, Writer},
    files::{InPath, Sent},
    quota::counted,
    refusal::Refusal,
    service::{self, Service},
    store::{Fault, Resumable, Write},
    token::{Grant, Scope},
    turns::Turn,
    wishes::{KEEP_UNTIL, is_wish, media_type, wishes},
};

/// How long an upload may take from its creation, and may wait from when it was refused first, in time that was seen to
/// pass ([`crate::lived`]).
const EXPIRY_SECONDS: u64 = 7 * 86_400;
/// How long a request waits for another that writes to the same upload, whose caller is gone.
const TURN_WAIT: Duration = Duration::from_secs(5);
/// Parts of a concatenation.
const PARTS_MAX: usize = 1000;

/// The field that tells why a whole upload is not stored.
const FAULT: &str = "x-evernear-fault";
/// The bytes of an upload.
const DATA: &str = "data";

/// Answers in the form of tus.
fn answer(status: StatusCode, fields: Vec<(&'static str, String)>) -> Response {
    let mut answer = status.into_response();
    let all = fields.into_iter().chain([("tus-resumable", PROTOCOL.to_owned())]);
    for (name, value) in all {
        if let Ok(value) = HeaderValue::from_str(&value) {
            answer.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

fn refused(status: StatusCode, message: &str) -> Refusal {
    Refusal::new(status, "TUS_ERROR", message)
}

/// `POST /tus`.
pub(crate) async fn create(
    State(service): State<Arc<Service>>,
    Writer(grant): Writer,
    sent: Sent,
) -> Result<Response, Refusal> {
    let request = Request::read(&sent.headers)?;
    let metadata = Metadata::read(&sent.headers)?;
    let concat = Concat::read(&sent.headers)?;
    let now = service::now();
    // Names and wishes are refused now, not when all came.
    let kept_wishes = wishes_of(&sent.headers, now)?;
    let options = options(&service, &kept_wishes, &metadata, now)?;
    let options = service.placed(grant.scope, options, request.length.unwrap_or(0)).await?;
    let (length, parts) = match &concat {
        Concat::Final(parts) => {
            if request.length.is_some() {
                return Err(refused(StatusCode::BAD_REQUEST, "a final upload has no Upload-Length"));
            }
            let parts = service.complete_parts(&grant, parts).await?;
            (parts.iter().map(|part| part.length).sum(), parts)
        }
        _ => {
            let missing = "Upload-Length is missing; its length must be known when an upload is created";
            (request.length.ok_or_else(|| refused(StatusCode::BAD_REQUEST, missing))?, Vec::new())
        }
    };
    if length > service.config.upload_bytes_max.unwrap_or(u64::MAX) {
        return Err(refused(StatusCode::PAYLOAD_TOO_LARGE, "an upload may not be so long here"));
    }
    let (mut account, mut spooled) = (service.account(grant.id), service.spool_account(grant.id));
    let counts = counted(length, 1);
    if parts.is_empty() {
        account.reach(counts)?;
        spooled.reach(counts)?;
        service.check_room(counts).await?;
    }
    service.twin.check_room(&options, length)?;
    let batch = Batch::draw().map_err(|error| Refusal::own(&error))?;
    let upload = Resumable {
        batch,
        token: grant.id,
        created: now,
        expires: service.lived() + EXPIRY_SECONDS,
        length,
        offset: if parts.is_empty() { 0 } else { length },
        metadata: metadata.text,
        concat: concat.text(),
        wishes: kept_wishes,
        locator: None,
        final_of: None,
        tries: 0,
        fault: None,
    };
    let turn = service.turn(batch).await?;
    service.on_spool(move |spool| spool.create(batch, DATA).map(drop)).await?;
    let parts: Vec<Batch> = parts.iter().map(|part| part.batch).collect();
    let begun = service.write(Write::Resumable { row: Box::new(upload.clone()), parts: parts.clone() }).await;
    if let Err(error) = begun {
        service.unspool(batch).await;
        return Err(error.into());
    }
    if parts.is_empty() {
        account.keep(counts);
        spooled.keep(counts);
    }
    let mut fields = vec![
        ("location", format!("/tus/{batch}")),
        ("upload-expires", service.date_of(upload.expires)),
        ("upload-offset", upload.offset.to_string()),
    ];
    let mut subject = Subject { locator: None, bytes: 0 };
    let has_body = sent.headers.get(CONTENT_TYPE).is_some_and(|it| it == request::CHUNK_TYPE);
    if has_body && parts.is_empty() {
        let (offset, _) = service.append(upload.clone(), &sent.headers, sent.body).await?;
        fields[2].1 = offset.to_string();
        subject.bytes = offset;
    }
    if !concat.is_partial()
        && let Some(upload) = service.store.resumable(batch).await?
        && upload.is_whole()
    {
        subject = service.finish(&upload).await?;
        fields.extend(stored_fields(&service, subject).await?);
    }
    drop(turn);
    let mut answer = answer(StatusCode::CREATED, fields);
    answer.extensions_mut().insert(subject);
    Ok(answer)
}

/// `HEAD /tus/{id}`, and `GET`: how far it is, what became of it, or why nothing did yet.
pub(crate) async fn head(
    State(service): State<Arc<Service>>,
    Writer(grant): Writer,
    InPath(id): InPath<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    Request::read(&headers)?;
    let upload = service.own_upload(&grant, &id).await?;
    let mut fields = vec![("upload-offset", upload.offset.to_string()), ("upload-length", upload.length.to_string())];
    if !upload.is_whole() || upload.is_part() || upload.is_refused() {
        fields.push(("upload-expires", service.date_of(upload.expires)));
    }
    if let Some(Fault { reason, due, .. }) = &upload.fault {
        let shown = reason.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' });
        fields.push((FAULT, shown.collect()));
        fields.push(("retry-after", due.saturating_sub(service.lived()).max(1).to_string()));
    }
    fields.extend(upload.metadata.clone().map(|text| ("upload-metadata", text)));
    fields.extend(upload.concat.clone().map(|text| ("upload-concat", text)));
    fields.extend(stored_fields(&service, Subject { locator: upload.locator, bytes: 0 }).await?);
    Ok(answer(StatusCode::OK, fields))
}

/// `GET /tus/{id}/file`: what became of an upload, when it is whole.
pub(crate) async fn file(
    State(service): State<Arc<Service>>,
    Reader(grant): Reader,
    InPath(id): InPath<String>,
) -> Result<Response, Refusal> {
    let upload = service.own_upload(&grant, &id).await?;
    let unfinished = || match &upload.fault {
        Some(Fault { reason, due, .. }) => {
            let message = format!("it is whole and not stored yet: {reason}");
            let wait = due.saturating_sub(service.lived()).max(1);
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "ERROR_UNAVAILABLE", message).after(wait)
        }
        None if upload.is_whole() && !upload.is_part() => Refusal::being_stored(),
        None => Refusal::not_found("the upload is not whole yet"),
    };
    let locator = upload.locator.ok_or_else(unfinished)?;
    let listed = service.twin.upload(locator).await?.ok_or_else(|| Refusal::not_found("NFT not found"))?;
    let value = crate::files::File::of(listed, &service.url);
    Ok(Json(json!({ "ok": true, "value": value })).into_response())
}

/// `PATCH /tus/{id}`: the next chunk.
pub(crate) async fn patch(
    State(service): State<Arc<Service>>,
    Writer(grant): Writer,
    InPath(id): InPath<String>,
    sent: Sent,
) -> Result<Response, Refusal> {
    let request = Request::read(&sent.headers)?;
    if sent.headers.get(CONTENT_TYPE).is_none_or(|it| it != request::CHUNK_TYPE) {
        let message = "a chunk is sent as application/offset+octet-stream";
        return Err(refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, message).closing());
    }
    let offset = request.offset.ok_or_else(|| refused(StatusCode::BAD_REQUEST, "Upload-Offset is missing"))?;
    let upload = service.own_upload(&grant, &id).await?;
    if upload.concat.as_deref().is_some_and(|concat| concat.starts_with("final")) {
        return Err(refused(StatusCode::FORBIDDEN, "a final upload takes no chunks").closing());
    }
    let turn = service.turn(upload.batch).await?;
    // Whoever had the turn before may have gone further.
    let upload = service.own_upload(&grant, &id).await?;
    if upload.offset != offset {
        let message = format!("the upload is at {}, not at {offset}", upload.offset);
        return Err(refused(StatusCode::CONFLICT, &message).closing());
    }
    let (offset, is_whole) = service.append(upload.clone(), &sent.headers, sent.body).await?;
    let mut subject = Subject { locator: None, bytes: offset - upload.offset };
    let mut fields = vec![("upload-offset", offset.to_string()), ("upload-expires", service.date_of(upload.expires))];
    if is_whole && upload.concat.is_none() {
        subject = service.finish(&Resumable { offset, ..upload }).await?;
        fields.extend(stored_fields(&service, subject).await?);
    }
    drop(turn);
    let mut answer = answer(StatusCode::NO_CONTENT, fields);
    answer.extensions_mut().insert(subject);
    Ok(answer)
}

/// `DELETE /tus/{id}`: gives an upload up, an admin that of another token too. What is stored of it is erased by
/// `DELETE /files/{id}`.
pub(crate) async fn terminate(
    State(service): State<Arc<Service>>,
    Writer(grant): Writer,
    InPath(id): InPath<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    Request::read(&headers)?;
    let upload = service.upload_to_end(&grant, &id).await?;
    let _turn = service.turn(upload.batch).await?;
    // Whoever had the turn before may have given it up.
    let upload = service.upload_to_end(&grant, &id).await?;
    if let Some(final_of) = upload.final_of {
        let message = format!("it is a part of /tus/{final_of} now; give that one up");
        return Err(refused(StatusCode::CONFLICT, &message));
    }
    service.give_up(upload.batch).await?;
    Ok(answer(StatusCode::NO_CONTENT, Vec::new()))
}

/// Returns where a stored upload is.
async fn stored_fields(service: &Service, subject: Subject) -> Result<Vec<(&'static str, String)>, Refusal> {
    let Some(locator) = subject.locator else { return Ok(Vec::new()) };
    let Some(listed) = service.twin.upload(locator).await? else { return Ok(Vec::new()) };
    Ok(vec![
        ("x-evernear-id", locator.to_string()),
        ("x-evernear-label", listed.entry.label().to_string()),
        ("x-evernear-url", service.url.of_entry(&listed.entry)),
    ])
}

/// Returns the wishes of a request as they are kept: times as they are meant now.
fn wishes_of(headers: &HeaderMap, now: u64) -> Result<Vec<(String, String)>, Refusal> {
    let mut kept = Vec::new();
    for (name, value) in headers.iter().filter(|(name, _)| is_wish(name)) {
        let text = value.to_str().map_err(|_| Refusal::wrong(format!("the field {name} is not ASCII")))?;
        let is_time = matches!(name.as_str(), "x-evernear-expires" | KEEP_UNTIL);
        let moment = twin::moment(text.trim(), now).ok().filter(|_| is_time);
        kept.push((name.to_string(), moment.map_or_else(|| text.to_owned(), |it| format::Moment(it).to_string())));
    }
    Ok(kept)
}

/// Returns the options of an upload.
fn options(
    service: &Service,
    kept: &[(String, String)],
    metadata: &Metadata,
    now: u64,
) -> Result<twin::PutOptions, Refusal> {
    let mut headers = HeaderMap::new();
    for (name, value) in kept {
        let wrong = |_| Refusal::wrong("a wish is no field");
        let name = HeaderName::try_from(name.as_str()).map_err(|_| Refusal::wrong("a wish is no field"))?;
        headers.append(name, HeaderValue::from_str(value).map_err(wrong)?);
    }
    let mut options = wishes(&headers, metadata.name.as_deref(), &service.defaults(), now)?;
    crate::files::check_name(options.name.get_or_insert_with(|| "file".to_owned()))?;
    options.mime = media_type(metadata.mime.as_deref())?;
    Ok(options)
}

pub(crate) fn spool_fault(error: io::Error) -> Refusal {
    match error.kind() {
        // It was given up, and could not be forgotten yet.
        io::ErrorKind::NotFound => refused(StatusCode::GONE, "nothing is left of the upload; begin it anew").closing(),
        _ => crate::car::CarFault::Spool(error).into(),
    }
}

impl Service {
    /// Returns the date of a moment that is told in seconds that were seen to pass.
    fn date_of(&self, moment: u64) -> String {
        let left = moment.saturating_sub(self.lived());
        httpdate::fmt_http_date(std::time::UNIX_EPOCH + Duration::from_secs(service::now() + left))
    }

    /// Returns an upload of this token, or of any where an admin asks.
    async fn upload_to_end(&self, grant: &Grant, id: &str) -> Result<Resumable, Refusal> {
        let none = || Refusal::not_found("there is no such upload");
        let bytes = data_encoding::HEXLOWER.decode(id.as_bytes()).map_err(|_| none())?;
        let batch = Batch(bytes.try_into().map_err(|_| none())?);
        let is_theirs = |upload: &Resumable| upload.token == grant.id || grant.scope == Scope::Admin;
        self.store.resumable(batch).await?.filter(is_theirs).ok_or_else(none)
    }

    /// Returns an upload of this token that goes on.
    async fn own_upload(&self, grant: &Grant, id: &str) -> Result<Resumable, Refusal> {
        let none = || Refusal::not_found("there is no such upload");
        let upload = self.upload_to_end(grant, id).await?;
        if upload.token != grant.id {
            return Err(none());
        }
        if upload.locator.is_none() && upload.has_expired(self.lived()) {
            return Err(refused(StatusCode::GONE, "the upload has expired; begin it anew"));
        }
        Ok(upload)
    }

    /// Returns the parts of a concatenation, all of them whole.
    async fn complete_parts(&self, grant: &Grant, ids: &[String]) -> Result<Vec<Resumable>, Refusal> {
        if ids.is_empty() || ids.len() > PARTS_MAX {
            let message = format!("a final upload has 1 to {PARTS_MAX} parts");
            return Err(refused(StatusCode::BAD_REQUEST, &message));
        }
        let mut parts = Vec::new();
        for id in ids {
            let part = self.own_upload(grant, id).await?;
            if !part.is_part() || !part.is_whole() {
                return Err(refused(StatusCode::BAD_REQUEST, &format!("{id} is no partial upload that is whole")));
            }
            parts.push(part);
        }
        Ok(parts)
    }

    /// Waits for the turn to work on an upload.
    async fn turn(&self, batch: Batch) -> Result<Turn<'_, Batch>, Refusal> {
        let locked = || refused(StatusCode::LOCKED, "another request works on this upload").after(1).closing();
        self.turns.wait(&batch, TURN_WAIT).await.ok_or_else(locked)
    }
}
