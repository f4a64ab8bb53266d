//! What the streams of one connection of HTTP/2 write in a turn leaves together: in one call of the system, and in few
//! TLS records. h2 writes each frame of 16 KiB by itself, and flushes after each.

use std::{
    cell::RefCell,
    io::{self, IoSlice},
    iter,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frames::Frames;

/// So much waits for the end of a turn: what rustls takes at a time.
const HELD_BYTES_MAX: usize = 64 * 1024;

/// A connection as bytes, of which some were read before. h2 has one handle, and whoever polls it has another, to tell
/// where turns end.
pub(super) struct Turns<T>(Rc<RefCell<Bytes<T>>>);

struct Bytes<T> {
    inner: T,
    begun: Vec<u8>,
    held: BytesMut,
    /// Whether a flush waits for the end of the turn.
    waits: bool,
    /// What of the bytes that leave is content.
    frames: Frames,
    /// Bytes of content that the system took.
    taken: Arc<AtomicU64>,
}

impl<T> Clone for Turns<T> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<T: AsyncWrite + Unpin> Turns<T> {
    pub(super) fn new(inner: T, begun: Vec<u8>) -> Self {
        Self(Rc::new(RefCell::new(Bytes {
            inner,
            begun,
            held: BytesMut::new(),
            waits: false,
            frames: Frames::default(),
            taken: Arc::default(),
        })))
    }

    /// What is flushed from now on waits for the end of a turn.
    pub(super) fn begin(&self) {
        self.0.borrow_mut().waits = true;
    }

    /// Ends a turn: what waits leaves.
    pub(super) fn poll_end(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_flush(cx)
    }

    /// Returns the connection below, where this is the last handle. What is held is given up.
    pub(super) fn into_inner(self) -> Option<T> {
        Rc::into_inner(self.0).map(|bytes| bytes.into_inner().inner)
    }

    /// Returns what counts the bytes of content that the system takes.
    pub(super) fn taken(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.0.borrow().taken)
    }
}

impl<T: AsyncWrite + Unpin> Bytes<T> {
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_release(cx, &[]))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    /// Writes what is held, and of `pieces` what goes with it. Returns how much of `pieces` that was; something of them
    /// when nothing is held any more.
    fn poll_release(&mut self, cx: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        loop {
            let held = self.held.len();
            let all = iter::once(IoSlice::new(&self.held)).chain(pieces.iter().copied());
            let slices: Vec<_> = all.filter(|slice| !slice.is_empty()).collect();
            if slices.is_empty() {
                return Poll::Ready(Ok(0));
            }
            let written = ready!(Pin::new(&mut self.inner).poll_write_vectored(cx, &slices))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let (mut content, mut left) = (0, written);
            for slice in slices {
                let (went, _) = slice.split_at(left.min(slice.len()));
                content += self.frames.content(went);
                left -= went.len();
            }
            self.taken.fetch_add(content, Ordering::Relaxed);
            self.held.advance(written.min(held));
            if self.held.is_empty() {
                // An idle connection keeps no memory for it.
                self.held = BytesMut::new();
                if written > held || pieces.is_empty() {
                    return Poll::Ready(Ok(written - held));
                }
            }
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Turns<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, piece: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(piece)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut bytes = self.0.borrow_mut();
        let more = pieces.iter().map(|piece| piece.len()).sum::<usize>();
        if bytes.held.len() + more <= HELD_BYTES_MAX {
            pieces.iter().for_each(|piece| bytes.held.extend_from_slice(piece));
            return Poll::Ready(Ok(more));
        }
        bytes.poll_release(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut bytes = self.0.borrow_mut();
        if bytes.waits { Poll::Ready(Ok(())) } else { bytes.poll_flush(cx) }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut bytes = self.0.borrow_mut();
        ready!(bytes.poll_release(cx, &[]))?;
        Pin::new(&mut bytes.inner).poll_shutdown(cx)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Turns<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut bytes = self.0.borrow_mut();
        if bytes.begun.is_empty() {
            return Pin::new(&mut bytes.inner).poll_read(cx, into);
        }
        let taken = bytes.begun.len().min(into.remaining());
        into.put_slice(&bytes.begun[..taken]);
        bytes.begun.drain(..taken);
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::door::narrow::Narrow;

    fn turns(width: usize) -> Turns<Narrow> {
        Turns::new(Narrow::new(width), Vec::new())
    }

    fn written(stream: &Turns<Narrow>) -> Vec<Vec<u8>> {
        stream.0.borrow().inner.written.clone()
    }

    async fn end(stream: &Turns<Narrow>) {
        poll_fn(|cx| stream.poll_end(cx)).await.unwrap();
    }

    #[tokio::test]
    async fn what_is_flushed_in_a_turn_leaves_at_its_end() {
        let mut stream = turns(usize::MAX);
        stream.write_all(b"settings").await.unwrap();
        stream.flush().await.unwrap();
        assert_eq!(written(&stream), [b"settings".to_vec()], "before the first turn nothing waits");
        stream.begin();
        for piece in [&b"one"[..], b"two", b"three"] {
            stream.write_all(piece).await.unwrap();
            stream.flush().await.unwrap();
        }
        assert_eq!(written(&stream).len(), 1);
        end(&stream).await;
        assert_eq!(written(&stream)[1..], [b"onetwothree".to_vec()]);
        assert_eq!(stream.0.borrow().held.capacity(), 0);
        end(&stream).await;
        assert_eq!(written(&stream).len(), 2, "once is enough");
    }

    #[tokio::test]
    async fn a_turn_holds_no_more_than_its_bound_and_nothing_is_left_at_the_end() {
        let half = [7; HELD_BYTES_MAX / 2];
        let mut stream = turns(usize::MAX);
        stream.begin();
        for piece in [&half[..], &half] {
            stream.write_all(piece).await.unwrap();
        }
        assert!(written(&stream).is_empty());
        stream.write_all(b"over").await.unwrap();
        assert_eq!(written(&stream).concat().len(), HELD_BYTES_MAX + 4);
        stream.write_all(b"last").await.unwrap();
        stream.shutdown().await.unwrap();
        assert!(written(&stream).concat().ends_with(b"last"));
    }

    #[tokio::test]
    async fn every_width_of_the_way_out_gives_the_same_bytes() {
        let pieces: [&[u8]; 5] = [b"head", &[1; HELD_BYTES_MAX], b"x", &[2; 2 * HELD_BYTES_MAX + 1], b"end"];
        for width in [1, 7, HELD_BYTES_MAX - 1, HELD_BYTES_MAX, 3 * HELD_BYTES_MAX] {
            let mut stream = turns(width);
            for piece in pieces {
                stream.write_all(piece).await.unwrap();
            }
            end(&stream).await;
            assert!(written(&stream).concat() == pieces.concat(), "{width}");
        }
        let mut stream = turns(0);
        stream.write_all(b"head").await.unwrap();
        assert_eq!(stream.flush().await.unwrap_err().kind(), io::ErrorKind::WriteZero);
    }

    #[tokio::test]
    async fn only_content_that_left_counts_as_taken() {
        let content = [7; HELD_BYTES_MAX];
        let data = [&[1, 0, 0, 0, 0, 0, 0, 0, 1], &content[..]].concat();
        let pong = [&[0, 0, 8, 6, 1, 0, 0, 0, 0], &[9; 8][..]].concat();
        for width in [1, 1000, usize::MAX] {
            let mut stream = turns(width);
            stream.begin();
            stream.write_all(&pong).await.unwrap();
            stream.flush().await.unwrap();
            let taken = stream.taken();
            end(&stream).await;
            assert_eq!(taken.load(Ordering::Relaxed), 0);
            for piece in [&pong[..], &data[..9], &data[9..], &pong] {
                stream.write_all(piece).await.unwrap();
            }
            end(&stream).await;
            assert_eq!(taken.load(Ordering::Relaxed), HELD_BYTES_MAX as u64, "{width}");
        }
    }

    #[tokio::test]
    async fn what_was_read_before_comes_first() {
        let inner = tokio::io::join(&b"rest"[..], tokio::io::sink());
        let mut stream = Turns::new(inner, b"begun ".to_vec());
        let mut all = String::new();
        stream.read_to_string(&mut all).await.unwrap();
        assert_eq!(all, "begun rest");
    }
}
