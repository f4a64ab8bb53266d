//! A directory: names and the DAGs they stand for, in one node or, when that would be big, in a sharded one.
//!
//! Place in the flow: [`crate::Tree`] makes one for each folder. Keeps true: the node has the names by their bytes,
//! whatever order they came in. Whether it is sharded hangs on the finished entries alone, as boxo decides it; a size
//! that is exactly the threshold is not sharded.

use std::collections::{BTreeMap, btree_map::Entry as Slot};

use crate::{
    Cid, Codec, Data, Kind, Profile, Sharding, Version,
    engine::sha256,
    limits::NAME_BYTES_MAX,
    node::{link_bytes, put_data, put_link},
    protobuf::field_bytes,
    shard,
    sink::{Block, Root, Sink},
};

/// A directory that is being made.
#[derive(Debug, Clone)]
pub struct Directory {
    profile: Profile,
    entries: BTreeMap<Box<str>, Root>,
    /// Of names and CIDs.
    links_bytes: usize,
    /// Of the one node that would have all entries.
    block_bytes: usize,
}

/// Why a directory cannot have an entry. Who named it is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DirectoryError {
    /// No path can contain this name.
    #[error("{name:?} cannot be a name in a directory: 1 to {NAME_BYTES_MAX} bytes, no '/', no NUL, not '.' or '..'")]
    Name {
        /// The first 300 characters of it.
        name: String,
    },
    /// Two entries have one name.
    #[error("{name:?} is there twice")]
    Twice {
        /// The name.
        name: String,
    },
    /// Two names have one hash of 64 bits, and no sharded directory holds both. Somebody made them for that.
    #[error("the hashes of {one:?} and {other:?} are the same, and a directory this big cannot hold both: rename one")]
    Hash {
        /// The one name.
        one: String,
        /// The other.
        other: String,
    },
}

impl Directory {
    /// Begins a directory.
    #[must_use]
    pub fn new(profile: Profile) -> Self {
        let block_bytes = field_bytes(Data::new(Kind::Directory).encode().len());
        Self { profile, entries: BTreeMap::new(), links_bytes: 0, block_bytes }
    }

    /// Adds an entry.
    ///
    /// # Errors
    /// [`DirectoryError::Name`] and [`DirectoryError::Twice`].
    pub fn insert(&mut self, name: &str, entry: Root) -> Result<(), DirectoryError> {
        if !is_name(name) {
            return Err(DirectoryError::Name { name: name.chars().take(300).collect() });
        }
        match self.entries.entry(name.into()) {
            Slot::Occupied(_) => return Err(DirectoryError::Twice { name: name.to_owned() }),
            Slot::Vacant(slot) => slot.insert(entry),
        };
        self.links_bytes += name.len() + entry.cid.bytes();
        self.block_bytes += link_bytes(&entry.cid, name, entry.tsize);
        Ok(())
    }

    /// Returns how many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns whether it will be many nodes.
    #[must_use]
    pub fn is_sharded(&self) -> bool {
        match self.profile.sharding() {
            Sharding::Entries(from) => self.entries.len() >= from,
            Sharding::LinksBytes(most) => self.links_bytes > most,
            Sharding::BlockBytes(most) => self.block_bytes > most,
        }
    }

    /// Makes the nodes. Takes n log n for n entries.
    ///
    /// # Errors
    /// [`DirectoryError::Hash`].
    pub fn finish(self, sink: &mut impl Sink) -> Result<Root, DirectoryError> {
        if self.is_sharded() {
            return shard::build(&self.entries, self.profile.version(), sink);
        }
        let mut block = Vec::with_capacity(self.block_bytes);
        for (name, entry) in &self.entries {
            put_link(&mut block, &entry.cid, name.as_bytes(), entry.tsize);
        }
        put_data(&mut block, &Data::new(Kind::Directory).encode());
        Ok(node(&block, self.entries.values(), self.profile.version(), sink))
    }
}

/// Names a node and tells the sink.
pub(crate) fn node<'a>(
    block: &[u8],
    links: impl Iterator<Item = &'a Root>,
    version: Version,
    sink: &mut impl Sink,
) -> Root {
    let digest = sha256(block);
    let cid = if version == Version::V0 { Cid::v0(digest) } else { Cid::v1(Codec::DagPb, digest) };
    sink.take(Block::Node { cid, block });
    // What others said of their DAGs may be anything, so the sum ends at the highest number.
    Root { cid, tsize: links.fold(block.len() as u64, |sum, link| sum.saturating_add(link.tsize)) }
}

/// Returns whether a path may contain a name.
pub(crate) fn is_name(name: &str) -> bool {
    let is_walked = name == "." || name == "..";
    (1..=NAME_BYTES_MAX).contains(&name.len()) && !is_walked && !name.contains(['/', '\0'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Root {
        Root { cid: Cid::of(Codec::Raw, b"hello\n"), tsize: 6 }
    }

    #[test]
    fn an_empty_directory_has_its_known_names() {
        let names = [
            (Profile::UNIXFS_V0_2015, "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn"),
            (Profile::UNIXFS_V1_2025, "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354"),
        ];
        for (profile, name) in names {
            let root = Directory::new(profile).finish(&mut ()).unwrap();
            assert_eq!((root.cid.to_string().as_str(), root.tsize), (name, 4));
        }
    }

    #[test]
    fn its_bytes_are_known_before_it_is_made() {
        let mut directory = Directory::new(Profile::UNIXFS_V1_2025);
        for (name, tsize) in [("b", 0), ("é", 127), ("a", 128), (&"x".repeat(200), u64::MAX)] {
            directory.insert(name, Root { tsize, ..file() }).unwrap();
        }
        let (announced, mut made) = (directory.block_bytes, Vec::new());
        let take = &mut |block: Block<'_>| {
            if let Block::Node { block, .. } = block {
                made.push(block.len());
            }
        };
        assert_eq!(directory.finish(take).unwrap().tsize, u64::MAX);
        assert_eq!(made, [announced]);
    }

    #[test]
    fn names_that_no_path_can_have_are_refused_and_so_are_two_of_one_name() {
        let mut directory = Directory::new(Profile::UNIXFS_V1_2025);
        for name in ["", ".", "..", "a/b", "/", "a\0", &"x".repeat(NAME_BYTES_MAX + 1)] {
            assert!(matches!(directory.insert(name, file()), Err(DirectoryError::Name { .. })), "{name:.20}");
        }
        for name in ["...", "a b", "ünï", &"x".repeat(NAME_BYTES_MAX)] {
            directory.insert(name, file()).unwrap();
        }
        assert_eq!(directory.insert("...", file()), Err(DirectoryError::Twice { name: "...".into() }));
        assert_eq!(directory.len(), 4);
    }

    #[test]
    fn a_threshold_itself_is_not_passed_in_bytes_and_reached_in_entries() {
        let with = |sharding, count: usize| {
            let mut directory = Directory::new(Profile::UNIXFS_V1_2025.with_sharding(sharding).unwrap());
            (0..count).for_each(|index| directory.insert(&format!("{index:02}"), file()).unwrap());
            directory.is_sharded()
        };
        // 2 bytes of name and 36 of CID; in the block also 10 of keys, lengths and size, and 4 of data.
        assert!(!with(Sharding::LinksBytes(38 * 3), 3) && with(Sharding::LinksBytes(38 * 3 - 1), 3));
        assert!(!with(Sharding::BlockBytes(4 + 46 * 3), 3) && with(Sharding::BlockBytes(3 + 46 * 3), 3));
        assert!(!with(Sharding::Entries(3), 2) && with(Sharding::Entries(3), 3));
    }
}
