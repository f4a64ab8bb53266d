//! The cost of parsing a name at the DNS front end before any look-up: a good label, one with a wrong check, one of
//! another length.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use format::{Capability, Label, LabelError};

fn parse(criterion: &mut Criterion) {
    let good = Label::open(Capability::from_bytes([0x2b; 32])).to_string().into_bytes();
    let mut wrong = good.clone();
    // The changed symbol is in the middle, so only the check can detect it.
    wrong[30] = if wrong[30] == b'a' { b'b' } else { b'a' };
    assert!(Label::parse(&good).is_ok());
    assert_eq!(Label::parse(&wrong), Err(LabelError::Check));
    for (name, text) in [("good", &good[..]), ("wrong check", &wrong), ("other length", &good[1..])] {
        criterion.bench_function(&format!("label/parse {name}"), |bencher| {
            bencher.iter(|| Label::parse(black_box(text)).is_ok());
        });
    }
    let label: Label = std::str::from_utf8(&good).unwrap().parse().unwrap();
    criterion.bench_function("label/locator", |bencher| bencher.iter(|| black_box(label.capability()).locator()));
}

criterion_group!(label, parse);
criterion_main!(label);
