//! HTTP/1.1 by a codec of our own, for the requests of [`head`](crate::answer::head): read, answered from what is
//! [`ready`](crate::answer::ready), else by the way of all others, and written in one call. A connection on which
//! anything else comes is given on to pingora, with what was read of it.

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    iter,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode, Version};
use pingora_core::server::ShutdownWatch;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep, sleep_until, timeout},
};

use super::{
    IDLE_SECONDS, LINGER, REQUESTS_PER_CONNECTION_MAX, SEND_BYTES_PER_SECOND_MIN, WRITE_DEADLINE, make,
    send::{Sent, VIEWER_LEFT, WHOLE},
    session::{Left, Session},
    tls::TlsStream,
    worker::Worker,
};
use crate::{
    answer::{
        head::{self, Begun, Head},
        headers,
        ready::{Asker, Given},
        request::{Asked, Request, RequestId, for_logs},
    },
    listen::connections::Seat,
};

/// Read at a time.
const READ_BYTES: usize = 4 * 1024;

/// A connection as bytes.
#[derive(Debug)]
pub(super) enum Wire {
    Clear(TcpStream),
    Secure(TlsStream),
}

/// What was read of a connection that is not for this codec.
pub(super) struct Rest {
    pub(super) wire: Wire,
    pub(super) read: Vec<u8>,
}

/// A connection that speaks HTTP/1.1.
pub(super) struct Plain {
    wire: Wire,
    /// The head of an answer, which waits for what goes with it.
    out: Vec<u8>,
    /// Whether the connection ends after this answer.
    closes: bool,
    timer: Timer,
}

impl Plain {
    pub(super) fn new(wire: Wire) -> Self {
        Self { wire, out: Vec::new(), closes: false, timer: Timer::new() }
    }

    /// Answers requests until the connection ends, or until one comes that is for pingora.
    pub(super) async fn serve(
        mut self,
        worker: &Worker,
        asker: &Asker,
        seat: &Seat,
        shutdown: &ShutdownWatch,
    ) -> Option<Rest> {
        let header_deadline = worker.door.node.config.http.header_deadline();
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
                    Begun::Part => {}
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
            self.closes = head.closes || *shutdown.borrow() || turn == REQUESTS_PER_CONNECTION_MAX;
            let answered = match worker.give(&head, asker, start) {
                Some(given) => self.give(worker, &head, asker, given, start).await,
                None => {
                    let Some(request) = Request::common(&head, asker.peer, asker.is_secure) else {
                        return Some(Rest { wire: self.wire, read });
                    };
                    let mut reply = make(&worker.door, &request).await;
                    if let Some(ready) = reply.ready.take() {
                        worker.keep(head.host, head.target, *ready);
                    }
                    reply
                        .send((&worker.door.node, worker.door.ways), &mut Session::Plain(&mut self), request, start)
                        .await
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
            let now = Instant::now();
            seat.wait(now);
            self.timer.set(now + Duration::from_secs(IDLE_SECONDS.into()));
        }
        None
    }

    /// Gives an answer that was ready.
    async fn give(&mut self, worker: &Worker, head: &Head<'_>, asker: &Asker, given: Given, start: Instant) -> bool {
        let id = RequestId::next();
        self.out.extend_from_slice(&given.lasting.head);
        worker.write_date(&mut self.out);
        self.out.extend_from_slice(b"x-request-id: ");
        self.out.extend_from_slice(&id.digits());
        self.out.extend_from_slice(b"\r\n");
        self.end_head();
        let first_byte = start.elapsed();
        let written = self.flush(&given.content).await;
        let (bytes, outcome) = if written.is_ok() { (given.bytes(), WHOLE) } else { (0, VIEWER_LEFT) };
        let sent = Sent::of_given(&given, bytes, outcome, first_byte, start);
        let (viewer, method) = (for_logs(asker.peer), head.method.as_str());
        sent.record(&worker.door.node.metrics, &Asked { id, viewer, version: Version::HTTP_11, method });
        written.is_ok()
    }

    /// Takes the head of an answer, which leaves with the first piece of its content.
    pub(super) fn head(&mut self, status: StatusCode, fields: &HeaderMap) {
        headers::write_head(&mut self.out, status, fields);
        self.end_head();
    }

    fn end_head(&mut self) {
        if self.closes {
            self.out.extend_from_slice(b"connection: close\r\n");
        }
        self.out.extend_from_slice(b"\r\n");
    }

    /// Writes a piece of content.
    ///
    /// # Errors
    /// [`Left`].
    pub(super) async fn write(&mut self, piece: Bytes) -> Result<(), Left> {
        self.flush(&[piece]).await
    }

    /// Writes a head that nothing follows.
    ///
    /// # Errors
    /// [`Left`].
    pub(super) async fn end_answer(&mut self) -> Result<(), Left> {
        if self.out.is_empty() { Ok(()) } else { self.flush(&[]).await }
    }

    /// Has the connection end after this answer.
    pub(super) fn close_after(&mut self) {
        self.closes = true;
    }

    /// Writes what waits, and `content` with it. A viewer has half a minute for the last bytes, however few, and more
    /// for many.
    async fn flush(&mut self, content: &[Bytes]) -> Result<(), Left> {
        let Self { wire, out, timer, .. } = self;
        let pieces = iter::once(&out[..]).chain(content.iter().map(|piece| &piece[..]));
        let mut slices: Vec<_> = pieces.filter(|piece| !piece.is_empty()).map(IoSlice::new).collect();
        let all = slices.iter().map(|slice| slice.len()).sum();
        let (mut rest, mut waits) = (&mut slices[..], false);
        let written = poll_fn(|cx| {
            while !rest.is_empty() {
                match Pin::new(&mut *wire).poll_write_vectored(cx, rest) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(Left)),
                    Poll::Ready(Ok(sent)) => IoSlice::advance_slices(&mut rest, sent),
                    Poll::Pending => return wait(timer, &mut waits, all, cx),
                }
            }
            match Pin::new(&mut *wire).poll_flush(cx) {
                Poll::Ready(flushed) => Poll::Ready(flushed.map_err(|_| Left)),
                Poll::Pending => wait(timer, &mut waits, all, cx),
            }
        });
        written.await?;
        out.clear();
        Ok(())
    }

    /// Ends the connection in order: what the viewer sent meanwhile is read, or the system would tell it of a fault and
    /// the end of the answer could be lost.
    async fn end(mut self) {
        let ended = async {
            let _ = self.wire.shutdown().await;
            let mut rest = [0; 512];
            while matches!(self.wire.read(&mut rest).await, Ok(1..)) {}
        };
        let _ = timeout(LINGER, ended).await;
    }
}

/// Waits for the viewer to take more.
fn wait(timer: &mut Timer, waits: &mut bool, bytes: usize, cx: &mut Context<'_>) -> Poll<Result<(), Left>> {
    if !std::mem::replace(waits, true) {
        let seconds = bytes / SEND_BYTES_PER_SECOND_MIN;
        timer.set(Instant::now() + WRITE_DEADLINE + Duration::from_secs(seconds as u64));
    }
    timer.poll(cx).map(|()| Err(Left))
}

/// One deadline at a time, moved without a word to the runtime as long as it only moves away.
struct Timer {
    until: Instant,
    sleep: Pin<Box<Sleep>>,
}

impl Timer {
    fn new() -> Self {
        let until = Instant::now();
        Self { until, sleep: Box::pin(sleep_until(until.into())) }
    }

    fn set(&mut self, until: Instant) {
        self.until = until;
        if until < self.sleep.deadline().into_std() {
            self.sleep.as_mut().reset(until.into());
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.sleep.as_mut().poll(cx));
            if self.until <= Instant::now() {
                return Poll::Ready(());
            }
            self.sleep.as_mut().reset(self.until.into());
        }
    }

    async fn rings(&mut self) {
        poll_fn(|cx| self.poll(cx)).await;
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_read(cx, into),
            Self::Secure(stream) => Pin::new(stream).poll_read(cx, into),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_write_vectored(cx, pieces),
            Self::Secure(stream) => Pin::new(stream).poll_write_vectored(cx, pieces),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_flush(cx),
            Self::Secure(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Secure(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
