//! Blocks as they are compressed: off the workers, once for all who want one at a time, on a share of the cores.
//!
//! Keeps true: as many blocks are compressed at a time as there are places, of one owner's objects half of what the
//! others leave; what was begun is finished and kept, whoever leaves; nobody waits longer than [`TURN_DEADLINE`] for a
//! turn, unless the frames' bytes were promised.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use format::{OwnerId, zstd_frame};
use futures::{
    FutureExt,
    future::{BoxFuture, Shared, WeakShared},
};
use tokio::{task::spawn_blocking, time::timeout};

use super::{
    cache::{BlockCache, BlockKey, Packed},
    presence::Claim,
    room::Room,
};
use crate::error::Fault;

/// Waiting for a turn. Behind it a block goes out stored: at 20 Mbit/s that takes no longer than the wait.
const TURN_DEADLINE: Duration = Duration::from_millis(100);
/// Turns that are waited for where a length was promised that only the compressed block has.
const TURNS_MAX: usize = 50;

/// What comes of compressing a block; none where its turn did not come.
type Flight = BoxFuture<'static, Option<Packed>>;

/// The compressing of blocks.
pub(crate) struct Frames {
    cache: BlockCache,
    /// One place for each block that is compressed at a time.
    room: Arc<Room>,
    /// Those that somebody waits for.
    flights: Mutex<HashMap<BlockKey, WeakShared<Flight>>>,
}

/// A block, until it is compressed or nobody wants that any more.
struct UnderWay {
    frames: Arc<Frames>,
    key: BlockKey,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.frames.flights().remove(&self.key);
    }
}

impl Frames {
    pub(crate) fn new(cache: BlockCache, places: u32) -> Arc<Self> {
        Arc::new(Self { cache, room: Room::new(places), flights: Mutex::default() })
    }

    /// Returns what compressing a block comes to, and keeps that, unless its object was forgotten since the `claim` by
    /// which it was read. Where no turn comes soon, the block goes out stored, unless `is_promised`. Cancel safe.
    ///
    /// # Errors
    /// [`Fault::Busy`] where it was promised and its turn does not come.
    pub(crate) async fn frame(
        self: &Arc<Self>,
        owner: OwnerId,
        key: BlockKey,
        plain: Bytes,
        claim: &Claim,
        is_promised: bool,
    ) -> Result<Packed, Fault> {
        for _ in 0..TURNS_MAX {
            let packed = match self.join(owner, key, &plain, claim) {
                Ok(known) => Some(known),
                Err(flight) => flight.await,
            };
            match packed {
                Some(packed) => return Ok(packed),
                None if is_promised => {}
                None => return Ok(Packed::Stored),
            }
        }
        Err(Fault::Busy)
    }

    /// Returns what compressing the block came to, or will.
    fn join(
        self: &Arc<Self>,
        owner: OwnerId,
        key: BlockKey,
        plain: &Bytes,
        claim: &Claim,
    ) -> Result<Packed, Shared<Flight>> {
        let mut flights = self.flights();
        // What is kept is so before its flight is taken away, so under the lock none slips through.
        if let Some(known) = self.cache.packed(&key) {
            return Ok(known);
        }
        if let Some(flight) = flights.get(&key).and_then(WeakShared::upgrade) {
            return Err(flight);
        }
        let (frames, plain, claim) = (Arc::clone(self), plain.clone(), claim.clone());
        let flight = async move {
            let under_way = UnderWay { frames, key };
            let taken = timeout(TURN_DEADLINE, under_way.frames.room.take(owner, 1)).await.ok()?.ok()?;
            // All of it moves there: whoever leaves neither takes a place away early nor throws the work away.
            let compress = move || {
                let packed = packed(&plain);
                under_way.frames.cache.insert_packed(key, packed.clone(), &claim);
                drop((under_way, taken));
                packed
            };
            spawn_blocking(compress).await.ok()
        };
        let flight = flight.boxed().shared();
        if let Some(weak) = flight.downgrade() {
            flights.insert(key, weak);
        }
        Err(flight)
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<BlockKey, WeakShared<Flight>>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn packed(plain: &[u8]) -> Packed {
    let frame = zstd_frame(plain);
    if frame.len() < plain.len() { Packed::Frame(frame.into()) } else { Packed::Stored }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use format::{BlockIndex, Locator, limits::BLOCK_BYTES, zstd_stored, zstd_stored_bytes};
    use futures::{future::join_all, poll};
    use testing::{noise_of, until};

    use super::*;
    use crate::store::presence::Presences;

    const KEY: BlockKey = BlockKey { locator: Locator([1; 32]), block: BlockIndex(0) };
    const A: OwnerId = OwnerId([1; 32]);
    const B: OwnerId = OwnerId([2; 32]);
    static CLAIM: LazyLock<Claim> = LazyLock::new(|| Presences::new().claim(KEY.locator));

    fn scene() -> (BlockCache, Arc<Frames>, Bytes) {
        let cache = BlockCache::new(1 << 24);
        let frames = Frames::new(cache.clone(), 2);
        (cache, frames, Bytes::from(b"a line of text\n".repeat(BLOCK_BYTES / 15)))
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn those_who_want_a_block_at_the_same_time_have_it_compressed_once() {
        let (cache, frames, plain) = scene();
        let ask = || frames.frame(A, KEY, plain.clone(), &CLAIM, false);
        let made: Vec<Packed> = join_all((0..20).map(|_| ask())).await.into_iter().map(Result::unwrap).collect();
        let held = cache.frame(&KEY).unwrap();
        assert!(held.len() < plain.len() / 10);
        let is_held = |packed: &Packed| matches!(packed, Packed::Frame(frame) if frame.as_ptr() == held.as_ptr());
        assert!(made.iter().all(is_held), "all have the same one");
        assert!(frames.flights().is_empty());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn who_leaves_throws_no_work_away_that_was_begun() {
        let (cache, frames, plain) = scene();
        let mut asked = Box::pin(frames.frame(A, KEY, plain, &CLAIM, false));
        // Where the machine is busy it may be done already, before the poll comes back.
        let _ = poll!(&mut asked);
        drop(asked);
        until("the frame", async || cache.frame(&KEY).is_some()).await;
        until("the place", async || frames.room.try_take(A, 2).is_some()).await;
        assert!(frames.flights().is_empty());
    }

    #[tokio::test]
    async fn where_no_turn_comes_a_block_goes_out_stored_unless_its_bytes_were_promised() {
        let (cache, frames, plain) = scene();
        let other = frames.room.take(B, 2).await.unwrap();
        let mut gone = Box::pin(frames.frame(A, KEY, plain.clone(), &CLAIM, false));
        assert!(poll!(&mut gone).is_pending());
        drop(gone);
        assert!(frames.flights().is_empty(), "who leaves before its turn leaves nothing behind");
        let stored = frames.frame(A, KEY, plain.clone(), &CLAIM, false).await.unwrap();
        assert_eq!(stored, Packed::Stored);
        assert!(cache.packed(&KEY).is_none(), "it is not kept: the next one may have its turn");
        let mut promised = Box::pin(frames.frame(A, KEY, plain.clone(), &CLAIM, true));
        assert!(timeout(2 * TURN_DEADLINE, &mut promised).await.is_err());
        drop(other);
        assert!(matches!(promised.await, Ok(Packed::Frame(frame)) if frame.len() < plain.len() / 10));
    }

    #[tokio::test]
    async fn of_what_gains_nothing_only_that_is_kept() {
        let (cache, frames, _) = scene();
        let noise = Bytes::from(noise_of(1, BLOCK_BYTES));
        for _ in 0..2 {
            let packed = frames.frame(A, KEY, noise.clone(), &CLAIM, false).await.unwrap();
            assert_eq!(packed, Packed::Stored);
            assert_eq!((cache.packed(&KEY), cache.frame(&KEY)), (Some(Packed::Stored), None));
        }
    }

    #[test]
    fn a_stored_block_is_as_long_as_it_is_said_to_be() {
        for length in [0, 1, 255, 256, 65_791, 65_792, 131_071, 131_072, 131_073, BLOCK_BYTES] {
            let block = Bytes::from(vec![7; length]);
            let pieces = zstd_stored(&block);
            assert_eq!(pieces.iter().map(Bytes::len).sum::<usize>(), zstd_stored_bytes(length), "{length}");
            let of_block = pieces.iter().filter(|piece| block.as_ptr_range().contains(&piece.as_ptr()));
            assert_eq!(of_block.map(Bytes::len).sum::<usize>(), length, "nothing of it is copied");
        }
    }
}
