//! A cap on what one QUIC stream may bring: h3 0.0.8 gathers a whole frame before it looks at its length, so without
//! one a viewer decides how much memory it takes.

use std::task::{Context, Poll, ready};

use bytes::Buf;
use h3::{
    error::Code,
    quic::{
        BidiStream, Connection, ConnectionErrorIncoming, OpenStreams, RecvStream, SendStream, StreamErrorIncoming,
        StreamId, WriteBuf,
    },
};

/// Bytes of one request. Its header may have 16 KiB decoded, which Huffman and QPACK's table make fewer; no content
/// counts.
const REQUEST_BYTES_MAX: usize = 32 * 1024;
/// Bytes of one of the viewer's control streams while the connection lives: settings once, priorities for each request.
const CONTROL_BYTES_MAX: usize = 1024 * 1024;

/// A connection whose incoming streams are capped.
pub(super) struct Capped<T>(pub(super) T);

/// A stream that brings at most so many bytes more.
pub(super) struct CappedStream<T> {
    stream: T,
    room: usize,
    /// Whether it is being read: h3-quinn 0.0.10 panics when it is stopped then.
    is_read: bool,
}

impl<T: Connection<B>, B: Buf> Connection<B> for Capped<T> {
    type RecvStream = CappedStream<T::RecvStream>;
    type OpenStreams = Capped<T::OpenStreams>;

    fn poll_accept_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Self::RecvStream, ConnectionErrorIncoming>> {
        let stream = ready!(self.0.poll_accept_recv(cx))?;
        Poll::Ready(Ok(CappedStream { stream, room: CONTROL_BYTES_MAX, is_read: false }))
    }

    fn poll_accept_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<Self::BidiStream, ConnectionErrorIncoming>> {
        let stream = ready!(self.0.poll_accept_bidi(cx))?;
        Poll::Ready(Ok(CappedStream { stream, room: REQUEST_BYTES_MAX, is_read: false }))
    }

    fn opener(&self) -> Self::OpenStreams {
        Capped(self.0.opener())
    }
}

impl<T: OpenStreams<B>, B: Buf> OpenStreams<B> for Capped<T> {
    type BidiStream = CappedStream<T::BidiStream>;
    type SendStream = T::SendStream;

    fn poll_open_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<Self::BidiStream, StreamErrorIncoming>> {
        let stream = ready!(self.0.poll_open_bidi(cx))?;
        Poll::Ready(Ok(CappedStream { stream, room: REQUEST_BYTES_MAX, is_read: false }))
    }

    fn poll_open_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<Self::SendStream, StreamErrorIncoming>> {
        self.0.poll_open_send(cx)
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        self.0.close(code, reason);
    }
}

impl<T: RecvStream> RecvStream for CappedStream<T> {
    type Buf = T::Buf;

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Self::Buf>, StreamErrorIncoming>> {
        let polled = self.stream.poll_data(cx);
        self.is_read = polled.is_pending();
        let data = ready!(polled)?;
        let bytes = data.as_ref().map_or(0, Buf::remaining);
        match self.room.checked_sub(bytes) {
            Some(room) => {
                self.room = room;
                Poll::Ready(Ok(data))
            }
            None => {
                self.stream.stop_sending(Code::H3_EXCESSIVE_LOAD.value());
                Poll::Ready(Err(StreamErrorIncoming::StreamTerminated { error_code: Code::H3_EXCESSIVE_LOAD.value() }))
            }
        }
    }

    fn stop_sending(&mut self, error_code: u64) {
        // Else the viewer is told when the stream is dropped.
        if !self.is_read {
            self.stream.stop_sending(error_code);
        }
    }

    fn recv_id(&self) -> StreamId {
        self.stream.recv_id()
    }
}

impl<T: SendStream<B>, B: Buf> SendStream<B> for CappedStream<T> {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.stream.poll_ready(cx)
    }

    fn send_data<D: Into<WriteBuf<B>>>(&mut self, data: D) -> Result<(), StreamErrorIncoming> {
        self.stream.send_data(data)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.stream.poll_finish(cx)
    }

    fn reset(&mut self, reset_code: u64) {
        self.stream.reset(reset_code);
    }

    fn send_id(&self) -> StreamId {
        self.stream.send_id()
    }
}

impl<T: BidiStream<B>, B: Buf> BidiStream<B> for CappedStream<T> {
    type SendStream = T::SendStream;
    type RecvStream = CappedStream<T::RecvStream>;

    fn split(self) -> (Self::SendStream, Self::RecvStream) {
        let (send, stream) = self.stream.split();
        (send, CappedStream { stream, room: self.room, is_read: self.is_read })
    }
}
