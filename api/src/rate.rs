//! How often each token may ask: a bucket of requests that fills again by its rate. Pure; the time is an argument.

use std::{collections::HashMap, time::Duration};

use crate::token::TokenId;

/// For a moment a token may make so many times the requests of a second.
const BURST_SECONDS: u32 = 10;
/// Tokens that are remembered. Full buckets are forgotten beyond it, which changes nothing for them.
const TOKENS_MAX: usize = 10_000;

/// Requests that are left to each token.
#[derive(Debug, Default)]
pub struct Rates(HashMap<TokenId, Bucket>);

#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: f64,
    at: Duration,
}

impl Rates {
    /// Takes a request of a token that may make `rate` in a second, at `now`, counted from any moment.
    ///
    /// # Errors
    /// How long the token has to wait.
    pub fn take(&mut self, token: TokenId, rate: u32, now: Duration) -> Result<(), Duration> {
        let (rate, full) = (f64::from(rate.max(1)), f64::from(rate.max(1)) * f64::from(BURST_SECONDS));
        let filled = |bucket: &Bucket| (bucket.left + now.saturating_sub(bucket.at).as_secs_f64() * rate).min(full);
        if self.0.len() >= TOKENS_MAX && !self.0.contains_key(&token) {
            let burst = Duration::from_secs(BURST_SECONDS.into());
            self.0.retain(|_, bucket| now.saturating_sub(bucket.at) < burst);
        }
        let left = self.0.get(&token).map_or(full, filled);
        let (after, taken) = if left >= 1.0 { (left - 1.0, true) } else { (left, false) };
        self.0.insert(token, Bucket { left: after, at: now });
        if taken { Ok(()) } else { Err(Duration::from_secs_f64((1.0 - left) / rate)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_a_burst_and_then_its_rate_and_others_do_not_feel_it() {
        let (mut rates, one, other) = (Rates::default(), TokenId([1; 8]), TokenId([2; 8]));
        let at = Duration::from_millis;
        for _ in 0..20 {
            assert_eq!(rates.take(one, 2, at(0)), Ok(()));
        }
        assert_eq!(rates.take(one, 2, at(0)), Err(at(500)));
        assert_eq!(rates.take(other, 2, at(0)), Ok(()));
        assert_eq!(rates.take(one, 2, at(400)).unwrap_err().as_millis(), 100);
        assert_eq!(rates.take(one, 2, at(500)), Ok(()));
        assert!(rates.take(one, 2, at(999)).is_err());
        // An idle hour fills the bucket, and no more than that.
        let later = Duration::from_secs(3600);
        assert_eq!((0..30).filter(|_| rates.take(one, 2, later).is_ok()).count(), 20);
    }

    #[test]
    fn a_clock_that_does_not_move_or_goes_back_gives_nothing() {
        let (mut rates, one) = (Rates::default(), TokenId([1; 8]));
        while rates.take(one, 1, Duration::from_secs(9)).is_ok() {}
        assert!(rates.take(one, 1, Duration::from_secs(3)).is_err());
    }
}
