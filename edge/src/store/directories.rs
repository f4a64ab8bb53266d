//! Directories that were read lately, decoded.
//!
//! Keeps true: what is kept has a bound, and what is being read and decoded has another for all of it, which owners
//! share.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use format::{Directory, Entry, Locator, StripeIndex, limits::DIRECTORY_BYTES_MAX};
use moka::future::Cache;
use tokio::task::spawn_blocking;

use super::{cache::BlockCache, miss::Fills, objects::Opened, room::Room};
use crate::error::Fault;

/// Decoded directories kept, by the bytes of their bodies.
const DIRECTORIES_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// A decoded directory takes about so many times its body.
const DECODED_FACTOR: usize = 3;
/// Decoding more than this leaves the reactor.
const DECODE_INLINE_BYTES_MAX: usize = 64 * 1024;
/// A directory takes so many times its body while it is decoded: the body, and what it becomes.
const READING_FACTOR: usize = 1 + DECODED_FACTOR;
/// A place in the room of directories that are being read, in bytes.
const PLACE_BYTES: usize = 64 * 1024;
/// Of such places: what the largest directory takes.
const PLACES: usize = READING_FACTOR * DIRECTORY_BYTES_MAX / PLACE_BYTES;

/// Directories that were read lately.
pub(crate) struct Directories {
    decoded: Cache<Locator, Arc<Directory>>,
    /// For those that are being read and decoded.
    room: Arc<Room>,
}

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
        let decoded =
            Cache::builder().max_capacity(DIRECTORIES_BYTES_MAX * DECODED_FACTOR as u64).weigher(weigh).build();
        Self { decoded, room: Room::new(u32::try_from(PLACES).unwrap_or(u32::MAX)) }
    }

    /// Forgets what an object was decoded to. What is being read now is forgotten as it comes.
    pub(crate) async fn forget(&self, locator: &Locator) {
        self.decoded.invalidate(locator).await;
    }

    /// Returns what a directory holds. Cancel safe.
    ///
    /// # Errors
    /// [`Fault::Damaged`], [`Fault::Busy`] where no room for it comes free in time, or the faults of reading.
    pub(crate) async fn read(
        &self,
        (cache, fills): (&BlockCache, &Arc<Fills>),
        opened: &Arc<Opened>,
    ) -> Result<Arc<Directory>, Fault> {
        let reading = async {
            let room = self.room.take(opened.record.lease.owner, places(opened.object.length())).await?;
            let body = whole(fills, opened).await?;
            let decode = move || {
                let decoded = Directory::decode(&body).map(Arc::new).map_err(|_| Fault::Damaged);
                // Here, for this ends no sooner where nobody waits for it any more.
                drop((body, room));
                decoded
            };
            if opened.object.length() <= DECODE_INLINE_BYTES_MAX as u64 {
                decode()
            } else {
                spawn_blocking(decode).await.map_err(|_| Fault::Busy)?
            }
        };
        let (locator, begun) = (opened.object.locator(), Instant::now());
        // Once for all who ask at a time: it takes up to four times the bytes of its body.
        let read = self.decoded.try_get_with(locator, reading).await.map_err(|fault| (*fault).clone());
        if cache.was_forgotten(&locator, begun) {
            self.forget(&locator).await;
        }
        read
    }
}

/// Returns the places that a directory takes whose body has so many bytes. Of one that is larger than any may be,
/// nothing is read.
fn places(length: u64) -> u32 {
    let body = usize::try_from(length).unwrap_or(usize::MAX).min(DIRECTORY_BYTES_MAX);
    u32::try_from((body * READING_FACTOR).div_ceil(PLACE_BYTES).max(1)).unwrap_or(u32::MAX)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_being_decoded_has_a_bound_for_all_of_it() {
        let place = (PLACE_BYTES / READING_FACTOR) as u64;
        for (length, expected) in
            [(0, 1), (1, 1), (place, 1), (place + 1, 2), (DIRECTORY_BYTES_MAX as u64, 2048), (u64::MAX, 2048)]
        {
            assert_eq!(places(length), expected, "{length}");
        }
        let (directories, owner) = (Directories::new(), format::OwnerId([1; 32]));
        let largest = directories.room.take(owner, places(DIRECTORY_BYTES_MAX as u64)).await.unwrap();
        assert!(directories.room.try_take(owner, places(1)).is_none(), "the largest has all of it, alone");
        drop(largest);
        assert!(directories.room.try_take(owner, places(1)).is_some());
    }
}
