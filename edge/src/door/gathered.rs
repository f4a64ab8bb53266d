//! What is written in small pieces leaves together: the head of an answer goes with the beginning of its content in one
//! call of the system, one packet, one TLS record. pingora writes each by itself to a stream that did not come from its
//! own listener.
//!
//! On a connection of HTTP/2 the answers of several streams leave together too. h2 writes and flushes each frame of 16
//! KiB by itself, and is polled again for each stream that has something to say; [`Gathered::of_streams`] lets a flush
//! wait until the connection is polled once more, after the other streams had their turn.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use pingora_core::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, IO, Peek, Shutdown, SocketDigest, Ssl, TimingDigest,
    UniqueID, UniqueIDType, raw_connect::ProxyDigest, tls::SslDigest, tls::TlsRef,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use crate::answer::head::HEADER_BYTES_MAX;

/// So much waits for what comes next, or for a flush: the head of an answer, and all of a small one.
const HELD_BYTES_MAX: usize = 4 * 1024;
/// So much is read of HTTP/1.1 before anything is answered: four of the longest headers, for viewers that ask ahead.
/// pingora alone would take 1 MiB, and look at all of it again with each packet.
const HEARD_BYTES_MAX: usize = 4 * HEADER_BYTES_MAX as usize;
/// So much waits of several streams: what rustls takes at a time.
const STREAMS_HELD_BYTES_MAX: usize = 64 * 1024;

/// A stream that gathers what is written to it.
#[derive(Debug)]
pub(super) struct Gathered<T> {
    inner: T,
    /// What somebody else has read of it before.
    begun: Vec<u8>,
    held: BytesMut,
    flushes: Flushes,
    /// Read since something was written.
    heard: usize,
}

/// What a flush does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flushes {
    /// It is done at once.
    AtOnce,
    /// It is done at once until something was read: h2 says its settings before it hears anything, and flushes them
    /// once.
    Opening,
    /// It waits for the next turn; none waits now.
    NextTurn,
    /// It waits, and whoever writes will be polled again.
    Waiting,
    /// The next turn has begun: h2 reads before it writes.
    Due,
}

impl<T: AsyncWrite + Unpin> Gathered<T> {
    /// Gathers what one answer is written in.
    pub(super) fn new(inner: T) -> Self {
        Self { inner, begun: Vec::new(), held: BytesMut::new(), flushes: Flushes::AtOnce, heard: 0 }
    }

    /// Gathers what the streams of a connection of HTTP/2 write. Only for h2, which reads and flushes each time it is
    /// polled.
    pub(super) fn of_streams(inner: T) -> Self {
        Self { flushes: Flushes::Opening, ..Self::new(inner) }
    }

    /// The same, of which somebody has read the beginning.
    pub(super) fn after(self, begun: Vec<u8>) -> Self {
        Self { begun, ..self }
    }

    /// Whether so much more is kept back.
    fn holds(&self, more: usize) -> bool {
        let max = if self.flushes == Flushes::AtOnce { HELD_BYTES_MAX } else { STREAMS_HELD_BYTES_MAX };
        self.held.len() + more <= max
    }

    /// Writes what is held, and as much of `next` as goes with it. Returns how much of `next` that was; something of
    /// it, unless it is empty.
    fn poll_release(&mut self, cx: &mut Context<'_>, next: &[u8]) -> Poll<io::Result<usize>> {
        while !self.held.is_empty() {
            let slices = [IoSlice::new(&self.held), IoSlice::new(next)];
            let written = ready!(Pin::new(&mut self.inner).poll_write_vectored(cx, &slices))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let of_next = written.saturating_sub(self.held.len());
            self.held.advance(written - of_next);
            if of_next > 0 {
                // An idle connection keeps no memory for it.
                self.held = BytesMut::new();
                return Poll::Ready(Ok(of_next));
            }
        }
        self.held = BytesMut::new();
        if next.is_empty() { Poll::Ready(Ok(0)) } else { Pin::new(&mut self.inner).poll_write(cx, next) }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Gathered<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, piece: &[u8]) -> Poll<io::Result<usize>> {
        self.heard = 0;
        if self.holds(piece.len()) {
            self.held.extend_from_slice(piece);
            return Poll::Ready(Ok(piece.len()));
        }
        self.poll_release(cx, piece)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.heard = 0;
        let bytes = pieces.iter().map(|piece| piece.len()).sum();
        // Whoever has several pieces of one answer gathers by itself.
        if self.flushes != Flushes::AtOnce && self.holds(bytes) {
            pieces.iter().for_each(|piece| self.held.extend_from_slice(piece));
            return Poll::Ready(Ok(bytes));
        }
        ready!(self.poll_release(cx, &[]))?;
        Pin::new(&mut self.inner).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.flushes {
            Flushes::NextTurn if !self.held.is_empty() => {
                self.flushes = Flushes::Waiting;
                cx.waker().wake_by_ref();
                return Poll::Ready(Ok(()));
            }
            Flushes::Waiting => return Poll::Ready(Ok(())),
            Flushes::AtOnce | Flushes::Opening | Flushes::NextTurn | Flushes::Due => {}
        }
        ready!(self.poll_release(cx, &[]))?;
        ready!(Pin::new(&mut self.inner).poll_flush(cx))?;
        if self.flushes == Flushes::Due {
            self.flushes = Flushes::NextTurn;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_release(cx, &[]))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Gathered<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.flushes == Flushes::Waiting {
            self.flushes = Flushes::Due;
        }
        if !self.begun.is_empty() {
            let taken = self.begun.len().min(into.remaining());
            into.put_slice(&self.begun[..taken]);
            self.begun.drain(..taken);
            return Poll::Ready(Ok(()));
        }
        if self.flushes == Flushes::AtOnce && self.heard > HEARD_BYTES_MAX {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "a header without an end")));
        }
        let before = into.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, into);
        let more = into.filled().len() - before;
        self.heard = self.heard.saturating_add(more);
        if self.flushes == Flushes::Opening && more > 0 {
            self.flushes = Flushes::NextTurn;
        }
        polled
    }
}

#[async_trait]
impl<T: IO> Shutdown for Gathered<T> {
    async fn shutdown(&mut self) {
        // Whole answers were flushed, or h2 released them as it closed; of one that is cut nobody waits for the rest.
        self.inner.shutdown().await;
    }
}

#[async_trait]
impl<T: IO> Peek for Gathered<T> {
    async fn try_peek(&mut self, into: &mut [u8]) -> io::Result<bool> {
        self.read_exact(into).await?;
        self.begun.splice(..0, into.iter().copied());
        Ok(true)
    }
}

impl<T: IO> UniqueID for Gathered<T> {
    fn id(&self) -> UniqueIDType {
        self.inner.id()
    }
}

impl<T: IO> Ssl for Gathered<T> {
    fn get_ssl(&self) -> Option<&TlsRef> {
        self.inner.get_ssl()
    }

    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.inner.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.inner.selected_alpn_proto()
    }
}

impl<T: IO> GetTimingDigest for Gathered<T> {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.inner.get_timing_digest()
    }

    fn get_read_pending_time(&self) -> Duration {
        self.inner.get_read_pending_time()
    }

    fn get_write_pending_time(&self) -> Duration {
        self.inner.get_write_pending_time()
    }
}

impl<T: IO> GetProxyDigest for Gathered<T> {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.inner.get_proxy_digest()
    }

    fn set_proxy_digest(&mut self, digest: ProxyDigest) {
        self.inner.set_proxy_digest(digest);
    }
}

impl<T: IO> GetSocketDigest for Gathered<T> {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.inner.get_socket_digest()
    }

    fn set_socket_digest(&mut self, digest: SocketDigest) {
        self.inner.set_socket_digest(digest);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicBool, Ordering},
        task::{Wake, Waker},
    };

    use futures::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Takes so many bytes at a time, and keeps each write by itself.
    struct Narrow(usize, Vec<Vec<u8>>);

    impl AsyncWrite for Narrow {
        fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, piece: &[u8]) -> Poll<io::Result<usize>> {
            self.poll_write_vectored(cx, &[IoSlice::new(piece)])
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            pieces: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let mut bytes: Vec<u8> = pieces.iter().flat_map(|piece| piece.to_vec()).collect();
            bytes.truncate(self.0);
            self.1.push(bytes.clone());
            Poll::Ready(Ok(bytes.len()))
        }

        fn is_write_vectored(&self) -> bool {
            true
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncRead for Narrow {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    /// A turn of h2: it reads, for nothing, then writes and flushes each piece.
    fn turn(stream: &mut Gathered<Narrow>, pieces: &[&[u8]]) {
        let mut context = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut *stream).poll_read(&mut context, &mut ReadBuf::new(&mut [0])).is_pending());
        for piece in pieces {
            let written = Pin::new(&mut *stream).poll_write(&mut context, piece).map(Result::unwrap);
            assert_eq!(written, Poll::Ready(piece.len()));
            assert!(Pin::new(&mut *stream).poll_flush(&mut context).map(Result::unwrap).is_ready());
        }
    }

    /// A connection of HTTP/2 on which something was read.
    fn opened() -> Gathered<Narrow> {
        Gathered { flushes: Flushes::NextTurn, ..Gathered::of_streams(Narrow(usize::MAX, Vec::new())) }
    }

    async fn written(width: usize, pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut stream = Gathered::new(Narrow(width, Vec::new()));
        for piece in pieces {
            stream.write_all(piece).await.unwrap();
        }
        stream.flush().await.unwrap();
        assert_eq!((stream.held.len(), stream.held.capacity()), (0, 0));
        stream.inner.1
    }

    #[tokio::test]
    async fn a_head_goes_with_what_follows_it() {
        assert_eq!(written(usize::MAX, &[b"head", b"content"]).await, [b"headcontent".to_vec()]);
        let large = [7; 3 * HELD_BYTES_MAX];
        let gathered = written(usize::MAX, &[b"head", &large, &large, b"end"]).await;
        assert_eq!(gathered, [[b"head", &large[..]].concat(), large.to_vec(), b"end".to_vec()]);
        assert!(written(usize::MAX, &[b""]).await.is_empty());
    }

    #[tokio::test]
    async fn every_width_of_the_way_out_gives_the_same_bytes() {
        let pieces: [&[u8]; 5] = [b"head", &[1; HELD_BYTES_MAX], b"x", &[2; 2 * HELD_BYTES_MAX + 1], b"end"];
        for width in [1, 3, 4, 5, 1000, HELD_BYTES_MAX, HELD_BYTES_MAX + 4, HELD_BYTES_MAX + 5] {
            assert!(written(width, &pieces).await.concat() == pieces.concat(), "{width}");
        }
    }

    #[test]
    fn what_streams_flush_in_a_turn_leaves_together_in_the_next() {
        let mut stream = opened();
        let rounds: [[&[u8]; 2]; 2] = [[b"one", b"two"], [b"six", b"ten"]];
        for answers in rounds {
            let before = stream.inner.1.len();
            turn(&mut stream, &[answers[0], answers[1]]);
            assert_eq!(stream.inner.1.len(), before);
            turn(&mut stream, &[b""]);
            assert_eq!(stream.inner.1[before..], [answers.concat()]);
        }
    }

    #[tokio::test]
    async fn what_is_said_before_anything_was_heard_leaves_at_once() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let mut stream = Gathered::of_streams(ours);
        let mut heard = [0; 8];
        stream.write_all(b"settings").await.unwrap();
        stream.flush().await.unwrap();
        theirs.read_exact(&mut heard).now_or_never().unwrap().unwrap();
        assert_eq!(&heard, b"settings");
        theirs.write_all(b"preface!").await.unwrap();
        stream.read_exact(&mut heard).await.unwrap();
        stream.write_all(b"answered").await.unwrap();
        stream.flush().await.unwrap();
        assert!(theirs.read_exact(&mut heard).now_or_never().is_none(), "from now on it waits for the next turn");
    }

    #[test]
    fn a_flush_that_waits_wakes_whoever_is_to_flush_again() {
        struct Woken(AtomicBool);
        impl Wake for Woken {
            fn wake(self: Arc<Self>) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let woken = Arc::new(Woken(AtomicBool::new(false)));
        let waker = Waker::from(Arc::clone(&woken));
        let mut stream = opened();
        let flush = |stream: &mut Gathered<Narrow>| {
            assert!(Pin::new(stream).poll_flush(&mut Context::from_waker(&waker)).map(Result::unwrap).is_ready());
            woken.0.swap(false, Ordering::Relaxed)
        };
        assert!(!flush(&mut stream), "with nothing to say there is no other turn");
        stream.held.extend_from_slice(b"one");
        assert!(flush(&mut stream));
        assert!(!flush(&mut stream), "once is enough");
    }

    #[tokio::test]
    async fn streams_hold_no_more_than_their_bound_and_nothing_at_the_end() {
        let half = [7; STREAMS_HELD_BYTES_MAX / 2];
        let mut stream = opened();
        turn(&mut stream, &[&half, &half]);
        assert!(stream.inner.1.is_empty());
        turn(&mut stream, &[b"over"]);
        assert_eq!(stream.inner.1.concat().len(), STREAMS_HELD_BYTES_MAX + 4);
        turn(&mut stream, &[b"last"]);
        AsyncWriteExt::shutdown(&mut stream).await.unwrap();
        assert!(stream.inner.1.concat().ends_with(b"last"));
    }

    #[tokio::test]
    async fn a_header_without_an_end_is_not_read_for_ever() {
        async fn heard(stream: &mut (impl AsyncRead + Unpin)) -> usize {
            let (mut heard, mut piece) = (0, [0; 1000]);
            while let Ok(bytes) = stream.read(&mut piece).await {
                heard += bytes;
                if heard > 2 * HEARD_BYTES_MAX {
                    break;
                }
            }
            heard
        }
        let endless = || tokio::io::join(tokio::io::repeat(b'x'), tokio::io::sink());
        let mut stream = Gathered::new(endless());
        // After an answer as much may come again.
        for _ in 0..2 {
            let heard = heard(&mut stream).await;
            assert!((HEARD_BYTES_MAX..=HEARD_BYTES_MAX + 1000).contains(&heard), "{heard}");
            stream.write_all(b"answer").await.unwrap();
        }
        let mut streams = Gathered::of_streams(endless());
        assert!(heard(&mut streams).await > 2 * HEARD_BYTES_MAX, "HTTP/2 has windows of its own");
    }

    #[tokio::test]
    async fn a_way_out_that_takes_nothing_is_an_error() {
        let mut stream = Gathered::new(Narrow(0, Vec::new()));
        stream.write_all(b"head").await.unwrap();
        assert_eq!(stream.flush().await.unwrap_err().kind(), io::ErrorKind::WriteZero);
    }
}
