//! HTTP/2 (RFC 9113) by the h2 crate, on the worker that has the connection. Its turns: all requests that came are
//! taken, answers go on as far as they can, and what was written leaves in one call.

use std::{
    future::poll_fn,
    mem,
    pin::{Pin, pin},
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{StreamExt, future::LocalBoxFuture, stream::FuturesUnordered};
use h2::{
    Reason, RecvStream,
    server::{Builder, SendResponse},
};
use http::{Method, Version, header, request::Parts};
use pingora_core::server::ShutdownWatch;
use tokio::{io::AsyncReadExt, time::timeout};

use super::{
    limits::{LINGER, PIECE_BYTES, STREAMS_MAX, bytes_min},
    link::{Holds, Link},
    respond::respond,
    send::Sent,
    session::Session,
    stream::{GIVEN_BYTES_MAX, Stream, Written},
    turns::Turns,
    wire::{Rest, Timer, Wire},
    worker::Worker,
};
use crate::{
    answer::{
        head::{self, HEADER_BYTES_MAX},
        ready::{Asker, Given},
        reply::add_of_request,
        request::{Asked, Intake, Request, RequestId, for_logs, target_of},
    },
    listen::connections::Seat,
    store::hand::{Content, InHand},
};

/// How a connection in clear begins that speaks HTTP/2 (section 3.4), and no request of another version.
const PREFACE_BEGIN: &[u8] = b"PRI ";
/// Answers that are made or written at a time, those of streams that the viewer has reset among them: a viewer that
/// resets faster than the work ends is told to calm down.
const ANSWERS_MAX: usize = 2 * STREAMS_MAX as usize;

impl Rest {
    /// Whether it is for this codec; reads as much more as it takes to know.
    pub(super) async fn is_h2(&mut self, patience: Duration) -> bool {
        let Wire::Clear(stream) = &mut self.wire else { return false };
        let read = &mut self.read;
        let known = async {
            while PREFACE_BEGIN.starts_with(read) {
                if read.len() == PREFACE_BEGIN.len() || !matches!(stream.read_buf(read).await, Ok(1..)) {
                    break;
                }
            }
            read.starts_with(PREFACE_BEGIN)
        };
        timeout(patience, known).await.unwrap_or(false)
    }
}

/// Serves a connection to its end.
pub(super) async fn serve(
    worker: &Rc<Worker>,
    rest: Rest,
    asker: Asker,
    seat: &Seat,
    given_up: Pin<&mut impl Future<Output = ()>>,
    shutdown: &ShutdownWatch,
) {
    let config = &worker.door.node.config.http;
    let (header_deadline, idle) = (config.header_deadline(), config.idle());
    let mut timer = Timer::new();
    timer.set(Instant::now() + header_deadline);
    let bytes = Turns::new(rest.wire, rest.read);
    let Ok(Ok(http)) = timeout(header_deadline, options().handshake(bytes.clone())).await else { return };
    bytes.begin();
    // Nothing was asked for yet.
    seat.wait(Instant::now());
    let taken = bytes.taken();
    let link = Arc::new(Link::new(config.write_deadline(), move || taken.load(Ordering::Relaxed)));
    let (worker, asker) = (Rc::clone(worker), Rc::new(asker));
    let mut connection = Connection {
        http,
        bytes,
        link,
        answers: FuturesUnordered::new(),
        worker,
        asker,
        seat,
        idle,
        is_idle: true,
        taken_before: 0,
        timer,
        ends: false,
    };
    let mut shutdown = shutdown.clone();
    let mut ended = pin!(shutdown.wait_for(|down| *down));
    let goes_on = tokio::select! {
        biased;
        () = poll_fn(|cx| connection.poll(cx)) => false,
        () = given_up => {
            connection.worker.door.node.metrics.http_connections_given_up.inc();
            true
        }
        _ = &mut ended => true,
    };
    if goes_on {
        connection.end();
        poll_fn(|cx| connection.poll(cx)).await;
    }
    connection.close().await;
}

fn options() -> Builder {
    let mut options = Builder::new();
    options.max_concurrent_streams(STREAMS_MAX);
    options.max_header_list_size(HEADER_BYTES_MAX);
    // What a slow viewer has not taken lies in it, outside the bounds of blocks on their way: 400 KiB if not said.
    options.max_send_buffer_size(PIECE_BYTES);
    options
}

/// One connection.
struct Connection<'c> {
    http: h2::server::Connection<Turns<Wire>, Bytes>,
    bytes: Turns<Wire>,
    link: Arc<Link>,
    /// Those that were not given at once.
    answers: FuturesUnordered<LocalBoxFuture<'static, ()>>,
    worker: Rc<Worker>,
    asker: Rc<Asker>,
    /// Busy until all that was asked for has left.
    seat: &'c Seat,
    /// It ends when it waits so long for a request.
    idle: Duration,
    /// Whether it waits for a request, and nothing that was asked for is on its way.
    is_idle: bool,
    /// Bytes of content that had left when the timer was set.
    taken_before: u64,
    /// While it is idle, until when a request has to begin; else until when so many bytes must have left.
    timer: Timer,
    /// Whether no other request is waited for.
    ends: bool,
}

impl Connection<'_> {
    /// Goes on with all that can go on; ready when the connection is over.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut taken = 0;
        loop {
            let before = taken;
            if self.poll_requests(cx, &mut taken) {
                return Poll::Ready(());
            }
            let mut goes_on = taken > before;
            while let Poll::Ready(Some(())) = self.answers.poll_next_unpin(cx) {
                goes_on = true;
            }
            if !goes_on {
                break;
            }
            if taken >= STREAMS_MAX as usize {
                // The others of this worker have their turn.
                cx.waker().wake_by_ref();
                break;
            }
        }
        if self.answers.len() > ANSWERS_MAX {
            self.http.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
            cx.waker().wake_by_ref();
        }
        if self.link.is_stuck() && !self.ends {
            self.end();
            cx.waker().wake_by_ref();
        }
        let has_left = match self.bytes.poll_end(cx) {
            Poll::Ready(Ok(())) => true,
            Poll::Ready(Err(_)) => return Poll::Ready(()),
            Poll::Pending => false,
        };
        let is_done = has_left && self.answers.is_empty() && !self.http.has_streams();
        // What tells a viewer that its pings came may wait to be taken, yet was not asked for.
        let is_idle = is_done || (self.is_idle && taken == 0);
        if is_idle != self.is_idle || (is_idle && taken > 0) {
            let now = Instant::now();
            match is_idle {
                true => self.seat.wait(now),
                false => self.seat.work(),
            }
            self.is_idle = is_idle;
            self.wait(
                now,
                match is_idle {
                    true if self.ends => LINGER,
                    true => self.idle,
                    false => self.link.deadline(),
                },
            );
        }
        if is_idle && self.link.is_stuck() {
            self.leave(cx);
            return Poll::Ready(());
        }
        self.poll_timer(cx)
    }

    fn wait(&mut self, now: Instant, time: Duration) {
        self.taken_before = self.link.taken();
        self.timer.set(now + time);
    }

    /// Takes all requests that came, and has the connection go on. Returns whether it is over.
    fn poll_requests(&mut self, cx: &mut Context<'_>, taken: &mut usize) -> bool {
        loop {
            let accepted = pin!(self.http.accept()).poll(cx);
            match accepted {
                Poll::Ready(Some(Ok((request, way)))) => {
                    *taken += 1;
                    self.take(request, way);
                }
                Poll::Ready(Some(Err(_)) | None) => return true,
                Poll::Pending => return false,
            }
        }
    }

    /// Answers a request at once where the answer is ready, else on the turns to come.
    fn take(&mut self, request: http::Request<RecvStream>, mut way: SendResponse<Bytes>) {
        if self.link.is_stuck() {
            // It was told to ask for no more, and may ask for this elsewhere.
            way.send_reset(Reason::REFUSED_STREAM);
            return;
        }
        let start = Instant::now();
        let (head, content) = request.into_parts();
        let length = head.headers.get(header::CONTENT_LENGTH);
        let has_body = !content.is_end_stream() && length.is_none_or(|length| length != "0");
        // A content need not be announced, and the end of the stream may come a little after the header.
        let content = (has_body && length.is_none()).then_some(content);
        let stream = Stream::new(way, Arc::clone(&self.link));
        let mut room = head::ROOM;
        let common = head::of_request(&head, &mut room).filter(|_| !has_body);
        let given = common.and_then(|common| self.worker.give(&common, &self.asker, start));
        // Where there is no room for it, it is made as that comes.
        match given.and_then(|given| Some((self.link.hand.try_take(Content::Kept, waiting_bytes(&given))?, given))) {
            Some((held, given)) => self.give(stream, given, held, head.method, start),
            None => self.make(stream, head, (content, has_body), start),
        }
    }

    /// Has an answer made and written. Whether it has a content is said, or a `content` that need not come.
    fn make(&mut self, mut stream: Stream, mut head: Parts, content: (Option<RecvStream>, bool), start: Instant) {
        let (worker, asker, hand) = (Rc::clone(&self.worker), Rc::clone(&self.asker), self.link.hand.clone());
        self.answers.push(Box::pin(async move {
            let (mut start, (content, mut has_body)) = (start, content);
            if let Some(content) = content {
                let deadline = worker.door.node.config.http.header_deadline();
                let Some(comes) = has_content(content, deadline).await else { return };
                (start, has_body) = (Instant::now(), comes);
            }
            let (fields, from) = (mem::take(&mut head.headers), (asker.peer, asker.is_secure));
            let mut intake = Intake::read(&head, fields, target_of(&head), has_body, from);
            if let Intake::Ready(request) = &mut intake {
                request.keeps = head::wants_whole(&request.fields);
                request.hand = hand;
            }
            // By the target as it came, as it is looked up: a question mark at its end is a part of it.
            let target = head.uri.path_and_query().map_or("", |target| target.as_str());
            let keep = |request: &Request, ready| worker.keep(&request.authority, target, ready);
            respond(&worker.door, &mut Session::Stream(&mut stream), intake, start, keep).await;
        }));
    }

    /// Gives an answer that was ready; what of it the viewer has no room for yet is written on the turns to come.
    fn give(&mut self, mut stream: Stream, mut given: Given, held: InHand, method: Method, start: Instant) {
        let (worker, asker) = (&self.worker, &self.asker);
        let id = given.id;
        let mut fields = given.take_fields();
        add_of_request(&mut fields, worker.date(), id);
        stream.head(given.status, fields);
        let written = stream.give(&given.content);
        if let Ok(Written::Head) = written {
            let mut holds = Holds::Room;
            if waiting_bytes(&given) == 0 {
                given.content = vec![given.content.concat().into()];
                holds = Holds::Nothing;
            }
            let (worker, asker, hand) = (Rc::clone(worker), Rc::clone(asker), self.link.hand.clone());
            self.answers.push(Box::pin(async move {
                let asked = asked(id, &asker, method.as_str());
                let mut sent = Sent::begin(&worker.door.node, asked, start);
                sent.of_given(&given);
                given.send(&mut Session::Stream(&mut stream), (&hand, holds), sent).await;
                drop(held);
            }));
            return;
        }
        let mut sent = Sent::begin(&worker.door.node, asked(id, asker, method.as_str()), start);
        sent.of_given(&given);
        if written.is_ok() {
            sent.bytes = given.bytes();
            sent.end(Ok(()));
        }
    }

    /// Ready when no request came in time, or when of what was asked for too little left in its time.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.timer.poll(cx));
            // An answer that is being made or written has its own deadlines; who took nothing of one has no other.
            let has_own = !self.answers.is_empty();
            let is_taking = self.link.taken() - self.taken_before >= bytes_min(self.link.deadline());
            if !self.is_idle && (has_own || is_taking) {
                self.wait(Instant::now(), self.link.deadline());
                continue;
            }
            if !self.is_idle {
                self.link.set_stuck();
            }
            self.leave(cx);
            return Poll::Ready(());
        }
    }

    //= https://www.rfc-editor.org/rfc/rfc9113#section-6.8
    //# Endpoints SHOULD always send a GOAWAY frame before closing a connection so that the remote peer can know whether a
    //# stream has been partially processed or not.
    fn leave(&mut self, cx: &mut Context<'_>) {
        self.http.abrupt_shutdown(Reason::NO_ERROR);
        let _ = self.http.poll_closed(cx);
    }

    /// Tells the viewer to ask for no more on this connection, which ends when all is answered.
    fn end(&mut self) {
        self.ends = true;
        self.http.graceful_shutdown();
        if self.is_idle {
            self.wait(Instant::now(), LINGER);
        }
    }

    /// Closes it in stages. Who takes nothing is not waited for.
    async fn close(self) {
        let Self { http, bytes, link, answers, .. } = self;
        drop((answers, http));
        if let Some(mut wire) = bytes.into_inner().filter(|_| !link.is_stuck()) {
            wire.end().await;
        }
    }
}

/// Whether a content comes that was not announced; none where the viewer left meanwhile. One whose end does not come in
/// time is one.
async fn has_content(mut content: RecvStream, deadline: Duration) -> Option<bool> {
    let first = async {
        loop {
            match content.data().await {
                Some(Ok(piece)) if piece.is_empty() => {}
                first => return first,
            }
        }
    };
    match timeout(deadline, first).await {
        Ok(Some(Err(_))) => None,
        Ok(first) => Some(first.is_some()),
        Err(_) => Some(true),
    }
}

/// Returns what an answer that is ready holds while it waits for its viewer: its content, or nothing where that is
/// small, for then it is copied.
fn waiting_bytes(given: &Given) -> usize {
    usize::try_from(given.bytes()).ok().filter(|bytes| *bytes > GIVEN_BYTES_MAX).unwrap_or(0)
}

fn asked<'m>(id: RequestId, asker: &Asker, method: &'m str) -> Asked<'m> {
    Asked { id, viewer: for_logs(asker.peer), version: Version::HTTP_2, method }
}
