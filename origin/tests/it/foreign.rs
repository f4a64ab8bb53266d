//! Foreign bytes: whatever comes, the decoders answer and end.

use origin::fuzz::TARGETS;
use proptest::prelude::*;
use testing::Sample;

/// One valid input for each target, to cut and to flip.
fn valid() -> Vec<Vec<u8>> {
    let sample = Sample::new(3, 40_000);
    let lease = sample.sign(&sample.lease(1));
    let record = sample.record(&sample.lease(1), &"o1".parse().unwrap()).encode();
    let entry = br#"{"name":"o1","role":"origin","place":{"country":"BE","region":"r","zone":"z","latitude":1,"longitude":2},"capacity_bytes":1,"free_bytes":1,"load":1}"#;
    vec![
        sample.shard(0),
        sample.sealed.public.encoded().to_vec(),
        record,
        lease.to_vec(),
        entry.to_vec(),
        include_bytes!("../../origin.sample.toml").to_vec(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_decoder_panics(noise in prop::collection::vec(any::<u8>(), 0..512), which in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let valid = valid();
        let input = &valid[which.index(valid.len())];
        let at = at.index(input.len());
        let mut flipped = input.clone();
        flipped[at] ^= 1 << bit;
        for (_, decode) in TARGETS {
            decode(&noise);
            decode(input);
            decode(&input[..at]);
            decode(&flipped);
        }
    }
}
