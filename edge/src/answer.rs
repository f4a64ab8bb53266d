//! From a request to its answer: host -> object -> path -> the owner's verdict -> conditions -> range.

pub(crate) mod agreement;
pub(crate) mod begun;
pub(crate) mod coding;
pub(crate) mod conditions;
mod file;
pub(crate) mod head;
pub(crate) mod headers;
mod listing;
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

use std::{borrow::Cow, sync::Arc, time::SystemTime};

use client::Span;
use format::{Label, Mode};
use http::{Method, header};
use sandbox::{Facts, Method as PolicyMethod, Tier};

pub(crate) use self::own::to_https;
use self::{
    begun::Begun,
    conditions::Validators,
    file::file,
    listing::listing,
    made_of::{MadeOf, NoAnswer},
    own::{and_query, apex, preflight, redirect, with_proxy_status},
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
    node::Node,
    policy::{
        ask::{Ask, Client, Fields, RequestFacts, host_name},
        decision::Decision,
        token::{self, Setting},
    },
    store::objects::Opened,
    zone::HostName,
};

const SERVER_TIMING: http::HeaderName = http::HeaderName::from_static("server-timing");
/// What an object does not have it never will; yet so long at most is it known that it does not.
const ABSENT_SECONDS_MAX: u32 = 300;
/// So often an answer is made anew, because what it is made of changed meanwhile.
const TRIES_MAX: usize = 3;

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
            let reply = settled(node, ways, request, &label).await;
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

/// Answers for what a label stands for: anew, where that changed meanwhile.
async fn settled(node: &Node, ways: Ways, request: &Request, label: &Label) -> Result<Reply, Fault> {
    for _ in 0..TRIES_MAX {
        match object(node, ways, request, label).await {
            Ok(reply) => return Ok(reply),
            Err(NoAnswer::Fault(fault)) => return Err(fault),
            Err(NoAnswer::Changed) => {}
        }
    }
    Err(Fault::Busy)
}

async fn object(node: &Node, ways: Ways, request: &Request, label: &Label) -> Result<Reply, NoAnswer> {
    let (denylist, now) = (Arc::downgrade(&node.denylist.load()), SystemTime::now());
    let root = node.open_label(label, now).await?;
    let lease = &root.opened.record.lease;
    let seen = Seen { denylist, epoch: node.policies.epoch(&lease.owner, &lease.policy) };
    let mut timing = Timing::new();
    let path = Path::read(&request.path)?;
    let mut trail = Vec::new();
    let found = walk(node, &root.opened, &path, now, &mut trail).await;
    timing.step("open");
    let leaf = Arc::clone(match &found {
        Ok(Found::File(leaf) | Found::Listing(leaf, _)) => leaf,
        Ok(Found::Slash) | Err(_) => &root.opened,
    });
    let made_of = MadeOf::new(node, seen, root, trail, leaf);
    let locator = Some(made_of.leaf.object.locator());
    // Whoever is refused learns nothing of what lies below the name, so the verdict comes before the faults of the
    // walk.
    let ask = ask(node, request, &path, &made_of.leaf, now);
    let decision = verdict(node, &made_of, &ask).await?;
    timing.step("policy");
    if let Some(reply) = turned_away(request, &decision)? {
        return Ok(Reply { locator, ..reply });
    }
    let reply = match found {
        Err(Fault::Path) => return Ok(absent(request, &decision)),
        Err(fault) => return Err(fault.into()),
        Ok(Found::Slash) => redirect(308, &format!("{}/{}", path.spelling(), and_query(request)), &decision)?,
        Ok(Found::Listing(at, directory)) => {
            listing(request, &decision, &directory, (&path.shown(), &at.object.manifest().name))
        }
        Ok(Found::File(_)) => whole(node, (ways, request), made_of, (&ask, &decision), timing).await?,
    };
    Ok(Reply { locator, ..reply })
}

/// Returns what the owner's policies say of a request, for no longer than what the answer is made of lasts.
async fn verdict(node: &Node, made_of: &MadeOf, ask: &Arc<Ask<'static>>) -> Result<Decision, NoAnswer> {
    let span = Span::within("policy");
    let decided = span.scope().around(node.decide(&made_of.root, &made_of.leaf, ask)).await;
    let mut decision = decided.inspect_err(|fault| {
        // Where too much is asked of it, it is at no fault.
        if *fault == Fault::Policy {
            node.metrics.policy_faults.inc();
        }
        span.fail("no verdict");
    })?;
    drop(span);
    let now = made_of.look_again(node)?;
    if let Some(expires) = ask.token().and_then(|token| token.expires) {
        decision = decision.of_link(u32::try_from(expires.saturating_sub(now)).unwrap_or(u32::MAX));
    }
    if let Some(hold) = made_of.moves() {
        decision = decision.of_name(hold.seconds_at(now));
    }
    if let Some(end) = made_of.ends() {
        decision = decision.until(end, now);
    }
    Ok(decision)
}

/// Answers whom the verdict lets have nothing of what lies here; none for all others.
fn turned_away(request: &Request, decision: &Decision) -> Result<Option<Reply>, Fault> {
    if let Some(fault) = decision.refusal() {
        let mut reply = refusal(request, &fault);
        // What is hidden looks to the last field like what is not there, and a policy that led nowhere says nothing.
        if matches!(fault, Fault::Denied { .. }) {
            headers::caching(&mut reply.fields, decision);
            headers::of_verdict(&mut reply.fields, decision);
        }
        return Ok(Some(reply));
    }
    if let Some((status, target)) = decision.redirect() {
        return redirect(status, target, decision).map(Some);
    }
    //= https://www.w3.org/TR/service-workers/#service-worker-script-request
    //# Service-Worker: script
    if request.fields.get("service-worker").is_some_and(|field| field.as_bytes() == b"script") {
        return Err(Fault::Denied { status: 403 });
    }
    Ok(None)
}

/// Answers that there is nothing at a path.
fn absent(request: &Request, decision: &Decision) -> Reply {
    let mut reply = refusal(request, &Fault::Path);
    headers::set(&mut reply.fields, header::CACHE_CONTROL, decision.cache_control_up_to(ABSENT_SECONDS_MAX));
    headers::vary(&mut reply.fields, decision);
    reply
}

/// Answers with a file, and keeps the answer ready where it may be given again.
async fn whole(
    node: &Node,
    (ways, request): (Ways, &Request),
    made_of: MadeOf,
    (ask, decision): (&Arc<Ask<'static>>, &Decision),
    mut timing: Timing,
) -> Result<Reply, NoAnswer> {
    let found = Arc::clone(&made_of.leaf);
    // Only blocks are kept by themselves; a small file is part of its open manifest.
    let tier = match found.object.geometry() {
        Some(_) => node.hold(&made_of.root, &found, ask).await?,
        None => Tier::Memory,
    };
    made_of.look_again(node)?;
    let created = found.object.manifest().created;
    //= https://www.rfc-editor.org/rfc/rfc9110#section-8.8.2.1
    //# An origin server with a clock MUST NOT generate a Last-Modified date that is later than the server's
    //# time of message origination (Date, Section 6.6.1).
    // It is the writer's clock that was ahead. Once the date has come it is told, so nothing is kept before.
    let is_dated = made_of.moves().is_none() && created <= ask.now;
    let validators = Validators::of(&found.object.locator(), is_dated.then_some(created));
    let mut reply = file(node, request, found, tier, decision, &validators).await?;
    made_of.look_again(node)?;
    if request.keeps && is_dated && reply.is_short_hit() {
        let words = Words {
            said: Arc::clone(&decision.said),
            coded: reply.length().filter(|_| reply.is_coded()),
            until: decision.says_so_until(ask.now()),
            lasting: ways.lasting(request, &reply),
        };
        reply.ready = made_of.ready(node, ask, words, validators).await.map(Box::new);
    } else {
        reply.begun = Some(Begun::new(made_of, Arc::clone(ask), tier));
    }
    timing.step("fetch");
    headers::set(&mut reply.fields, SERVER_TIMING, &timing.text);
    Ok(reply)
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
