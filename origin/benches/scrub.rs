//! Bytes per second that a scrub hashes on one core, beside reading and hashing the same bytes with nothing of ours
//! between; all from the page cache, so that the disk is not what is measured. Prints a table.
//!
//! `cargo bench -p origin --bench scrub`
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement prints its result and fails by panicking")]

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use format::{Attributes, Compression, EncoderOptions, Kind, OwnerSecret, Profile, Sealed, Suite, hazmat};
use origin::store::{Found, RealDisk, Store};

/// Rounds of each; the median is told.
const ROUNDS: usize = 9;
/// What a strip of a large object has.
const PIECE_BYTES: usize = 256 * 1024;

fn main() {
    println!(
        "| shards | hashed bytes | read | read + BLAKE3 | scrub | scrub : read + BLAKE3 |\n|---|---|---|---|---|---|"
    );
    large();
    small();
}

/// One object of 64 MiB: six shards that are files.
fn large() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(dir.path(), Arc::new(RealDisk)).unwrap());
    let objects = vec![stored(&store, 1, 64 << 20)];
    row("6 files of 16 MiB", dir.path(), &store, &objects);
}

/// 1000 objects of 20 kB: three shards each, in a pack.
fn small() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(dir.path(), Arc::new(RealDisk)).unwrap());
    let objects: Vec<Sealed> = (0..1000).map(|number| stored(&store, number, 20_000)).collect();
    row("3000 entries of a pack, 20 kB", dir.path(), &store, &objects);
}

fn row(what: &str, root: &Path, store: &Store, objects: &[Sealed]) {
    let bytes: u64 =
        objects.iter().flat_map(|it| (0..it.public.columns()).map(|column| it.public.shard_bytes(column))).sum();
    let read = median(|| read_all(root, |_| ()));
    let hashed = median(|| {
        read_all(root, |piece| {
            std::hint::black_box(blake3::hash(piece));
        });
    });
    let scrubbed = median(|| {
        for sealed in objects {
            for column in 0..sealed.public.columns() {
                let looked = store.verify_shard(&sealed.public.id(), column, 0, u64::MAX).unwrap();
                assert_eq!(looked.found, Found::Intact);
            }
        }
    });
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = |time: Duration| bytes as f64 / time.as_secs_f64() / 1e9;
    println!(
        "| {what} | {bytes} | {:.2} GB/s | {:.2} GB/s | {:.2} GB/s | {:.2} |",
        rate(read),
        rate(hashed),
        rate(scrubbed),
        rate(scrubbed) / rate(hashed),
    );
}

/// Reads every file below a folder in pieces.
fn read_all(folder: &Path, mut see: impl FnMut(&[u8])) {
    let mut folders = vec![folder.to_owned()];
    let mut piece = vec![0; PIECE_BYTES];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let mut file = File::open(path).unwrap();
            loop {
                let count = file.read(&mut piece).unwrap();
                if count == 0 {
                    break;
                }
                see(&piece[..count]);
            }
        }
    }
}

fn median(mut work: impl FnMut()) -> Duration {
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let begun = Instant::now();
            work();
            begun.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[ROUNDS / 2]
}

/// Stores all shards of an object of random bytes.
fn stored(store: &Arc<Store>, number: u64, length: usize) -> Sealed {
    let random = *blake3::hash(&number.to_le_bytes()).as_bytes();
    let mut bytes = vec![0; length];
    blake3::Hasher::new_keyed(&random).finalize_xof().fill(&mut bytes);
    let options = EncoderOptions {
        profile: Profile::SmallCluster,
        suite: Suite::auto(),
        compression: Compression::Off,
        owner: OwnerSecret::from_bytes([1; 32]).keys().id(),
    };
    let mut encoder = hazmat::encoder(options, random);
    let (mut input, mut stripes) = (&bytes[..], Vec::new());
    while let Some(stripe) = encoder.write(&mut input).unwrap() {
        stripes.push(stripe);
    }
    let mut ending = encoder.end();
    while let Some(stripe) = ending.stripe().unwrap() {
        stripes.push(stripe);
    }
    let attributes =
        Attributes { mime: "a/b".into(), name: String::new(), created: 1, kind: Kind::File, tags: BTreeMap::new() };
    let sealed = ending.seal(attributes, random).unwrap();
    let mut columns = vec![Vec::new(); sealed.public.columns()];
    for stripe in stripes {
        columns.iter_mut().zip(stripe.into_cells()).for_each(|(column, cell)| column.push(cell));
    }
    for (column, cells) in columns.iter().enumerate() {
        let mut draft = store.draft("bench", column, columns.len()).unwrap();
        draft.append(0, cells).unwrap();
        draft.commit(column, &sealed.public).unwrap();
    }
    sealed
}
