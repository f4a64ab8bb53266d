//! Directories that were read lately, decoded.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use format::{Directory, Entry, Locator, StripeIndex, limits::DIRECTORY_BYTES_MAX};
use moka::future::Cache;
use tokio::task::spawn_blocking;

use super::{cache::BlockCache, miss::Fills, objects::Opened};
use crate::error::Fault;

/// Decoded directories kept, by the bytes of their bodies.
const DIRECTORIES_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// A decoded directory takes about so many times its body.
const DECODED_FACTOR: u64 = 3;
/// Decoding more than this leaves the reactor.
const DECODE_INLINE_BYTES_MAX: usize = 64 * 1024;

/// Directories that were read lately.
pub(crate) struct Directories(Cache<Locator, Arc<Directory>>);

impl Directories {
    pub(crate) fn new() -> Self {
        let weigh = |_: &Locator, directory: &Arc<Directory>| {
            let of_one = |(name, entry): (&str, &Entry)| {
                let below: usize = entry.below.keys().map(|path| path.len() + 80).sum();
                name.len() + entry.mime.len() + 184 + below
            };
            let bytes: usize = directory.entries().map(of_one).sum();
            u32::try_from(bytes).unwrap_or(u32::MAX)
        };
        Self(Cache::builder().max_capacity(DIRECTORIES_BYTES_MAX * DECODED_FACTOR).weigher(weigh).build())
    }

    /// Forgets what an object was decoded to. What is being read now is forgotten as it comes.
    pub(crate) async fn forget(&self, locator: &Locator) {
        self.0.invalidate(locator).await;
    }

    /// Returns what a directory holds. Cancel safe.
    ///
    /// # Errors
    /// [`Fault::Damaged`], or the faults of reading.
    pub(crate) async fn read(
        &self,
        (cache, fills): (&BlockCache, &Arc<Fills>),
        opened: &Arc<Opened>,
    ) -> Result<Arc<Directory>, Fault> {
        let reading = async {
            let body = whole(fills, opened).await?;
            let decode = move || Directory::decode(&body).map(Arc::new).map_err(|_| Fault::Damaged);
            if opened.object.length() <= DECODE_INLINE_BYTES_MAX as u64 {
                decode()
            } else {
                spawn_blocking(decode).await.map_err(|_| Fault::Busy)?
            }
        };
        let (locator, begun) = (opened.object.locator(), Instant::now());
        // Once for all who ask at a time: it takes up to four times the bytes of its body.
        let read = self.0.try_get_with(locator, reading).await.map_err(|fault| (*fault).clone());
        if cache.was_forgotten(&locator, begun) {
            self.forget(&locator).await;
        }
        read
    }
}

/// Reads a directory's whole body; the only object that is ever whole in memory, hence its bound.
async fn whole(fills: &Arc<Fills>, opened: &Arc<Opened>) -> Result<Bytes, Fault> {
    if let Some(inline) = opened.object.inline() {
        return Ok(Bytes::copy_from_slice(inline));
    }
    let geometry = opened.object.geometry().ok_or(Fault::Damaged)?;
    let length = usize::try_from(geometry.length())
        .ok()
        .filter(|length| *length <= DIRECTORY_BYTES_MAX)
        .ok_or(Fault::Damaged)?;
    let mut body = Vec::with_capacity(length);
    for stripe in (0..geometry.stripes()).map(StripeIndex) {
        // Kept decoded, so the blocks need not be; and the owner is asked only once the path is known.
        for (_, block) in fills.unkept(opened, geometry, stripe, 0..geometry.columns(stripe)).await? {
            body.extend_from_slice(&block);
        }
    }
    Ok(body.into())
}
