//! The way of one answer back to its viewer, the same for every version of HTTP.

use bytes::Bytes;
use h3::{error::Code, server::RequestStream};
use http::{HeaderMap, Response, StatusCode};
use pingora_core::protocols::http::ServerSession;
use pingora_http::ResponseHeader;
use tokio::time::timeout;

use super::{
    capped::CappedStream,
    limits::{PIECE_BYTES, WRITE_DEADLINE},
    link::Link,
    stream::Stream,
    wire::{Left, Plain},
};

/// A request of HTTP/3 and the way back.
pub(super) type QuicStream = RequestStream<CappedStream<h3_quinn::BidiStream<Bytes>>, Bytes>;

/// Where an answer is written to.
pub(super) enum Session<'a> {
    /// HTTP/1.1 by pingora; it has its deadlines from whoever made it.
    Pingora(&'a mut ServerSession),
    /// HTTP/2.
    Stream(&'a mut Stream),
    /// HTTP/3.
    Quic(&'a mut QuicStream, &'a Link),
    /// HTTP/1.1 by the codec of our own.
    Plain(&'a mut Plain),
}

impl Session<'_> {
    /// Writes status and fields.
    ///
    /// # Errors
    /// [`Left`].
    pub(super) async fn head(&mut self, status: StatusCode, fields: HeaderMap) -> Result<(), Left> {
        match self {
            Self::Pingora(session) => {
                // Where nothing follows it leaves at once, and pingora has no deadline for that.
                let head = ResponseHeader::from(head(status, fields).into_parts().0);
                let written = timeout(WRITE_DEADLINE, session.write_response_header(Box::new(head))).await;
                if matches!(written, Ok(Ok(()))) { Ok(()) } else { Err(Left) }
            }
            Self::Stream(stream) => {
                stream.head(status, fields);
                Ok(())
            }
            Self::Quic(stream, link) => link.in_turn(stream.send_response(head(status, fields))).await,
            Self::Plain(plain) => {
                plain.head(status, &fields);
                Ok(())
            }
        }
    }

    /// Returns the most bytes of a piece: where answers share a connection, they take turns.
    pub(super) fn piece_bytes(&self) -> usize {
        match self {
            Self::Plain(_) => usize::MAX,
            Self::Pingora(_) | Self::Stream(_) | Self::Quic(..) => PIECE_BYTES,
        }
    }

    /// Writes a piece of the content; the last one `ends` it.
    ///
    /// # Errors
    /// [`Left`].
    pub(super) async fn body(&mut self, piece: Bytes, ends: bool) -> Result<(), Left> {
        match self {
            Self::Pingora(session) => session.write_response_body(piece, ends).await.map_err(|_| Left),
            Self::Stream(stream) => stream.write(piece, ends).await,
            // The end is told by `finish`, with or without content.
            Self::Quic(stream, link) => link.in_turn(stream.send_data(piece)).await,
            Self::Plain(plain) => plain.write(piece).await,
        }
    }

    /// Ends an answer that was written whole.
    ///
    /// # Errors
    /// [`Left`].
    pub(super) async fn end(&mut self) -> Result<(), Left> {
        match self {
            Self::Plain(plain) => plain.end_answer().await,
            Self::Stream(stream) => stream.end(),
            // Whoever made the session ends it.
            Self::Pingora(_) | Self::Quic(..) => Ok(()),
        }
    }

    /// Returns when nobody waits for the answer any more, where that is told before anything is written.
    pub(super) async fn gone(&mut self) {
        match self {
            Self::Stream(stream) => stream.gone().await,
            Self::Pingora(_) | Self::Quic(..) | Self::Plain(_) => std::future::pending().await,
        }
    }

    /// Has the connection closed after this answer, where that means anything.
    pub(super) fn close_after(&mut self) {
        match self {
            Self::Pingora(session) => session.set_keepalive(None),
            Self::Plain(plain) => plain.close_after(),
            Self::Stream(_) | Self::Quic(..) => {}
        }
    }

    /// Makes sure that a short content never looks like a whole one.
    pub(super) async fn cut(&mut self) {
        match self {
            // HTTP/1.1 closes short of its Content-Length.
            Self::Pingora(session) => session.shutdown().await,
            Self::Stream(stream) => stream.cut(),
            Self::Quic(stream, _) => stream.stop_stream(Code::H3_INTERNAL_ERROR),
            // Closed short of its Content-Length, over TLS without the word that ends a connection.
            Self::Plain(plain) => plain.close_after(),
        }
    }
}

fn head(status: StatusCode, fields: HeaderMap) -> Response<()> {
    let mut head = Response::new(());
    *head.status_mut() = status;
    *head.headers_mut() = fields;
    head
}
