//! Every seed of `fuzz/corpus` through the body of its fuzz target, so that what once broke something is tried on every
//! run.

use origin::fuzz;
use testing::replay;

#[test]
fn every_seed_is_survived() {
    for (target, body) in [
        ("announcement", fuzz::announcement as fn(&[u8])),
        ("note", fuzz::note),
        ("refused_list", fuzz::refused_list),
        ("origin_config", fuzz::config),
    ] {
        replay(target, body);
    }
}
