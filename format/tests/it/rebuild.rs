//! Shards are rebuilt byte for byte from any k others, with the public manifest alone.

use bytes::Bytes;
use format::{Cell, ErasureError, Kind, Rebuild, RebuildError, Redundancy, StripeIndex, Suite};
use proptest::prelude::*;

use crate::made::{Made, make, mixed, options};

/// Rebuilds the lost columns from the sources, and checks that each cell is the one that was stored.
fn rebuild(made: &Made, sources: &[usize], lost: &[usize]) -> Result<(), RebuildError> {
    let rebuild = Rebuild::new(made.sealed.public.clone(), sources, lost)?;
    for (at, encoded) in made.stripes.iter().enumerate() {
        let strips: Vec<Option<Bytes>> = sources.iter().map(|column| encoded.strips[*column].clone()).collect();
        let cells = rebuild.stripe(StripeIndex(at as u64), &encoded.row, &strips)?;
        let stored: Vec<Cell> = encoded.clone().into_cells().collect();
        assert!(cells.into_iter().eq(lost.iter().map(|column| (*column, stored[*column].clone()))));
    }
    Ok(())
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
        rebuild(&made, sources, lost).unwrap();
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
    assert_eq!(
        rebuild.stripe(StripeIndex(9), &made.stripes[0].row, &[]),
        Err(RebuildError::Stripe { stripe: StripeIndex(9) })
    );
    let mut strips: Vec<_> = made.stripes[0].strips[..4].to_vec();
    strips[0] = strips[0].as_ref().map(|strip| strip.slice(1..));
    let shape = Err(RebuildError::Erasure(ErasureError::Shape { columns: 6 }));
    assert_eq!(rebuild.stripe(StripeIndex(0), &made.stripes[0].row, &strips), shape);
}
