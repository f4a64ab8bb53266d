//! Session tickets that every edge of a zone can open: a viewer whom DNS sends elsewhere resumes all the same.
//!
//! The keys follow from the zone's secret and the hour, so nothing is sent around and nothing is kept. TLS 1.3 mixes a
//! fresh key exchange into every resumption (RFC 8446 section 2.2, `psk_dhe_ke`), so a ticket's key alone opens no
//! traffic.

use std::{fmt, sync::Arc, time::SystemTime};

use rustls::server::ProducesTickets;

use crate::secret::{SealKey, ZoneSecret};

/// A ticket opens in the span of its making and in the one after it.
const SPAN_SECONDS: u64 = 6 * 3600;
/// What viewers are told: no ticket lives shorter. RFC 8446 section 4.6.1 allows a week.
const LIFETIME_SECONDS: u32 = 6 * 3600;
const CONTEXT: &str = "evernear 2026 v1 edge session ticket";

/// Seals and opens tickets.
pub(super) struct Tickets(pub(super) Arc<ZoneSecret>);

impl Tickets {
    fn key(&self, span: u64) -> SealKey {
        self.0.key(CONTEXT, &span.to_le_bytes())
    }

    fn seal(&self, now: u64, plain: &[u8]) -> Option<Vec<u8>> {
        self.key(now / SPAN_SECONDS).seal(&[], plain)
    }

    fn open(&self, now: u64, ticket: &[u8]) -> Option<Vec<u8>> {
        let span = now / SPAN_SECONDS;
        let opened = [Some(span), span.checked_sub(1)].into_iter().flatten();
        opened.map(|span| self.key(span)).find_map(|key| key.open(&[], ticket)).map(|plain| plain.to_vec())
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tickets")
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        LIFETIME_SECONDS
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.seal(now(), plain)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        self.open(now(), ticket)
    }
}

fn now() -> u64 {
    crate::clock::unix_seconds(SystemTime::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(secret: u8) -> Tickets {
        Tickets(Arc::new(ZoneSecret::of([secret; 32])))
    }

    #[test]
    fn a_ticket_opens_at_every_edge_for_six_hours_at_least_and_twelve_at_most() {
        let (here, there) = (of(1), of(1));
        for made in [0, 1, SPAN_SECONDS - 1, SPAN_SECONDS, 1_800_000_000] {
            let ticket = here.seal(made, b"session").unwrap();
            for age in [0, 1, u64::from(LIFETIME_SECONDS)] {
                assert_eq!(there.open(made + age, &ticket).as_deref(), Some(&b"session"[..]), "{made} {age}");
            }
            assert_eq!(there.open(made + 2 * SPAN_SECONDS, &ticket), None);
            assert_eq!(of(2).open(made, &ticket), None);
        }
    }
}
