//! Redundancy profiles. An owner chooses one; it is a table by object size, so that a small picture is not stored nine
//! times.

use std::{fmt, str::FromStr};

use crate::{Redundancy, RedundancyError, limits::INLINE_BYTES_MAX};

/// One row of a profile: the redundancy of objects from a given size on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tier {
    /// Smallest plaintext length in bytes.
    pub from_bytes: u64,
    /// Data and parity columns.
    pub redundancy: Redundancy,
}

const fn tier(from_bytes: u64, data: u8, parity: u8) -> Tier {
    Tier { from_bytes, redundancy: Redundancy::of(data, parity) }
}

const INLINE_END: u64 = INLINE_BYTES_MAX as u64 + 1;
const KIB_128: u64 = 128 * 1024;
const MIB_1: u64 = 1024 * 1024;
/// From this size on, an object has the redundancy of the first row, however large it grows.
pub(crate) const TOP_TIER_BYTES: u64 = 4 * MIB_1;

const STANDARD: [Tier; 4] =
    [tier(TOP_TIER_BYTES, 16, 8), tier(MIB_1, 8, 6), tier(KIB_128, 4, 4), tier(INLINE_END, 1, 3)];
const ECO: [Tier; 4] = [tier(TOP_TIER_BYTES, 16, 4), tier(MIB_1, 8, 4), tier(KIB_128, 4, 3), tier(INLINE_END, 1, 2)];
const ARCHIVE: [Tier; 4] =
    [tier(TOP_TIER_BYTES, 20, 12), tier(MIB_1, 10, 8), tier(KIB_128, 4, 6), tier(INLINE_END, 1, 4)];
const SMALL_CLUSTER: [Tier; 4] =
    [tier(TOP_TIER_BYTES, 4, 2), tier(MIB_1, 4, 2), tier(KIB_128, 2, 2), tier(INLINE_END, 1, 2)];

/// The redundancy that an owner chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Profile {
    /// 16+8 from 4 MiB on, fewer columns for smaller objects: 1.5 times the bytes, and any 8 of 24 nodes may be lost.
    #[default]
    Standard,
    /// 16+4 from 4 MiB on, fewer columns for smaller objects: 1.25 times the bytes.
    Eco,
    /// 20+12 from 4 MiB on, fewer columns for smaller objects: 1.6 times the bytes. For objects that are read seldom
    /// and kept long.
    Archive,
    /// 4+2 from 1 MiB on, fewer columns for smaller objects. For clusters of six nodes.
    SmallCluster,
    /// One redundancy for every size that is not inline.
    Custom(Redundancy),
}

/// Why a text is not a profile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown profile {found:?}: use standard, eco, archive, small-cluster, or data+parity such as 4+2 (1+0 keeps one copy)"
)]
pub struct ProfileError {
    /// The text, cut at 40 characters.
    pub found: String,
    /// Why the text is not a redundancy either.
    pub source: RedundancyError,
}

impl Profile {
    /// The profiles that have a name.
    pub const NAMED: [Self; 4] = [Self::Standard, Self::Eco, Self::Archive, Self::SmallCluster];

    /// Returns the rows, largest objects first. A custom profile has one row.
    #[must_use]
    pub fn tiers(self) -> Vec<Tier> {
        match self {
            Self::Standard => STANDARD.to_vec(),
            Self::Eco => ECO.to_vec(),
            Self::Archive => ARCHIVE.to_vec(),
            Self::SmallCluster => SMALL_CLUSTER.to_vec(),
            Self::Custom(redundancy) => vec![Tier { from_bytes: INLINE_END, redundancy }],
        }
    }

    /// Returns the redundancy for a plaintext length, or `None` for objects that lie inline in their manifest.
    #[must_use]
    pub fn redundancy(self, length: u64) -> Option<Redundancy> {
        self.tiers().into_iter().find(|tier| length >= tier.from_bytes).map(|tier| tier.redundancy)
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Standard => f.write_str("standard"),
            Self::Eco => f.write_str("eco"),
            Self::Archive => f.write_str("archive"),
            Self::SmallCluster => f.write_str("small-cluster"),
            Self::Custom(redundancy) => redundancy.fmt(f),
        }
    }
}

impl FromStr for Profile {
    type Err = ProfileError;

    fn from_str(text: &str) -> Result<Self, ProfileError> {
        if let Some(named) = Self::NAMED.into_iter().find(|profile| profile.to_string() == text) {
            return Ok(named);
        }
        let custom = text.parse().map(Self::Custom);
        custom.map_err(|source| ProfileError { found: text.chars().take(40).collect(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_at_its_edges() {
        let of = |profile: Profile, length| profile.redundancy(length).map(|r| r.to_string());
        for (length, standard) in [
            (0, None),
            (INLINE_END - 1, None),
            (INLINE_END, Some("1+3")),
            (KIB_128 - 1, Some("1+3")),
            (KIB_128, Some("4+4")),
            (MIB_1, Some("8+6")),
            (TOP_TIER_BYTES - 1, Some("8+6")),
            (TOP_TIER_BYTES, Some("16+8")),
            (u64::MAX, Some("16+8")),
        ] {
            assert_eq!(of(Profile::Standard, length).as_deref(), standard, "{length}");
        }
        assert_eq!(of("7+3".parse().unwrap(), INLINE_END).as_deref(), Some("7+3"));
        assert!("fast".parse::<Profile>().is_err());
    }
}
