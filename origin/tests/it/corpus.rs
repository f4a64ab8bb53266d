//! Every seed of `fuzz/corpus` through the body of its fuzz target, so that what once broke something is tried on every
//! run.

use std::{fs, path::Path};

use origin::fuzz;

#[test]
fn every_seed_is_survived() {
    for (target, body) in
        [("announcement", fuzz::announcement as fn(&[u8])), ("note", fuzz::note), ("origin_config", fuzz::config)]
    {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
        let seeds: Vec<_> = fs::read_dir(folder).unwrap().map(|seed| seed.unwrap().path()).collect();
        assert!(!seeds.is_empty(), "{target}");
        for seed in seeds {
            let bytes = fs::read(&seed).unwrap();
            body(&bytes);
            // Cut anywhere, with any of its first bytes changed: cheap neighbours of a good input.
            for at in (0..bytes.len()).step_by(bytes.len().div_ceil(64).max(1)) {
                body(&bytes[..at]);
                let mut changed = bytes.clone();
                changed[at] ^= 0x41;
                body(&changed);
            }
        }
    }
}
