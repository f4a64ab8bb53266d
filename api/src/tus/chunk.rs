//! Chunks of an upload: written where they belong, durable, and told.

use std::{fs::File, os::unix::fs::FileExt, sync::Arc};

use axum::{
    body::Body as HttpBody,
    http::{HeaderMap, StatusCode, header::CONTENT_LENGTH},
};
use bytes::BytesMut;
use twin::Batch;

use super::{DATA, refused, request::Checksum};
use crate::{
    intake::Body,
    quota::Reservation,
    refusal::Refusal,
    service::Service,
    spool::Spool,
    store::{Resumable, Write},
};

/// What was received is made durable, and told, at least so often.
const SYNC_BYTES: u64 = 16 << 20;
/// Bytes of one write.
const WRITE_BYTES: usize = 1 << 20;
/// Tus has its own status for this.
const CHECKSUM_MISMATCH: u16 = 460;

impl Service {
    /// Appends a chunk. Returns the new offset, and whether all came. What came of a chunk that breaks off stays as far
    /// as it was told, of one with a checksum nothing.
    pub(super) async fn append(
        self: &Arc<Self>,
        upload: Resumable,
        headers: &HeaderMap,
        body: HttpBody,
    ) -> Result<(u64, bool), Refusal> {
        let checksum = Checksum::read(headers)?;
        let announced = headers.get(CONTENT_LENGTH).and_then(|it| it.to_str().ok()?.parse().ok());
        let room = upload.length - upload.offset;
        if announced.is_some_and(|announced: u64| announced > room) {
            return Err(refused(StatusCode::PAYLOAD_TOO_LARGE, "the chunk is longer than what is missing").closing());
        }
        let bounds = self.bounds(upload.token).at_most(room);
        // Its bytes count since it was created.
        let body = Body::begin(body, announced, bounds, Reservation::nothing())?;
        let service = self.clone();
        // A task of its own: whoever hangs up leaves what came, written down.
        let task = async move { service.append_body(upload, body, checksum).await };
        self.tasks.spawn(task).await.map_err(|_| Refusal::stopping())?
    }

    async fn append_body(
        &self,
        upload: Resumable,
        mut body: Body,
        checksum: Option<Checksum>,
    ) -> Result<(u64, bool), Refusal> {
        let batch = upload.batch;
        let data = Arc::new(self.on_spool(move |spool| spool.file(batch, DATA)).await?);
        let mut told = upload.offset;
        let appended = self.write_chunk(&upload, &data, &mut body, checksum, &mut told).await;
        if appended.is_err()
            && let Err(refusal) = self.on_spool(move |_| data.set_len(told)).await
        {
            tracing::warn!(%batch, reason = refusal.message, "what came of a chunk that does not count stays for now");
        }
        appended.map(|()| (told, told == upload.length))
    }

    /// Writes a chunk behind what came before, and tells how far it is durable. `told` is the last offset that may have
    /// been told.
    async fn write_chunk(
        &self,
        upload: &Resumable,
        data: &Arc<File>,
        body: &mut Body,
        checksum: Option<Checksum>,
        told: &mut u64,
    ) -> Result<(), Refusal> {
        let base = upload.offset;
        let (mut at, mut synced, mut buffer) = (base, base, BytesMut::new());
        let broke = loop {
            let frame = body.next().await;
            let is_end = !matches!(frame, Ok(Some(_)));
            if let Ok(Some(bytes)) = &frame {
                buffer.extend_from_slice(bytes);
            }
            if buffer.len() >= WRITE_BYTES || is_end {
                let (file, bytes) = (data.clone(), buffer.split().freeze());
                let (start, length) = (at, bytes.len() as u64);
                let is_due = at + length - synced >= SYNC_BYTES || is_end;
                let write = move |spool: &Spool| {
                    // Others write too.
                    spool.check_room(length, 0)?;
                    file.write_all_at(&bytes, start)?;
                    if is_due { file.sync_all() } else { Ok(()) }
                };
                self.on_spool(write).await?;
                at += length;
                if is_due {
                    synced = at;
                }
                if is_due && checksum.is_none() {
                    self.tell(upload.batch, at, told).await?;
                }
            }
            match frame {
                Ok(Some(_)) => {}
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        if let Some(error) = broke {
            return Err(error.into());
        }
        let Some(checksum) = checksum else { return Ok(()) };
        // Nothing of a chunk counts that is not what its sender meant.
        let file = data.clone();
        if !self.on_spool(move |_| checksum.is_of(&file, base..at)).await? {
            let status = StatusCode::from_u16(CHECKSUM_MISMATCH).unwrap_or(StatusCode::BAD_REQUEST);
            return Err(refused(status, "the chunk is not what its checksum says; send it again"));
        }
        self.tell(upload.batch, at, told).await
    }

    /// Writes down how much is durable.
    async fn tell(&self, batch: Batch, offset: u64, told: &mut u64) -> Result<(), Refusal> {
        if offset > *told {
            // Whatever becomes of the write, it may be there after a crash.
            *told = offset;
            self.store.write(Write::Offset { batch, offset }).await?;
        }
        Ok(())
    }
}
