//! Every seed of `fuzz/corpus` runs through its fuzz target, so every test run repeats the inputs that once broke
//! something.

use testing::replay;

#[expect(unreachable_pub, reason = "public for the fuzz targets, which are another crate")]
#[path = "../../../fuzz/src/policies.rs"]
mod policies;

#[test]
fn every_seed_is_survived() {
    let bodies = [
        ("policy_component", policies::component as fn(&[u8])),
        ("policy_config", policies::config),
        ("policy_keys", policies::keys),
    ];
    for (target, body) in bodies {
        replay(target, body);
    }
}
