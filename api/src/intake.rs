//! The body of an upload on its way to the twin: paced, counted against the token's quota, and handed over as something
//! that can be read, with at most half a MiB in between.
//!
//! Keeps true: a body that breaks off is an error for whoever reads it, never a shorter body.

use std::{
    io::{self, Read},
    sync::Arc,
    time::Duration,
};

use axum::body::BodyDataStream;
use bytes::{Buf, Bytes};
use futures::StreamExt;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use twin::ApiConfig;

use crate::{
    pace::Pace,
    places::Held,
    quota::{NoRoom, OBJECT_BYTES_MIN, Reservation},
};

/// How often it is looked whether a body that does not come keeps others waiting.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Frames between the connection and the twin; hyper's are of 64 KiB at most.
const FRAMES_MAX: usize = 8;

/// Why a body was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IntakeError {
    /// It is longer than an upload may be; the caller's fault.
    #[error("an upload has at most {max} bytes here")]
    TooLong {
        /// Bytes allowed.
        max: u64,
    },
    /// The token may not store so much, or the spool has no room.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// It comes too slowly, or not at all.
    #[error(
        "the body comes too slowly: some byte within {idle} s, and {pace} bytes a second, is the least now; \
         upload it in parts"
    )]
    Slow {
        /// Seconds.
        idle: u64,
        /// Bytes a second; more while others wait for the place.
        pace: u64,
    },
    /// The connection broke; the caller's fault, or the network's.
    #[error("the body broke off before its end; nothing of it was stored")]
    Broken,
    /// The twin stops and waits no longer.
    #[error("the twin is stopping")]
    Stopping,
    /// The token was ended while the body came.
    #[error("the token was ended while the body came; nothing of it was stored")]
    Ended,
}

/// What bounds a body.
#[derive(Debug, Clone)]
pub(crate) struct Bounds {
    idle: Duration,
    pace: u64,
    max: u64,
    cut: CancellationToken,
    ended: CancellationToken,
}

/// A body that is read frame by frame.
pub(crate) struct Body {
    frames: BodyDataStream,
    bounds: Bounds,
    announced: u64,
    /// Bytes that came.
    taken: u64,
    pace: Pace,
    /// Taken of the token's quota for them.
    pub(crate) reservation: Reservation,
    /// Taken of the spool, for what is written there.
    pub(crate) spooled: Option<Reservation>,
    /// The place that it holds while it comes.
    pub(crate) held: Held,
}

impl Bounds {
    /// Returns those of a configuration. A body is cut when `cut` or `ended` is cancelled.
    pub(crate) fn of(config: &ApiConfig, cut: CancellationToken, ended: CancellationToken) -> Self {
        let max = config.upload_bytes_max.unwrap_or(u64::MAX);
        Self { idle: config.idle(), pace: config.bytes_per_second_min, max, cut, ended }
    }

    /// The same for a body of at most so many bytes.
    pub(crate) fn at_most(self, bytes: u64) -> Self {
        Self { max: self.max.min(bytes), ..self }
    }

    fn slow(&self, strain: u32) -> IntakeError {
        IntakeError::Slow { idle: self.idle.as_secs(), pace: self.pace.saturating_mul(strain.into()) }
    }
}

impl Body {
    /// Begins a body. One that says how long it will be takes its bytes now, and is refused before its first byte if
    /// it may not have them. An object's least is taken of each.
    pub(crate) fn begin(
        body: axum::body::Body,
        announced: Option<u64>,
        bounds: Bounds,
        reservation: Reservation,
    ) -> Result<Self, IntakeError> {
        let length = announced.unwrap_or(0);
        if length > bounds.max {
            return Err(IntakeError::TooLong { max: bounds.max });
        }
        let (frames, pace) = (body.into_data_stream(), Pace::default());
        let held = Held::default();
        let mut it = Self { frames, bounds, announced: length, taken: 0, pace, reservation, spooled: None, held };
        it.reach(length)?;
        Ok(it)
    }

    /// Has it count against the spool too.
    pub(crate) fn spool(&mut self, reservation: Reservation) -> Result<(), NoRoom> {
        self.spooled.insert(reservation).reach(self.announced)
    }

    fn reach(&mut self, bytes: u64) -> Result<(), NoRoom> {
        self.reservation.reach(bytes.max(OBJECT_BYTES_MIN))?;
        self.spooled.as_mut().map_or(Ok(()), |spooled| spooled.reach(bytes))
    }

    /// Returns how many bytes its sender said that there are; zero when nothing was said.
    pub(crate) fn announced(&self) -> u64 {
        self.announced
    }

    /// Returns how many bytes came.
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    /// Hands all of it over, until nobody reads it any more.
    pub(crate) async fn pour(&mut self, into: Inlet) -> Result<(), IntakeError> {
        while let Some(bytes) = self.next().await? {
            if !into.put(bytes).await {
                return Ok(());
            }
        }
        into.end().await;
        Ok(())
    }

    /// Returns the next bytes, or none at the end. Cancel safe.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, IntakeError> {
        let Some(bytes) = self.frame().await? else { return Ok(None) };
        self.taken += bytes.len() as u64;
        if self.taken > self.bounds.max {
            return Err(IntakeError::TooLong { max: self.bounds.max });
        }
        self.reach(self.taken)?;
        Ok(Some(bytes))
    }

    /// Waits for the next frame, as long as its sender keeps the pace.
    async fn frame(&mut self) -> Result<Option<Bytes>, IntakeError> {
        let mut idle = Duration::ZERO;
        loop {
            let strain = self.held.strain();
            let left = self.pace.left(strain).min(self.bounds.idle.saturating_sub(idle));
            if left.is_zero() {
                return Err(self.bounds.slow(strain));
            }
            let begun = Instant::now();
            let frame = tokio::select! {
                frame = timeout(left.min(LOOK_EVERY), self.frames.next()) => frame,
                () = self.bounds.ended.cancelled() => return Err(IntakeError::Ended),
                () = self.bounds.cut.cancelled() => return Err(IntakeError::Stopping),
            };
            let waited = begun.elapsed();
            idle += waited;
            let Ok(frame) = frame else {
                self.pace.count(waited, 0, self.bounds.pace);
                continue;
            };
            let frame = frame.transpose().map_err(|_| IntakeError::Broken)?;
            self.pace.count(waited, frame.as_ref().map_or(0, |it| it.len() as u64), self.bounds.pace);
            return Ok(frame);
        }
    }
}

/// What is handed over.
enum Part {
    Bytes(Bytes),
    End,
}

/// Where the bytes of a body are put in.
pub(crate) struct Inlet(mpsc::Sender<Part>);

/// Where they are read: on a thread that may block.
pub(crate) struct Outlet {
    from: mpsc::Receiver<Part>,
    rest: Bytes,
    is_over: bool,
}

/// Makes a pipe of [`FRAMES_MAX`] frames.
pub(crate) fn pipe() -> (Inlet, Outlet) {
    let (to, from) = mpsc::channel(FRAMES_MAX);
    (Inlet(to), Outlet { from, rest: Bytes::new(), is_over: false })
}

impl Inlet {
    /// Puts bytes in, once there is room. Returns whether anybody reads them still.
    pub(crate) async fn put(&self, bytes: Bytes) -> bool {
        bytes.is_empty() || self.0.send(Part::Bytes(bytes)).await.is_ok()
    }

    /// Says that the body is whole. Without it the reader gets an error.
    pub(crate) async fn end(self) {
        // Whoever reads no more has its own error to tell.
        let _ = self.0.send(Part::End).await;
    }
}

impl Read for Outlet {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() && !self.is_over {
            match self.from.blocking_recv() {
                Some(Part::Bytes(bytes)) => self.rest = bytes,
                Some(Part::End) => self.is_over = true,
                None => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, Arc::new(IntakeError::Broken))),
            }
        }
        let bytes = self.rest.len().min(into.len());
        self.rest.copy_to_slice(&mut into[..bytes]);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;
    use crate::{
        places::Places,
        quota::{Accounts, Holder},
        token::TokenId,
    };

    const ONE: TokenId = TokenId([1; 8]);

    fn bound(max: u64) -> Vec<Holder> {
        vec![Holder { token: ONE, max: Some(max) }]
    }

    fn body(frames: impl futures::Stream<Item = Result<Bytes, io::Error>> + Send + 'static, quota: u64) -> Body {
        let config = ApiConfig { upload_bytes_max: Some(1 << 20), ..ApiConfig::default() };
        let bounds = Bounds::of(&config, CancellationToken::new(), CancellationToken::new());
        let body = axum::body::Body::from_stream(frames);
        let accounts = Accounts::stored(std::iter::empty());
        let reservation = accounts.begin(bound(quota), None);
        Body::begin(body, None, bounds, reservation).unwrap()
    }

    /// Frames of so many bytes, so many seconds apart.
    fn dripping(bytes: usize, seconds: u64) -> impl futures::Stream<Item = Result<Bytes, io::Error>> + Send {
        stream::unfold(0, move |sent| async move {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            (sent < 20).then(|| (Ok(Bytes::from(vec![0; bytes])), sent + 1))
        })
    }

    async fn drain(mut body: Body) -> Result<u64, IntakeError> {
        while body.next().await?.is_some() {}
        Ok(body.taken)
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_comes_too_slowly_is_cut_and_one_at_the_least_pace_is_not() {
        let slow = drain(body(stream::pending(), u64::MAX)).await;
        assert!(matches!(slow, Err(IntakeError::Slow { idle: 30, pace: 16_384 })), "{slow:?}");
        // A minute of grace, and then 16 KiB a second.
        assert_eq!(drain(body(dripping(16 << 10, 1), u64::MAX)).await.unwrap(), 20 * (16 << 10));
        let slow = drain(body(dripping(16 << 10, 10), u64::MAX)).await;
        assert!(matches!(slow, Err(IntakeError::Slow { .. })), "{slow:?}");
        // What came fast before buys no time.
        let fast = stream::iter([Ok(Bytes::from(vec![0; 1 << 19]))]);
        let trickle = drain(body(fast.chain(dripping(1, 10)), u64::MAX)).await;
        assert!(matches!(trickle, Err(IntakeError::Slow { .. })), "{trickle:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_keeps_others_waiting_has_to_be_faster() {
        let minute = Duration::from_secs(60);
        let places = Places::new(1);
        let alone = body(dripping(16 << 10, 1), u64::MAX);
        alone.held.set(places.take(ONE, minute).await);
        assert_eq!(drain(alone).await.unwrap(), 20 * (16 << 10));
        let slow = body(dripping(16 << 10, 5), u64::MAX);
        slow.held.set(places.take(ONE, minute).await);
        let (slow, next) = tokio::join!(drain(slow), places.take(TokenId([2; 8]), minute));
        assert!(matches!(slow, Err(IntakeError::Slow { idle: 30, pace: 32_768 })) && next.is_some(), "{slow:?}");
    }

    #[tokio::test]
    async fn a_body_takes_what_it_announces_before_its_first_byte_and_is_cut_when_its_token_ends() {
        let accounts = Accounts::stored(std::iter::empty());
        let (cut, ended) = (CancellationToken::new(), CancellationToken::new());
        let bounds = Bounds::of(&ApiConfig::default(), cut, ended.clone());
        let begin = |announced| {
            let reservation = accounts.begin(bound(1200), None);
            let body = axum::body::Body::from_stream(stream::pending::<Result<Bytes, io::Error>>());
            Body::begin(body, Some(announced), bounds.clone(), reservation)
        };
        let first = begin(600).unwrap();
        assert!(matches!(begin(601), Err(IntakeError::NoRoom(NoRoom::Quota { max: 1200, would: 1201 }))));
        let empty = (begin(0).unwrap(), begin(0));
        assert!(
            matches!(empty.1, Err(IntakeError::NoRoom(NoRoom::Quota { would: 1624, .. }))),
            "an object has a least"
        );
        ended.cancel();
        assert!(matches!(drain(first).await, Err(IntakeError::Ended)));
        drop(empty);
        assert!(begin(1200).is_ok());
    }

    #[tokio::test]
    async fn a_body_beyond_its_bounds_is_refused_at_the_first_byte_beyond() {
        let bytes = |count: usize| stream::iter((0..count).map(|_| Ok(Bytes::from(vec![0; 1 << 16]))));
        assert_eq!(drain(body(bytes(16), u64::MAX)).await.unwrap(), 1 << 20);
        let long = drain(body(bytes(17), u64::MAX)).await;
        assert!(matches!(long, Err(IntakeError::TooLong { max: 1_048_576 })), "{long:?}");
        assert_eq!(drain(body(bytes(2), 1 << 17)).await.unwrap(), 1 << 17);
        let over = drain(body(bytes(3), 1 << 17)).await;
        assert!(matches!(over, Err(IntakeError::NoRoom(_))), "{over:?}");
        let broken = stream::iter([Ok(Bytes::from_static(b"a")), Err(io::Error::other("gone"))]);
        assert!(matches!(drain(body(broken, u64::MAX)).await, Err(IntakeError::Broken)));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_put_in_is_read_whole_and_what_breaks_off_is_an_error() {
        for is_whole in [true, false] {
            let (inlet, mut outlet) = pipe();
            let reading = tokio::task::spawn_blocking(move || {
                let mut all = Vec::new();
                outlet.read_to_end(&mut all).map(|_| all)
            });
            for at in 0..100u8 {
                assert!(inlet.put(Bytes::from(vec![at; usize::from(at)])).await);
            }
            if is_whole {
                inlet.end().await;
            } else {
                drop(inlet);
            }
            match reading.await.unwrap() {
                Ok(all) => assert!(is_whole && all.len() == (0..100).sum::<usize>()),
                Err(error) => assert!(!is_whole && error.kind() == io::ErrorKind::UnexpectedEof),
            }
        }
    }
}
