//! What is imported is walked again; and DAGs that nobody imported.

use std::borrow::Cow;

use unixfs::{Bounds, Cid, Codec, Data, Kind, Leaves, Link, Node, Profile, Sharding, Version, WalkError};

use crate::store::{Files, Store};

fn noise(bytes: usize) -> Vec<u8> {
    let mut content = vec![0; bytes];
    blake3::Hasher::new().update(b"noise").finalize_xof().fill(&mut content);
    content
}

/// Puts a node into a store.
fn node(store: &mut Store, data: &Data<'_>, links: &[(&str, Cid)]) -> Cid {
    let links = links.iter().map(|(name, cid)| Link { cid: *cid, name: Cow::Borrowed(name.as_bytes()), tsize: 1 });
    let block = Node { links: links.collect(), data: Some(data.encode().into()) }.encode();
    let cid = Cid::of(Codec::DagPb, &block);
    store.put(cid, &block);
    cid
}

fn raw(store: &mut Store, block: &[u8]) -> Cid {
    let cid = Cid::of(Codec::Raw, block);
    store.put(cid, block);
    cid
}

fn directory(store: &mut Store, links: &[(&str, Cid)]) -> Cid {
    node(store, &Data::new(Kind::Directory), links)
}

fn file(store: &mut Store, parts: &[(Cid, u64)]) -> Cid {
    let data = Data {
        file_bytes: Some(parts.iter().map(|(_, bytes)| bytes).sum()),
        block_bytes: parts.iter().map(|(_, bytes)| *bytes).collect(),
        ..Data::new(Kind::File)
    };
    node(store, &data, &parts.iter().map(|(cid, _)| ("", *cid)).collect::<Vec<_>>())
}

#[test]
fn what_is_imported_is_walked_in_every_profile() {
    let content = noise(10_000);
    for leaves in [Leaves::Raw, Leaves::Nodes] {
        for version in [Version::V0, Version::V1] {
            for sharding in [Sharding::Entries(4), Sharding::Entries(1000)] {
                let profile = Profile::UNIXFS_V1_2025.with_leaves(leaves).with_version(version);
                let profile = profile.with_sharding(sharding).unwrap();
                let profile = profile.with_chunk_bytes(100).unwrap().with_width(3).unwrap();
                let mut files: Vec<(String, &[u8])> = vec![("empty/".into(), b""), ("a/b/c/d/e".into(), &content)];
                for bytes in [0, 1, 99, 100, 101, 300, 301, 10_000] {
                    files.push((format!("ü {bytes}"), &content[..bytes]));
                    files.push((format!("many/{bytes}"), &content[..bytes]));
                }
                let mut store = Store::default();
                let root = store.tree(profile, files.iter().map(|(path, content)| (path.as_str(), *content)));
                let walked = store.walk(root.cid, Bounds::default()).unwrap();
                let mut wanted: Files = ["/", "empty/", "many/", "a/", "a/b/", "a/b/c/", "a/b/c/d/"]
                    .map(|path| (path.to_owned(), None))
                    .into();
                wanted.extend(files[1..].iter().map(|(path, content)| (path.clone(), Some(content.to_vec()))));
                assert!(walked == wanted, "{profile:?}");
            }
        }
    }
}

#[test]
fn a_hundred_thousand_names_of_a_sharded_directory_are_walked() {
    let names: Vec<String> = (0..100_000).map(|index| format!("IMG_{index}.jpg")).collect();
    let mut store = Store::default();
    let root = store.tree(Profile::NFT_CLASSIC, names.iter().map(|name| (name.as_str(), name.as_bytes())));
    let walked = store.walk(root.cid, Bounds::default()).unwrap();
    assert_eq!(walked.len(), 100_001);
    assert!(names.iter().all(|name| walked[name].as_deref() == Some(name.as_bytes())));
}

#[test]
fn a_file_alone_is_a_root_and_so_is_what_is_no_file() {
    let mut store = Store::default();
    let whole = |content: &[u8]| Files::from([(String::new(), Some(content.to_vec()))]);
    let cid = raw(&mut store, b"raw");
    assert_eq!(store.walk(cid, Bounds::default()), Ok(whole(b"raw")));
    let inline = Cid::decode(&[1, 0x55, 0, 2, 7, 8]).unwrap();
    assert_eq!(store.walk(inline, Bounds::default()), Ok(whole(&[7, 8])));
    let symlink = Data { data: Some(Cow::Borrowed(b"../etc")), ..Data::new(Kind::Symlink) };
    let symlink = node(&mut store, &symlink, &[]);
    assert_eq!(store.walk(symlink, Bounds::default()), Ok(whole(b"../etc")));
    let cbor = Cid::of(Codec::DagCbor, b"\xa0");
    let around = directory(&mut store, &[("meta", cbor)]);
    let walked = store.walk(around, Bounds::default()).unwrap();
    assert_eq!(walked["meta"], Some(cbor.to_bytes()));
    // Content in a node above its parts comes before them, as trickled files have it.
    let leaf = raw(&mut store, b" world");
    let data = Data {
        data: Some(Cow::Borrowed(b"hello")),
        file_bytes: Some(11),
        block_bytes: vec![6],
        ..Data::new(Kind::File)
    };
    let trickled = node(&mut store, &data, &[("", leaf)]);
    assert_eq!(store.walk(trickled, Bounds::default()), Ok(whole(b"hello world")));
}

#[test]
fn a_small_dag_that_repeats_itself_ends_at_a_bound() {
    let mut store = Store::default();
    let names: Vec<String> = (0..100).map(|index| index.to_string()).collect();
    let (mut folder, mut repeated) = (raw(&mut store, b"x"), (raw(&mut store, b"xy"), 2));
    let mut empty = file(&mut store, &[]);
    let mut deep = folder;
    for _ in 0..20 {
        let links: Vec<_> = names.iter().map(|name| (name.as_str(), folder)).collect();
        folder = directory(&mut store, &links);
        repeated = (file(&mut store, &[repeated; 8]), repeated.1 * 8);
        empty = file(&mut store, &[(empty, 0); 100]);
        deep = directory(&mut store, &[("d", deep)]);
    }
    let bounds = Bounds {
        entries: 10_000,
        blocks: 20_000,
        content_bytes: 1 << 40,
        node_bytes: 1 << 20,
        depth: 30,
        path_bytes: 1000,
        links: 2500,
    };
    let over = |root, bounds| match store.walk(root, bounds) {
        Err(WalkError::Over { what, .. }) => what,
        other => panic!("{other:?}"),
    };
    assert_eq!(over(folder, bounds), "entries");
    assert_eq!(over(folder, Bounds { links: 500, ..bounds }), "links at a time");
    assert_eq!(over(folder, Bounds { path_bytes: 20, ..bounds }), "path");
    assert_eq!(over(repeated.0, bounds), "bytes of content");
    assert_eq!(over(empty, bounds), "bytes of nodes");
    assert_eq!(over(empty, Bounds { node_bytes: 1 << 30, ..bounds }), "blocks");
    assert_eq!(over(deep, Bounds { depth: 19, ..bounds }), "levels");
    assert_eq!(store.walk(deep, Bounds { depth: 20, ..bounds }).unwrap().len(), 21);
}

#[test]
fn a_file_whose_sizes_are_not_those_of_its_parts_is_refused() {
    let mut store = Store::default();
    let leaf = raw(&mut store, b"abc");
    let inner = file(&mut store, &[(leaf, 3), (leaf, 3)]);
    for (part, said, bytes) in [(leaf, 4, 3), (leaf, 2, 3), (inner, 5, 6)] {
        let bad = file(&mut store, &[(leaf, 3), (part, said)]);
        let refused = store.walk(bad, Bounds::default());
        assert_eq!(refused, Err(WalkError::Size { cid: part.into(), said, bytes }));
    }
    let data = Data { file_bytes: Some(4), block_bytes: vec![3], ..Data::new(Kind::File) };
    for bad in [
        data.clone(),
        Data { block_bytes: vec![], ..data.clone() },
        Data { block_bytes: vec![3, 1], ..data.clone() },
        Data { block_bytes: vec![u64::MAX], data: Some(Cow::Borrowed(b"x")), ..data },
    ] {
        let bad = node(&mut store, &bad, &[("", leaf)]);
        assert_eq!(store.walk(bad, Bounds::default()), Err(WalkError::Sizes { cid: bad.into() }));
    }
}

#[test]
fn names_that_lead_elsewhere_or_are_there_twice_are_refused() {
    let mut store = Store::default();
    let leaf = raw(&mut store, b"abc");
    for names in [&["a", "a"][..], &[".."], &["."], &["a/b"], &["/etc"], &[""], &["a\0"]] {
        let links: Vec<_> = names.iter().map(|name| (*name, leaf)).collect();
        let bad = directory(&mut store, &links);
        assert!(matches!(store.walk(bad, Bounds::default()), Err(WalkError::Name { .. })), "{names:?}");
    }
}

#[test]
fn a_shard_whose_links_are_not_those_of_its_slots_is_refused() {
    let mut store = Store::default();
    let leaf = raw(&mut store, b"abc");
    // The first byte of the hash of "hello" is CB.
    let mut bits = [0; 32];
    bits[31 - 0xcb / 8] = 1 << (0xcb % 8);
    let data = |bits: &[u8]| Data {
        data: Some(bits.to_vec().into()),
        hash: Some(0x22),
        fanout: Some(256),
        ..Data::new(Kind::Shard)
    };
    let good = node(&mut store, &data(&bits), &[("CBhello", leaf)]);
    assert_eq!(store.walk(good, Bounds::default()).unwrap()["hello"].as_deref(), Some(&b"abc"[..]));
    for (data, links) in [
        (data(&bits), &["cbhello"][..]),
        (data(&bits), &["CChello"]),
        (data(&bits), &["C"]),
        (data(&bits), &[]),
        (data(&bits), &["CBhello", "CBhello"]),
        (data(&[0; 32]), &["CBhello"]),
        (data(&[1; 33]), &["CBhello"]),
        (Data { hash: Some(0x12), ..data(&bits) }, &["CBhello"]),
        (Data { fanout: Some(128), ..data(&bits) }, &["CBhello"]),
        (Data { hash: None, ..data(&bits) }, &["CBhello"]),
    ] {
        let links: Vec<_> = links.iter().map(|name| (*name, leaf)).collect();
        let bad = node(&mut store, &data, &links);
        let refused = store.walk(bad, Bounds::default());
        assert_eq!(refused, Err(WalkError::Shard { cid: bad.into() }), "{links:?}");
    }
    // A name in the slot of another.
    let elsewhere = node(&mut store, &data(&bits), &[("CBworld", leaf)]);
    assert!(matches!(store.walk(elsewhere, Bounds::default()), Err(WalkError::Name { .. })));
    // The same below: the second byte is D8, and "hello" must be there.
    let below = |store: &mut Store, slot: u8, name: &str| {
        let mut bits = [0; 32];
        bits[31 - usize::from(slot / 8)] = 1 << (slot % 8);
        node(store, &data(&bits), &[(&format!("{slot:02X}{name}"), leaf)])
    };
    let (right, wrong) = (below(&mut store, 0xd8, "hello"), below(&mut store, 0xd9, "hello"));
    let right = node(&mut store, &data(&bits), &[("CB", right)]);
    assert!(store.walk(right, Bounds::default()).unwrap().contains_key("hello"));
    let wrong = node(&mut store, &data(&bits), &[("CB", wrong)]);
    assert!(matches!(store.walk(wrong, Bounds::default()), Err(WalkError::Name { .. })));
    // A shard that leads to a directory, and a directory inside of a file.
    let empty = directory(&mut store, &[]);
    let through = node(&mut store, &data(&bits), &[("CB", empty)]);
    assert_eq!(store.walk(through, Bounds::default()), Err(WalkError::Unexpected { cid: empty.into() }));
    let part = file(&mut store, &[(empty, 0)]);
    assert_eq!(store.walk(part, Bounds::default()), Err(WalkError::Unexpected { cid: empty.into() }));
}

#[test]
fn a_block_that_is_another_is_refused_and_so_is_one_that_nobody_wants() {
    let mut store = Store::default();
    let leaf = raw(&mut store, b"abc");
    let root = directory(&mut store, &[("a", leaf)]);
    let mut walker = unixfs::Walker::new(root, Bounds::default());
    assert_eq!(walker.give_length(3), Err(WalkError::NotWanted));
    let other = directory(&mut Store::default(), &[]);
    assert!(matches!(walker.give(other.to_bytes().into()), Err(WalkError::Verify { .. })));
    let big = vec![0; unixfs::limits::BLOCK_BYTES_MAX + 1];
    assert!(matches!(walker.give(big.into()), Err(WalkError::BlockTooBig { .. })));
}
