//! Every seed of `fuzz/corpus` runs through its fuzz target, so every test run repeats the inputs that once broke a
//! decoder.
//!
//! `EVERNEAR_BLESS=1 ./x test --workspace -E 'package(unixfs) and test(corpus)'` writes missing seeds. Existing seeds
//! stay.

use std::{fs, path::Path};

use unixfs::{Cid, Data, Kind, Profile, Version, car};

use crate::{replay::replay, store::Store};

#[expect(unreachable_pub, reason = "public for the fuzz targets, which are another crate")]
#[path = "../../../fuzz/src/blocks.rs"]
mod blocks;

#[test]
fn every_seed_is_survived_and_every_decoder_of_blocks_has_seeds() {
    if std::env::var_os("EVERNEAR_BLESS").is_some() {
        write_missing_seeds();
    }
    for (target, body) in blocks::BODIES {
        replay(target, body);
    }
}

/// A directory of a file of two chunks and of a small one.
fn tree(version: Version) -> (Cid, Store) {
    let profile = Profile::UNIXFS_V1_2025.with_chunk_bytes(5).unwrap().with_version(version);
    let mut store = Store::default();
    let root = store.tree(profile, [("a/b", &b"content"[..]), ("c", b"c"), ("empty/", b"")]);
    (root.cid, store)
}

fn whole_car(version: Version) -> Vec<u8> {
    let (root, store) = tree(version);
    let sections = store.names().flat_map(|(cid, block)| [car::section_head(&cid, block.len()), block.to_vec()]);
    [car::header(&root)].into_iter().chain(sections).collect::<Vec<_>>().concat()
}

/// For `dag_walk`: data and links of a node, which are blocks before it and names.
fn node(data: &Data<'_>, links: &[(u8, &str)]) -> Vec<u8> {
    let data = data.encode();
    let mut out = vec![0x80 | u8::try_from(data.len()).unwrap()];
    out.extend(data);
    out.push(u8::try_from(links.len()).unwrap());
    for (back, name) in links {
        out.extend([*back, u8::try_from(name.len()).unwrap()]);
        out.extend(name.as_bytes());
    }
    out
}

fn seeds() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let (root, store) = tree(Version::V1);
    let file = Data { file_bytes: Some(6), block_bytes: vec![3, 3], ..Data::new(Kind::File) };
    let file = node(&file, &[(0, ""), (0, "")]);
    let folder = node(&Data::new(Kind::Directory), &[(0, "file"), (1, "leaf")]);
    let mut bits = vec![0; 32];
    bits[31 - 0xcb / 8] = 1 << (0xcb % 8);
    let shard = Data { data: Some(bits.into()), hash: Some(0x22), fanout: Some(256), ..Data::new(Kind::Shard) };
    let shard = node(&shard, &[(1, "CBhello")]);
    let cbor = [&b"\xa1\x61a\xd8\x2a\x58\x25\x00"[..], &root.to_bytes()].concat();
    // A tenth byte of a number with bits above the lowest: this was once read as another number.
    let tenth = [&[0xff; 9][..], &[0x02]].concat();
    vec![
        ("cid", "v0", tree(Version::V0).0.to_bytes()),
        ("cid", "v0-text", tree(Version::V0).0.to_string().into_bytes()),
        ("cid", "v1", root.to_bytes()),
        ("cid", "v1-text", root.to_string().into_bytes()),
        ("cid", "inline", vec![1, 0x55, 0, 2, 7, 8]),
        ("cid", "number-beyond-64-bits", [&[1][..], &tenth, &[0x12, 32], &[7; 32]].concat()),
        ("car", "v0", whole_car(Version::V0)),
        ("car", "v1", whole_car(Version::V1)),
        ("car", "header-alone", car::header(&root)),
        ("car", "version-2", b"\x0a\xa1gversion\x02".to_vec()),
        ("dag_node", "directory", store.block(&root).unwrap().to_vec()),
        ("dag_node", "cbor-with-a-link", cbor),
        ("dag_node", "tsize-beyond-64-bits", [&[0x12, 11, 0x18][..], &tenth].concat()),
        ("dag_walk", "folder", [&[3, 7, 8, 9][..], &file, &folder].concat()),
        ("dag_walk", "shard", [&[3, 7, 8, 9][..], &file, &shard].concat()),
    ]
}

fn write_missing_seeds() {
    for (target, name, bytes) in seeds() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join(format!("{name}.seed"));
        if !path.exists() {
            fs::write(path, bytes).unwrap();
        }
    }
}
