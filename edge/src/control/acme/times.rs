//! The times of a certificate: when it ends, when it is renewed, when an order that failed is tried again. All in
//! seconds since 1970.

use std::time::{Duration, SystemTime};

use rustls::pki_types::{CertificateDer, pem::PemObject};
use x509_parser::parse_x509_certificate;

use super::shared::Shared;
use crate::clock;

/// Longest wait after a failed order.
const RETRY_SECONDS_MAX: u64 = 4 * 3600;

/// Says when to renew, seconds since 1970: at a moment that `fraction` (0 to 1) picks from the window that the
/// authority advises, the one picked before when it still lies in the window (RFC 9773 section 4.2); without advice
/// after two thirds of the certificate's life.
pub(super) fn renewal(times: (u64, u64), advice: Option<(u64, u64)>, picked: u64, fraction: f64) -> u64 {
    let (begins, ends) = times;
    match advice {
        Some((start, end)) if (start..=end).contains(&picked) => picked,
        Some((start, end)) => start + Duration::from_secs(end.saturating_sub(start)).mul_f64(fraction).as_secs(),
        None => begins + ends.saturating_sub(begins) / 3 * 2,
    }
}

/// How long to wait after so many failures; `first` after the first.
pub(super) fn retry_seconds(first: u64, failures: u32) -> u64 {
    (first << failures.saturating_sub(1).min(16)).min(RETRY_SECONDS_MAX)
}

/// From 0 to 1, anywhere. Without randomness: now.
pub(super) fn fraction() -> f64 {
    getrandom::u32().map_or(0.0, |random| f64::from(random) / f64::from(u32::MAX))
}

/// The first certificate of a chain.
pub(super) fn leaf(chain: &str) -> Option<CertificateDer<'static>> {
    CertificateDer::from_pem_slice(chain.as_bytes()).ok()
}

/// When a chain's first certificate begins and ends, seconds since 1970.
pub(super) fn times(chain: &str) -> Option<(u64, u64)> {
    let leaf = leaf(chain)?;
    let (_, parsed) = parse_x509_certificate(&leaf).ok()?;
    let valid = parsed.validity();
    Some((seconds(valid.not_before.timestamp()), seconds(valid.not_after.timestamp())))
}

/// Until when what edges share has a certificate that counts, seconds since 1970; 0 without one.
pub(super) fn counts_until(shared: &Shared, now: u64) -> u64 {
    let ends = shared.certified.as_ref().and_then(|certified| times(&certified.chain)).map_or(0, |(_, ends)| ends);
    if ends > now { ends } else { 0 }
}

pub(super) fn seconds(timestamp: i64) -> u64 {
    u64::try_from(timestamp).unwrap_or(0)
}

pub(super) fn now() -> u64 {
    clock::unix_seconds(SystemTime::now())
}

pub(super) fn now_after(seconds: u64) -> u64 {
    now().saturating_add(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_renewed_when_the_authority_advises_or_after_two_thirds() {
        let times = (1_000, 10_000);
        assert_eq!(renewal(times, None, 0, 0.5), 7_000);
        assert_eq!(renewal(times, Some((4_000, 6_000)), 0, 0.0), 4_000);
        assert_eq!(renewal(times, Some((4_000, 6_000)), 0, 0.25), 4_500);
        assert_eq!(renewal(times, Some((4_000, 6_000)), 0, 1.0), 6_000);
        // What was picked stays, until the window moves: a revoked one's lies in the past.
        assert_eq!(renewal(times, Some((4_000, 6_000)), 5_123, 0.25), 5_123);
        assert_eq!(renewal(times, Some((10, 20)), 5_123, 0.5), 15);
        // A window that ends before it begins.
        assert_eq!(renewal(times, Some((6_000, 4_000)), 0, 0.5), 6_000);
    }

    #[test]
    fn failures_wait_twice_as_long_each_time_but_never_days() {
        assert_eq!([1, 2, 3, 9, 100].map(|failures| retry_seconds(60, failures)), [60, 120, 240, 14_400, 14_400]);
    }
}
