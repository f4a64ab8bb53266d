//! Shards are rebuilt byte for byte from any k others, with the public manifest alone.

use bytes::Bytes;
use format::{ErasureError, Kind, Rebuild, RebuildError, Redundancy, StripHash, StripList, StripeIndex, Suite};
use proptest::prelude::*;

use crate::made::{Made, make, mixed, options};

/// Rebuilds the lost columns from the sources and returns their lists.
fn rebuild(made: &Made, sources: &[usize], lost: &[usize]) -> Result<Vec<StripList>, RebuildError> {
    let public = &made.sealed.public;
    let rebuild = Rebuild::new(public.clone(), sources, lost)?;
    let mut lists = vec![StripList::default(); lost.len()];
    for (at, encoded) in made.stripes.iter().enumerate() {
        let strips: Vec<Option<Bytes>> = sources.iter().map(|column| encoded.strips[*column].clone()).collect();
        for (column, strip) in rebuild.stripe(StripeIndex(at as u64), &strips)? {
            assert_eq!(Some(&strip), encoded.strips[column].as_ref());
            let place = lost.iter().position(|lost| *lost == column).unwrap();
            lists[place].push(StripHash::of(&strip));
        }
    }
    Ok(lists)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// From any k columns, every other column is rebuilt and matches its root, also with a short tail.
    #[test]
    fn any_k_columns_give_back_all_others(length in 16_385usize..3_000_000, k in 1usize..6, m in 1usize..5, seed in any::<u64>()) {
        let made = make(&mixed(length), options(format::Profile::Custom(Redundancy::new(k, m).unwrap()), Suite::ChaCha20Poly1305), Kind::File);
        let mut order: Vec<usize> = (0..k + m).collect();
        let mut draw = seed;
        for at in (1..order.len()).rev() {
            draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            order.swap(at, usize::try_from(draw >> 33).unwrap() % (at + 1));
        }
        let (sources, lost) = order.split_at(k);
        let lists = rebuild(&made, sources, lost).unwrap();
        for (column, list) in lost.iter().zip(lists) {
            prop_assert_eq!(Some(&list.root()), made.sealed.public.root(*column));
        }
    }
}

#[test]
fn wrong_sources_and_strips_are_refused() {
    let made = make(&mixed(200_000), options("4+2".parse().unwrap(), Suite::ChaCha20Poly1305), Kind::File);
    let too_few = |have| Err(RebuildError::Erasure(ErasureError::TooFew { have, need: 4 }));
    assert_eq!(rebuild(&made, &[0, 1, 2], &[3]), too_few(3));
    assert_eq!(rebuild(&made, &[0, 1, 2, 2], &[3]), too_few(3));
    assert_eq!(rebuild(&made, &[0, 1, 2, 6], &[3]), Err(RebuildError::Columns { columns: 6 }));
    assert_eq!(rebuild(&made, &[0, 1, 2, 3], &[6]), Err(RebuildError::Columns { columns: 6 }));
    let rebuild = Rebuild::new(made.sealed.public.clone(), &[0, 1, 2, 3], &[4]).unwrap();
    assert_eq!(rebuild.stripe(StripeIndex(9), &[]), Err(RebuildError::Stripe { stripe: StripeIndex(9) }));
    let mut strips: Vec<_> = made.stripes[0].strips[..4].to_vec();
    strips[0] = strips[0].as_ref().map(|strip| strip.slice(1..));
    let shape = Err(RebuildError::Erasure(ErasureError::Shape { columns: 6 }));
    assert_eq!(rebuild.stripe(StripeIndex(0), &strips), shape);
}
