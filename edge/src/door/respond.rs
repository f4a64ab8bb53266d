//! One request answered, on any version of HTTP.

use std::{sync::Arc, time::Instant};

use http::{HeaderValue, header};

use super::{send::Sent, session::Session, shared::HttpDoor};
use crate::answer::{
    self,
    ready::Ready,
    reply::{self, Reply},
    request::{Intake, Request},
};

/// Answers one request; `keep` is given what of the answer may be given again. False when the connection, or the
/// stream, is of no more use.
pub(super) async fn respond(
    door: &Arc<HttpDoor>,
    session: &mut Session<'_>,
    intake: Intake,
    start: Instant,
    keep: impl FnOnce(&Request, Ready),
) -> bool {
    let (Intake::Refused(request, _) | Intake::Ready(request)) = &intake;
    let sent = Sent::begin(&door.node, request.asked(), start);
    sent.scope().around(respond_within(door, session, &intake, sent, keep)).await
}

async fn respond_within(
    door: &Arc<HttpDoor>,
    session: &mut Session<'_>,
    intake: &Intake,
    sent: Sent<'_>,
    keep: impl FnOnce(&Request, Ready),
) -> bool {
    let (Intake::Refused(request, _) | Intake::Ready(request)) = intake;
    let reply = match intake {
        Intake::Refused(request, fault) => reply::refusal(request, fault),
        Intake::Ready(request) => {
            // What comes without a wait is for a viewer, too, that has closed its side once it had asked.
            let mut reply = tokio::select! {
                biased;
                reply = make(door, request) => reply,
                () = session.gone() => return false,
            };
            if let Some(ready) = reply.ready.take() {
                keep(request, *ready);
            }
            reply
        }
    };
    reply.send((&door.node, door.ways), session, request, sent).await
}

/// Makes the answer to a request whose framing is good.
async fn make(door: &Arc<HttpDoor>, request: &Request) -> Reply {
    let is_clear =
        !request.is_secure && !request.is_of_server() && !door.node.config.zone.is_beside(&request.authority);
    match door.ways.redirect.filter(|_| is_clear) {
        Some(port) if door.node.has_certificate() => answer::to_https(&door.node, request, port),
        later => {
            let mut reply = answer::answer(&door.node, door.ways, request).await;
            // Once the first certificate is there, others are sent to HTTPS, whoever kept this.
            if later.is_some() {
                reply.ready = None;
                reply.fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            }
            reply
        }
    }
}
