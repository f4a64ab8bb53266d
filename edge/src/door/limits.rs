//! What bounds connections and their requests, the same on every version of HTTP. How long is waited for a viewer that
//! takes nothing, and for one that asks nothing, is in the configuration.

use std::time::Duration;

use format::limits::BLOCK_BYTES;

use crate::store::hand::Hand;

/// A connection that is silent when the edge ends stays open so long, for a request that is on its way.
pub(super) const LINGER: Duration = Duration::from_secs(1);
/// What a viewer still sends on a connection that is closed is read for so long at most.
pub(super) const REST_DEADLINE: Duration = Duration::from_secs(30);
/// Requests on one connection: now and then a new one, so that memory of a connection does not only grow.
pub(super) const REQUESTS_PER_CONNECTION_MAX: u32 = 10_000;
/// A viewer that takes fewer bytes per second is cut off; slow modems are faster.
const SEND_BYTES_PER_SECOND_MIN: usize = 2 * 1024;
/// Requests at one time on a connection of HTTP/2 or HTTP/3.
pub(super) const STREAMS_MAX: u32 = 64;
/// Largest piece handed to the connection at a time: small enough for HTTP/2 streams to take turns.
pub(super) const PIECE_BYTES: usize = 64 * 1024;
/// The same where each piece is waited for by itself: who takes nothing is soon gone.
pub(super) const PIECE_BYTES_ALONE: usize = 16 * 1024;

/// Content that all answers on a connection of HTTP/2 or HTTP/3 hold until the viewer takes it: a block of 32 of them.
/// Beside it lie a piece of each answer in the buffers of HTTP/2, and what was asked for ahead, in the room that all
/// viewers of the edge share.
pub(super) const HAND_BYTES_MAX: usize = 32 * BLOCK_BYTES;
// What is small has a quarter of it, and finds room there whatever others wait for.
const _: () = assert!(STREAMS_MAX as usize * Hand::SMALL_BYTES_MAX <= HAND_BYTES_MAX / 4);

/// Returns how long a viewer may take for so many bytes of which the last, however few, may take `deadline`.
pub(super) fn patience(deadline: Duration, bytes: usize) -> Duration {
    deadline + Duration::from_secs((bytes / SEND_BYTES_PER_SECOND_MIN) as u64)
}

/// Returns how many bytes must leave in a time, at least.
pub(super) fn bytes_min(time: Duration) -> u64 {
    SEND_BYTES_PER_SECOND_MIN as u64 * time.as_secs()
}
