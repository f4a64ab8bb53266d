//! Sends a shard to the object store: a small one at once, a large one in parts of which nothing is to be seen before
//! the last of them is there. Either way one answer of the store makes the shard: before it there is none, after it it
//! is durable.

use std::{os::unix::fs::FileExt, time::Duration};

use bytes::Bytes;
use format::{
    Cell, PublicManifest,
    limits::{PUBLIC_MANIFEST_BYTES_MAX, ROW_BYTES_MAX, STRIP_BYTES_MAX, STRIPES_MAX},
};
use object_store::{ObjectStoreExt, PutPayload, WriteMultipart, path::Path as Key};

use super::{
    Bucket, Draft, ShardId, Step, StoreError,
    bucket::CALL,
    cells::ENTRY_BYTES,
    failed,
    head::{HEAD_BYTES, Head},
};

/// Large shards on their way at once; each has up to five parts in memory.
pub(super) const SENDS_MAX: usize = 8;
/// Bytes of a part but the last, which object stores want to be of one size and at least 5 MiB; what is smaller is sent
/// at once. An object of more than 78 GiB has larger parts.
const PART_BYTES: u64 = 8 << 20;
/// Parts of one object, as S3 bounds them.
const PARTS_MAX: u64 = 10_000;
/// Parts of one shard on their way at once.
const PARTS_AT_ONCE: usize = 4;
/// The slowest that a large shard may go, in bytes in a second.
const SLOWEST: u64 = 4 << 20;

/// No object is larger; S3 takes 5 TiB, in parts of up to 5 GiB.
const OBJECT_BYTES_MAX: u64 = STRIPES_MAX * (STRIP_BYTES_MAX + ROW_BYTES_MAX + ENTRY_BYTES) as u64
    + (PUBLIC_MANIFEST_BYTES_MAX + HEAD_BYTES) as u64;
const _: () = assert!(OBJECT_BYTES_MAX < 5 << 40 && OBJECT_BYTES_MAX / PARTS_MAX < 5 << 30);

impl Draft {
    /// Makes a draft that was checked an object, and returns the object's bytes. The caller has the guard of the
    /// object.
    pub(super) fn send(&self, bucket: &Bucket, shard: &ShardId, public: &PublicManifest) -> Result<u64, StoreError> {
        let list = self.list.encode();
        let head = Head {
            written: self.written()?,
            public_bytes: u32::try_from(public.encoded().len()).expect("the format bounds P"),
            list_bytes: u32::try_from(list.len()).expect("the format bounds a list"),
            cells_bytes: self.bytes(),
        };
        let front = [Bytes::copy_from_slice(&head.encode(shard)), public.encoded().clone(), list.into()];
        let cells = (0..self.cells()).map(|cell| self.cell(cell));
        let pieces = front.into_iter().map(Ok).chain(cells);
        let (key, bytes) = (bucket.key(shard), head.object_bytes());
        if bytes <= PART_BYTES {
            let payload = pieces.collect::<Result<PutPayload, StoreError>>()?;
            bucket.call("write", &key, CALL, bucket.store.put(&key, payload))?;
        } else {
            let deadline = CALL + Duration::from_secs(bytes / SLOWEST);
            bucket.call("write", &key, deadline, self.send_parts(bucket, &key, bytes, pieces))??;
        }
        self.store.disk.reached(Step::ObjectSent);
        Ok(bytes)
    }

    /// The outer error is the object store's, the inner one that of the draft's file.
    async fn send_parts(
        &self,
        bucket: &Bucket,
        key: &Key,
        bytes: u64,
        pieces: impl Iterator<Item = Result<Bytes, StoreError>>,
    ) -> object_store::Result<Result<(), StoreError>> {
        let _permit = bucket.sends.acquire().await.expect("it is never closed");
        let part = usize::try_from(PART_BYTES.max(bytes.div_ceil(PARTS_MAX))).expect("a part is in memory");
        let mut parts = WriteMultipart::new_with_chunk_size(bucket.store.put_multipart(key).await?, part);
        for piece in pieces {
            let ready = parts.wait_for_capacity(PARTS_AT_ONCE).await;
            match (ready, piece) {
                (Ok(()), Ok(piece)) => parts.put(piece),
                (ready, piece) => {
                    // What cannot be dropped now is dropped by the bucket's own rule for parts that nobody completed.
                    let _ = parts.abort().await;
                    return ready.map(|()| piece.map(drop));
                }
            }
        }
        self.store.disk.reached(Step::PartsSent);
        parts.finish().await.map(|_| Ok(()))
    }

    /// Reads a cell back. It came from a file: what is sent must be what was hashed.
    fn cell(&self, cell: u64) -> Result<Bytes, StoreError> {
        let path = &self.path;
        let range = self.list.range(cell..cell + 1).unwrap_or_default();
        let count = usize::try_from(range.end - range.start).expect("a cell is small");
        let mut bytes = vec![0; count];
        self.file.read_exact_at(&mut bytes, range.start).map_err(failed("read", path))?;
        let bytes = Bytes::from(bytes);
        let is_intact = Cell::take(&mut bytes.clone(), self.columns, self.column)
            .is_ok_and(|read| read.is_intact(self.column) && Some(read.row.hash()) == self.list.row(cell));
        if is_intact { Ok(bytes) } else { Err(StoreError::Damaged { path: path.clone() }) }
    }
}
