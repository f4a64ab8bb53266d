//! How much redundancy a number of disks gives, and how many of them may be lost. Pure.

use client::INLINE_COPIES;
use format::{Profile, Redundancy};

/// Origins on the only disk of a network: three, so that a damaged file is made good from the others.
pub(crate) const ALONE: usize = 3;

/// Returns the profile of new uploads over disks with so many origins each: each shard of an object on a disk of its
/// own, or, of the only disk, on an origin of its own. One origin that is left of several stores nothing.
pub(crate) fn profile(origins: &[usize]) -> Profile {
    let name = match origins.len() {
        1 if origins[0] < ALONE => "1+1",
        0 | 1 | 3 => "2+1",
        2 => "1+1",
        4 | 5 => "2+2",
        _ => return Profile::SmallCluster,
    };
    name.parse().expect("each of these is a profile")
}

/// Returns whether each shard of a file finds an origin of its own.
pub(crate) fn stores(profile: Profile, origins: &[usize]) -> bool {
    let all: usize = origins.iter().sum();
    profile.tiers().into_iter().all(|tier| tier.redundancy.columns() <= all)
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

    fn survived(origins: &[usize]) -> usize {
        assert!(stores(profile(origins), origins), "{origins:?}");
        disks_survived(profile(origins), origins)
    }

    #[test]
    fn each_number_of_disks_bears_what_is_said_of_it() {
        for (disks, text, bears) in [
            (2, "1+1", 1),
            (3, "2+1", 1),
            (4, "2+2", 2),
            (5, "2+2", 2),
            (6, "small-cluster", 2),
            (9, "small-cluster", 2),
        ] {
            let origins = vec![1; disks];
            assert_eq!((profile(&origins).to_string().as_str(), survived(&origins)), (text, bears), "{disks}");
        }
        assert_eq!((profile(&[ALONE]).to_string().as_str(), survived(&[ALONE])), ("2+1", 0));
    }

    #[test]
    fn a_disk_with_three_origins_counts_for_what_it_takes_along() {
        // Of an object that lies inline there are four copies: three of them may be on the first disk.
        for origins in [&[3, 1][..], &[3, 1, 1], &[3, 1, 1, 1], &[1, 3, 1, 1, 1]] {
            assert_eq!(survived(origins), 1, "{origins:?}");
        }
    }

    #[test]
    fn what_cannot_be_stored_bears_nothing() {
        assert!(!stores(profile(&[1]), &[1]) && !stores(profile(&[1, 1, 1]), &[1, 1]));
        assert_eq!(disks_survived(profile(&[1, 1, 1]), &[1, 1]), 0);
        assert_eq!(disks_survived(profile(&[1; 4]), &[2, 2]), 1);
        assert_eq!(disks_survived(profile(&[1; 4]), &[4]), 0);
        assert_eq!(disks_survived(profile(&[1; 4]), &[]), 0);
    }
}
