//! Leases with nothing special about them.

use format::{Lease, Locator, OwnerId, PolicyName, Profile, Retention};

/// Returns a living lease of profile small-cluster that wants, refuses and promises nothing.
#[must_use]
pub fn lease(locator: Locator, owner: OwnerId, version: u64) -> Lease {
    Lease {
        locator,
        owner,
        version,
        profile: Profile::SmallCluster,
        wanted: vec![],
        refused: vec![],
        retention: Retention::default(),
        policy: PolicyName::default(),
        erased: false,
        caps: vec![],
        unknown: vec![],
    }
}
