//! Every seed of `fuzz/corpus` runs through its fuzz target, so every test run repeats the inputs that once broke
//! something.

use std::{fs, path::Path};

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
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
        let seeds: Vec<_> = fs::read_dir(folder).unwrap().map(|seed| seed.unwrap().path()).collect();
        assert!(!seeds.is_empty(), "{target}");
        for seed in seeds {
            let bytes = fs::read(&seed).unwrap();
            body(&bytes);
            // Cut the seed, or change one byte: cheap neighbours of a good input.
            for at in (0..bytes.len()).step_by(bytes.len().div_ceil(64).max(1)) {
                body(&bytes[..at]);
                let mut changed = bytes.clone();
                changed[at] ^= 0x41;
                body(&changed);
            }
        }
    }
}
