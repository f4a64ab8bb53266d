//! From a request to its answer: host -> object -> path -> the owner's verdict -> conditions -> range.

pub(crate) mod agreement;
pub(crate) mod coding;
pub(crate) mod conditions;
mod file;
pub(crate) mod head;
pub(crate) mod headers;
mod made_of;
mod own;
pub(crate) mod page;
pub(crate) mod path;
pub(crate) mod plan;
pub(crate) mod range;
pub(crate) mod ready;
pub(crate) mod reply;
pub(crate) mod representation;
pub(crate) mod request;
mod timing;
mod walk;

use std::{
    borrow::Cow,
    sync::{Arc, Weak},
    time::{Instant, SystemTime},
};

use client::Span;
use format::Mode;
use http::{HeaderMap, Method, StatusCode, header};
use sandbox::{Facts, Method as PolicyMethod, Tier};

pub(crate) use self::own::to_https;
use self::{
    conditions::{Precondition, Validators},
    file::file,
    made_of::MadeOf,
    own::{and_query, apex, own_fields, own_page, preflight, redirect, with_proxy_status},
    path::Path,
    ready::{Seen, Words},
    reply::{Reply, Ways, refusal},
    request::Request,
    timing::Timing,
    walk::{Found, walk},
};
use crate::{
    clock,
    error::Fault,
    node::{Node, Root},
    policy::{
        ask::{Ask, Client, Fields, RequestFacts, host_name},
        denylist::Denylist,
        token::{self, Setting},
    },
    store::{body::Source, objects::Opened},
    zone::HostName,
};

const SERVER_TIMING: http::HeaderName = http::HeaderName::from_static("server-timing");
/// What an object does not have it never will; yet so long at most is it known that it does not.
const ABSENT_SECONDS_MAX: u32 = 300;
/// How long a listing may be kept: the folder stays, but another version of the edge may show it otherwise.
const LISTING_SECONDS_MAX: u32 = 3600;

/// Answers a request whose framing is good.
pub(crate) async fn answer(node: &Node, ways: Ways, request: &Request) -> Reply {
    let zone = &node.config.zone;
    match zone.read_host(&request.authority) {
        HostName::Elsewhere => refusal(request, &Fault::Host { zone: zone.clone() }),
        HostName::Malformed(error) => refusal(request, &Fault::Label(error)),
        HostName::Apex | HostName::Object(_) if request.method == Method::OPTIONS => preflight(),
        HostName::Apex if request.path == "/" => apex(zone.as_str()),
        HostName::Apex => refusal(request, &Fault::Path),
        HostName::Object(label) => {
            let locator = label.capability().locator();
            let (now, since) = (SystemTime::now(), Instant::now());
            let denylist = Arc::downgrade(&node.denylist.load());
            let reply = match node.open_label(&label, now).await {
                Ok(root) => object(node, ways, request, root, denylist, (now, since)).await,
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

async fn object(
    node: &Node,
    ways: Ways,
    request: &Request,
    root: Root,
    denylist: Weak<Denylist>,
    (opened_at, since): (SystemTime, Instant),
) -> Result<Reply, Fault> {
    let Root { opened: root, moves } = root;
    let lease = &root.record.lease;
    let seen = Seen { denylist, epoch: node.policies.epoch(&lease.owner, &lease.policy) };
    let mut timing = Timing::new();
    let path = Path::read(&request.path)?;
    let mut trail = Vec::new();
    let found = walk(node, &root, &path, opened_at, &mut trail).await;
    timing.step("open");
    let leaf = match &found {
        Ok(Found::File(leaf) | Found::Listing(leaf, _)) => leaf,
        Ok(Found::Slash) | Err(_) => &root,
    };
    let locator = Some(leaf.object.locator());
    // Whoever is refused learns nothing of what lies below the name, so the verdict comes before the faults of the
    // walk.
    let ask = ask(node, request, &path, leaf, opened_at);
    let span = Span::within("policy");
    let mut decision = span.scope().around(node.decide(&root, leaf, &ask)).await.inspect_err(|fault| {
        // Where too much is asked of it, it is at no fault.
        if *fault == Fault::Policy {
            node.metrics.policy_faults.inc();
        }
        span.fail("no verdict");
    })?;
    drop(span);
    let now = clock::unix_seconds(node.look_again(trail.iter().chain([&root, leaf]), opened_at, since)?);
    if let Some(expires) = ask.token().and_then(|token| token.expires) {
        decision = decision.of_link(u32::try_from(expires.saturating_sub(now)).unwrap_or(u32::MAX));
    }
    if let Some(hold) = moves {
        decision = decision.of_name(hold.seconds_at(now));
    }
    let ends = trail.iter().chain([&root, leaf]).filter_map(|opened| opened.ends());
    let ends = ends.chain(moves.map(|hold| hold.ends)).min();
    if let Some(end) = ends {
        decision = decision.until(end, now);
    }
    timing.step("policy");
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
        Found::Listing(at, directory) => {
            // Here: a page has so few names that it takes no longer than others of our own, whatever the folder holds.
            let page = page::listing(&directory, (&path.shown(), &at.object.manifest().name), &request.query);
            let mut fields = HeaderMap::new();
            headers::secure(&mut fields);
            headers::set(&mut fields, header::CACHE_CONTROL, decision.cache_control_up_to(LISTING_SECONDS_MAX));
            headers::vary(&mut fields, &decision);
            headers::of_verdict(&mut fields, &decision);
            // It is the edge's page, whatever the owner says of the directory's files.
            let mut reply = match Validators::none().weigh(&request.fields) {
                Precondition::Answer => own_page(fields, page),
                Precondition::NotModified => Reply::of(StatusCode::NOT_MODIFIED, own_fields(fields), None, Source::Own),
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
            node.look_again(trail.iter().chain([&root, &file]), opened_at, since)?;
            let created = file.object.manifest().created;
            //= https://www.rfc-editor.org/rfc/rfc9110#section-8.8.2.1
            //# An origin server with a clock MUST NOT generate a Last-Modified date that is later than the server's
            //# time of message origination (Date, Section 6.6.1).
            // It is the writer's clock that was ahead. Once the date has come it is told, so nothing is kept before.
            let is_dated = moves.is_none() && created <= ask.now;
            let validators = Validators::of(&file.object.locator(), is_dated.then_some(created));
            let mut reply = self::file(node, request, Arc::clone(&file), tier, &decision, &validators).await?;
            reply.locator = locator;
            if request.keeps && is_dated && reply.is_short_hit() {
                let words = Words {
                    said: Arc::clone(&decision.said),
                    coded: reply.length().filter(|_| reply.is_coded()),
                    until: decision.says_so_until(ask.now()),
                    lasting: ways.lasting(request, &reply),
                };
                let made_of = MadeOf { root, file, trail, ends, seen, validators };
                reply.ready = made_of.ready(node, &ask, words).await.map(Box::new);
            }
            timing.step("fetch");
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
            fields: Fields::Shared(Arc::clone(&request.fields)),
            token,
        }),
        object: Some(Arc::clone(&leaf.object)),
        policy: Some((leaf.record.lease.owner, Cow::Owned(leaf.record.lease.policy.clone()))),
    })
}
