//! A second erasure engine, `rusty_erasure`, must give the same bytes as ours.

use crate::noise::noise;
use format::{Erasure, Profile, Redundancy, ReedSolomon};
use rusty_erasure::{Matrix, coder, compat::reed_solomon_erasure_matrix};

#[test]
fn a_second_engine_gives_the_same_parity() {
    for (data, parity) in [(1, 3), (2, 2), (4, 2), (4, 4), (8, 6), (16, 8), (20, 12), (100, 50), (200, 56)] {
        for length in [1, 63, 64, 65, 4096, 20_000] {
            let bytes = noise(data * length);
            let strips: Vec<&[u8]> = bytes.chunks(length).collect();
            let mut ours = vec![vec![0; length]; parity];
            let mut outputs: Vec<&mut [u8]> = ours.iter_mut().map(Vec::as_mut_slice).collect();
            ReedSolomon::new(Redundancy::new(data, parity).unwrap()).encode(&strips, &mut outputs).unwrap();

            let matrix: Matrix = reed_solomon_erasure_matrix(data, parity).unwrap();
            let mut theirs = vec![vec![0; length]; parity];
            let mut outputs: Vec<&mut [u8]> = theirs.iter_mut().map(Vec::as_mut_slice).collect();
            coder(matrix).unwrap().encode(&strips, &mut outputs).unwrap();
            assert!(ours == theirs, "{data}+{parity} of {length}");
        }
    }
}

#[test]
fn a_parity_strip_does_not_depend_on_how_many_there_are() {
    // So parity columns can be dropped or added while all others stay the same.
    let tiers = Profile::NAMED.into_iter().flat_map(Profile::tiers).map(|tier| tier.redundancy);
    for redundancy in tiers.chain(["20+40", "1+255", "200+56"].map(|text| text.parse().unwrap())) {
        let data = redundancy.data();
        let bytes = noise(data * 65);
        let strips: Vec<&[u8]> = bytes.chunks(65).collect();
        let parity = |parity: usize| {
            let mut made = vec![vec![0; 65]; parity];
            let mut outputs: Vec<&mut [u8]> = made.iter_mut().map(Vec::as_mut_slice).collect();
            ReedSolomon::new(Redundancy::new(data, parity).unwrap()).encode(&strips, &mut outputs).unwrap();
            made
        };
        let most = parity((redundancy.parity() * 2).min(256 - data).min(255));
        for fewer in 1..most.len() {
            assert!(parity(fewer) == most[..fewer], "{data}+{fewer} of {data}+{}", most.len());
        }
    }
}

#[test]
fn lost_strips_of_both_kinds_come_back() {
    let redundancy = Redundancy::new(5, 3).unwrap();
    let code = ReedSolomon::new(redundancy);
    let bytes = noise(5 * 1000);
    let strips: Vec<&[u8]> = bytes.chunks(1000).collect();
    let mut parity = vec![vec![0; 1000]; 3];
    code.encode(&strips, &mut parity.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>()).unwrap();
    let whole: Vec<Option<Vec<u8>>> = strips.iter().map(|s| s.to_vec()).chain(parity).map(Some).collect();
    let mut holed = whole.clone();
    for column in [0, 4, 6] {
        holed[column] = None;
    }
    code.recover_all(&mut holed).unwrap();
    assert!(holed == whole);
    holed[0] = None;
    holed[1] = Some(vec![0; 999]);
    assert!(code.recover_data(&mut holed).is_err());
    assert!(
        code.recover_data(&mut [const { None }; 8]).is_err() && code.recover_data(&mut holed[..7].to_vec()).is_err()
    );
}
