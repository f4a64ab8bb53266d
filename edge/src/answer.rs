//! From a request to its answer: host -> object -> path -> the owner's verdict -> conditions -> range.

pub(crate) mod agreement;
pub(crate) mod coding;
pub(crate) mod conditions;
pub(crate) mod head;
pub(crate) mod headers;
pub(crate) mod page;
pub(crate) mod path;
pub(crate) mod plan;
pub(crate) mod range;
pub(crate) mod ready;
pub(crate) mod reply;
pub(crate) mod representation;
pub(crate) mod request;
mod walk;

use std::{
    borrow::Cow,
    cell::RefCell,
    fmt::Write as _,
    ops::Range,
    sync::{Arc, Weak},
    time::{Instant, SystemTime},
};

use bytes::Bytes;
use client::Span;
use format::Mode;
use http::{HeaderMap, Method, StatusCode, header};
use sandbox::{Facts, Marks, Method as PolicyMethod, Tier};
use tokio::task::spawn_blocking;

use self::{
    coding::Coding,
    conditions::{Precondition, Validators},
    path::Path,
    plan::{Piece, Plan, Prepared, View},
    ready::{CONTENT_BYTES_MAX, Lasting, Ready, Seen, Stored, Words},
    reply::{Part, Reply, Ways, refusal},
    representation::{CACHE_STATUS, representation},
    request::Request,
    walk::{Found, walk},
};
use crate::{
    clock,
    error::Fault,
    node::{Node, Root},
    policy::{
        ask::{Ask, Client, Fields, RequestFacts, host_name},
        decision::Decision,
        denylist::Denylist,
        token::{self, Setting},
    },
    store::{
        body::{Body, Source},
        coded::Coded,
        objects::Opened,
    },
    zone::HostName,
};

const SERVER_TIMING: http::HeaderName = http::HeaderName::from_static("server-timing");
const PREFLIGHT_SECONDS: &str = "86400";
/// What an object does not have it never will; yet so long at most is it known that it does not.
const ABSENT_SECONDS_MAX: u32 = 300;
/// A listing of more names leaves the reactor; one of so many has some 100 KiB.
const LISTED_INLINE_MAX: usize = 512;

/// Answers a request whose framing is good.
pub(crate) async fn answer(node: &Node, ways: Ways, request: &Request) -> Reply {
    let zone = &node.config.zone;
    match zone.read_host(&request.authority) {
        HostName::Elsewhere => refusal(request, &Fault::Host { zone: zone.clone() }),
        HostName::Malformed(error) => refusal(request, &Fault::Label(error)),
        HostName::Apex if request.path == "/" => apex(zone.as_str()),
        HostName::Apex => refusal(request, &Fault::Path),
        HostName::Object(_) if request.method == Method::OPTIONS => preflight(),
        HostName::Object(label) => {
            let locator = label.capability().locator();
            let now = SystemTime::now();
            let denylist = Arc::downgrade(&node.denylist.load());
            let reply = match node.open_label(&label, now).await {
                Ok(root) => object(node, ways, request, root, denylist, now).await,
                Err(fault) => Err(fault),
            };
            let mut reply = reply.unwrap_or_else(|fault| with_proxy_status(refusal(request, &fault), node, &fault));
            if label.mode() == Mode::Name && reply.status.is_client_error() {
                // The name may stand for something else the next moment.
                headers::set(&mut reply.fields, header::CACHE_CONTROL, "no-store");
            }
            // What was found is what the log tells of, the same as of an answer that is ready.
            Reply { locator: reply.locator.or(Some(locator)), ..reply }
        }
    }
}

/// Sends a viewer in clear to the same address over TLS.
pub(crate) fn to_https(node: &Node, request: &Request, port: u16) -> Reply {
    let zone = &node.config.zone;
    match zone.read_host(&request.authority) {
        HostName::Elsewhere => return refusal(request, &Fault::Host { zone: zone.clone() }),
        HostName::Malformed(error) => return refusal(request, &Fault::Label(error)),
        HostName::Apex | HostName::Object(_) => {}
    }
    let host = request.authority.split(':').next().unwrap_or("").to_ascii_lowercase();
    let port = if port == 443 { String::new() } else { format!(":{port}") };
    let mut fields = HeaderMap::new();
    headers::secure(&mut fields);
    // `OPTIONS *` asks of the server as a whole; behind a host name the star would be a part of it.
    let path = if request.path.starts_with('/') { &request.path } else { "/" };
    headers::set(&mut fields, header::LOCATION, format!("https://{host}{port}{path}{}", and_query(request)));
    headers::set(&mut fields, header::CACHE_CONTROL, "public, max-age=300");
    Reply::own(StatusCode::PERMANENT_REDIRECT, fields, Bytes::new())
}

/// Returns the query with its question mark, for another address of the same thing.
fn and_query(request: &Request) -> String {
    if request.query.is_empty() { String::new() } else { format!("?{}", request.query) }
}

/// How long the parts of an answer took, for Server-Timing.
struct Timing {
    last: Instant,
    text: String,
}

impl Timing {
    fn new() -> Self {
        Self { last: Instant::now(), text: String::new() }
    }

    fn part(&mut self, name: &str) {
        let now = Instant::now();
        let hundredths = now.duration_since(self.last).as_micros() / 10;
        self.last = now;
        let comma = if self.text.is_empty() { "" } else { ", " };
        // Milliseconds. Formatting a float was a fortieth of a small answer.
        let written = write!(self.text, "{comma}{name};dur={}.{:02}", hundredths / 100, hundredths % 100);
        written.expect("a string takes what is written");
    }
}

async fn object(
    node: &Node,
    ways: Ways,
    request: &Request,
    root: Root,
    denylist: Weak<Denylist>,
    now: SystemTime,
) -> Result<Reply, Fault> {
    let Root { opened: root, moves } = root;
    let lease = &root.record.lease;
    let seen = Seen { denylist, epoch: node.policies.epoch(&lease.owner, &lease.policy) };
    let mut timing = Timing::new();
    let path = Path::read(&request.path)?;
    let mut trail = Vec::new();
    let found = walk(node, &root, &path, now, &mut trail).await;
    timing.part("open");
    let leaf = match &found {
        Ok(Found::File(leaf) | Found::Listing(leaf, _)) => leaf,
        Ok(Found::Slash) | Err(_) => &root,
    };
    let locator = Some(leaf.object.locator());
    // Whoever is refused learns nothing of what lies below the name, so the verdict comes before the faults of the
    // walk.
    let ask = ask(node, request, &path, leaf, now);
    let span = Span::within("policy");
    let mut decision = span.scope().around(node.decide(&root, leaf, &ask)).await.inspect_err(|_| {
        node.metrics.policy_faults.inc();
        span.fail("no verdict");
    })?;
    drop(span);
    if let Some(expires) = ask.token().and_then(|token| token.expires) {
        decision = decision.of_link(u32::try_from(expires.saturating_sub(ask.now)).unwrap_or(u32::MAX));
    }
    if let Some(hold) = moves {
        decision = decision.of_name(hold.seconds_at(ask.now));
    }
    let ends = trail.iter().chain([&root, leaf]).filter_map(|opened| opened.ends());
    let ends = ends.chain(moves.map(|hold| hold.ends)).min();
    if let Some(end) = ends {
        decision = decision.until(end, ask.now);
    }
    timing.part("policy");
    if let Some(fault) = decision.refusal() {
        let mut reply = refusal(request, &fault);
        // What is hidden looks to the last field like what is not there, and a policy that led nowhere says nothing.
        if matches!(fault, Fault::Denied { .. }) {
            headers::caching(&mut reply.fields, &decision);
            headers::of_verdict(&mut reply.fields, &decision);
        }
        return Ok(Reply { locator, ..reply });
    }
    if let Some((status, target)) = decision.redirect() {
        return Ok(Reply { locator, ..redirect(status, target, &decision)? });
    }
    //= https://www.w3.org/TR/service-workers/#service-worker-script-request
    //# Service-Worker: script
    if request.fields.get("service-worker").is_some_and(|field| field.as_bytes() == b"script") {
        return Err(Fault::Denied { status: 403 });
    }
    let found = match found {
        Err(fault @ Fault::Path) => {
            let mut reply = refusal(request, &fault);
            headers::set(&mut reply.fields, header::CACHE_CONTROL, decision.cache_control_up_to(ABSENT_SECONDS_MAX));
            headers::vary(&mut reply.fields, &decision);
            return Ok(reply);
        }
        found => found?,
    };
    match found {
        Found::Slash => {
            let target = format!("{}/{}", path.spelling(), and_query(request));
            Ok(Reply { locator, ..redirect(308, &target, &decision)? })
        }
        Found::Listing(_, directory) => {
            let shown = path.shown();
            let is_short = directory.entries().len() <= LISTED_INLINE_MAX;
            let listing = move || page::listing(&directory, &shown);
            let page = if is_short { listing() } else { spawn_blocking(listing).await.map_err(|_| Fault::Busy)? };
            let mut fields = HeaderMap::new();
            headers::secure(&mut fields);
            headers::caching(&mut fields, &decision);
            headers::of_verdict(&mut fields, &decision);
            // It is the edge's page, whatever the owner says of the directory's files.
            let mut reply = match Validators::none().weigh(&request.fields) {
                Precondition::Answer => own_page(fields, page),
                Precondition::NotModified => Reply::of(StatusCode::NOT_MODIFIED, own_head(fields), None, Source::Own),
                Precondition::Failed => refusal(request, &Fault::Precondition),
            };
            reply.locator = locator;
            Ok(reply)
        }
        Found::File(file) => {
            // Only blocks are kept by themselves; a small file is part of its open manifest.
            let tier = match file.object.geometry() {
                Some(_) => node.hold(&root, &file, &ask).await?,
                None => Tier::Memory,
            };
            let created = file.object.manifest().created;
            //= https://www.rfc-editor.org/rfc/rfc9110#section-8.8.2.1
            //# An origin server with a clock MUST NOT generate a Last-Modified date that is later than the server's
            //# time of message origination (Date, Section 6.6.1).
            // It is the writer's clock that was ahead. Once the date has come it is told, so nothing is kept before.
            let is_dated = moves.is_none() && created <= ask.now;
            let validators = Validators::of(&file.object.locator(), is_dated.then_some(created));
            let mut reply = self::file(node, request, Arc::clone(&file), tier, &decision, &validators).await?;
            reply.locator = locator;
            if request.keeps && is_dated && reply.is_whole_hit() {
                let lasting = ways.lasting(request, &reply);
                let origin = Origin { root, file, trail, ends, seen, validators };
                reply.ready = ready(node, &ask, origin, &decision, lasting).await.map(Box::new);
            }
            timing.part("fetch");
            headers::set(&mut reply.fields, SERVER_TIMING, &timing.text);
            Ok(reply)
        }
    }
}

fn ask(node: &Node, request: &Request, path: &Path<'_>, leaf: &Opened, now: SystemTime) -> Arc<Ask<'static>> {
    let method = if request.is_head() { PolicyMethod::Head } else { PolicyMethod::Get };
    let host = host_name(&request.authority);
    let (now, viewer) = (clock::unix_seconds(now), node.places.locate(request.peer).place);
    let token = token::of_query(&request.query).map(|token| {
        let (path, address, country) = (path.spelling(), request.peer, viewer.country);
        let setting = Setting { now, host: &host, path, address, country };
        node.weigh(token, &leaf.record.lease.owner, &setting)
    });
    Arc::new(Ask {
        now,
        viewer,
        client: Client { address: request.peer, buckets: node.buckets },
        edge: node.edge_facts(),
        request: Some(RequestFacts {
            method,
            is_secure: request.is_secure,
            range: request.fields.contains_key(header::RANGE),
            host: host.into(),
            path: path.spelling().to_owned().into(),
            query: request.query.clone().into(),
            fields: Fields::Owned(request.fields.clone()),
            token,
        }),
        object: Some(Arc::clone(&leaf.object)),
        policy: Some((leaf.record.lease.owner, Cow::Owned(leaf.record.lease.policy.clone()))),
    })
}

async fn file(
    node: &Node,
    request: &Request,
    file: Arc<Opened>,
    tier: Tier,
    decision: &Decision,
    validators: &Validators,
) -> Result<Reply, Fault> {
    let manifest = file.object.manifest();
    let length = manifest.length;
    let is_saved = decision.marks().contains(Marks::ATTACHMENT) || request.wants_download();
    let saved_as = is_saved.then_some(&*manifest.name);
    let mut whole = representation(decision, validators, &manifest.mime, saved_as);
    let coding = if tier == Tier::None { Coding::Never } else { Coding::of(request, &file, decision.marks()) };
    coding.vary(&mut whole);
    let view = View { method: &request.method, fields: &request.fields, id: request.id };
    let plan = match Plan::of(&view, &Prepared { validators, length, head: &whole }) {
        Ok(plan) => plan,
        Err(fault) => return Ok(refusal(request, &fault)),
    };
    let mut slices = Slices { node, file: &file, tier, is_sent: plan.is_sent, is_begun: false, source: Source::Hit };
    let is_coded = coding == Coding::Zstd && plan.status == StatusCode::OK;
    if is_coded {
        coding::say_zstd(&mut whole, validators);
        if coding::has_zstd(&request.fields, validators) {
            whole.remove(header::CONTENT_ENCODING);
            return Ok(Reply::of(StatusCode::NOT_MODIFIED, whole, None, Source::Own));
        }
    }
    if coding == Coding::Zstd && plan.status == StatusCode::NOT_MODIFIED && coding::asks_by_time(&request.fields) {
        // The tag of what a 200 would bring. Who listed tags is told which of them counts.
        coding::say_zstd(&mut whole, validators);
        whole.remove(header::CONTENT_ENCODING);
    }
    let mut content = Vec::new();
    for piece in plan.pieces() {
        content.push(match piece {
            Piece::Text(text) => Part::Bytes(text),
            Piece::Range(_) if is_coded => slices.coded().await?,
            Piece::Range(range) => slices.part(range).await?,
        });
    }
    // Nothing goes forward for a HEAD: what is known of the file is told, whether or not its content is here.
    let source = if !plan.is_sent && slices.source == Source::Miss { Source::Own } else { slices.source };
    let said = match source {
        Source::Hit => "hit",
        Source::Disk => "hit; detail=disk",
        Source::Own if !plan.is_sent => "detail=head",
        Source::Miss | Source::Own if tier == Tier::None => "fwd=uri-miss",
        Source::Miss | Source::Own => "fwd=uri-miss; stored",
    };
    headers::set(&mut whole, CACHE_STATUS, format!("\"{}\"; {said}", node.config.name));
    let (content, source) = if plan.length().is_some() { (Some(content), source) } else { (None, Source::Own) };
    let mut head = plan.head(&whole);
    if is_coded {
        // That of the file. The frames have another, which is told where it is known.
        head.remove(header::CONTENT_LENGTH);
    }
    Ok(Reply::of(plan.status, head, content, source))
}

/// What an answer was made of.
struct Origin {
    root: Arc<Opened>,
    file: Arc<Opened>,
    /// The directories on the way.
    trail: Vec<Arc<Opened>>,
    /// The second since 1970 at which the first lease of these ends.
    ends: Option<u64>,
    seen: Seen,
    validators: Validators,
}

/// Returns an answer as it may be given again, where one policy alone decides about it and its content is small.
async fn ready(node: &Node, ask: &Ask<'_>, origin: Origin, decision: &Decision, lasting: Lasting) -> Option<Ready> {
    let Origin { root, file, mut trail, ends, seen, validators } = origin;
    let about = ask.request.as_ref().filter(|about| about.token.is_none())?;
    let program = node.sole_program(&root, &file).await?;
    // What is not remembered would not be found again.
    program.known(ask).filter(|said| Arc::ptr_eq(said, &decision.served))?;
    let content = match (file.object.inline(), file.object.geometry()) {
        (Some(inline), _) => Stored::Inline(Bytes::copy_from_slice(inline)),
        (None, Some(geometry)) if file.object.length() <= CONTENT_BYTES_MAX => Stored::Blocks(geometry),
        _ => return None,
    };
    trail.push(Arc::clone(&file));
    let mut watches = Vec::with_capacity(trail.len());
    for opened in &trail {
        watches.push(node.objects.watch(opened).await?);
    }
    let fresh_until = trail.iter().map(|opened| node.objects.fresh_until(opened)).min()?;
    if fresh_until <= Instant::now() {
        return None;
    }
    let now = ask.now();
    let words = Words { said: Arc::clone(&decision.served), until: decision.says_so_until(now), lasting };
    Some(Ready {
        fresh_until,
        alive_until: ends.unwrap_or(u64::MAX),
        file,
        watches,
        program: Arc::downgrade(&program),
        seen,
        is_secure: about.is_secure,
        host: about.host.to_string(),
        path: about.path.to_string(),
        query: about.query.to_string(),
        content,
        validators,
        words: RefCell::new(vec![words]),
    })
}

/// Ranges of a file that become parts of a content.
struct Slices<'a> {
    node: &'a Node,
    file: &'a Arc<Opened>,
    tier: Tier,
    /// Whether they are sent, or only their length told.
    is_sent: bool,
    /// Whether there was one before.
    is_begun: bool,
    /// What is true of all slices so far.
    source: Source,
}

impl Slices<'_> {
    /// Returns one range, its first block already read where it begins the answer.
    async fn part(&mut self, range: Range<u64>) -> Result<Part, Fault> {
        if let Some(inline) = self.file.object.inline() {
            let bounds = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(inline.len());
            return Ok(Part::Bytes(Bytes::copy_from_slice(&inline[bounds(range.start)..bounds(range.end)])));
        }
        let geometry = self.file.object.geometry().ok_or(Fault::Damaged)?;
        if range.start == 0 && self.is_sent {
            self.file.begin();
        }
        let body = Body::new((&self.node.cache, &self.node.fills), Arc::clone(self.file), geometry, range, self.tier);
        self.source = self.source.max(body.source);
        let begins = !std::mem::replace(&mut self.is_begun, true) && self.is_sent;
        Ok(Part::Blocks(if begins { body.begin(&self.node.fills).await? } else { body }))
    }

    /// Returns all of it compressed, its first block already read.
    async fn coded(&mut self) -> Result<Part, Fault> {
        let geometry = self.file.object.geometry().ok_or(Fault::Damaged)?;
        let coded = Coded::new((&self.node.cache, &self.node.fills), Arc::clone(self.file), geometry, self.tier);
        self.source = coded.source;
        if !self.is_sent {
            return Ok(Part::Coded(Box::new(coded)));
        }
        self.file.begin();
        Ok(Part::Coded(Box::new(coded.begin(&self.node.fills).await?)))
    }
}

impl Reply {
    fn of(status: StatusCode, fields: HeaderMap, content: Option<Vec<Part>>, source: Source) -> Self {
        Self { status, fields, content, source, locator: None, close: false, ready: None }
    }

    /// Answers with a text of ours, which may be empty.
    fn own(status: StatusCode, fields: HeaderMap, text: impl Into<Bytes>) -> Self {
        Self::of(status, fields, Some(vec![Part::Bytes(text.into())]), Source::Own)
    }
}

fn redirect(status: u16, target: &str, decision: &Decision) -> Result<Reply, Fault> {
    let status = StatusCode::from_u16(status).ok().filter(StatusCode::is_redirection).ok_or(Fault::Policy)?;
    let mut fields = HeaderMap::new();
    headers::secure(&mut fields);
    headers::set(&mut fields, header::LOCATION, target);
    headers::caching(&mut fields, decision);
    headers::of_verdict(&mut fields, decision);
    Ok(Reply::own(status, fields, Bytes::new()))
}

fn own_page(fields: HeaderMap, text: String) -> Reply {
    Reply::own(StatusCode::OK, own_head(fields), text)
}

/// Makes of these fields the head of a page of our own.
fn own_head(mut fields: HeaderMap) -> HeaderMap {
    headers::own_page(&mut fields);
    headers::set(&mut fields, header::CONTENT_TYPE, "text/html; charset=utf-8");
    fields
}

fn apex(zone: &str) -> Reply {
    let mut fields = HeaderMap::new();
    headers::secure(&mut fields);
    headers::set(&mut fields, header::CACHE_CONTROL, "public, max-age=300");
    own_page(fields, page::apex(zone))
}

/// Any page may ask for any range of any object.
fn preflight() -> Reply {
    let mut fields = HeaderMap::new();
    headers::secure(&mut fields);
    headers::set(&mut fields, header::ALLOW, "GET, HEAD, OPTIONS");
    headers::set(&mut fields, header::ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD");
    headers::set(
        &mut fields,
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        "range, if-range, if-match, if-none-match, if-modified-since, if-unmodified-since",
    );
    headers::set(&mut fields, header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_SECONDS);
    Reply::of(StatusCode::NO_CONTENT, fields, None, Source::Own)
}

//= https://www.rfc-editor.org/rfc/rfc9209#section-2
//# The Proxy-Status HTTP response field allows an intermediary to convey additional information about its handling of an
//# HTTP response
fn with_proxy_status(mut reply: Reply, node: &Node, fault: &Fault) -> Reply {
    if let Some(error) = fault.proxy_error() {
        let text = format!("\"{}\"; error={error}", node.config.name);
        headers::set(&mut reply.fields, http::HeaderName::from_static("proxy-status"), text);
    }
    reply
}
