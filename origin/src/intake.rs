//! Request bodies: each is bounded by what its route may carry, and all together by a budget of memory.

use std::{sync::Arc, time::Duration};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use format::limits::BODY_BYTES_PER_SECOND_MIN;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::header::{CONTENT_LENGTH, HeaderMap};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};

/// One permit stands for so many bytes.
const UNIT_BYTES: u64 = 1024;
/// How long a body may lag behind the slowest pace that is taken: a way that stalls for a moment costs no call.
const GRACE: Duration = Duration::from_secs(60);

/// Why a body was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IntakeError {
    /// It is longer than the route allows; the caller's fault.
    #[error("the body is longer than {max} bytes, the most that is taken here")]
    TooLong {
        /// Bytes allowed.
        max: usize,
    },
    /// It comes too slowly, or not at all, and holds memory that others wait for; the caller's fault.
    #[error("the body comes slower than {BODY_BYTES_PER_SECOND_MIN} bytes a second")]
    Slow,
    /// The connection broke; the caller's fault.
    #[error("the body broke off")]
    Broken,
    /// The node stops.
    #[error("the node is stopping")]
    Closed,
}

/// The memory that bodies share.
#[derive(Clone)]
pub(crate) struct Intake {
    budget: Arc<Semaphore>,
    units: u32,
}

/// A body and its share of the budget, given back on drop.
pub(crate) struct Taken {
    pub(crate) bytes: Bytes,
    _share: OwnedSemaphorePermit,
}

impl Intake {
    pub(crate) fn new(budget_bytes: u64) -> Self {
        let units = u32::try_from(budget_bytes / UNIT_BYTES).unwrap_or(u32::MAX);
        let permits = usize::try_from(units).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Self { budget: Arc::new(Semaphore::new(permits)), units }
    }

    /// Returns how much of the budget is in use, 0 to 100.
    pub(crate) fn load(&self) -> u8 {
        let free = u64::try_from(self.budget.available_permits()).unwrap_or(u64::MAX);
        let used = u64::from(self.units).saturating_sub(free);
        u8::try_from(used * 100 / u64::from(self.units.max(1))).unwrap_or(100)
    }

    /// Waits for its share of the budget, then reads a body of at most `max` bytes. The wait ends with the request's
    /// deadline.
    pub(crate) async fn read(&self, headers: &HeaderMap, body: Body, max: usize) -> Result<Taken, IntakeError> {
        let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        // Whoever does not say how much comes takes the share of the most that may.
        let length = announced.unwrap_or(max);
        if length > max {
            return Err(IntakeError::TooLong { max });
        }
        let units = u32::try_from((length as u64).div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX).min(self.units);
        let share = self.budget.clone().acquire_many_owned(units).await.map_err(|_| IntakeError::Closed)?;
        let mut body = Limited::new(body, length);
        let mut bytes = BytesMut::with_capacity(announced.unwrap_or(0));
        let start = Instant::now();
        loop {
            // Each byte that came earns time: what was only announced earns none.
            let earned = Duration::from_secs(bytes.len() as u64 / BODY_BYTES_PER_SECOND_MIN);
            let frame = timeout_at(start + GRACE + earned, body.frame()).await.map_err(|_| IntakeError::Slow)?;
            let Some(frame) = frame else { break };
            let frame = frame.map_err(|error| {
                if error.is::<LengthLimitError>() { IntakeError::TooLong { max } } else { IntakeError::Broken }
            })?;
            if let Ok(part) = frame.into_data() {
                bytes.extend_from_slice(&part);
            }
        }
        Ok(Taken { bytes: bytes.freeze(), _share: share })
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn announcing(length: usize) -> HeaderMap {
        HeaderMap::from_iter([(CONTENT_LENGTH, HeaderValue::from(length))])
    }

    /// Sends 16 KiB, so many seconds apart.
    fn dripping(seconds: u64) -> Body {
        Body::from_stream(futures::stream::unfold(0, move |sent| async move {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            (sent < 64).then(|| (Ok::<_, std::convert::Infallible>(Bytes::from(vec![0; 16 * 1024])), sent + 1))
        }))
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_announces_much_and_sends_little_is_cut_and_gives_its_share_back() {
        let intake = Intake::new(1 << 20);
        let start = Instant::now();
        let nothing = Body::from_stream(futures::stream::pending::<Result<Bytes, std::convert::Infallible>>());
        let cut = intake.read(&announcing(1 << 20), nothing, 1 << 20).await;
        assert!(matches!(cut, Err(IntakeError::Slow)) && start.elapsed() == GRACE);
        assert_eq!(intake.load(), 0);
        // 16 KiB in 37 s is the pace that is taken, in 39 s it is not.
        assert_eq!(intake.read(&announcing(1 << 20), dripping(37), 1 << 20).await.unwrap().bytes.len(), 1 << 20);
        let cut = intake.read(&announcing(1 << 20), dripping(39), 1 << 20).await;
        assert!(matches!(cut, Err(IntakeError::Slow)));
    }
}
