//! What bounds connections and their requests, the same on every version of HTTP.

use std::time::Duration;

/// An idle connection is closed after so long.
pub(super) const IDLE_SECONDS: u32 = 60;
/// A connection that is silent when the edge ends stays open so long, for a request that is on its way.
pub(super) const LINGER: Duration = Duration::from_secs(1);
/// Requests on one connection: now and then a new one, so that memory of a connection does not only grow.
pub(super) const REQUESTS_PER_CONNECTION_MAX: u32 = 10_000;
/// A viewer that takes fewer bytes per second is cut off; slow modems are faster.
pub(super) const SEND_BYTES_PER_SECOND_MIN: usize = 2 * 1024;
/// So much of what is on its way on an idle connection of HTTP/2 or HTTP/3 must leave in [`IDLE_SECONDS`].
pub(super) const IDLE_BYTES_MIN: u64 = SEND_BYTES_PER_SECOND_MIN as u64 * IDLE_SECONDS as u64;
/// A write of up to 64 KiB must end by then on HTTP/2 and HTTP/3, or one that waits for its turn while others on its
/// connection are taken by then again ([`super::link`]).
pub(super) const WRITE_DEADLINE: Duration = Duration::from_secs(30);
/// Requests at one time on a connection of HTTP/2 or HTTP/3.
pub(super) const STREAMS_MAX: u32 = 64;
/// Largest piece handed to the connection at a time: small enough for HTTP/2 streams to take turns.
pub(super) const PIECE_BYTES: usize = 64 * 1024;
