//! Importing on one core: how many bytes of a file become a CID in a second, and how many entries a directory.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use unixfs::{Importer, Profile, Root, Tree};

const FILE_BYTES: usize = 64 << 20;
/// What an upload hands over at a time.
const SLICE_BYTES: usize = 64 << 10;
const ENTRIES: u64 = 100_000;

fn import(profile: Profile, content: &[u8]) -> Root {
    let mut importer = Importer::new(profile);
    for slice in content.chunks(SLICE_BYTES) {
        importer.write(slice, &mut ());
    }
    importer.finish(&mut ()).root
}

fn files(bench: &mut Criterion) {
    let mut content = vec![0; FILE_BYTES];
    blake3::Hasher::new().update(b"noise").finalize_xof().fill(&mut content);
    let mut group = bench.benchmark_group("file");
    group.throughput(Throughput::Bytes(FILE_BYTES as u64)).sample_size(10);
    for (name, profile) in Profile::NAMED {
        group.bench_function(name, |bench| bench.iter(|| import(profile, black_box(&content))));
    }
    group.finish();
}

fn directories(bench: &mut Criterion) {
    let file = import(Profile::UNIXFS_V1_2025, b"content");
    let paths: Vec<String> = (0..ENTRIES).map(|index| format!("photos/IMG_{index:06}.jpg")).collect();
    let mut group = bench.benchmark_group("tree");
    group.throughput(Throughput::Elements(ENTRIES)).sample_size(10);
    group.bench_function("100,000 in one folder", |bench| {
        bench.iter(|| {
            let mut tree = Tree::new(Profile::UNIXFS_V1_2025);
            for path in &paths {
                tree.insert(path, file).unwrap();
            }
            tree.finish(&mut ()).unwrap()
        });
    });
    group.finish();
}

criterion_group!(benches, files, directories);
criterion_main!(benches);
