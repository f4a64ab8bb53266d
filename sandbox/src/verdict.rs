//! Verdicts of the four hooks, as plain types, and how the host clamps them.
//!
//! Invariants: a lifetime above its maximum is clamped silently, because a policy that returns "for ever" means well.
//! An invalid verdict (a status of another class, weights for other edges than those given) is a [`VerdictError`],
//! because guessing would decide in the owner's name.

use crate::bindings::exports::evernear::policy::{hold, place, serve, steer};
use crate::country::CountryCode;
use crate::limits::{DNS_TTL_SECONDS, TTL_SECONDS_MAX};
use crate::vocabulary::{Continent, Marks, Outcome, Tier};

/// Maximum number of shards: the limit of erasure codes in GF(2^8).
const SHARDS_MAX: u16 = 256;

/// The decision of [`Hook::Serve`](crate::Hook::Serve). Durations are in seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What happens to the request.
    pub outcome: Outcome,
    /// The HTTP status, never 0. For `allow` it is 200, and the edge chooses the real status (200, 206 or 304).
    pub status: u16,
    /// The owner's own code, for logs and counters.
    pub reason: u16,
    /// How long the viewer may keep the answer.
    pub client_ttl: u32,
    /// How long a stale answer may be served while a new one is fetched (stale-while-revalidate).
    pub stale_revalidate: u32,
    /// How long a stale answer may be served if no new one is available (stale-if-error).
    pub stale_error: u32,
    /// Bits that are copied into the response.
    pub marks: Marks,
    /// The header sets of the config to add. Bit n means set n.
    pub header_sets: u32,
    /// The index of the redirect target in the config.
    pub target: u16,
    /// The rate class of the request in the config; 0 = none.
    pub rate_class: u8,
}

/// The decision of [`Hook::Hold`](crate::Hook::Hold). Durations are in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// Where decoded blocks may lie.
    pub tier: Tier,
    /// How long they may be kept.
    pub ttl: u32,
    /// How long they may be served stale while the object is looked up again.
    pub stale_revalidate: u32,
    /// How long they may be served stale if it cannot be looked up.
    pub stale_error: u32,
    /// Whether to keep them when the cache is full (no eviction).
    pub pin: bool,
    /// Number of blocks to prefetch.
    pub prefetch: u8,
}

/// An edge with which DNS could answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its country.
    pub country: CountryCode,
    /// Its continent.
    pub continent: Continent,
    /// Its region, a number that the operator assigns.
    pub region: u16,
    /// Round-trip time to the viewer's network in milliseconds.
    pub rtt_ms: u16,
    /// Its load, 0..=100.
    pub load: u8,
    /// Whether it already holds the object.
    pub holds: bool,
}

/// The decision of [`Hook::Steer`](crate::Hook::Steer).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Steering {
    /// Lifetime (TTL) of the DNS answer in seconds.
    pub ttl: u32,
    /// The weight of each candidate; 0 = never.
    pub weights: Vec<u8>,
}

/// A site that could hold shards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// Its country.
    pub country: CountryCode,
    /// Its continent.
    pub continent: Continent,
    /// Its operator.
    pub operator: u32,
    /// Its datacentre.
    pub datacentre: u32,
    /// Free space in GiB.
    pub free_gib: u32,
    /// Carbon intensity of its power in grams of CO2 per kWh.
    pub grams_co2_per_kwh: u16,
}

/// The decision of [`Hook::Place`](crate::Hook::Place).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The weight of each site: 0 = never, 255 = first.
    pub weights: Vec<u8>,
    /// Data shards; 0 = use the owner's profile.
    pub data_shards: u8,
    /// Parity shards. Must be 0 if there are 0 data shards.
    pub parity_shards: u8,
    /// Maximum number of shards in one datacentre; 0 = no limit.
    pub per_datacentre: u8,
    /// Maximum number of shards in one country; 0 = no limit.
    pub per_country: u8,
    /// Maximum number of shards with one operator; 0 = no limit.
    pub per_operator: u8,
    /// The second until which the object is kept at least; 0 = as long as it is paid for.
    pub keep_until: u32,
    /// The second after which the object is erased; 0 = never.
    pub erase_after: u32,
}

/// Why a verdict is invalid. The policy is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerdictError {
    /// The outcome cannot have this status.
    #[error("status {status} does not fit the outcome {outcome}; 0 gives the usual one")]
    Status {
        /// The status returned.
        status: u16,
        /// The outcome returned.
        outcome: Outcome,
    },
    /// There are too few or too many weights.
    #[error("{weights} weights for {given} candidates; return one for each, in order")]
    Weights {
        /// Weights returned.
        weights: usize,
        /// Candidates or sites given.
        given: usize,
    },
    /// The config does not have this redirect target.
    #[error("redirects to target {target}, which the config does not have; targets count from 0")]
    Target {
        /// The target returned.
        target: u16,
    },
    /// The config does not have this header set.
    #[error("asks for header set {set}, which the config does not have; sets count from 0")]
    HeaderSet {
        /// The set returned.
        set: u32,
    },
    /// The config does not have this rate class.
    #[error("counts under rate class {class}, which the config does not have; classes count from 1")]
    RateClass {
        /// The class returned.
        class: u8,
    },
    /// No erasure code has these numbers.
    #[error(
        "{data_shards} data and {parity_shards} parity shards make no code; both are 0, or data is 1 or more and both at most 256"
    )]
    Shards {
        /// Data shards returned.
        data_shards: u8,
        /// Parity shards returned.
        parity_shards: u8,
    },
    /// The object would be erased before the second until which it must be kept.
    #[error("erases after second {erase_after} but keeps until {keep_until}")]
    Erase {
        /// The second of erasure.
        erase_after: u32,
        /// The second until which to keep it.
        keep_until: u32,
    },
}

pub(crate) fn decision(raw: &serve::Decision) -> Result<Decision, VerdictError> {
    Ok(Decision {
        outcome: raw.outcome,
        status: status(raw.outcome, raw.status)?,
        reason: raw.reason,
        client_ttl: raw.client_ttl.min(TTL_SECONDS_MAX),
        stale_revalidate: raw.stale_revalidate.min(TTL_SECONDS_MAX),
        stale_error: raw.stale_error.min(TTL_SECONDS_MAX),
        marks: raw.marks,
        header_sets: raw.header_sets,
        target: raw.target,
        rate_class: raw.rate_class,
    })
}

pub(crate) fn keep(raw: &hold::Keep) -> Keep {
    Keep {
        tier: raw.tier,
        ttl: raw.ttl.min(TTL_SECONDS_MAX),
        stale_revalidate: raw.stale_revalidate.min(TTL_SECONDS_MAX),
        stale_error: raw.stale_error.min(TTL_SECONDS_MAX),
        pin: raw.pin,
        prefetch: raw.prefetch,
    }
}

pub(crate) fn steering(raw: steer::Answer, given: usize) -> Result<Steering, VerdictError> {
    check_weights(&raw.weights, given)?;
    Ok(Steering { ttl: raw.ttl.clamp(*DNS_TTL_SECONDS.start(), *DNS_TTL_SECONDS.end()), weights: raw.weights })
}

pub(crate) fn plan(raw: place::Plan, given: usize) -> Result<Plan, VerdictError> {
    check_weights(&raw.weights, given)?;
    let place::Plan { data_shards, parity_shards, keep_until, erase_after, .. } = raw;
    let shards = u16::from(data_shards) + u16::from(parity_shards);
    if shards > SHARDS_MAX || (data_shards == 0 && parity_shards != 0) {
        return Err(VerdictError::Shards { data_shards, parity_shards });
    }
    if erase_after != 0 && erase_after < keep_until {
        return Err(VerdictError::Erase { erase_after, keep_until });
    }
    Ok(Plan {
        weights: raw.weights,
        data_shards,
        parity_shards,
        per_datacentre: raw.per_datacentre,
        per_country: raw.per_country,
        per_operator: raw.per_operator,
        keep_until,
        erase_after,
    })
}

/// Returns the status to send: the usual one for 0, else the policy's own if it fits the outcome.
fn status(outcome: Outcome, status: u16) -> Result<u16, VerdictError> {
    let (usual, fits) = match outcome {
        Outcome::Allow => (200, status == 200),
        Outcome::Deny | Outcome::Challenge => {
            let usual = if outcome == Outcome::Deny { 403 } else { 401 };
            // 412 and 416 depend on conditions and ranges in the request that a policy does not see.
            (usual, matches!(status, 400..=499) && !matches!(status, 412 | 416))
        }
        Outcome::Redirect => (302, matches!(status, 301 | 302 | 303 | 307 | 308)),
        // What is hidden looks like what never was; `deny` may say 410.
        Outcome::Hide => (404, status == 404),
        Outcome::Unavailable => (503, matches!(status, 429 | 500..=599)),
    };
    match status {
        0 => Ok(usual),
        _ if fits => Ok(status),
        _ => Err(VerdictError::Status { status, outcome }),
    }
}

fn check_weights(weights: &[u8], given: usize) -> Result<(), VerdictError> {
    if weights.len() == given { Ok(()) } else { Err(VerdictError::Weights { weights: weights.len(), given }) }
}

impl From<&Candidate> for steer::Candidate {
    fn from(edge: &Candidate) -> Self {
        Self {
            country: edge.country.packed(),
            continent: edge.continent,
            region: edge.region,
            rtt_ms: edge.rtt_ms,
            load: edge.load,
            holds: edge.holds,
        }
    }
}

impl From<&Site> for place::Site {
    fn from(site: &Site) -> Self {
        Self {
            country: site.country.packed(),
            continent: site.continent,
            operator: site.operator,
            datacentre: site.datacentre,
            free_gib: site.free_gib,
            grams_co2_per_kwh: site.grams_co2_per_kwh,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(outcome: Outcome, status: u16) -> serve::Decision {
        serve::Decision {
            outcome,
            status,
            reason: 0,
            client_ttl: u32::MAX,
            stale_revalidate: 0,
            stale_error: 0,
            marks: Marks::empty(),
            header_sets: 0,
            target: 0,
            rate_class: 0,
        }
    }

    #[test]
    fn gives_the_usual_status_for_none() {
        let usual = [
            (Outcome::Allow, 200),
            (Outcome::Deny, 403),
            (Outcome::Redirect, 302),
            (Outcome::Challenge, 401),
            (Outcome::Hide, 404),
            (Outcome::Unavailable, 503),
        ];
        for (outcome, status) in usual {
            assert_eq!(decision(&raw(outcome, 0)).map(|decision| decision.status), Ok(status));
        }
    }

    #[test]
    fn refuses_a_status_of_another_class() {
        for (outcome, status) in [
            (Outcome::Allow, 206),
            (Outcome::Deny, 200),
            (Outcome::Deny, 399),
            (Outcome::Deny, 500),
            (Outcome::Redirect, 300),
            (Outcome::Redirect, 304),
            (Outcome::Hide, 403),
            (Outcome::Hide, 410),
            (Outcome::Unavailable, 600),
            (Outcome::Deny, 99),
        ] {
            assert_eq!(decision(&raw(outcome, status)), Err(VerdictError::Status { status, outcome }));
        }
        assert_eq!(decision(&raw(Outcome::Deny, 451)).map(|decision| decision.status), Ok(451));
    }

    #[test]
    fn cuts_lifetimes_to_their_caps() {
        assert_eq!(decision(&raw(Outcome::Allow, 0)).map(|decision| decision.client_ttl), Ok(TTL_SECONDS_MAX));
        let ttl = |ttl| steering(steer::Answer { ttl, weights: Vec::new() }, 0).map(|steering| steering.ttl);
        assert_eq!((ttl(4), ttl(5), ttl(300), ttl(301)), (Ok(5), Ok(5), Ok(300), Ok(300)));
    }

    #[test]
    fn refuses_weights_for_other_edges_and_codes_that_cannot_be() {
        let answer = |weights| steering(steer::Answer { ttl: 60, weights }, 2).map(|_| ());
        assert_eq!(answer(vec![1, 2]), Ok(()));
        assert_eq!(answer(vec![1]), Err(VerdictError::Weights { weights: 1, given: 2 }));
        let shards = |data_shards, parity_shards| {
            let raw = place::Plan {
                weights: Vec::new(),
                data_shards,
                parity_shards,
                per_datacentre: 0,
                per_country: 0,
                per_operator: 0,
                keep_until: 10,
                erase_after: 0,
            };
            plan(raw, 0).is_ok()
        };
        assert!(shards(0, 0) && shards(1, 0) && shards(255, 1) && shards(16, 8));
        assert!(!shards(0, 1) && !shards(255, 2));
    }
}
