//! One request answered, on any version of HTTP.

use std::{sync::Arc, time::Instant};

use super::{session::Session, shared::HttpDoor};
use crate::answer::{
    self,
    ready::Ready,
    reply::{self, Reply},
    request::{Intake, Request},
};

/// Answers one request; `keep` is given what of the answer may be given again. False when the connection, or the stream,
/// is of no more use.
pub(super) async fn respond(
    door: &Arc<HttpDoor>,
    session: &mut Session<'_>,
    intake: Intake,
    start: Instant,
    keep: impl FnOnce(&Request, Ready),
) -> bool {
    let (request, reply) = match intake {
        Intake::Refused(request, fault) => {
            let reply = reply::refusal(&request, &fault);
            (request, reply)
        }
        Intake::Ready(request) => {
            let mut reply = tokio::select! {
                reply = make(door, &request) => reply,
                () = session.gone() => return false,
            };
            if let Some(ready) = reply.ready.take() {
                keep(&request, *ready);
            }
            (request, reply)
        }
    };
    reply.send((&door.node, door.ways), session, request, start).await
}

/// Makes the answer to a request whose framing is good.
pub(super) async fn make(door: &Arc<HttpDoor>, request: &Request) -> Reply {
    match door.ways.redirect.filter(|_| !request.is_secure) {
        Some(port) => answer::to_https(&door.node, request, port),
        None => answer::answer(&door.node, door.ways, request).await,
    }
}
