//! The codec on one core, for both suites and two profiles: encode, decode a healthy stripe, decode with m strips lost,
//! decode one block.
//!
//! Every call runs in a rayon pool of one thread, so the printed rate is the rate of one core. Rates count plaintext
//! bytes. As in every read, decoding includes the BLAKE3 of every strip used.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use std::{collections::BTreeMap, hint::black_box};

use criterion::{BatchSize, BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use format::{
    Attributes, BlockIndex, Compression, EncodedStripe, EncoderOptions, Kind, Object, OwnerId, Profile, Row, Sealed,
    StripeIndex, Suite, hazmat,
};
use rayon::{ThreadPool, ThreadPoolBuilder};

/// Whole stripes in both profiles: 4 of 16+8, 16 of 4+2.
const OBJECT_BYTES: usize = 16 * 1024 * 1024;
const PROFILES: [Profile; 2] = [Profile::Standard, Profile::SmallCluster];

/// Bytes that do not compress: zstd detects this early and gives up.
fn noise() -> Vec<u8> {
    let mut bytes = vec![0; OBJECT_BYTES];
    blake3::Hasher::new().update(b"noise").finalize_xof().fill(&mut bytes);
    bytes
}

/// Bytes that compress about as well as prose: words drawn from a small vocabulary.
fn words() -> Vec<u8> {
    const WORDS: [&str; 16] = [
        "object ", "edge ", "origin ", "the ", "stripe ", "of ", "a ", "nearest ", "shard ", "reads ", "from ",
        "label ", "every ", "and ", "is ", "place ",
    ];
    let draws = noise().into_iter().flat_map(|draw| [draw & 15, draw >> 4]);
    draws.flat_map(|draw| WORDS[usize::from(draw)].bytes()).take(OBJECT_BYTES).collect()
}

fn one_core() -> ThreadPool {
    ThreadPoolBuilder::new().num_threads(1).build().unwrap()
}

fn encode(plain: &[u8], profile: Profile, suite: Suite) -> (Sealed, Vec<EncodedStripe>) {
    let options = EncoderOptions { profile, suite, compression: Compression::Auto, owner: OwnerId([1; 32]) };
    let mut encoder = hazmat::encoder(options, [2; 32]);
    let (mut input, mut stripes) = (plain, Vec::new());
    while let Some(stripe) = encoder.write(&mut input).unwrap() {
        stripes.push(stripe);
    }
    let mut ending = encoder.end();
    while let Some(stripe) = ending.stripe().unwrap() {
        stripes.push(stripe);
    }
    let attributes = Attributes {
        mime: "video/mp4".into(),
        name: "clip.mp4".into(),
        created: 1_795_000_000,
        kind: Kind::File,
        tags: BTreeMap::new(),
    };
    (ending.seal(attributes, [3; 32]).unwrap(), stripes)
}

/// The first stripe of an object, as a reader has it: strips and their proven hashes.
struct Stripe {
    object: Object,
    strips: Vec<Vec<u8>>,
    row: Row,
    data: usize,
    parity: usize,
}

impl Stripe {
    fn first(plain: &[u8], profile: Profile, suite: Suite) -> Self {
        let (sealed, stripes) = encode(plain, profile, suite);
        let object =
            Object::from_manifests(&sealed.capability, &sealed.locator, sealed.public.clone(), &sealed.sealed).unwrap();
        let redundancy = stripes[0].redundancy;
        Self {
            object,
            strips: stripes[0].strips.iter().flatten().map(|strip| strip.to_vec()).collect(),
            row: stripes[0].row.clone(),
            data: redundancy.data(),
            parity: redundancy.parity(),
        }
    }

    fn plain_bytes(&self) -> u64 {
        (0..self.data as u64).map(|c| self.object.geometry().unwrap().block_bytes(BlockIndex(c)) as u64).sum()
    }

    fn block(&self, column: usize, strip: &[u8]) -> Vec<u8> {
        self.object.decode(BlockIndex(column as u64), strip).unwrap()
    }

    fn read_healthy(&self) {
        for column in 0..self.data {
            assert!(self.row.proves(column, Some(&self.strips[column])));
            black_box(self.block(column, &self.strips[column]));
        }
    }

    /// Loses the first `parity` data columns, or all data columns if there are fewer.
    fn survivors(&self) -> Vec<Option<Vec<u8>>> {
        let lost = self.parity.min(self.data);
        let strips = self.strips.iter().enumerate();
        strips.map(|(column, strip)| (lost..lost + self.data).contains(&column).then(|| strip.clone())).collect()
    }

    fn read_lossy(&self, mut strips: Vec<Option<Vec<u8>>>) {
        for (column, strip) in strips.iter().enumerate() {
            assert!(strip.is_none() || self.row.proves(column, strip.as_deref()));
        }
        self.object.recover(StripeIndex(0), &self.row, &mut strips).unwrap();
        for (column, strip) in strips.iter().flatten().take(self.data).enumerate() {
            black_box(self.block(column, strip));
        }
    }
}

fn cases() -> impl Iterator<Item = (String, Profile, Suite)> {
    PROFILES.into_iter().flat_map(|profile| {
        Suite::ALL.into_iter().map(move |suite| (format!("{profile}, suite {}", suite.id()), profile, suite))
    })
}

fn encoding(criterion: &mut Criterion) {
    let (pool, noise, words) = (one_core(), noise(), words());
    let mut group = criterion.benchmark_group("encode");
    group.sampling_mode(SamplingMode::Flat).sample_size(10).throughput(Throughput::BytesDecimal(OBJECT_BYTES as u64));
    for (name, profile, suite) in cases() {
        group.bench_function(BenchmarkId::new("noise", name), |bencher| {
            bencher.iter(|| pool.install(|| black_box(encode(&noise, profile, suite))));
        });
    }
    group.bench_function(BenchmarkId::new("words", "standard, suite 2"), |bencher| {
        bencher.iter(|| pool.install(|| black_box(encode(&words, Profile::Standard, Suite::Aes256Gcm))));
    });
    group.finish();
}

fn decoding(criterion: &mut Criterion) {
    let (pool, noise, words) = (one_core(), noise(), words());
    let mut group = criterion.benchmark_group("decode");
    group.sampling_mode(SamplingMode::Flat).sample_size(20);
    for (name, profile, suite) in cases() {
        let stripe = Stripe::first(&noise, profile, suite);
        group.throughput(Throughput::BytesDecimal(stripe.plain_bytes()));
        group.bench_function(BenchmarkId::new("healthy", &name), |bencher| {
            bencher.iter(|| pool.install(|| stripe.read_healthy()));
        });
        group.bench_function(BenchmarkId::new("m lost", &name), |bencher| {
            let read = |strips| pool.install(|| stripe.read_lossy(strips));
            bencher.iter_batched(|| stripe.survivors(), read, BatchSize::LargeInput);
        });
    }
    let stripe = Stripe::first(&words, Profile::Standard, Suite::Aes256Gcm);
    group.throughput(Throughput::BytesDecimal(stripe.plain_bytes()));
    group.bench_function(BenchmarkId::new("healthy words", "standard, suite 2"), |bencher| {
        bencher.iter(|| pool.install(|| stripe.read_healthy()));
    });
    group.finish();
}

/// The CPU cost of a range read of at most one block, without transport.
fn one_block(criterion: &mut Criterion) {
    let noise = noise();
    let mut group = criterion.benchmark_group("one block");
    for suite in Suite::ALL {
        let stripe = Stripe::first(&noise, Profile::Standard, suite);
        group.throughput(Throughput::BytesDecimal(format::limits::BLOCK_BYTES as u64));
        group.bench_function(BenchmarkId::new("verify and decode", format!("suite {}", suite.id())), |bencher| {
            bencher.iter(|| {
                assert!(stripe.row.proves(3, Some(&stripe.strips[3])));
                black_box(stripe.block(3, &stripe.strips[3]))
            });
        });
    }
    group.finish();
}

/// What one root over rows costs a reader beside roots of columns: the row that comes with each strip is hashed, and so
/// is a strip that was recovered ([decision 20](../../docs/decisions/0020-one-root-over-rows.md)).
fn rows(criterion: &mut Criterion) {
    let noise = noise();
    let mut group = criterion.benchmark_group("rows");
    for profile in PROFILES {
        let stripe = Stripe::first(&noise, profile, Suite::Aes256Gcm);
        let columns = stripe.data + stripe.parity;
        group.bench_function(BenchmarkId::new("read and hash a row", profile), |bencher| {
            bencher.iter(|| Row::take(&mut stripe.row.as_bytes().clone(), columns).unwrap().hash());
        });
        group.bench_function(BenchmarkId::new("compare a recovered strip", profile), |bencher| {
            bencher.iter(|| assert!(stripe.row.proves(0, Some(&stripe.strips[0]))));
        });
    }
    group.finish();
}

criterion_group!(codec, encoding, decoding, one_block, rows);
criterion_main!(codec);
