//! Leases with nothing special about them.

use format::{Lease, Locator, ManifestHash, ObjectId, OwnerId, PolicyName, Profile, Retention};

/// Returns a living lease of profile small-cluster that wants, refuses and promises nothing, of an object of 32 times 2
/// with a sealed manifest of 32 times 3.
#[must_use]
pub fn lease(locator: Locator, owner: OwnerId, version: u64) -> Lease {
    Lease {
        locator,
        owner,
        object: ObjectId([2; 32]),
        manifest: ManifestHash([3; 32]),
        version,
        profile: Profile::SmallCluster,
        wanted: vec![],
        refused: vec![],
        retention: Retention::default(),
        policy: PolicyName::default(),
        erased: false,
        caps: vec![],
        note: None,
        unknown: Default::default(),
    }
}
