//! One name has one content: an owner who stores strips that are no codeword gives every reader the same bytes or an
//! error, whichever k strips the reader gets.

use crate::{Encoded, equivocal::equivocal};
use bytes::Bytes;
use format::{BlockIndex, Cell, DecodeError, Object, OwnerId, Rebuild, RebuildError, Redundancy, StripeIndex};

const STRIPE: StripeIndex = StripeIndex(0);

/// An object whose strips are no codeword, opened.
struct Equivocal {
    object: Object,
    encoded: Encoded,
}

impl Equivocal {
    fn new(redundancy: Redundancy, is_of_b: impl Fn(usize) -> bool) -> Self {
        let encoded = equivocal(redundancy, OwnerId([0x0e; 32]), is_of_b);
        let sealed = &encoded.sealed;
        let object =
            Object::from_manifests(&sealed.capability, &sealed.locator, sealed.public.clone(), &sealed.sealed).unwrap();
        Self { object, encoded }
    }

    fn strips(&self) -> &[Option<Bytes>] {
        &self.encoded.stripes[0].strips
    }

    /// Returns the plaintext that a reader gets from these columns.
    fn read(&self, columns: &[usize]) -> Result<Vec<u8>, DecodeError> {
        let mut strips: Vec<Option<Vec<u8>>> = vec![None; self.strips().len()];
        for column in columns {
            strips[*column] = self.strips()[*column].as_deref().map(<[u8]>::to_vec);
        }
        self.object.recover(STRIPE, &self.encoded.stripes[0].row, &mut strips)?;
        let blocks = 0..self.object.geometry().unwrap().blocks();
        let blocks: Result<Vec<_>, _> = blocks
            .zip(strips.iter().flatten())
            .map(|(block, strip)| self.object.decode(BlockIndex(block), strip))
            .collect();
        Ok(blocks?.concat())
    }

    /// Returns what a repairer makes of the other columns.
    fn rebuild(&self, columns: &[usize]) -> Result<Vec<(usize, Cell)>, RebuildError> {
        let lost: Vec<usize> = (0..self.strips().len()).filter(|column| !columns.contains(column)).collect();
        let strips: Vec<Option<Bytes>> = columns.iter().map(|column| self.strips()[*column].clone()).collect();
        Rebuild::new(self.object.public().clone(), columns, &lost)?.stripe(
            STRIPE,
            &self.encoded.stripes[0].row,
            &strips,
        )
    }
}

/// Calls `visit` with each choice of `k` of `n`, ascending.
fn choose(n: usize, k: usize, mut visit: impl FnMut(&[usize])) {
    let mut chosen: Vec<usize> = (0..k).collect();
    loop {
        visit(&chosen);
        let Some(at) = (0..k).rev().find(|at| chosen[*at] < n - k + at) else { return };
        chosen[at] += 1;
        for next in at + 1..k {
            chosen[next] = chosen[next - 1] + 1;
        }
    }
}

/// Reads every choice of k columns of every mixture, and checks that all that is read is what is read directly.
fn every_choice_gives_one_content(redundancy: &str, mixtures: &[&[usize]]) {
    let redundancy: Redundancy = redundancy.parse().unwrap();
    let (k, n) = (redundancy.data(), redundancy.columns());
    for mixture in mixtures {
        let object = Equivocal::new(redundancy, |column| mixture.contains(&column));
        let direct: Vec<usize> = (0..k).collect();
        let content = object.read(&direct).unwrap();
        let (mut read, mut refused) = (0, 0);
        choose(n, k, |columns| {
            let consistent = match object.read(columns) {
                Ok(plain) => plain == content,
                Err(error) => {
                    refused += 1;
                    assert_eq!(error, DecodeError::Inconsistent { stripe: STRIPE });
                    true
                }
            };
            assert!(consistent, "{redundancy} with {mixture:?} of another content gives other bytes from {columns:?}");
            read += 1;
            if read % 97 == 1 {
                match object.rebuild(columns) {
                    Ok(cells) => assert!(cells.iter().all(|(c, cell)| cell.strip == object.strips()[*c])),
                    Err(error) => assert_eq!(error, RebuildError::Inconsistent { stripe: STRIPE }),
                }
            }
        });
        assert_eq!(refused == 0, mixture.is_empty(), "{redundancy}, {mixture:?}: {refused} of {read}");
    }
}

#[test]
fn one_name_has_one_content() {
    every_choice_gives_one_content("1+3", &[&[], &[0], &[3], &[1, 2, 3], &[1, 2]]);
    every_choice_gives_one_content("4+2", &[&[], &[0], &[3], &[4], &[5], &[4, 5], &[0, 4], &[1, 2], &[0, 1, 2]]);
}

/// All 735,471 choices of 16 of 24 columns.
mod long_lane {
    #[test]
    #[ignore = "minutes"]
    fn one_name_has_one_content_with_24_columns() {
        super::every_choice_gives_one_content("16+8", &[&[5], &[20], &[16, 17, 18, 19, 20, 21, 22, 23]]);
    }
}
