//! One stream of HTTP/2, on which one answer goes back.
//!
//! Keeps true: no frame of a few bytes goes where the viewer would soon take more. Each costs both sides as much as a
//! full one, and the windows that streams of a connection share come in such crumbs.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use h2::{Reason, SendStream, server::SendResponse};
use http::{HeaderMap, Response, StatusCode};
use tokio::time::timeout;

use super::{
    limits::PIECE_BYTES,
    link::{Holds, Link},
    wire::Left,
};

/// A content of so many bytes is given at once, without anybody who waits until the viewer has taken it.
pub(super) const GIVEN_BYTES_MAX: usize = 16 * 1024;

/// Room for less is waited past, unless that is all there is to write: a quarter of a frame.
const ROOM_BYTES_MIN: usize = 4 * 1024;
/// For so long: then the viewer's window is as small, or what it has for all streams is with the others. The override
/// timeout of TCP's senders (RFC 9293 section 3.8.6.2.1, from 0.1 to 1 s).
const ROOM_PATIENCE: Duration = Duration::from_millis(100);

/// The way of an answer back.
pub(super) struct Stream {
    respond: SendResponse<Bytes>,
    /// The head, until something goes with it.
    head: Option<Response<()>>,
    /// Where the content goes, once the head has gone and did not end the stream.
    content: Option<SendStream<Bytes>>,
    /// Room for so many bytes is worth a frame: less than elsewhere, where the viewer's windows are smaller.
    enough: usize,
    link: Arc<Link>,
}

impl Stream {
    pub(super) fn new(respond: SendResponse<Bytes>, link: Arc<Link>) -> Self {
        Self { respond, head: None, content: None, enough: ROOM_BYTES_MIN, link }
    }

    /// Takes the head of the answer, which leaves with the first piece of its content.
    pub(super) fn head(&mut self, status: StatusCode, fields: HeaderMap) {
        let mut head = Response::new(());
        *head.status_mut() = status;
        *head.headers_mut() = fields;
        self.head = Some(head);
    }

    /// Writes all of the content, where it is small and the viewer has room for it; the head in any case.
    ///
    /// # Errors
    /// [`Left`].
    pub(super) fn give(&mut self, content: &[Bytes]) -> Result<Written, Left> {
        let bytes = content.iter().map(Bytes::len).sum();
        self.begin(bytes == 0)?;
        let Some(stream) = &mut self.content else { return Ok(Written::Whole) };
        if bytes > GIVEN_BYTES_MAX {
            return Ok(Written::Head);
        }
        stream.reserve_capacity(bytes);
        if stream.capacity() < bytes {
            return Ok(Written::Head);
        }
        // A copy: a viewer that takes its time keeps no block of the cache in memory.
        stream.send_data(content.concat().into(), true).map_err(|_| Left)?;
        self.content = None;
        Ok(Written::Whole)
    }

    /// Writes a piece of the content, at most 64 KiB; the last one `ends` it.
    ///
    /// # Errors
    /// [`Left`].
    pub(super) async fn write(&mut self, mut piece: Bytes, ends: bool, holds: Holds) -> Result<(), Left> {
        if piece.is_empty() {
            return if ends { self.end() } else { Ok(()) };
        }
        self.begin(false)?;
        let Self { content, enough, link, .. } = self;
        let stream = content.as_mut().ok_or(Left)?;
        let went = AtomicU64::new(0);
        let written = async {
            while !piece.is_empty() {
                stream.reserve_capacity(piece.len());
                wait_for_room(stream, enough, piece.len()).await?;
                let room = stream.capacity();
                let part = piece.split_to(room.min(piece.len()));
                if !part.is_empty() {
                    went.fetch_add(part.len() as u64, Ordering::Relaxed);
                    stream.send_data(part, ends && piece.is_empty()).map_err(|_| Left)?;
                }
            }
            Ok::<(), Left>(())
        };
        link.in_turn(holds, || went.load(Ordering::Relaxed), written).await?;
        if ends {
            *content = None;
        }
        Ok(())
    }

    /// Returns how much of so many bytes could be written now, and is worth a frame; where it cannot be told, all of a
    /// piece, and the write says why.
    pub(super) fn room(&mut self, bytes: usize) -> usize {
        match (self.begin(false), &mut self.content) {
            (Ok(()), Some(stream)) => {
                stream.reserve_capacity(PIECE_BYTES);
                let room = stream.capacity().min(PIECE_BYTES);
                if room >= bytes.min(self.enough) { room } else { 0 }
            }
            _ => PIECE_BYTES,
        }
    }

    /// Waits until so much of so many bytes can be written as is worth a frame, in turn with the other answers. The
    /// answer holds nothing meanwhile.
    ///
    /// # Errors
    /// [`Left`].
    pub(super) async fn has_room(&mut self, bytes: usize) -> Result<(), Left> {
        let Self { content, enough, link, .. } = self;
        let stream = content.as_mut().ok_or(Left)?;
        // No more: what it does not use yet is for others.
        stream.reserve_capacity(bytes.min(ROOM_BYTES_MIN));
        link.in_turn(Holds::Nothing, || 0, wait_for_room(stream, enough, bytes)).await
    }

    /// Gives the window that [`Self::has_room`] took to other streams of the connection.
    pub(super) fn leave_room(&mut self) {
        if let Some(stream) = &mut self.content {
            // A viewer may open its window once all of it is taken, to the last byte.
            stream.reserve_capacity(0);
        }
    }

    /// Ends an answer that was written whole.
    ///
    /// # Errors
    /// [`Left`].
    pub(super) fn end(&mut self) -> Result<(), Left> {
        self.begin(true)?;
        let Some(mut stream) = self.content.take() else { return Ok(()) };
        stream.send_data(Bytes::new(), true).map_err(|_| Left)
    }

    /// Resets the stream, so that a short content never looks like a whole one.
    pub(super) fn cut(&mut self) {
        self.respond.send_reset(Reason::INTERNAL_ERROR);
    }

    /// Returns when the viewer has reset the stream, or its connection is gone. Cancel safe.
    pub(super) async fn gone(&mut self) {
        let _ = poll_fn(|cx| match &mut self.content {
            Some(stream) => stream.poll_reset(cx),
            None => self.respond.poll_reset(cx),
        })
        .await;
    }

    /// Writes the head, where it has not gone.
    fn begin(&mut self, ends: bool) -> Result<(), Left> {
        if let Some(head) = self.head.take() {
            let stream = self.respond.send_response(head, ends).map_err(|_| Left)?;
            self.content = (!ends).then_some(stream);
        }
        Ok(())
    }
}

/// Waits until so much of so many bytes, of which enough are reserved, can be written as is worth a frame. Where there
/// is room for less, and stays so, half of that is `enough` from then on, until there is more.
async fn wait_for_room(stream: &mut SendStream<Bytes>, enough: &mut usize, bytes: usize) -> Result<(), Left> {
    let wanted = bytes.min(*enough);
    has(stream, 1).await?;
    if stream.capacity() < wanted {
        match timeout(ROOM_PATIENCE, has(stream, wanted)).await {
            Ok(has_room) => has_room?,
            Err(_) => *enough = (stream.capacity() / 2).max(1),
        }
    }
    if stream.capacity() >= ROOM_BYTES_MIN {
        *enough = ROOM_BYTES_MIN;
    }
    Ok(())
}

/// Waits until so many bytes can be written.
async fn has(stream: &mut SendStream<Bytes>, bytes: usize) -> Result<(), Left> {
    while stream.capacity() < bytes {
        poll_fn(|cx| stream.poll_capacity(cx)).await.ok_or(Left)?.map_err(|_| Left)?;
    }
    Ok(())
}

/// How much of an answer was written at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    Whole,
    /// The content is still to be written.
    Head,
}
