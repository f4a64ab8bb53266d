//! Both suites on one block, with the engines of this build: AWS-LC, or those in Rust with `--no-default-features
//! --features portable`. The ratio of the two suites decides `Suite::auto`.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use format::{Suite, hazmat::Sealer, limits::BLOCK_BYTES};

const AAD: [u8; 12] = [0; 12];

fn suites(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("seal");
    group.throughput(Throughput::BytesDecimal(BLOCK_BYTES as u64));
    for suite in Suite::ALL {
        let sealer = Sealer::new(suite, &[7; 32]);
        let mut block = vec![0x5a; BLOCK_BYTES];
        // The nonce repeats here. This is safe: the key seals nothing outside this benchmark.
        group.bench_function(BenchmarkId::new("seal", suite.id()), |bencher| {
            bencher.iter(|| black_box(sealer.seal([0; 12], &AAD, &mut block)));
        });
        let tag = sealer.seal([0; 12], &AAD, &mut block);
        let sealed = [&block[..], &tag].concat();
        let mut plain = vec![0; BLOCK_BYTES];
        group.bench_function(BenchmarkId::new("open", suite.id()), |bencher| {
            bencher.iter(|| sealer.open([0; 12], &AAD, black_box(&sealed), &mut plain).unwrap());
        });
    }
    group.finish();
}

criterion_group!(seal, suites);
criterion_main!(seal);
