//! How much redundancy a number of disks gives, and how many of them may be lost. Pure.

use client::INLINE_COPIES;
use format::{Profile, Redundancy};

/// Origins on the only disk of a network: three, so that a damaged file is made good from the others.
pub(crate) const ALONE: usize = 3;

/// Returns the profile of new uploads when so many disks are there: each shard of an object on a disk of its own.
pub(crate) fn profile(disks: usize) -> Profile {
    let name = match disks {
        0 | 1 | 3 => "2+1",
        2 => "1+1",
        4 | 5 => "2+2",
        _ => return Profile::SmallCluster,
    };
    name.parse().expect("each of these is a profile")
}

/// Returns how many whole disks may be lost, whichever they are, and every object that was stored in this profile is
/// still there. `origins` has the number of origins on each disk.
pub(crate) fn disks_survived(profile: Profile, origins: &[usize]) -> usize {
    let mut largest_first = origins.to_vec();
    largest_first.sort_unstable_by(|one, other| other.cmp(one));
    let sharded = profile.tiers().into_iter().map(|tier| survived_by_shards(tier.redundancy, origins));
    let inline = survived_by_copies(INLINE_COPIES, &largest_first);
    sharded.chain([inline]).min().unwrap_or(0)
}

/// Placement spreads columns so that the disk with the most has as few as it can.
fn survived_by_shards(redundancy: Redundancy, origins: &[usize]) -> usize {
    let columns = redundancy.columns();
    let room = |cap: usize| origins.iter().map(|count| (*count).min(cap)).sum::<usize>();
    (1..=columns).find(|cap| room(*cap) >= columns).map_or(0, |cap| redundancy.parity() / cap)
}

/// Copies lie on the first origins of an order that knows no disks: in the worst case on the disks with the most.
fn survived_by_copies(copies: usize, largest_first: &[usize]) -> usize {
    let copies = copies.min(largest_first.iter().sum());
    let mut taken = 0;
    largest_first
        .iter()
        .take_while(|count| {
            taken += **count;
            taken < copies
        })
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_of_disks_bears_what_is_said_of_it() {
        let alone = [ALONE];
        assert_eq!(disks_survived(profile(1), &alone), 0);
        for (disks, text, survived) in [
            (2, "1+1", 1),
            (3, "2+1", 1),
            (4, "2+2", 2),
            (5, "2+2", 2),
            (6, "small-cluster", 2),
            (9, "small-cluster", 2),
        ] {
            assert_eq!(profile(disks).to_string(), text);
            assert_eq!(disks_survived(profile(disks), &vec![1; disks]), survived, "{disks}");
        }
    }

    #[test]
    fn a_disk_with_three_origins_counts_for_what_it_takes_along() {
        // Of an object that lies inline there are four copies: three of them may be on the first disk.
        assert_eq!(disks_survived(profile(2), &[3, 1]), 1);
        assert_eq!(disks_survived(profile(4), &[3, 1, 1, 1]), 1);
        assert_eq!(disks_survived(profile(5), &[1, 3, 1, 1, 1]), 1);
    }

    #[test]
    fn fewer_disks_than_columns_bear_less() {
        assert_eq!(disks_survived(profile(3), &[1, 1]), 0, "it cannot be stored at all");
        assert_eq!(disks_survived(profile(4), &[2, 2]), 1);
        assert_eq!(disks_survived(profile(4), &[4]), 0);
        assert_eq!(disks_survived(profile(4), &[]), 0);
    }
}
