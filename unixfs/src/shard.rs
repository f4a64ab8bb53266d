//! A directory of many nodes: a trie of the hashes of its names, a byte a level (HAMT).
//!
//! Place in the flow: [`crate::Directory`] becomes one when it is big; [`crate::Walker`] reads it. A name lies in the
//! first node in which no other name has its slot. Links are called by their slot in two hexadecimal digits, and the
//! name behind it; a link without a name leads to the node of the next level. Keeps true: the same entries make the
//! same nodes, in any order of coming, as in boxo and js. Source:
//! <https://specs.ipfs.tech/unixfs/#dag-pb-hamtdirectory>.

use std::{borrow::Cow, collections::BTreeMap};

use crate::{
    Data, DirectoryError, Kind, Version,
    data::MURMUR3,
    directory::node,
    limits::{FANOUT, SHARD_LEVELS_MAX},
    node::{put_data, put_link},
    sink::{Root, Sink},
};

/// The hash of a name; its bytes, from the first, are the slots on the levels from the top.
pub(crate) type Hash = [u8; SHARD_LEVELS_MAX];

struct Entry<'a> {
    hash: Hash,
    name: &'a str,
    root: Root,
}

/// Makes the nodes of a sharded directory.
pub(crate) fn build(
    entries: &BTreeMap<Box<str>, Root>,
    version: Version,
    sink: &mut impl Sink,
) -> Result<Root, DirectoryError> {
    let mut sorted: Vec<Entry<'_>> =
        entries.iter().map(|(name, root)| Entry { hash: hash(name), name, root: *root }).collect();
    sorted.sort_unstable_by_key(|entry| entry.hash);
    level(&sorted, 0, version, sink)
}

/// Makes the node of entries whose hashes begin with the same `depth` bytes. Calls itself at most 8 deep.
fn level(entries: &[Entry<'_>], depth: usize, version: Version, sink: &mut impl Sink) -> Result<Root, DirectoryError> {
    if let ([one, other, ..], SHARD_LEVELS_MAX) = (entries, depth) {
        return Err(DirectoryError::Hash { one: one.name.to_owned(), other: other.name.to_owned() });
    }
    let mut links = Vec::new();
    let mut used = [0; FANOUT / 8];
    let mut block = Vec::new();
    for of_slot in entries.chunk_by(|a, b| a.hash[depth] == b.hash[depth]) {
        let slot = of_slot[0].hash[depth];
        let (name, root) = match of_slot {
            [alone] => (alone.name, alone.root),
            more => ("", level(more, depth + 1, version, sink)?),
        };
        // The slots in use are one big number, the highest slot its highest bit.
        used[FANOUT / 8 - 1 - usize::from(slot / 8)] |= 1 << (slot % 8);
        put_link(&mut block, &root.cid, format!("{slot:02X}{name}").as_bytes(), root.tsize);
        links.push(root);
    }
    let zeros = used.iter().take_while(|byte| **byte == 0).count();
    let data = Data {
        data: Some(Cow::Borrowed(&used[zeros..])),
        hash: Some(MURMUR3),
        fanout: Some(FANOUT as u64),
        ..Data::new(Kind::Shard)
    };
    put_data(&mut block, &data.encode());
    Ok(node(&block, links.iter(), version, sink))
}

/// Returns the first half of the Murmur3 of a name, from its highest byte.
pub(crate) fn hash(name: &str) -> Hash {
    let both = murmur3::murmur3_x64_128(&mut name.as_bytes(), 0).expect("a slice can be read");
    let low = (both & u128::from(u64::MAX)).try_into().unwrap_or(u64::MAX);
    u64::to_be_bytes(low)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cid, Codec, Directory, Profile, Sharding, sink::Block};

    #[test]
    fn names_have_their_known_hashes() {
        assert_eq!(hash(""), [0; 8]);
        // The x64 form of 128 bits of this word is cbd8a7b341bd9b02 5b1e906a48ae1d19.
        assert_eq!(hash("hello"), 0xcbd8_a7b3_41bd_9b02_u64.to_be_bytes());
    }

    /// boxo's own test of its profile pins this root.
    #[test]
    fn a_sharded_directory_is_boxos() {
        let profile = Profile::UNIXFS_V1_2025.with_sharding(Sharding::BlockBytes(1024)).unwrap();
        let mut directory = Directory::new(profile);
        for index in (0..64).rev() {
            let content = format!("file {index}\n");
            let root = Root { cid: Cid::of(Codec::Raw, content.as_bytes()), tsize: content.len() as u64 };
            directory.insert(&format!("file-{index}.txt"), root).unwrap();
        }
        let mut nodes = 0;
        let root = directory.finish(&mut |_: Block<'_>| nodes += 1).unwrap();
        assert_eq!(root.cid.to_string(), "bafybeiahnfucbarnualj2uzakbqnj3b3nvrszwu4jrl2x7ekbfqshpd524");
        assert!(nodes > 1);
    }
}
