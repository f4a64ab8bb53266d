//! Verdicts of the four hooks, as plain types, and how the host clamps them.
//!
//! Keeps true: a lifetime is cut to its cap silently (a policy that says "for ever" means well); what makes no sense (a
//! status of another class, weights for other edges than those given) is a [`VerdictError`], because guessing would
//! decide in the owner's name.

use crate::bindings::exports::evernear::policy::{hold, place, serve, steer};
use crate::country::CountryCode;
use crate::limits::{DNS_TTL_SECONDS, TTL_SECONDS_MAX};
use crate::vocabulary::{Continent, Marks, Outcome, Tier};

/// Erasure codes in GF(2^8) have at most so many shards.
const SHARDS_MAX: u16 = 256;

/// What [`Hook::Serve`](crate::Hook::Serve) decides. Durations are seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What happens.
    pub outcome: Outcome,
    /// The HTTP status, never 0. For `allow` it is 200 and stands for the edge's own choice (200, 206, 304).
    pub status: u16,
    /// The owner's own code, for logs and counters.
    pub reason: u16,
    /// How long the viewer may keep the answer.
    pub client_ttl: u32,
    /// How long a stale answer may serve while a new one is fetched.
    pub stale_revalidate: u32,
    /// How long a stale answer may serve when no new one can be had.
    pub stale_error: u32,
    /// Bits that go to the response as they are.
    pub marks: Marks,
    /// Which header sets of the config to add; bit n = set n.
    pub header_sets: u32,
    /// Which target of the config to redirect to.
    pub target: u16,
    /// Which rate class of the config to count under; 0 = none.
    pub rate_class: u8,
}

/// What [`Hook::Hold`](crate::Hook::Hold) decides. Durations are seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// Where decoded blocks may lie.
    pub tier: Tier,
    /// How long.
    pub ttl: u32,
    /// How long they may serve stale while the object is looked up again.
    pub stale_revalidate: u32,
    /// How long they may serve stale when it cannot be looked up.
    pub stale_error: u32,
    /// Whether to keep them under pressure.
    pub pin: bool,
    /// How many blocks to fetch ahead.
    pub prefetch: u8,
}

/// An edge that DNS could answer with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its country.
    pub country: CountryCode,
    /// Its continent.
    pub continent: Continent,
    /// Its region, a number of the operator.
    pub region: u16,
    /// Round trip to the viewer's network in milliseconds.
    pub rtt_ms: u16,
    /// How full it is, 0..=100.
    pub load: u8,
    /// Whether it holds the object already.
    pub holds: bool,
}

/// What [`Hook::Steer`](crate::Hook::Steer) decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Steering {
    /// Lifetime of the DNS answer in seconds.
    pub ttl: u32,
    /// One weight for each candidate; 0 = never.
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

/// What [`Hook::Place`](crate::Hook::Place) decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// One weight for each site: 0 = never, 255 = first.
    pub weights: Vec<u8>,
    /// Data shards; 0 = as the owner's profile says.
    pub data_shards: u8,
    /// Parity shards; 0 with 0 data shards only.
    pub parity_shards: u8,
    /// Most shards in one datacentre; 0 = no limit.
    pub per_datacentre: u8,
    /// Most shards in one country; 0 = no limit.
    pub per_country: u8,
    /// Most shards with one operator; 0 = no limit.
    pub per_operator: u8,
    /// Second until which it is kept at least; 0 = as long as it is paid for.
    pub keep_until: u32,
    /// Second after which it is gone; 0 = never.
    pub erase_after: u32,
}

/// A verdict that makes no sense: the policy's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerdictError {
    /// A status that the outcome cannot have.
    #[error("status {status} does not fit the outcome {outcome}; 0 gives the usual one")]
    Status {
        /// The status returned.
        status: u16,
        /// The outcome returned.
        outcome: Outcome,
    },
    /// Too few or too many weights.
    #[error("{weights} weights for {given} candidates; return one for each, in order")]
    Weights {
        /// How many came back.
        weights: usize,
        /// How many were given.
        given: usize,
    },
    /// A redirect to nowhere.
    #[error("redirects to target {target}, which the config does not have; targets count from 0")]
    Target {
        /// The target returned.
        target: u16,
    },
    /// A header set that is not there.
    #[error("asks for header set {set}, which the config does not have; sets count from 0")]
    HeaderSet {
        /// The set returned.
        set: u32,
    },
    /// A rate class that is not there.
    #[error("counts under rate class {class}, which the config does not have; classes count from 1")]
    RateClass {
        /// The class returned.
        class: u8,
    },
    /// A code that cannot be.
    #[error(
        "{data_shards} data and {parity_shards} parity shards make no code; both are 0, or data is 1 or more and both at most 256"
    )]
    Shards {
        /// Data shards returned.
        data_shards: u8,
        /// Parity shards returned.
        parity_shards: u8,
    },
    /// Erased before it may be.
    #[error("erases after second {erase_after} but keeps until {keep_until}")]
    Erase {
        /// Second of erasure.
        erase_after: u32,
        /// Second until which to keep.
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

/// The status to send: the usual one for 0, else the policy's own where it fits the outcome.
fn status(outcome: Outcome, status: u16) -> Result<u16, VerdictError> {
    let (usual, fits) = match outcome {
        Outcome::Allow => (200, status == 200),
        Outcome::Deny | Outcome::Challenge => {
            let usual = if outcome == Outcome::Deny { 403 } else { 401 };
            // 416 and 412 answer questions of the request that a policy does not see.
            (usual, matches!(status, 400..=499) && !matches!(status, 412 | 416))
        }
        Outcome::Redirect => (302, matches!(status, 301 | 302 | 303 | 307 | 308)),
        Outcome::Hide => (404, matches!(status, 404 | 410)),
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
