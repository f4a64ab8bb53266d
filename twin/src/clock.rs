//! This machine's clock beside those of the nodes. An end that an owner signs is a moment that everybody else compares
//! with their own clock: a machine whose clock is behind would sign ends that are past, with success. Pure.

use std::collections::BTreeMap;

use format::{Moment, NodeName, limits::PURGE_SKEW_SECONDS_MAX};

/// How far this machine's clock may be from the nodes', in seconds. As far as nodes themselves allow for a purge:
/// a clock that is kept by NTP is within a second, one that is not kept is off by hours or days, and no answer takes
/// this long. What is left of a difference does no harm, because ends are compared with the nodes' time.
pub(crate) const SKEW_SECONDS_MAX: u64 = PURGE_SKEW_SECONDS_MAX;

/// This machine's clock is not that of the nodes. Nothing was signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "it is {} by this machine's clock and {} by the nodes' clocks: times that are told from now on would be wrong for \
     everybody else",
    Moment(*here), Moment(*nodes)
)]
pub struct ClockError {
    /// Seconds since 1970, by this machine's clock.
    pub here: u64,
    /// Seconds since 1970, by the clocks of most nodes.
    pub nodes: u64,
}

/// Returns the time of the nodes, in seconds since 1970, when it is `here` by this machine's clock: that of the middle
/// one (median), so that no few of them decide it; of two in the middle the one that is nearer. Where no node tells its
/// time, it is `here`.
pub(crate) fn time_of_nodes(here: u64, ahead: &BTreeMap<NodeName, i64>) -> u64 {
    let mut ahead: Vec<i64> = ahead.values().copied().collect();
    ahead.sort_unstable();
    let middle = [ahead.len().saturating_sub(1) / 2, ahead.len() / 2].map(|at| ahead.get(at).copied());
    let nearer = middle.into_iter().flatten().min_by_key(|ahead| ahead.unsigned_abs());
    here.saturating_add_signed(nearer.unwrap_or(0))
}

/// Refuses a clock that is too far from that of the nodes.
pub(crate) fn check(here: u64, nodes: u64) -> Result<(), ClockError> {
    if here.abs_diff(nodes) > SKEW_SECONDS_MAX { Err(ClockError { here, nodes }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_the_nodes_clocks_counts() {
        for (ahead, nodes) in [
            (&[][..], 1000),
            (&[7], 1007),
            (&[-7], 993),
            (&[0, 900], 1000),
            (&[-500, 900], 500),
            (&[0, 0, 900], 1000),
            (&[0, 800, 900], 1800),
            (&[-9, -8, 900], 992),
            (&[-9, 300, 400, 900], 1300),
            (&[i64::MIN], 0),
            (&[i64::MAX], 1000 + i64::MAX.unsigned_abs()),
        ] {
            let ahead = (0..).zip(ahead).map(|(node, ahead)| (format!("o{node}").parse().unwrap(), *ahead)).collect();
            assert_eq!(time_of_nodes(1000, &ahead), nodes, "{ahead:?}");
        }
    }

    #[test]
    fn a_clock_may_be_off_by_the_bound_and_no_further() {
        let (here, max) = (1_000_000, SKEW_SECONDS_MAX);
        for nodes in [here, here + max, here - max] {
            assert_eq!(check(here, nodes), Ok(()));
        }
        for nodes in [here + max + 1, here - max - 1, 0, u64::MAX] {
            assert_eq!(check(here, nodes), Err(ClockError { here, nodes }));
        }
    }
}
