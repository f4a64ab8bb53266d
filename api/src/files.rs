//! Files and folders as the API shows them: `/files`.

use std::sync::Arc;

use axum::{
    Json,
    body::Body as HttpBody,
    extract::{FromRequestParts, Path, Query, Request, State},
    http::{
        HeaderMap, StatusCode,
        header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, LOCATION},
        request::Parts,
    },
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use client::Receipt;
use data_encoding::BASE64URL_NOPAD;
use format::{Kind, Locator, Moment, PolicyName, Profile};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::json;
use twin::{LeaseChangeError, Listed, PageAsk, Renewal, Sooner, Spot, Stored, UrlTemplate};

use crate::{
    audit::Subject,
    caller::{Reader, Writer},
    form::{boundary, filing::Texts},
    nft::begin_body,
    refusal::Refusal,
    service::{self, Service},
    store::{Source, Write},
    token::Scope,
    upload::{Empty, Kept, Wanted},
    wishes::{media_type, time, wishes},
};

/// Lines of a page.
const LIMIT: usize = 100;
const LIMIT_MAX: usize = 1000;
/// Longest text that names are searched for.
const SEARCH_BYTES_MAX: usize = 255;
/// Longest body of a request that changes a lease.
const CHANGE_BYTES_MAX: usize = 4096;
/// Of what was sent without a name.
const NO_NAME: &str = "file";
const NO_FOLDER_NAME: &str = "folder";

/// A file or folder.
#[derive(Debug, Serialize)]
pub(crate) struct File {
    /// Names it in this API; it opens nothing.
    id: String,
    /// The DNS label of the object. Whoever has it reads the object.
    label: String,
    url: String,
    name: String,
    kind: &'static str,
    /// Media type.
    #[serde(rename = "type")]
    mime: String,
    /// Bytes of the file, or of all files of the folder.
    size: u64,
    /// The object itself, and all in it.
    objects: usize,
    /// RFC 3339.
    created: String,
    /// RFC 3339; null where it does not end by itself.
    expires: Option<String>,
    keep_until: Option<String>,
    policy: String,
    profile: String,
    places: Vec<String>,
    at_most: Vec<String>,
    tags: Vec<String>,
    /// The CID that IPFS has for it, by the profile `unixfs-v1-2025` or as it came; absent from lists, and for what did
    /// not come by this API.
    #[serde(skip_serializing_if = "Option::is_none")]
    cid: Option<String>,
    /// What was made durable; only in the answer to an upload.
    #[serde(skip_serializing_if = "Option::is_none")]
    durable: Option<Durable>,
    /// The HTML that shows it in a page; only in the answer to an upload.
    #[serde(skip_serializing_if = "Option::is_none")]
    html: Option<String>,
}

/// What nodes have, of the object itself; of a folder, of its list of names, which is stored last.
#[derive(Debug, Serialize)]
struct Durable {
    /// Shards that are durable, and how many there are to be. Zero for what is small enough to lie in its record.
    shards: usize,
    of: usize,
    /// How many of them may be lost before it cannot be read.
    margin: usize,
    /// How many whole zones may be lost; null for what lies in its record.
    zones: Option<usize>,
    /// Copies of the record.
    records: usize,
}

impl Durable {
    fn of(stored: &Stored) -> Self {
        let Receipt { placement, durable, records, zones_survived, .. } = &stored.receipt;
        let redundancy = stored.entry.tenure.profile.redundancy(stored.entry.length);
        let margin = redundancy.map_or(records.saturating_sub(1), |it| durable.saturating_sub(it.data()));
        Self { shards: *durable, of: placement.len(), margin, zones: *zones_survived, records: *records }
    }
}

impl File {
    pub(crate) fn of(listed: Listed, url: &UrlTemplate) -> Self {
        let Listed { locator, entry, path, kind, objects, bytes, .. } = listed;
        let moment = |seconds: u64| (seconds != 0).then(|| Moment(seconds).to_string());
        let retention = entry.tenure.retention;
        Self {
            id: locator.to_string(),
            url: url.of_entry(&entry),
            label: entry.label().to_string(),
            name: path,
            kind: match kind {
                Kind::File => "file",
                Kind::Directory => "folder",
            },
            mime: entry.mime,
            size: bytes,
            objects,
            created: Moment(entry.created).to_string(),
            expires: moment(retention.expires),
            keep_until: moment(retention.keep_until),
            policy: entry.tenure.policy.to_string(),
            profile: entry.tenure.profile.to_string(),
            places: entry.tenure.places(),
            at_most: entry.tenure.caps.iter().map(ToString::to_string).collect(),
            tags: entry.tags.into_iter().collect(),
            cid: None,
            durable: None,
            html: None,
        }
    }

    fn stored(kept: Kept, url: &UrlTemplate) -> Self {
        let Kept { stored, dag, .. } = kept;
        let (durable, html) = (Some(Durable::of(&stored)), Some(url.link(&stored).html));
        let Stored { entry, objects, bytes, .. } = stored;
        let (locator, path, kind) = (entry.capability.locator(), entry.path.clone(), entry.kind);
        let listed = Listed { locator, entry, path, kind, objects, bytes, is_finished: true };
        Self { durable, html, cid: Some(dag.cid.to_string()), ..Self::of(listed, url) }
    }
}

/// A body that is not read yet, with what its head says.
pub(crate) struct Sent {
    pub(crate) headers: HeaderMap,
    pub(crate) body: HttpBody,
}

impl<S: Send + Sync> axum::extract::FromRequest<S> for Sent {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        let (parts, body) = request.into_parts();
        //= https://www.rfc-editor.org/rfc/rfc9110#section-14.5
        //# An origin server SHOULD respond with a 400 (Bad Request) status code if it receives Content-Range on a PUT for a
        //# target resource that does not support partial PUT requests.
        if parts.headers.contains_key(CONTENT_RANGE) {
            let what = "a part of a file is not taken here; resumable uploads go to /tus";
            return Err(Refusal::wrong(what).closing());
        }
        if parts
            .headers
            .get(CONTENT_ENCODING)
            .is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
        {
            return Err(unsupported("a coded body would be stored as it is; send it without Content-Encoding"));
        }
        Ok(Self { headers: parts.headers, body })
    }
}

impl Sent {
    /// Returns the length that the sender announced.
    pub(crate) fn length(&self) -> Option<u64> {
        self.headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
    }

    pub(crate) fn content_type(&self) -> Result<&str, Refusal> {
        let Some(value) = self.headers.get(CONTENT_TYPE) else { return Ok("") };
        value.to_str().map_err(|_| Refusal::wrong("the content type is not ASCII"))
    }

    /// Reads a small body whole.
    pub(crate) async fn small<T: DeserializeOwned>(self, service: &Service) -> Result<T, Refusal> {
        self.json(service, CHANGE_BYTES_MAX).await
    }

    /// Reads a JSON body of at most so many bytes.
    pub(crate) async fn json<T: DeserializeOwned>(self, service: &Service, max: usize) -> Result<T, Refusal> {
        serde_json::from_slice(&self.bytes(service, max).await?)
            .map_err(|error| Refusal::wrong(format!("the body is not the JSON asked for: {error}")))
    }

    /// Reads a text of at most so many bytes.
    pub(crate) async fn text(self, service: &Service, max: usize) -> Result<String, Refusal> {
        String::from_utf8(self.bytes(service, max).await?.into())
            .map_err(|_| Refusal::wrong("the body is not a text in UTF-8"))
    }

    async fn bytes(self, service: &Service, max: usize) -> Result<Bytes, Refusal> {
        let read = axum::body::to_bytes(self.body, max);
        let bytes = tokio::time::timeout(service.config.idle(), read).await;
        let slow = || Refusal::new(StatusCode::REQUEST_TIMEOUT, "ERROR_TIMEOUT", "the body comes too slowly").closing();
        let long = |_| {
            let message = format!("the body has over {max} bytes, or broke off");
            Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "ERROR_TOO_LARGE", message).closing()
        };
        bytes.map_err(|_| slow())?.map_err(long)
    }
}

/// A part of the path, parsed.
pub(crate) struct InPath<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for InPath<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let found = Path::from_request_parts(parts, state).await;
        found.map(|Path(value)| Self(value)).map_err(|error| Refusal::caller(&error))
    }
}

/// The query, parsed; unknown keys are refused.
pub(crate) struct InQuery<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for InQuery<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let found = Query::from_request_parts(parts, state).await;
        found.map(|Query(value)| Self(value)).map_err(|error| Refusal::caller(&error))
    }
}

/// `PUT /files/{name}`: the body is the file.
pub(crate) async fn put(
    State(service): State<Arc<Service>>,
    Writer(grant): Writer,
    InPath(name): InPath<String>,
    sent: Sent,
) -> Result<Response, Refusal> {
    if boundary(sent.content_type()?).is_some() {
        return Err(unsupported("PUT takes the file itself; POST a form to /files"));
    }
    store(&service, &grant, Some(&name), sent).await
}

/// `POST /files`: the body is a file, or a form of several, which become a folder.
pub(crate) async fn post(
    State(service): State<Arc<Service>>,
    Writer(grant): Writer,
    sent: Sent,
) -> Result<Response, Refusal> {
    store(&service, &grant, None, sent).await
}

fn unsupported(message: &str) -> Refusal {
    Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "HTTP_ERROR", message).closing()
}

async fn store(
    service: &Arc<Service>,
    grant: &crate::token::Grant,
    name: Option<&str>,
    sent: Sent,
) -> Result<Response, Refusal> {
    let now = service::now();
    let mut options = wishes(&sent.headers, name, &service.defaults(), now)?;
    let content_type = sent.content_type()?.to_owned();
    let form = boundary(&content_type).transpose()?;
    if form.is_none() {
        options.mime = media_type(Some(&content_type))?;
    }
    let unnamed = if form.is_some() { NO_FOLDER_NAME } else { NO_NAME };
    let name = options.name.get_or_insert_with(|| unnamed.to_owned());
    check_name(name)?;
    // All of it is refused before the first byte of the body is asked for (RFC 9110 section 10.1.1).
    let announced = sent.length();
    let options = service.placed(grant.scope, options, announced.unwrap_or(0)).await?;
    let body = begin_body(service, grant, sent)?;
    let profile = unixfs::Profile::UNIXFS_V1_2025;
    let wanted = Wanted { options, profile, source: Source::Files, title: None, empty: Empty::Allowed };
    let kept = match form {
        Some(boundary) => service.store_form(grant, body, boundary, wanted, Texts::Name).await?,
        None => service.store_file(grant, body, announced, wanted).await?,
    };
    let subject = Subject::of(&kept);
    let file = File::stored(kept, &service.url);
    let location = format!("/files/{}", file.id);
    let mut answer =
        (StatusCode::CREATED, [(LOCATION, location)], Json(json!({ "ok": true, "value": file }))).into_response();
    answer.extensions_mut().insert(subject);
    Ok(answer)
}

/// Refuses what would be a step in a path.
pub(crate) fn check_name(name: &str) -> Result<(), Refusal> {
    if matches!(name, "" | "." | "..") {
        return Err(Refusal::wrong(format!("{name:?} cannot be the name of a file")));
    }
    Ok(())
}

/// What a list is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ask {
    /// Lines of the page, 1 to 1,000. Absent: 100.
    limit: Option<usize>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// A part of the name, whatever the case of its letters.
    name: Option<String>,
}

/// `GET /files`: what is stored, the newest first.
pub(crate) async fn list(
    State(service): State<Arc<Service>>,
    _: Reader,
    InQuery(Ask { limit, cursor, name }): InQuery<Ask>,
) -> Result<Response, Refusal> {
    let limit = limit.unwrap_or(LIMIT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(Refusal::wrong(format!("limit is a number from 1 to {LIMIT_MAX}")));
    }
    let name = name.unwrap_or_default();
    if name.len() > SEARCH_BYTES_MAX {
        return Err(Refusal::wrong(format!("name has at most {SEARCH_BYTES_MAX} bytes")));
    }
    let after = cursor.map(|cursor| spot(&cursor).ok_or_else(|| Refusal::wrong("cursor is none that this list gave")));
    let page = service.twin.page(PageAsk { after: after.transpose()?, limit, name }).await?;
    let files: Vec<File> = page.lines.into_iter().map(|line| File::of(line, &service.url)).collect();
    let next = page.next.map(|spot| cursor_of(&spot));
    Ok(Json(json!({ "ok": true, "value": files, "count": page.count, "next": next })).into_response())
}

fn cursor_of(spot: &Spot) -> String {
    let mut bytes = spot.created.to_be_bytes().to_vec();
    bytes.extend_from_slice(spot.locator.as_bytes());
    BASE64URL_NOPAD.encode(&bytes)
}

fn spot(cursor: &str) -> Option<Spot> {
    let bytes = BASE64URL_NOPAD.decode(cursor.as_bytes()).ok()?;
    let (created, locator) = bytes.split_first_chunk()?;
    Some(Spot { created: u64::from_be_bytes(*created), locator: Locator(locator.try_into().ok()?) })
}

pub(crate) fn id(text: &str) -> Result<Locator, Refusal> {
    text.parse().map_err(|_| Refusal::wrong("the id of a file is 64 lower-case hex digits"))
}

/// `GET /files/{id}`.
pub(crate) async fn get(
    State(service): State<Arc<Service>>,
    _: Reader,
    InPath(text): InPath<String>,
) -> Result<Response, Refusal> {
    let listed = service.twin.upload(id(&text)?).await?.ok_or_else(|| Refusal::not_found("NFT not found"))?;
    let upload = service.store.upload(&listed.locator).await?;
    let file = File { cid: upload.and_then(|it| it.cid), ..File::of(listed, &service.url) };
    Ok(Json(json!({ "ok": true, "value": file })).into_response())
}

/// `DELETE /files/{id}`: nodes destroy the key, and every edge answers 410 from then on.
pub(crate) async fn delete(
    State(service): State<Arc<Service>>,
    _: Writer,
    InPath(text): InPath<String>,
) -> Result<Response, Refusal> {
    let locator = id(&text)?;
    let erased = erase(&service, locator).await?;
    let mut answer = Json(json!({ "ok": true, "value": { "id": text, "objects": erased } })).into_response();
    answer.extensions_mut().insert(Subject { locator: Some(locator), bytes: 0 });
    Ok(answer)
}

/// Erases an upload of this owner and forgets its row. Returns how many objects it had.
pub(crate) async fn erase(service: &Arc<Service>, locator: Locator) -> Result<usize, Refusal> {
    let work = service.clone();
    // A task of its own: whoever hangs up leaves nothing half erased.
    let erasing = async move {
        // What is stored and not written down yet would be written down when it is gone.
        if work.twin.upload(locator).await?.is_some_and(|listed| work.is_under_way(listed.entry.batch)) {
            return Err(Refusal::being_stored());
        }
        let removed = match work.twin.remove(&locator).await {
            // Another program was first, or its time was over: the row is all that is left.
            Err(LeaseChangeError::Unknown) => None,
            removed => Some(removed?),
        };
        match (work.store.upload(&locator).await?, &removed) {
            (Some(upload), _) => work.write(Write::Drop(upload.batch)).await?,
            (None, Some(_)) => {}
            (None, None) => return Err(LeaseChangeError::Unknown.into()),
        }
        Ok(removed.map_or(0, |removed| removed.ended.len() + removed.unknown.len()))
    };
    service.tasks.spawn(erasing).await.map_err(|_| Refusal::stopping())?
}

/// What is to change of a file's lease; what is absent stays.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Change {
    policy: Option<PolicyName>,
    /// `2027-01-31`, `2027-01-31T12:00:00Z`, `+30d`, or `never`.
    expires: Option<String>,
    keep_until: Option<String>,
    #[serde(default, deserialize_with = "profile")]
    profile: Option<Profile>,
    /// Whether it may end sooner than it does now.
    #[serde(default)]
    sooner: bool,
}

fn profile<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Profile>, D::Error> {
    let text = Option::<String>::deserialize(from)?;
    text.map(|text| text.parse().map_err(serde::de::Error::custom)).transpose()
}

/// `PATCH /files/{id}`: renews its lease, or changes its policy or redundancy.
pub(crate) async fn patch(
    State(service): State<Arc<Service>>,
    Writer(grant): Writer,
    InPath(text): InPath<String>,
    sent: Sent,
) -> Result<Response, Refusal> {
    let locator = id(&text)?;
    let Change { policy, expires, keep_until, profile, sooner } = sent.small(&service).await?;
    // Nobody takes a promise back, and a policy says who may read.
    if (keep_until.is_some() || policy.is_some()) && grant.scope < Scope::Admin {
        return Err(Refusal::scope(Scope::Admin));
    }
    let now = service::now();
    let renewal = Renewal {
        policy,
        expires: time("expires", expires.as_deref(), now)?,
        keep_until: time("keep_until", keep_until.as_deref(), now)?,
        caps: Vec::new(),
        profile,
        sooner: if sooner { Sooner::Allowed } else { Sooner::Refused },
    };
    if renewal == (Renewal { sooner: renewal.sooner, ..Renewal::default() }) {
        return Err(Refusal::wrong("name what is to change: policy, expires, keep_until or profile"));
    }
    if service.twin.upload(locator).await?.is_none() {
        return Err(Refusal::not_found("NFT not found"));
    }
    service.twin.renew(&locator, &renewal).await?;
    let listed = service.twin.upload(locator).await?.ok_or_else(|| Refusal::not_found("NFT not found"))?;
    let mut answer = Json(json!({ "ok": true, "value": File::of(listed, &service.url) })).into_response();
    answer.extensions_mut().insert(Subject { locator: Some(locator), bytes: 0 });
    Ok(answer)
}
