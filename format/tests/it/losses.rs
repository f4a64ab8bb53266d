//! Any m losses in each stripe still give the exact bytes; m + 1 losses give a typed error.

use format::{Compression, DecodeError, EncoderOptions, ErasureError, Kind, Profile, Redundancy, Suite};
use proptest::prelude::*;

use crate::made::{make, mixed, options};

fn pick(seed: u64, columns: &[usize], count: usize) -> Vec<usize> {
    let mut ranked: Vec<_> = columns
        .iter()
        .map(|c| (blake3::hash(&[seed.to_le_bytes(), (*c as u64).to_le_bytes()].concat()).to_hex(), *c))
        .collect();
    ranked.sort();
    ranked.into_iter().take(count).map(|(_, column)| column).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_m_losses_are_survived_and_one_more_is_an_error(
        data in 1usize..=12, parity in 0usize..=8, length in 16_385usize..6_000_000, seed in any::<u64>(),
        suite in prop::sample::select(&Suite::ALL[..]), compression in prop::sample::select(&[Compression::Auto, Compression::Off][..]),
    ) {
        let data = if parity == 0 { 1 } else { data };
        let profile = Profile::Custom(Redundancy::new(data, parity).unwrap());
        let plain = mixed(length);
        let made = make(&plain, EncoderOptions { compression, ..options(profile, suite) }, Kind::File);
        let present = |stripe: usize| -> Vec<usize> {
            (0..data + parity).filter(|c| made.stripes[stripe].strips[*c].is_some()).collect()
        };
        let lost: Vec<Vec<usize>> = (0..made.stripes.len()).map(|s| pick(seed ^ s as u64, &present(s), parity)).collect();
        prop_assert!(made.read(|stripe, column| !lost[stripe].contains(&column)).unwrap() == plain);

        let last = made.stripes.len() - 1;
        let too_many = pick(seed, &present(last), parity + 1);
        let error = made.read(|stripe, column| stripe != last || !too_many.contains(&column)).unwrap_err();
        prop_assert_eq!(error, DecodeError::Erasure(ErasureError::TooFew { have: data - 1, need: data }));
    }
}
