//! Directories that were read lately, decoded.
//!
//! A directory is read once for all who ask at a time, in a task of its own: whoever came first may leave. Keeps true:
//! what is kept has a bound; so has what is being read, of which one directory takes a quarter at most while it waits
//! for origins, and what is being decoded, which waits for nobody. Owners share each.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use client::Scope;
use format::{Directory, Entry, Locator, StripeIndex, limits::DIRECTORY_BYTES_MAX};
use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use moka::sync::Cache;
use tokio::{runtime::Handle, task::spawn_blocking, time::timeout};

use super::{miss::Fills, objects::Opened, presence::Presence, room::Room};
use crate::error::Fault;

/// Decoded directories kept, by the bytes of their bodies.
const DIRECTORIES_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// A decoded directory takes about so many times its body.
const DECODED_FACTOR: usize = 3;
/// Decoding more than this leaves the reactor.
const DECODE_INLINE_BYTES_MAX: usize = 64 * 1024;
/// A place in the rooms, in bytes.
const PLACE_BYTES: usize = 64 * 1024;
/// Places for bodies that are being read. The largest takes a quarter: its origins may be slow.
const READING_PLACES: usize = 4 * DIRECTORY_BYTES_MAX / PLACE_BYTES;
/// Places for what bodies are being decoded to. The largest takes all, for as long as a core takes.
const DECODING_PLACES: usize = DECODED_FACTOR * DIRECTORY_BYTES_MAX / PLACE_BYTES;
/// A body must be here by then: the largest comes so at 4.5 Mbit/s.
const READ_DEADLINE: Duration = Duration::from_secs(60);

/// A read that all who want a directory wait for.
type Flight = Shared<BoxFuture<'static, Result<Arc<Directory>, Fault>>>;

/// Directories that were read lately.
pub(crate) struct Directories {
    decoded: Cache<Locator, Decoded>,
    reading: Arc<Room>,
    decoding: Arc<Room>,
    flights: Mutex<HashMap<Locator, Flight>>,
    /// Where directories are read: the runtime on which this was made.
    control: Handle,
}

/// A directory in memory.
#[derive(Clone)]
struct Decoded {
    directory: Arc<Directory>,
    /// The record may leave before it.
    _presence: Arc<Presence>,
}

/// A directory that is being read, until this is dropped, whatever ends it.
struct UnderWay {
    directories: Arc<Directories>,
    locator: Locator,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.directories.flights().remove(&self.locator);
    }
}

impl Directories {
    pub(crate) fn new() -> Arc<Self> {
        let weigh = |_: &Locator, decoded: &Decoded| {
            let of_one = |(name, entry): (&str, &Entry)| {
                let below: usize = entry.below.keys().map(|path| path.len() + 80).sum();
                name.len() + entry.mime.len() + 184 + below
            };
            let bytes: usize = decoded.directory.entries().map(of_one).sum();
            u32::try_from(bytes).unwrap_or(u32::MAX)
        };
        let room = |places| Room::new(u32::try_from(places).unwrap_or(u32::MAX));
        Arc::new(Self {
            decoded: Cache::builder()
                .max_capacity(DIRECTORIES_BYTES_MAX * DECODED_FACTOR as u64)
                .weigher(weigh)
                .build(),
            reading: room(READING_PLACES),
            decoding: room(DECODING_PLACES),
            flights: Mutex::default(),
            control: Handle::current(),
        })
    }

    /// Forgets what an object was decoded to. What is being read now knows by its claim.
    pub(crate) fn forget(&self, locator: &Locator) {
        self.decoded.invalidate(locator);
    }

    /// Returns what a directory holds. Cancel safe: the read goes on.
    ///
    /// # Errors
    /// [`Fault::Damaged`], [`Fault::Busy`] where no room for it comes free in time, [`Fault::Slow`], or the faults of
    /// reading.
    pub(crate) async fn read(
        self: &Arc<Self>,
        fills: &Arc<Fills>,
        opened: &Arc<Opened>,
    ) -> Result<Arc<Directory>, Fault> {
        match self.join(fills, opened) {
            Ok(directory) => Ok(directory),
            Err(flight) => flight.await,
        }
    }

    /// Returns a directory that is here, or what brings it.
    fn join(self: &Arc<Self>, fills: &Arc<Fills>, opened: &Arc<Opened>) -> Result<Arc<Directory>, Flight> {
        let locator = opened.object.locator();
        let held = || self.decoded.get(&locator).map(|decoded| decoded.directory);
        if let Some(directory) = held() {
            return Ok(directory);
        }
        let mut flights = self.flights();
        if let Some(flight) = flights.get(&locator) {
            return Err(flight.clone());
        }
        // What was read is kept before its flight is taken away, so under the lock none slips through.
        if let Some(directory) = held() {
            return Ok(directory);
        }
        let (directories, fills, opened) = (Arc::clone(self), Arc::clone(fills), Arc::clone(opened));
        // Ends by its deadlines; whoever waits may leave meanwhile.
        let task = self.control.spawn(Scope::current().around(async move {
            // Made here: a runtime that ends drops what it is given at once, and the map is held now.
            let here = UnderWay { directories, locator };
            here.directories.bring(&fills, &opened).await
        }));
        let flight = async move { task.await.unwrap_or(Err(Fault::Busy)) }.boxed().shared();
        flights.insert(locator, flight.clone());
        Err(flight)
    }

    /// Reads, decodes and keeps a directory.
    async fn bring(&self, fills: &Arc<Fills>, opened: &Arc<Opened>) -> Result<Arc<Directory>, Fault> {
        let (owner, length) = (opened.record.lease.owner, opened.object.length());
        let room = self.reading.take(owner, places(length, 1)).await?;
        let body = timeout(READ_DEADLINE, whole(fills, opened)).await.map_err(|_| Fault::Slow)??;
        let directory = if body.len() <= DECODE_INLINE_BYTES_MAX {
            decode(&body)?
        } else {
            let decoding = self.decoding.take(owner, places(length, DECODED_FACTOR)).await?;
            let decode = move || {
                let decoded = decode(&body);
                // Here, for this ends no sooner where nobody waits for it any more.
                drop((body, room, decoding));
                decoded
            };
            spawn_blocking(decode).await.map_err(|_| Fault::Busy)??
        };
        let (locator, claim) = (opened.object.locator(), opened.claim());
        self.decoded.insert(locator, Decoded { directory: Arc::clone(&directory), _presence: claim.presence() });
        // Now, because whoever forgets the object after this finds it.
        if claim.is_forgotten() {
            self.forget(&locator);
        }
        Ok(directory)
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<Locator, Flight>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn decode(body: &Bytes) -> Result<Arc<Directory>, Fault> {
    Directory::decode(body).map(Arc::new).map_err(|_| Fault::Damaged)
}

/// Returns the places that so many times a directory's body takes. Of one that is larger than any may be, nothing is
/// read.
fn places(length: u64, times: usize) -> u32 {
    let body = usize::try_from(length).unwrap_or(usize::MAX).min(DIRECTORY_BYTES_MAX);
    u32::try_from((body * times).div_ceil(PLACE_BYTES).max(1)).unwrap_or(u32::MAX)
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
    async fn the_largest_takes_a_quarter_while_it_is_read_and_all_while_it_is_decoded() {
        let (place, largest) = (PLACE_BYTES as u64, DIRECTORY_BYTES_MAX as u64);
        for (length, expected) in
            [(0, 1), (1, 1), (place, 1), (place + 1, 2), (largest, 512), (largest + 1, 512), (u64::MAX, 512)]
        {
            assert_eq!(places(length, 1), expected, "{length}");
        }
        let (directories, [owner, other]) = (Directories::new(), [1, 2].map(|byte| format::OwnerId([byte; 32])));
        let read = [(); 2].map(|()| directories.reading.try_take(owner, places(largest, 1)));
        assert!(read.iter().all(Option::is_some) && directories.reading.try_take(owner, 1).is_none());
        assert!(directories.reading.try_take(other, places(largest, 1)).is_some(), "another owner's has its place");
        let decoded = directories.decoding.try_take(owner, places(largest, DECODED_FACTOR));
        assert!(decoded.is_some() && directories.decoding.try_take(other, 1).is_none());
    }
}
