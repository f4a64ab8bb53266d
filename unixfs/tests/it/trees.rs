//! 200 made-up trees, whose CIDs were made by IPFS's own code in JavaScript: `tests/golden/trees.txt`. A second test
//! has npm's packages make them again, and read our CARs, and reads theirs.
//!
//! `EVERNEAR_BLESS=1 ./x test --workspace -E 'test(npm_)'` writes the list anew.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use serde_json::{Value, json};
use unixfs::{
    Bounds, CarEvent, CarReader, Cid, Codec, Completeness, Ipld, Leaves, Links, Profile, Sharding, Structure, Version,
    car,
};

use crate::store::{Files, Store};

const TREES: usize = 200;
const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/trees.txt");
const JUDGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/judge/judge.mjs");
/// Trees of which CARs are exchanged.
const CARS: usize = 60;

/// Draws numbers, as judge.mjs does.
struct Draw(u32);

impl Draw {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.0 >> 8
    }

    fn below(&mut self, end: usize) -> usize {
        self.next() as usize % end
    }
}

/// The generator of contents, as `content` in judge.mjs.
fn content(seed: u32, bytes: usize) -> Vec<u8> {
    let mut draw = Draw(seed);
    let mut next = || {
        draw.next();
        draw.0.to_be_bytes()[0]
    };
    (0..bytes).map(|_| next()).collect()
}

/// One made-up tree: paths to seeds and lengths of contents; none for a directory.
struct Made {
    profile: &'static str,
    parameters: Profile,
    is_named: bool,
    threshold: usize,
    entries: BTreeMap<String, Option<(u32, usize)>>,
}

impl Made {
    fn new(index: usize) -> Self {
        let mut draw = Draw(u32::try_from(index).unwrap() * 7919 + 1);
        draw.next();
        let (profile, named) = Profile::NAMED[index % 3];
        let kind = index / 3 % 4;
        let threshold = if profile == "nft-classic" { 5 + draw.below(35) } else { 1000 + draw.below(3000) };
        let threshold = match (kind, named.sharding()) {
            (0 | 1, Sharding::Entries(most) | Sharding::BlockBytes(most) | Sharding::LinksBytes(most)) => most,
            _ => threshold,
        };
        let sharding = match named.sharding() {
            Sharding::Entries(_) => Sharding::Entries(threshold),
            Sharding::LinksBytes(_) => Sharding::LinksBytes(threshold),
            Sharding::BlockBytes(_) => Sharding::BlockBytes(threshold),
        };
        let mut parameters = named.with_sharding(sharding).unwrap();
        let mut made = Self { profile, parameters, is_named: kind == 0, threshold, entries: BTreeMap::new() };
        if kind > 0 {
            parameters =
                parameters.with_chunk_bytes(1 + draw.below(400)).unwrap().with_width(2 + draw.below(6)).unwrap();
            if draw.below(4) == 0 {
                parameters = parameters.with_leaves([Leaves::Raw, Leaves::Nodes][draw.below(2)]);
            }
            made.parameters = parameters;
        }
        made.folder("", 0, &mut draw);
        // A file of more than one chunk of any profile, sometimes; and never a tree of nothing.
        let most = if kind == 0 { 1 << (9 + draw.below(14)) } else { 5000 };
        let bytes = draw.below(most);
        made.entries.insert("a file.bin".into(), Some((draw.next(), bytes)));
        made
    }

    /// Fills a folder. One with folders inside has a few entries: how many bytes js counts for these when it decides on
    /// sharding is another matter.
    fn folder(&mut self, path: &str, depth: usize, draw: &mut Draw) {
        let folders = if depth < 4 { draw.below(3) } else { 0 };
        let files = match (folders, draw.below(8)) {
            (0, 0) => 0,
            (0, 1) => draw.below(1100),
            (0, _) => draw.below(60),
            _ => draw.below(3),
        };
        if folders == 0 && files == 0 && !path.is_empty() {
            self.entries.insert(path.trim_end_matches('/').to_owned(), None);
        }
        for index in 0..files {
            let name = name(index, draw);
            let most = [2, 50, 500, 2000][draw.below(4)];
            let bytes = draw.below(most);
            self.entries.insert(format!("{path}{name}"), Some((draw.next(), bytes)));
        }
        for index in 0..folders {
            self.folder(&format!("{path}{}~/", name(index, draw)), depth + 1, draw);
        }
    }

    fn contents(&self) -> Vec<(String, Vec<u8>)> {
        let made = |entry: &Option<(u32, usize)>| entry.map_or(Vec::new(), |(seed, bytes)| content(seed, bytes));
        let path = |path: &String, entry: &Option<_>| if entry.is_some() { path.clone() } else { format!("{path}/") };
        self.entries.iter().map(|(at, entry)| (path(at, entry), made(entry))).collect()
    }

    fn import(&self, store: &mut Store) -> unixfs::Root {
        let contents = self.contents();
        store.tree(self.parameters, contents.iter().map(|(path, content)| (path.as_str(), content.as_slice())))
    }

    /// Whether ipfs-car makes the same of it: it leaves empty folders out, and shards from 1000 entries on.
    fn packs(&self) -> bool {
        let mut folders: BTreeMap<&str, usize> = BTreeMap::new();
        for path in self.entries.keys() {
            *folders.entry(path.rsplit_once('/').map_or("", |(folder, _)| folder)).or_default() += 1;
        }
        self.is_named
            && self.profile == "unixfs-v1-2025"
            && self.entries.values().all(Option::is_some)
            && folders.values().all(|entries| *entries < 990)
    }

    fn told(&self) -> Value {
        let entry = |(path, entry): (&String, &Option<(u32, usize)>)| match entry {
            Some((seed, bytes)) => json!({ "path": path, "seed": seed, "bytes": bytes }),
            None => json!({ "path": path }),
        };
        json!({
            "profile": self.profile,
            "named": self.is_named,
            "packs": self.packs(),
            "version": if self.parameters.version() == Version::V0 { 0 } else { 1 },
            "raw": self.parameters.leaves() == Leaves::Raw,
            "chunk": self.parameters.chunk_bytes(),
            "width": self.parameters.width(),
            "threshold": self.threshold,
            "entries": self.entries.iter().map(entry).collect::<Vec<_>>(),
        })
    }
}

/// A made-up value of dag-cbor. Numbers are those that JavaScript has: what has a fraction, and what has none and is
/// below 2^53.
fn value(level: usize, draw: &mut Draw) -> Ipld {
    let around = if level < 4 { 3 } else { 0 };
    match draw.below(8 + around) {
        0 => Ipld::Null,
        1 => Ipld::Bool(draw.below(2) == 0),
        2 => Ipld::Unsigned(u64::from(draw.next()) << draw.below(30)),
        3 => Ipld::Signed(-i64::from(draw.next()) << draw.below(29)),
        4 => Ipld::Float(f64::from(draw.next()) + 0.5),
        5 => Ipld::Text(name(draw.below(1000), draw)),
        6 => Ipld::Bytes(content(draw.next(), draw.below(300))),
        7 => Ipld::Link(Cid::of(Codec::DagPb, &draw.next().to_be_bytes())),
        8 => Ipld::List((0..draw.below(30)).map(|_| value(level + 1, draw)).collect()),
        _ => Ipld::Map((0..draw.below(30)).map(|index| (name(index, draw), value(level + 1, draw))).collect()),
    }
}

/// A name that no other entry of the folder has.
fn name(index: usize, draw: &mut Draw) -> String {
    let letters = ["a", "Z", "0", "é", "日", " ", "-", "_", ".", "~", "x", "🦀"];
    let length = draw.below(20);
    let letters: String = (0..length).map(|_| letters[draw.below(letters.len())]).collect();
    // Version 9 of the importer cuts spaces off the ends of paths.
    format!("{}{index}", letters.trim_start())
}

fn golden() -> Vec<String> {
    fs::read_to_string(GOLDEN).unwrap_or_default().lines().map(str::to_owned).collect()
}

#[test]
fn made_up_trees_have_the_cids_that_javascript_gave_them() {
    let golden = golden();
    assert_eq!(golden.len(), TREES);
    for (index, cid) in golden.iter().enumerate() {
        let tree = Made::new(index);
        assert_eq!(&tree.import(&mut Store::default()).cid.to_string(), cid, "{index}: {:?}", tree.parameters);
    }
}

#[test]
fn trees_are_walked_and_complete_with_their_last_block_alone() {
    for index in (0..TREES).step_by(7) {
        let (tree, mut store) = (Made::new(index), Store::default());
        let root = tree.import(&mut store).cid;
        let walked = store.walk(root, Bounds::default()).unwrap();
        let files = |files: &Files| -> BTreeMap<String, Vec<u8>> {
            files.iter().filter_map(|(path, content)| Some((path.clone(), content.clone()?))).collect()
        };
        let wanted: BTreeMap<_, _> = tree.contents().into_iter().filter(|(path, _)| !path.ends_with('/')).collect();
        assert!(files(&walked) == wanted, "{index}");
        let mut dag = Completeness::new(&root, 1 << 20).unwrap();
        for (at, (cid, block)) in store.0.iter().enumerate() {
            assert_ne!(dag.structure(), Structure::Complete, "{index}: {at} of {}", store.0.len());
            dag.insert(cid, &Links::of(cid.codec(), block).unwrap()).unwrap();
        }
        assert_eq!(dag.structure(), Structure::Complete, "{index}");
    }
}

/// Installs nothing: `./x setup --test` did. Takes half a minute.
#[test]
fn npm_makes_the_same_cids_and_the_cars_of_each_are_read_by_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let file = |index: usize, whose: &str| folder.path().join(format!("{index}.{whose}.car"));
    let trees: Vec<Made> = (0..TREES).map(Made::new).collect();
    let told: Vec<Value> = trees.iter().map(Made::told).collect();
    fs::write(folder.path().join("trees.json"), serde_json::to_vec(&told).unwrap()).unwrap();
    let mut roots = Vec::new();
    for (index, tree) in trees.iter().enumerate() {
        let mut store = Store::default();
        let root = tree.import(&mut store).cid;
        roots.push(root.to_string());
        if index < CARS {
            let mut car = car::header(&root);
            // Under the names that links call them by.
            for (cid, block) in store.names() {
                car.extend(car::section_head(&cid, block.len()));
                car.extend_from_slice(&block);
            }
            fs::write(file(index, "ours"), car).unwrap();
        }
    }
    for index in 0..100 {
        let value = value(0, &mut Draw(index * 7919 + 3)).encode().unwrap();
        fs::write(folder.path().join(format!("{index}.cbor")), value).unwrap();
    }
    let mut judge = Command::new("npm-unixfs");
    let judge = judge.arg(folder.path()).stdin(fs::File::open(JUDGE).unwrap()).output();
    let judge = judge.expect("npm's packages are installed: `./x setup --test`");
    assert!(judge.status.success(), "{}", String::from_utf8_lossy(&judge.stderr));
    let judged: Value = serde_json::from_slice(&judge.stdout).unwrap();
    assert_eq!(judged["faults"], json!([]));
    let theirs: Vec<String> = serde_json::from_value(judged["cids"].clone()).unwrap();
    if std::env::var_os("EVERNEAR_BLESS").is_some() {
        fs::create_dir_all(Path::new(GOLDEN).parent().unwrap()).unwrap();
        fs::write(GOLDEN, theirs.join("\n") + "\n").unwrap();
    }
    assert_eq!(theirs, golden());
    for (index, (ours, theirs)) in roots.iter().zip(&theirs).enumerate() {
        assert_eq!(ours, theirs, "{index}: {:?}", trees[index].parameters);
    }
    for (index, tree) in trees.iter().enumerate().take(CARS) {
        let (mut reader, mut store) = (CarReader::new(), Store::default());
        for mut part in fs::read(file(index, "theirs")).unwrap().chunks(1000) {
            while let Some(event) = reader.read(&mut part).unwrap() {
                if let CarEvent::Block(block) = event {
                    store.put(block.cid, &block.block);
                }
            }
        }
        let root = reader.end().unwrap().root;
        assert_eq!(root.to_string(), theirs[index]);
        let walked = store.walk(root, Bounds::default()).unwrap();
        let wanted = tree.contents().into_iter().filter(|(path, _)| !path.ends_with('/'));
        for (path, content) in wanted {
            assert!(walked[&path] == Some(content), "{index}: {path}");
        }
    }
}
