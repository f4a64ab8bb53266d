//! The seeds of `fuzz/corpus` in ordinary tests: what once broke a decoder is tried on every run.

use std::{fs, path::Path};

/// Gives every seed of a fuzz target to its body, and the cheap neighbours of each: cut at up to 64 places, with one
/// byte changed at each of them.
///
/// # Panics
/// When the target has no seed.
pub fn replay(target: &str, body: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let seeds: Vec<_> = fs::read_dir(&folder).unwrap().map(|seed| seed.unwrap().path()).collect();
    assert!(!seeds.is_empty(), "{target}");
    for seed in seeds {
        let bytes = fs::read(&seed).unwrap();
        body(&bytes);
        for at in (0..bytes.len()).step_by(bytes.len().div_ceil(64).max(1)) {
            body(&bytes[..at]);
            let mut changed = bytes.clone();
            changed[at] ^= 0x41;
            body(&changed);
        }
    }
}
