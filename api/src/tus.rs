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

mod metadata;
mod request;

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
    sync::Arc,
    time::Duration,
};

use axum::{
    Json,
    body::Body as HttpBody,
    extract::State,
    http::{
        HeaderMap, HeaderName, HeaderValue, StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
};
use bytes::BytesMut;
use serde_json::json;
use twin::{Batch, Incoming, Progress};
use unixfs::Profile;

use self::{
    metadata::Metadata,
    request::{Checksum, Concat, PROTOCOL, Request},
};
use crate::{
    audit::Subject,
    caller::{Reader, Writer},
    cids::Passing,
    files::{InPath, Sent},
    intake::Body,
    quota::{Reservation, counted},
    refusal::{NETWORK_FULL, Refusal},
    service::{self, Service},
    spool::Spool,
    store::{Fault, MadeOf, Resumable, Source, Write},
    token::{Grant, Scope, TokenFault},
    turns::Turn,
    wishes::{KEEP_UNTIL, is_wish, media_type, wishes},
};

/// Pauses before what could not be stored is tried again: the first, and how often it doubles.
const PAUSE_SECONDS: u64 = 60;
const PAUSE_DOUBLINGS: u32 = 6;
/// Longest reason that is kept.
const REASON_CHARACTERS_MAX: usize = 500;
/// How long an upload may take from its creation, and may wait from when it was refused first, in time that was seen to
/// pass ([`crate::lived`]).
const EXPIRY_SECONDS: u64 = 7 * 86_400;
/// What was received is made durable, and told, at least so often.
const SYNC_BYTES: u64 = 16 << 20;
/// Bytes of one write.
const WRITE_BYTES: usize = 1 << 20;
/// How long a request waits for another that writes to the same upload, whose caller is gone.
const TURN_WAIT: Duration = Duration::from_secs(5);
/// Parts of a concatenation.
const PARTS_MAX: usize = 1000;
/// Tus has its own status for this.
const CHECKSUM_MISMATCH: u16 = 460;

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

    /// Appends a chunk. Returns the new offset, and whether all came. What came of a chunk that breaks off stays as far
    /// as it was told, of one with a checksum nothing.
    async fn append(
        self: &Arc<Self>,
        upload: Resumable,
        headers: &HeaderMap,
        body: HttpBody,
    ) -> Result<(u64, bool), Refusal> {
        let checksum = Checksum::read(headers)?;
        let announced = headers.get(axum::http::header::CONTENT_LENGTH).and_then(|it| it.to_str().ok()?.parse().ok());
        let room = upload.length - upload.offset;
        if announced.is_some_and(|announced: u64| announced > room) {
            return Err(refused(StatusCode::PAYLOAD_TOO_LARGE, "the chunk is longer than what is missing").closing());
        }
        let bounds = self.bounds(upload.token).at_most(room);
        // Its bytes count since it was created.
        let body = Body::begin(body, announced, bounds, Reservation::nothing())?;
        let service = self.clone();
        // A task of its own: whoever hangs up leaves what came, written down.
        let task = async move { service.append_body(upload, body, checksum).await };
        self.tasks.spawn(task).await.map_err(|_| Refusal::stopping())?
    }

    async fn append_body(
        &self,
        upload: Resumable,
        mut body: Body,
        checksum: Option<Checksum>,
    ) -> Result<(u64, bool), Refusal> {
        let batch = upload.batch;
        let data = Arc::new(self.on_spool(move |spool| spool.file(batch, DATA)).await?);
        let mut told = upload.offset;
        let appended = self.write_chunk(&upload, &data, &mut body, checksum, &mut told).await;
        if appended.is_err()
            && let Err(refusal) = self.on_spool(move |_| data.set_len(told)).await
        {
            tracing::warn!(%batch, reason = refusal.message, "what came of a chunk that does not count stays for now");
        }
        appended.map(|()| (told, told == upload.length))
    }

    /// Writes a chunk behind what came before, and tells how far it is durable. `told` is the last offset that may have
    /// been told.
    async fn write_chunk(
        &self,
        upload: &Resumable,
        data: &Arc<File>,
        body: &mut Body,
        checksum: Option<Checksum>,
        told: &mut u64,
    ) -> Result<(), Refusal> {
        let base = upload.offset;
        let (mut at, mut synced, mut buffer) = (base, base, BytesMut::new());
        let broke = loop {
            let frame = body.next().await;
            let is_end = !matches!(frame, Ok(Some(_)));
            if let Ok(Some(bytes)) = &frame {
                buffer.extend_from_slice(bytes);
            }
            if buffer.len() >= WRITE_BYTES || is_end {
                let (file, bytes) = (data.clone(), buffer.split().freeze());
                let (start, length) = (at, bytes.len() as u64);
                let is_due = at + length - synced >= SYNC_BYTES || is_end;
                let write = move |spool: &Spool| {
                    // Others write too.
                    spool.check_room(length, 0)?;
                    file.write_all_at(&bytes, start)?;
                    if is_due { file.sync_all() } else { Ok(()) }
                };
                self.on_spool(write).await?;
                at += length;
                if is_due {
                    synced = at;
                }
                if is_due && checksum.is_none() {
                    self.tell(upload.batch, at, told).await?;
                }
            }
            match frame {
                Ok(Some(_)) => {}
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        if let Some(error) = broke {
            return Err(error.into());
        }
        let Some(checksum) = checksum else { return Ok(()) };
        // Nothing of a chunk counts that is not what its sender meant.
        let file = data.clone();
        if !self.on_spool(move |_| checksum.is_of(&file, base..at)).await? {
            let status = StatusCode::from_u16(CHECKSUM_MISMATCH).unwrap_or(StatusCode::BAD_REQUEST);
            return Err(refused(status, "the chunk is not what its checksum says; send it again"));
        }
        self.tell(upload.batch, at, told).await
    }

    /// Writes down how much is durable.
    async fn tell(&self, batch: Batch, offset: u64, told: &mut u64) -> Result<(), Refusal> {
        if offset > *told {
            // Whatever becomes of the write, it may be there after a crash.
            *told = offset;
            self.store.write(Write::Offset { batch, offset }).await?;
        }
        Ok(())
    }

    /// Stores an upload that is whole, in its turn. Returns what became of it. What keeps it from being stored is
    /// written down, and when it is tried again.
    async fn finish(self: &Arc<Self>, upload: &Resumable) -> Result<Subject, Refusal> {
        // Times are kept as they were meant when the upload was created.
        let meant = Metadata::of(upload.metadata.as_deref());
        let meant = meant.and_then(|metadata| options(self, &upload.wishes, &metadata, service::now()));
        let finished = match meant {
            Ok(options) => Box::pin(self.finish_now(upload, options)).await,
            Err(refusal) => Err(refusal),
        };
        if let Err(refusal) = &finished {
            let reason: String = refusal.message.chars().take(REASON_CHARACTERS_MAX).collect();
            tracing::warn!(batch = %upload.batch, reason, "an upload that is whole is not stored yet");
            let lived = self.lived();
            let fault = Fault { reason, due: lived + pause(upload.tries), refused: is_refused(refusal) };
            let expires = lived + EXPIRY_SECONDS;
            self.write(Write::Failed { batch: upload.batch, fault, expires }).await?;
        }
        finished
    }

    async fn finish_now(self: &Arc<Self>, upload: &Resumable, options: twin::PutOptions) -> Result<Subject, Refusal> {
        let (grant, _) = self.store.token(upload.token).await?.ok_or(TokenFault::Unknown)?;
        if let Some(ended) = grant.ended(service::now()) {
            return Err(ended.into());
        }
        let options = self.placed(grant.scope, options, upload.length).await?;
        let parts: Vec<Batch> = match &upload.concat {
            Some(text) => Concat::of(text)?.batches()?,
            None => vec![upload.batch],
        };
        let (batches, length) = (parts.clone(), upload.length);
        let open = move |spool: &Spool| batches.iter().map(|batch| spool.file(*batch, DATA)).collect();
        let files: Vec<File> = self.on_spool(open).await?;
        let under_way = self.begin(upload.token, Source::Files, None).await?;
        let passing = Passing::new(Profile::UNIXFS_V1_2025);
        let all: Box<dyn Read + Send> =
            files.into_iter().fold(Box::new(io::empty()), |before, file| Box::new(before.chain(file)));
        let incoming = Incoming { stream: Box::new(passing.tap(all.take(length))), length: Some(length) };
        let quiet: Arc<dyn Progress> = Arc::new(());
        let is_small = length <= crate::upload::SMALL_BYTES as u64;
        let stored = {
            let place = if is_small { Ok(None) } else { self.place(upload.token).await.map(Some) };
            match place {
                Ok(_place) => {
                    let put = self.twin.put_incoming(under_way.batch, incoming, &options, &quiet);
                    let put = async { Ok::<_, Refusal>(put.await?) };
                    let stored = self.while_it_counts(upload.token, Box::pin(put)).await;
                    stored.map(|stored| (stored, passing.root().into()))
                }
                Err(refusal) => Err(refusal),
            }
        };
        // The bytes count for the token since the upload was created, and are given back as those of its parts.
        let unbound = self.unbound_account(upload.token);
        let kept = self.end(under_way, stored, MadeOf::Resumable(upload.batch), unbound).await?;
        for part in parts.into_iter().chain([upload.batch]) {
            self.unspool(part).await;
        }
        Ok(Subject::of(&kept))
    }

    /// Forgets an upload, its parts, and what came of them.
    async fn give_up(&self, batch: Batch) -> Result<(), Refusal> {
        // The bytes first: on a full disk their room lets the rows go.
        for part in self.store.parts_of(batch).await?.into_iter().chain([batch]) {
            self.unspool(part).await;
        }
        Ok(self.write(Write::DropResumable(batch)).await?)
    }

    /// Forgets some of what tokens that were ended did not finish. Returns how many uploads these were.
    pub(crate) async fn drop_ended_resumables(&self) -> Result<usize, Refusal> {
        let mut dropped = 0;
        for batch in self.store.resumables_of_ended(self.lived(), service::now()).await? {
            let Some(_turn) = self.turns.wait(&batch, TURN_WAIT).await else { continue };
            match self.give_up(batch).await {
                Ok(()) => dropped += 1,
                Err(refusal) => {
                    let reason = refusal.message;
                    tracing::warn!(%batch, reason, "an upload of a token that was ended is not forgotten yet");
                }
            }
        }
        Ok(dropped)
    }

    /// Stores what is whole and was not stored, and forgets what has expired. Whoever works on an upload is let be, and
    /// one that cannot be forgotten keeps no other from it.
    pub(crate) async fn sweep_resumables(self: &Arc<Self>) -> Result<(), Refusal> {
        for upload in self.store.expired(self.lived()).await? {
            let Some(_turn) = self.turns.take(&upload.batch) else { continue };
            let upload = self.store.resumable(upload.batch).await?;
            if let Some(upload) = upload.filter(|upload| upload.has_expired(self.lived()))
                && let Err(refusal) = self.give_up(upload.batch).await
            {
                let reason = refusal.message;
                tracing::warn!(batch = %upload.batch, reason, "an upload has expired and is not forgotten yet");
            }
        }
        for upload in self.store.due(self.lived(), service::now()).await? {
            if self.stop.is_cancelled() {
                return Ok(());
            }
            let Some(_turn) = self.turns.take(&upload.batch) else { continue };
            let upload = self.store.resumable(upload.batch).await?.filter(|upload| upload.locator.is_none());
            if let Some(upload) = upload {
                // It ends when its token does, as a request.
                let _work = self.callers.attend(upload.token);
                // What keeps it is written down.
                let _ = self.finish(&upload).await;
            }
        }
        Ok(())
    }
}

/// Whether an upload that is whole is tried for seven days more and then given up. Its owner is at fault, as far as
/// anybody can tell now; or the network has no room for it. Where nodes lie on the twin's disk, the upload itself may
/// be what takes that room, and would for ever. While something is away, or fails here, an upload has all the time that
/// it needs.
fn is_refused(refusal: &Refusal) -> bool {
    refusal.status.is_client_error() || refusal.code == NETWORK_FULL
}

/// Seconds until an upload is tried again that failed so many times before.
fn pause(tries: u32) -> u64 {
    PAUSE_SECONDS << tries.min(PAUSE_DOUBLINGS)
}
