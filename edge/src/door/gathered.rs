//! What is written in small pieces leaves together: the head of an answer goes with the beginning of its content in one
//! call of the system, one packet, one TLS record. pingora writes each by itself to a stream that did not come from its
//! own listener.

use std::{
    io::{self, IoSlice},
    os::fd::AsRawFd,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use pingora_core::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest, UniqueID,
    UniqueIDType, raw_connect::ProxyDigest,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::wire::Wire;
use crate::answer::head::HEADER_BYTES_MAX;

/// So much waits for what comes next, or for a flush: the head of an answer, and all of a small one.
const HELD_BYTES_MAX: usize = 4 * 1024;
/// So much is read before anything is answered: four of the longest headers, for viewers that ask ahead. pingora alone
/// would take 1 MiB, and look at all of it again with each packet.
const HEARD_BYTES_MAX: usize = 4 * HEADER_BYTES_MAX as usize;

/// A stream that gathers what is written to it.
#[derive(Debug)]
pub(super) struct Gathered<T> {
    inner: T,
    /// What somebody else has read of it before.
    begun: Vec<u8>,
    held: BytesMut,
    /// Read since something was written.
    heard: usize,
}

impl<T: AsyncWrite + Unpin> Gathered<T> {
    /// Makes one of which somebody has read the beginning.
    pub(super) fn new(inner: T, begun: Vec<u8>) -> Self {
        Self { inner, begun, held: BytesMut::new(), heard: 0 }
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
        if self.held.len() + piece.len() <= HELD_BYTES_MAX {
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
        // Whoever has several pieces of one answer gathers by itself.
        ready!(self.poll_release(cx, &[]))?;
        Pin::new(&mut self.inner).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_release(cx, &[]))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_release(cx, &[]))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Gathered<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.begun.is_empty() {
            let taken = self.begun.len().min(into.remaining());
            into.put_slice(&self.begun[..taken]);
            self.begun.drain(..taken);
            return Poll::Ready(Ok(()));
        }
        if self.heard > HEARD_BYTES_MAX {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "a header without an end")));
        }
        let before = into.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, into);
        let more = into.filled().len() - before;
        self.heard = self.heard.saturating_add(more);
        polled
    }
}

#[async_trait]
impl Shutdown for Gathered<Wire> {
    async fn shutdown(&mut self) {
        // Whole answers were flushed; of one that is cut nobody waits for the rest.
        self.inner.end().await;
    }
}

#[async_trait]
impl Peek for Gathered<Wire> {}

impl UniqueID for Gathered<Wire> {
    fn id(&self) -> UniqueIDType {
        self.inner.below().as_raw_fd()
    }
}

// pingora is told nothing of TLS, and of whoever is at the other end, and so decides nothing by it.
impl Ssl for Gathered<Wire> {}

impl GetTimingDigest for Gathered<Wire> {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for Gathered<Wire> {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for Gathered<Wire> {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::door::narrow::Narrow;

    async fn written(width: usize, pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut stream = Gathered::new(Narrow::new(width), Vec::new());
        for piece in pieces {
            stream.write_all(piece).await.unwrap();
        }
        stream.flush().await.unwrap();
        assert_eq!((stream.held.len(), stream.held.capacity()), (0, 0));
        stream.inner.written
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
        let mut stream = Gathered::new(endless(), Vec::new());
        // After an answer as much may come again.
        for _ in 0..2 {
            let heard = heard(&mut stream).await;
            assert!((HEARD_BYTES_MAX..=HEARD_BYTES_MAX + 1000).contains(&heard), "{heard}");
            stream.write_all(b"answer").await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_way_out_that_takes_nothing_is_an_error() {
        let mut stream = Gathered::new(Narrow::new(0), Vec::new());
        stream.write_all(b"head").await.unwrap();
        assert_eq!(stream.flush().await.unwrap_err().kind(), io::ErrorKind::WriteZero);
    }
}
