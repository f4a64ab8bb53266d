//! What the streams of one connection of HTTP/2 write in a turn leaves together: in one call of the system, and in few
//! TLS records. h2 writes each frame of 16 KiB by itself, and flushes after each.

use std::{
    cell::Cell,
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// So much waits for the end of a turn: what rustls takes at a time.
const HELD_BYTES_MAX: usize = 64 * 1024;

/// A connection as bytes, of which some were read before.
pub(super) struct Turns<T> {
    inner: T,
    begun: Vec<u8>,
    held: BytesMut,
    turn: Rc<Turn>,
}

/// What whoever polls the connection and its bytes tell each other.
#[derive(Default)]
pub(super) struct Turn {
    lasts: Cell<bool>,
    /// Whether something waits for the end.
    holds: Cell<bool>,
    sent: Cell<u64>,
}

impl Turn {
    /// What is flushed from now on waits for the end.
    pub(super) fn begin(&self) {
        self.lasts.set(true);
    }

    /// Whether something waits for the end.
    pub(super) fn holds(&self) -> bool {
        self.holds.get()
    }

    /// The next flush is done.
    pub(super) fn end(&self) {
        self.lasts.set(false);
    }

    /// Returns the bytes that the system took since this was asked before.
    pub(super) fn sent(&self) -> u64 {
        self.sent.take()
    }
}

impl<T: AsyncWrite + Unpin> Turns<T> {
    pub(super) fn new(inner: T, begun: Vec<u8>, turn: Rc<Turn>) -> Self {
        Self { inner, begun, held: BytesMut::new(), turn }
    }

    /// Writes what is held, and of `pieces` what goes with it. Returns how much of `pieces` that was; something of them
    /// when nothing is held any more.
    fn poll_release(&mut self, cx: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        loop {
            let held = self.held.len();
            let mut slices = Vec::with_capacity(1 + pieces.len());
            slices.extend(
                [IoSlice::new(&self.held)].into_iter().chain(pieces.iter().copied()).filter(|it| !it.is_empty()),
            );
            if slices.is_empty() {
                return Poll::Ready(Ok(0));
            }
            let written = ready!(Pin::new(&mut self.inner).poll_write_vectored(cx, &slices))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.turn.sent.set(self.turn.sent.get() + written as u64);
            self.held.advance(written.min(held));
            if self.held.is_empty() {
                // An idle connection keeps no memory for it.
                self.held = BytesMut::new();
                self.turn.holds.set(false);
                if written > held || pieces.is_empty() {
                    return Poll::Ready(Ok(written - held.min(written)));
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
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bytes = pieces.iter().map(|piece| piece.len()).sum::<usize>();
        if self.held.len() + bytes <= HELD_BYTES_MAX {
            pieces.iter().for_each(|piece| self.held.extend_from_slice(piece));
            self.turn.holds.set(!self.held.is_empty());
            return Poll::Ready(Ok(bytes));
        }
        self.poll_release(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.turn.lasts.get() {
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_release(cx, &[]))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_release(cx, &[]))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Turns<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.begun.is_empty() {
            return Pin::new(&mut self.inner).poll_read(cx, into);
        }
        let taken = self.begun.len().min(into.remaining());
        into.put_slice(&self.begun[..taken]);
        self.begun.drain(..taken);
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::door::narrow::Narrow;

    fn turns(width: usize) -> (Turns<Narrow>, Rc<Turn>) {
        let turn = Rc::new(Turn::default());
        (Turns::new(Narrow::new(width), Vec::new(), Rc::clone(&turn)), turn)
    }

    #[tokio::test]
    async fn what_is_flushed_in_a_turn_leaves_at_its_end() {
        let (mut stream, turn) = turns(usize::MAX);
        turn.begin();
        for piece in [&b"one"[..], b"two", b"three"] {
            stream.write_all(piece).await.unwrap();
            stream.flush().await.unwrap();
        }
        assert!(stream.inner.written.is_empty() && turn.sent() == 0);
        turn.end();
        stream.flush().await.unwrap();
        assert_eq!(stream.inner.written, [b"onetwothree".to_vec()]);
        assert_eq!((turn.sent(), turn.sent(), stream.held.capacity()), (11, 0, 0));
        stream.flush().await.unwrap();
        assert_eq!(stream.inner.written.len(), 1, "once is enough");
    }

    #[tokio::test]
    async fn a_turn_holds_no_more_than_its_bound_and_nothing_is_left_at_the_end() {
        let half = [7; HELD_BYTES_MAX / 2];
        let (mut stream, turn) = turns(usize::MAX);
        turn.begin();
        for piece in [&half[..], &half] {
            stream.write_all(piece).await.unwrap();
        }
        assert!(stream.inner.written.is_empty());
        stream.write_all(b"over").await.unwrap();
        assert_eq!(stream.inner.written.concat().len(), HELD_BYTES_MAX + 4);
        stream.write_all(b"last").await.unwrap();
        stream.shutdown().await.unwrap();
        assert!(stream.inner.written.concat().ends_with(b"last"));
    }

    #[tokio::test]
    async fn every_width_of_the_way_out_gives_the_same_bytes() {
        let pieces: [&[u8]; 5] = [b"head", &[1; HELD_BYTES_MAX], b"x", &[2; 2 * HELD_BYTES_MAX + 1], b"end"];
        for width in [1, 7, HELD_BYTES_MAX - 1, HELD_BYTES_MAX, 3 * HELD_BYTES_MAX] {
            let (mut stream, turn) = turns(width);
            for piece in pieces {
                stream.write_all(piece).await.unwrap();
            }
            stream.flush().await.unwrap();
            assert!(stream.inner.written.concat() == pieces.concat(), "{width}");
            assert_eq!(turn.sent(), pieces.concat().len() as u64);
        }
        let (mut stream, _) = turns(0);
        stream.write_all(b"head").await.unwrap();
        assert_eq!(stream.flush().await.unwrap_err().kind(), io::ErrorKind::WriteZero);
    }

    #[tokio::test]
    async fn what_was_read_before_comes_first() {
        let inner = tokio::io::join(&b"rest"[..], tokio::io::sink());
        let mut stream = Turns::new(inner, b"begun ".to_vec(), Rc::default());
        let mut all = String::new();
        stream.read_to_string(&mut all).await.unwrap();
        assert_eq!(all, "begun rest");
    }
}
