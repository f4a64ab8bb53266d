//! HTTP/1.1 by a codec of our own, for the requests of [`head`](crate::answer::head): read, answered from what is
//! [`ready`](crate::answer::ready), else by the way of all others, and written in one call. A connection on which
//! anything else comes is given on to pingora, with what was read of it.

use std::{mem, pin::pin, time::Instant};

use http::Version;
use pingora_core::server::ShutdownWatch;
use tokio::{io::AsyncReadExt, time::sleep};

use super::{
    limits::{LINGER, REQUESTS_PER_CONNECTION_MAX},
    respond::respond,
    send::{Sent, VIEWER_LEFT},
    session::Session,
    wire::{Left, Plain, Rest},
    worker::Worker,
};
use crate::{
    answer::{
        head::{self, Begun, Head},
        ready::{Asker, Given},
        request::{Asked, Intake, Request, for_logs},
    },
    listen::connections::Seat,
};

/// Read at a time.
const READ_BYTES: usize = 4 * 1024;

impl Plain {
    /// Answers requests until the connection ends, or until one comes that is for pingora.
    pub(super) async fn serve(
        mut self,
        worker: &Worker,
        asker: &Asker,
        seat: &Seat,
        shutdown: &ShutdownWatch,
    ) -> Option<Rest> {
        let http = &worker.door.node.config.http;
        let (header_deadline, idle) = (http.header_deadline(), http.idle());
        let mut read = Vec::with_capacity(READ_BYTES);
        let mut given_up = pin!(seat.given_up());
        let mut ended = pin!(async {
            // An answer that begins after the shutdown closes its connection, so what is silent after this was silent
            // all the while.
            let _ = shutdown.clone().wait_for(|down| *down).await;
            sleep(LINGER).await;
        });
        self.timer.set(Instant::now() + header_deadline);
        for turn in 1..=REQUESTS_PER_CONNECTION_MAX {
            let mut seen = 0;
            let end = loop {
                match head::begun(&read, seen) {
                    Begun::Whole(end) => break end,
                    Begun::Other => return Some(Rest { wire: self.wire, read }),
                    Begun::Incomplete => {}
                }
                if seen == 0 && !read.is_empty() {
                    self.timer.set(Instant::now() + header_deadline);
                }
                seen = read.len();
                read.reserve(READ_BYTES);
                let Self { wire, timer, .. } = &mut self;
                tokio::select! {
                    biased;
                    more = wire.read_buf(&mut read) => if !matches!(more, Ok(1..)) { return None },
                    () = timer.rings() => return None,
                    () = &mut given_up => {
                        worker.door.node.metrics.http_connections_given_up.inc();
                        return None;
                    }
                    () = &mut ended => return None,
                }
            };
            let start = Instant::now();
            let mut room = head::ROOM;
            let Some(head) = head::read(&read[..end], &mut room) else { return Some(Rest { wire: self.wire, read }) };
            seat.work();
            self.behind = read.len() - end;
            self.closes = head.closes || *shutdown.borrow() || turn == REQUESTS_PER_CONNECTION_MAX;
            let answered = match worker.give(&head, asker, start) {
                Some(given) => self.give(worker, &head, asker, given, start).await,
                None => {
                    let Some(request) = Request::common(&head, asker.peer, asker.is_secure) else {
                        return Some(Rest { wire: self.wire, read });
                    };
                    let keep = |_: &Request, ready| worker.keep(head.host, head.target, ready);
                    let intake = Intake::Ready(request);
                    respond(&worker.door, &mut Session::Plain(&mut self), intake, start, keep).await
                }
            };
            if !answered {
                return None;
            }
            if self.closes {
                self.end().await;
                return None;
            }
            read.drain(..end);
            read.append(&mut mem::take(&mut self.ahead));
            if read.is_empty() {
                // While nothing is asked it keeps no more than it began with.
                read.shrink_to(READ_BYTES);
            }
            let now = Instant::now();
            seat.wait(now);
            self.timer.set(now + idle);
        }
        None
    }

    /// Gives an answer that was ready.
    async fn give(&mut self, worker: &Worker, head: &Head<'_>, asker: &Asker, given: Given, start: Instant) -> bool {
        let (id, viewer, method) = (given.id, for_logs(asker.peer), head.method.as_str());
        let asked = Asked { id, viewer, version: Version::HTTP_11, method };
        let mut sent = Sent::begin(&worker.door.node, asked, start);
        given.write_head(&mut self.out);
        self.out.extend_from_slice(b"date: ");
        self.out.extend_from_slice(worker.date().as_bytes());
        self.out.extend_from_slice(b"\r\nx-request-id: ");
        self.out.extend_from_slice(&id.digits());
        self.out.extend_from_slice(b"\r\n");
        self.end_head();
        sent.of_given(&given);
        let written = self.flush(&given.content).await.map_err(|Left| VIEWER_LEFT);
        sent.bytes = self.went;
        sent.end(written);
        written.is_ok()
    }
}
