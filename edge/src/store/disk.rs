//! The cache tier under memory: what origins answered, on a local disk, as ciphertext with its proof.
//!
//! foyer keeps the bytes, in files that never grow beyond the limit together; they survive a restart. Keeps true:
//! plaintext is never written; what is read is proven under the object's root like an origin's word, so a disk that
//! lies or rots costs a fetch; an object that is asked for once, as by who reads everything, drives out nothing.

use std::{
    fs::{DirBuilder, File, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::DirBuilderExt,
    path::PathBuf,
    sync::Arc,
    time::Instant,
};

use async_trait::async_trait;
use bytes::Bytes;
use client::{ShardAsk, Shelf};
use format::{ObjectId, StripeIndex};
use foyer::{
    BlockEngineConfig, Code, DeviceBuilder, FsDeviceBuilder, HybridCache, HybridCacheBuilder, HybridCachePolicy,
    HybridCacheProperties, Load, Location,
};
use moka::{Entry, sync::Cache};

use crate::{config::DiskConfig, metrics::Metrics};

/// A file of the tier, and what is evicted at once: a thousandth of the limit, for each file stays open, but no less
/// than this.
const FILE_BYTES_MIN: u64 = 4 * 1024 * 1024;
const FILES_MAX: u64 = 1024;
/// Answers on their way to the disk; more are dropped.
const QUEUE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Answers about objects asked for once, kept in memory until they are asked for again. Of the tier's limit: an eighth
/// at most.
const FRESH_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// An answer with its length and padding is so long on the disk that its entry ends with a page: foyer fills the last
/// page of an entry with whatever its buffer held, which is memory that was never initialised.
const PAGE_BYTES: usize = 4096;
/// What foyer 0.22 puts around a value: its header, and the key.
const ENTRY_BYTES: usize = 36 + size_of::<u128>();
const LENGTH_BYTES: usize = size_of::<u64>();
/// A strip of 256 KiB with its proof is far below.
const ANSWER_BYTES_MAX: u64 = 1024 * 1024;

/// Why the tier cannot be opened; the operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The folder cannot be made or written.
    #[error("{} cannot be used", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process has it.
    #[error("{} is in use by another edge; give each one its own folder", path.display())]
    Taken {
        /// The folder.
        path: PathBuf,
    },
    /// The file in it cannot be made or read.
    #[error("the cache in {} cannot be opened", path.display())]
    Cache {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: foyer::Error,
    },
}

/// Strips on a disk.
pub(crate) struct DiskTier {
    cache: HybridCache<u128, Kept>,
    /// Of each stripe what was answered.
    fresh: Cache<(ObjectId, u64), Vec<(ShardAsk, Bytes)>>,
    metrics: Arc<Metrics>,
    /// Locked until the tier is closed.
    lock: File,
}

impl DiskTier {
    /// Opens the tier and finds what is kept in it: a second or so for each 100 GB.
    pub(crate) async fn open(config: &DiskConfig, metrics: Arc<Metrics>) -> Result<Self, DiskError> {
        let folder = |source| DiskError::Folder { path: config.path.clone(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(&config.path).map_err(folder)?;
        let lock = File::create(config.path.join("lock")).map_err(folder)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => DiskError::Taken { path: config.path.clone() },
            TryLockError::Error(source) => folder(source),
        })?;
        let cache = |source| DiskError::Cache { path: config.path.clone(), source };
        let bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let files = FsDeviceBuilder::new(config.path.join("strips")).with_capacity(bytes(config.bytes_max));
        let engine = BlockEngineConfig::new(files.build().map_err(cache)?)
            .with_block_size(bytes((config.bytes_max / FILES_MAX).max(FILE_BYTES_MIN)))
            .with_buffer_pool_size(QUEUE_BYTES_MAX)
            .with_submit_queue_size_threshold(QUEUE_BYTES_MAX);
        let built = HybridCacheBuilder::new()
            .with_policy(HybridCachePolicy::WriteOnInsertion)
            .with_flush_on_close(false)
            .memory(QUEUE_BYTES_MAX)
            .with_weighter(|_: &u128, kept: &Kept| kept.0.len())
            .storage()
            .with_engine_config(engine)
            .build();
        let weigh = |_: &_, answers: &Vec<(ShardAsk, Bytes)>| {
            u32::try_from(answers.iter().map(|(_, body)| body.len()).sum::<usize>()).unwrap_or(u32::MAX)
        };
        let fresh = Cache::builder().max_capacity(FRESH_BYTES_MAX.min(config.bytes_max / 8)).weigher(weigh).build();
        Ok(Self { cache: built.await.map_err(cache)?, fresh, metrics, lock })
    }

    /// The tier as the reader of an object sees it; `wanted` when the object was asked for before.
    pub(crate) fn shelf(&self, wanted: bool) -> DiskShelf<'_> {
        DiskShelf { tier: self, wanted }
    }

    pub(crate) fn holds(&self, ask: &ShardAsk) -> bool {
        self.cache.storage().may_contains(&key(ask))
    }

    /// Writes what is still here of a stripe whose object was asked for once, and now is again.
    pub(crate) fn keep(&self, object: &ObjectId, stripe: StripeIndex) {
        for (ask, body) in self.fresh.remove(&(*object, stripe.0)).into_iter().flatten() {
            self.write(&ask, body);
        }
    }

    /// Forgets an answer. Its bytes stay on the disk until others take their place, and one that restarts may find them
    /// again.
    pub(crate) fn forget(&self, ask: &ShardAsk) {
        self.fresh.remove(&(ask.object, ask.first));
        if self.holds(ask) {
            self.cache.remove(&key(ask));
        }
    }

    fn write(&self, ask: &ShardAsk, body: Bytes) {
        self.metrics.disk_writes.inc();
        let properties = HybridCacheProperties::default().with_location(Location::OnDisk);
        self.cache.insert_with_properties(key(ask), Kept(body), properties);
    }

    /// Writes what is on its way and ends.
    pub(crate) async fn close(&self) {
        if let Err(error) = self.cache.close().await {
            tracing::warn!(%error, "the disk cache was not closed in order; what it lacks is read from origins again");
        }
        // Nothing is written any more. A connection that is being cut may hold the tier a moment longer.
        if let Err(error) = self.lock.unlock() {
            tracing::warn!(%error, "the folder of the disk cache stays locked until the edge has ended");
        }
    }
}

/// The tier as the reader of one object sees it.
pub(crate) struct DiskShelf<'t> {
    tier: &'t DiskTier,
    wanted: bool,
}

#[async_trait]
impl Shelf for DiskShelf<'_> {
    fn holds(&self, ask: &ShardAsk) -> bool {
        self.tier.holds(ask)
    }

    async fn get(&self, ask: &ShardAsk) -> Option<Bytes> {
        let found = match self.tier.cache.storage().load(&key(ask)).await {
            Ok(Load::Entry { value, .. }) => Some(value.0),
            Ok(Load::Piece { piece, .. }) => Some(piece.value().0.clone()),
            Ok(Load::Miss | Load::Throttled) => None,
            Err(error) => {
                self.tier.metrics.disk_faults.inc();
                tracing::warn!(%error, "the disk cache cannot be read");
                None
            }
        };
        if found.is_some() {
            self.tier.metrics.disk_hits.inc();
        }
        found
    }

    fn offer(&self, ask: &ShardAsk, body: &Bytes, _: Instant) {
        if self.wanted {
            return self.tier.write(ask, body.clone());
        }
        self.tier.fresh.entry((ask.object, ask.first)).and_upsert_with(|before| {
            let mut answers = before.map(Entry::into_value).unwrap_or_default();
            answers.push((*ask, body.clone()));
            answers
        });
    }

    fn wrong(&self, ask: &ShardAsk) {
        self.tier.metrics.disk_faults.inc();
        self.tier.cache.storage().delete(&key(ask));
    }
}

/// What a node answered, as it lies on the disk: its length in 8 bytes (little endian), itself, and zeros up to a page.
struct Kept(Bytes);

impl Kept {
    fn padding(&self) -> usize {
        let bytes = ENTRY_BYTES + LENGTH_BYTES + self.0.len();
        bytes.next_multiple_of(PAGE_BYTES) - bytes
    }
}

impl Code for Kept {
    fn encode(&self, writer: &mut impl Write) -> foyer::Result<()> {
        let length = (self.0.len() as u64).to_le_bytes();
        for part in [&length, &self.0[..], &[0; PAGE_BYTES][..self.padding()]] {
            writer.write_all(part).map_err(foyer::Error::io_error)?;
        }
        Ok(())
    }

    fn decode(reader: &mut impl Read) -> foyer::Result<Self> {
        let mut length = [0; LENGTH_BYTES];
        reader.read_exact(&mut length).map_err(foyer::Error::io_error)?;
        let length = u64::from_le_bytes(length);
        let mut body = Vec::new();
        // What is too short, like all that is wrong, is found by its proof.
        reader.take(length.min(ANSWER_BYTES_MAX)).read_to_end(&mut body).map_err(foyer::Error::io_error)?;
        Ok(Self(body.into()))
    }

    fn estimated_size(&self) -> usize {
        LENGTH_BYTES + self.0.len() + self.padding()
    }
}

/// Names an answer. The object's id is a hash and cannot be chosen, so neither can this.
fn key(ask: &ShardAsk) -> u128 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&ask.object.0).update(&(ask.column as u64).to_le_bytes()).update(&ask.first.to_le_bytes());
    let mut key = [0; 16];
    hasher.finalize_xof().fill(&mut key);
    u128::from_le_bytes(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_comes_back_and_its_entry_ends_with_a_page() {
        for length in [0, 1, 4000, 4036, 4037, 4096, 70_000, 270_000] {
            let kept = Kept(vec![7; length].into());
            let mut written = Vec::new();
            kept.encode(&mut written).unwrap();
            assert_eq!((written.len() + ENTRY_BYTES) % PAGE_BYTES, 0, "{length}");
            assert_eq!(written.len(), kept.estimated_size());
            assert_eq!(Kept::decode(&mut &written[..]).unwrap().0, kept.0);
            for cut in [0, LENGTH_BYTES - 1, LENGTH_BYTES, written.len() / 2] {
                let _ = Kept::decode(&mut &written[..cut.min(written.len())]);
            }
            written[..LENGTH_BYTES].fill(0xff);
            let decoded = Kept::decode(&mut &written[..]).unwrap().0.len() as u64;
            assert!(decoded <= ANSWER_BYTES_MAX);
        }
    }
}
