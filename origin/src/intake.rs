//! Request bodies: each is bounded by what its route may carry, and all together by a budget of memory.

use std::sync::Arc;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::header::{CONTENT_LENGTH, HeaderMap};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// One permit stands for so many bytes.
const UNIT_BYTES: u64 = 1024;

/// Why a body was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IntakeError {
    /// It is longer than the route allows; the caller's fault.
    #[error("the body is longer than {max} bytes, the most that is taken here")]
    TooLong {
        /// Bytes allowed.
        max: usize,
    },
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
        while let Some(frame) = body.frame().await {
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
