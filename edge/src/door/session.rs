//! The way of one answer back to its viewer, the same for every version of HTTP.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use h3::{error::Code, server::RequestStream};
use http::{HeaderMap, Response, StatusCode};
use pingora_core::protocols::http::ServerSession;
use pingora_http::ResponseHeader;
use tokio::time::timeout;

use super::{
    capped::CappedStream,
    counted::Counted,
    limits::{PIECE_BYTES, PIECE_BYTES_ALONE, patience},
    link::{Holds, Link},
    stream::Stream,
    wire::{Left, Plain},
};

/// A request of HTTP/3 and the way back.
pub(super) type QuicStream = RequestStream<CappedStream<h3_quinn::BidiStream<Counted>>, Counted>;

/// The way of an answer over HTTP/3.
#[derive(Clone)]
pub(super) struct Way {
    pub(super) link: Arc<Link>,
    /// Bytes of content that QUIC took of all answers on the connection.
    pub(super) taken: Arc<AtomicU64>,
    /// The same of this one.
    own: Arc<AtomicU64>,
}

impl Way {
    /// Makes the way of all answers on a connection that have to be taken in a time.
    pub(super) fn new(deadline: Duration) -> Self {
        let taken = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&taken);
        let link = Link::new(deadline, move || counted.load(Ordering::Relaxed));
        Self { link: Arc::new(link), taken, own: Arc::default() }
    }

    /// Returns the way of the next answer.
    pub(super) fn of_answer(&self) -> Self {
        Self { own: Arc::default(), ..self.clone() }
    }

    /// Waits until something is written, in turn with the other answers.
    async fn in_turn<E>(&self, holds: Holds, write: impl Future<Output = Result<(), E>>) -> Result<(), Left> {
        self.link.in_turn(holds, || self.own.load(Ordering::Relaxed), write).await
    }
}

/// Where an answer is written to.
pub(super) enum Session<'a> {
    /// HTTP/1.1 by pingora, and how long a write may take: its own deadlines hold for some of its writes alone.
    Pingora(&'a mut ServerSession, Duration),
    /// HTTP/2.
    Stream(&'a mut Stream),
    /// HTTP/3.
    Quic(&'a mut QuicStream, &'a Way),
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
            Self::Pingora(session, deadline) => {
                // Where nothing follows it leaves at once.
                let head = ResponseHeader::from(head(status, fields).into_parts().0);
                in_time(*deadline, session.write_response_header(Box::new(head))).await
            }
            Self::Stream(stream) => {
                stream.head(status, fields);
                Ok(())
            }
            // Its first block may be here, for which there was room.
            Self::Quic(stream, way) => way.in_turn(Holds::Room, stream.send_response(head(status, fields))).await,
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
            Self::Pingora(..) => PIECE_BYTES_ALONE,
            Self::Stream(_) | Self::Quic(..) => PIECE_BYTES,
        }
    }

    /// Returns the most bytes of a piece of so many of which nothing waits for the viewer; none while it has no room
    /// that is worth it. Where that is not known it is what a piece may have.
    pub(super) fn room(&mut self, bytes: usize) -> usize {
        match self {
            Self::Stream(stream) => stream.room(bytes),
            Self::Pingora(..) | Self::Quic(..) | Self::Plain(_) => self.piece_bytes(),
        }
    }

    /// Waits until the viewer has room for so many bytes, or enough of them, as long as for a piece that is written.
    ///
    /// # Errors
    /// [`Left`].
    pub(super) async fn has_room(&mut self, bytes: usize) -> Result<(), Left> {
        match self {
            Self::Stream(stream) => stream.has_room(bytes).await,
            Self::Pingora(..) | Self::Quic(..) | Self::Plain(_) => Ok(()),
        }
    }

    /// Leaves the room that [`Self::has_room`] took to other answers.
    pub(super) fn leave_room(&mut self) {
        if let Self::Stream(stream) = self {
            stream.leave_room();
        }
    }

    /// Writes a piece of the content; the last one `ends` it.
    ///
    /// # Errors
    /// [`Left`].
    pub(super) async fn body(&mut self, piece: Bytes, ends: bool, holds: Holds) -> Result<(), Left> {
        match self {
            Self::Pingora(session, deadline) => {
                let patience = patience(*deadline, piece.len());
                in_time(patience, session.write_response_body(piece, ends)).await
            }
            Self::Stream(stream) => stream.write(piece, ends, holds).await,
            // The end is told by `finish`, with or without content.
            Self::Quic(stream, way) => {
                let piece = Counted::new(piece, [&way.taken, &way.own]);
                way.in_turn(holds, stream.send_data(piece)).await
            }
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
            Self::Pingora(..) | Self::Quic(..) => Ok(()),
        }
    }

    /// Returns how many bytes of the piece that was written last the connection took, where it did not take all.
    pub(super) fn went(&self) -> u64 {
        match self {
            Self::Plain(plain) => plain.went,
            // Pieces are small there.
            Self::Pingora(..) | Self::Stream(_) | Self::Quic(..) => 0,
        }
    }

    /// Returns when nobody waits for the answer any more. Cancel safe. Of a stream of HTTP/3 that its viewer gave up it
    /// is heard when something is written to it: quinn knows before, but h3-quinn 0.0.10 keeps quinn's stream, and what
    /// it says of `STOP_SENDING`, to itself. What is made for it has an end, and its place among the streams is the
    /// viewer's own. With the connection ends all that goes on for it.
    pub(super) async fn gone(&mut self) {
        match self {
            Self::Stream(stream) => stream.gone().await,
            Self::Quic(..) => std::future::pending().await,
            Self::Plain(plain) => plain.gone().await,
            Self::Pingora(session, _) => drop(session.read_body_or_idle(true).await),
        }
    }

    /// Has the connection closed after this answer, where that means anything.
    pub(super) fn close_after(&mut self) {
        match self {
            Self::Pingora(session, _) => session.set_keepalive(None),
            Self::Plain(plain) => plain.close_after(),
            Self::Stream(_) | Self::Quic(..) => {}
        }
    }

    /// Makes sure that a short content never looks like a whole one.
    pub(super) async fn cut(&mut self) {
        match self {
            // Whoever made it drops it. Shut down in order it would wait for a viewer that takes nothing.
            Self::Pingora(session, _) => session.set_keepalive(None),
            Self::Stream(stream) => stream.cut(),
            Self::Quic(stream, _) => stream.stop_stream(Code::H3_INTERNAL_ERROR),
            // Closed short of its Content-Length, over TLS without the word that ends a connection.
            Self::Plain(plain) => plain.close_after(),
        }
    }
}

/// Waits until pingora has written something, but no longer than `deadline`.
///
/// # Errors
/// [`Left`].
pub(super) async fn in_time<T>(
    deadline: Duration,
    written: impl Future<Output = pingora_core::Result<T>>,
) -> Result<T, Left> {
    timeout(deadline, written).await.map_err(|_| Left)?.map_err(|_| Left)
}

fn head(status: StatusCode, fields: HeaderMap) -> Response<()> {
    let mut head = Response::new(());
    *head.status_mut() = status;
    *head.headers_mut() = fields;
    head
}

#[cfg(test)]
mod tests {
    use http::header::CONTENT_LENGTH;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, duplex},
        time::sleep,
    };

    use super::*;

    /// Writes an answer by pingora to a viewer who takes so many bytes a second of it.
    async fn written(bytes_per_second: usize) -> Result<(), Left> {
        let (near, mut far) = duplex(1024);
        far.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let viewer = tokio::spawn(async move {
            let mut sip = vec![0; bytes_per_second];
            while far.read_exact(&mut sip).await.is_ok() {
                sleep(Duration::from_secs(1)).await;
            }
        });
        let mut server = ServerSession::new_http1(Box::new(near));
        assert!(server.read_request().await.unwrap());
        let mut session = Session::Pingora(&mut server, Duration::from_secs(1));
        let mut content = Bytes::from(vec![7; 4 * PIECE_BYTES]);
        session.head(StatusCode::OK, HeaderMap::from_iter([(CONTENT_LENGTH, content.len().into())])).await?;
        while !content.is_empty() {
            let piece = content.split_to(session.piece_bytes());
            session.body(piece, content.is_empty(), Holds::Nothing).await?;
        }
        viewer.abort();
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn what_pingora_writes_has_one_more_second_for_each_2_kibibytes() {
        assert!(written(2_500).await.is_ok());
        let begun = tokio::time::Instant::now();
        assert!(written(1_500).await.is_err());
        assert!(begun.elapsed() <= Duration::from_secs(10), "{:?}", begun.elapsed());
    }
}
