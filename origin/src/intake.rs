//! Request bodies: each is bounded by what its route may carry, those of one caller by its share of a budget of memory,
//! and all together by the budget.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use format::{NodeName, limits::BODY_BYTES_PER_SECOND_MIN};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::header::{CONTENT_LENGTH, HeaderMap};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};

/// One permit stands for so many bytes.
const UNIT_BYTES: u64 = 1024;
/// One caller's bodies take at most this part of the budget: whoever announces much and sends it slowly keeps nobody
/// else out.
const SHARES: u32 = 8;
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
    /// What each caller has left of its share. Operators give the names, so there are few.
    shares: Arc<Mutex<HashMap<NodeName, Arc<Semaphore>>>>,
}

/// A body and its share of the budget, given back on drop.
pub(crate) struct Taken {
    pub(crate) bytes: Bytes,
    _shares: [OwnedSemaphorePermit; 2],
}

impl Intake {
    pub(crate) fn new(budget_bytes: u64) -> Self {
        let units = u32::try_from(budget_bytes / UNIT_BYTES).unwrap_or(u32::MAX);
        let permits = usize::try_from(units).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Self { budget: Arc::new(Semaphore::new(permits)), units, shares: Arc::default() }
    }

    /// Returns what a caller has left of its share, and the units of a whole one.
    fn share(&self, caller: &NodeName) -> (Arc<Semaphore>, u32) {
        let whole = self.units.div_ceil(SHARES);
        let new = || Arc::new(Semaphore::new(usize::try_from(whole).unwrap_or(Semaphore::MAX_PERMITS)));
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        (shares.entry(caller.clone()).or_insert_with(new).clone(), whole)
    }

    /// Returns how much of the budget is in use, 0 to 100.
    pub(crate) fn load(&self) -> u8 {
        let free = u64::try_from(self.budget.available_permits()).unwrap_or(u64::MAX);
        let used = u64::from(self.units).saturating_sub(free);
        u8::try_from(used * 100 / u64::from(self.units.max(1))).unwrap_or(100)
    }

    /// Waits for its share of the budget, then reads a caller's body of at most `max` bytes. The wait ends with the
    /// request's deadline.
    pub(crate) async fn read(
        &self,
        caller: &NodeName,
        headers: &HeaderMap,
        body: Body,
        max: usize,
    ) -> Result<Taken, IntakeError> {
        let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        // Whoever does not say how much comes takes the share of the most that may.
        let length = announced.unwrap_or(max);
        if length > max {
            return Err(IntakeError::TooLong { max });
        }
        let units = u32::try_from((length as u64).div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX).min(self.units);
        let closed = |_| IntakeError::Closed;
        // The own share first: who waits for that holds nothing that others wait for.
        let (own, whole) = self.share(caller);
        let own = own.acquire_many_owned(units.min(whole)).await.map_err(closed)?;
        let all = self.budget.clone().acquire_many_owned(units).await.map_err(closed)?;
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
        Ok(Taken { bytes: bytes.freeze(), _shares: [own, all] })
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn announcing(length: usize) -> HeaderMap {
        HeaderMap::from_iter([(CONTENT_LENGTH, HeaderValue::from(length))])
    }

    fn silent() -> Body {
        Body::from_stream(futures::stream::pending::<Result<Bytes, std::convert::Infallible>>())
    }

    /// Sends 16 KiB, so many seconds apart.
    fn dripping(seconds: u64) -> Body {
        Body::from_stream(futures::stream::unfold(0, move |sent| async move {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            (sent < 64).then(|| (Ok::<_, std::convert::Infallible>(Bytes::from(vec![0; 16 * 1024])), sent + 1))
        }))
    }

    #[tokio::test(start_paused = true)]
    async fn one_caller_keeps_no_other_out_however_much_it_announces() {
        let intake = Intake::new(1 << 20);
        let [thief, owner] = ["t1", "t2"].map(|name| name.parse::<NodeName>().unwrap());
        let announced = announcing(64 * 1024);
        // An eighth of the budget is 128 KiB; what is beyond waits for the caller's own bodies.
        let bodies = (0..3).map(|_| intake.read(&thief, &announced, silent(), 1 << 20));
        let mut held = std::pin::pin!(futures::future::join_all(bodies));
        assert!(futures::poll!(&mut held).is_pending());
        assert_eq!(intake.load(), 12);
        let taken = intake.read(&owner, &announcing(3), Body::from("abc"), 1 << 20).await.unwrap();
        assert_eq!(&taken.bytes[..], b"abc");
        drop(taken);
        // A body that is longer than a share takes all of it.
        let long = intake.read(&owner, &announcing(1 << 19), Body::from(vec![0; 1 << 19]), 1 << 20).await;
        assert_eq!(long.unwrap().bytes.len(), 1 << 19);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_announces_much_and_sends_little_is_cut_and_gives_its_share_back() {
        let (intake, announced) = (Intake::new(1 << 20), announcing(1 << 20));
        let start = Instant::now();
        let caller: NodeName = "t1".parse().unwrap();
        let read = |body| intake.read(&caller, &announced, body, 1 << 20);
        let cut = read(silent()).await;
        assert!(matches!(cut, Err(IntakeError::Slow)) && start.elapsed() == GRACE);
        assert_eq!(intake.load(), 0);
        // 16 KiB in 37 s is the pace that is taken, in 39 s it is not.
        assert_eq!(read(dripping(37)).await.unwrap().bytes.len(), 1 << 20);
        let cut = read(dripping(39)).await;
        assert!(matches!(cut, Err(IntakeError::Slow)));
    }
}
