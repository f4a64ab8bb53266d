//! A node that is open: the links of it that are not yet followed.

use std::{collections::BTreeSet, vec::IntoIter};

use super::{Role, WalkError};
use crate::{
    Cid, Data, Node,
    data::MURMUR3,
    directory::is_name,
    limits::{FANOUT, SHARD_LEVELS_MAX},
    shard,
};

/// The links of a node, and the length of the path that leads to it.
#[derive(Debug)]
pub(super) struct Frame {
    links: IntoIter<Link>,
    path_bytes: usize,
}

/// The name of an entry, the block it leads to, and what that is there for.
type Link = (Option<Box<str>>, Cid, Role);

impl Frame {
    /// Returns the next link.
    pub(super) fn next(&mut self) -> Option<Link> {
        self.links.next()
    }

    /// Returns how many links are left.
    pub(super) fn len(&self) -> usize {
        self.links.len()
    }

    /// Returns the length of the path that leads to the node.
    pub(super) fn path_bytes(&self) -> usize {
        self.path_bytes
    }

    fn new(links: Vec<Link>, path_bytes: usize) -> Self {
        Self { links: links.into_iter(), path_bytes }
    }

    /// Opens a directory in one node.
    pub(super) fn directory(cid: Cid, node: &Node<'_>, path_bytes: usize) -> Result<Self, WalkError> {
        let mut seen = BTreeSet::new();
        let mut links = Vec::with_capacity(node.links.len());
        for link in &node.links {
            let name = name(cid, &link.name)
                .and_then(|name| if seen.insert(name) { Ok(name) } else { Err(no_name(cid, name)) })?;
            links.push((Some(name.into()), link.cid, Role::Entry));
        }
        Ok(Self::new(links, path_bytes))
    }

    /// Opens a node of a sharded directory: `depth` slots led to it. A name that lies where its hash does not lead is
    /// refused, so none can be there twice.
    pub(super) fn shard(
        cid: Cid,
        node: &Node<'_>,
        data: &Data<'_>,
        path_bytes: usize,
        depth: usize,
        slots: [u8; SHARD_LEVELS_MAX],
    ) -> Result<Self, WalkError> {
        let malformed = || WalkError::Shard { cid: cid.into() };
        if data.hash != Some(MURMUR3) || data.fanout != Some(FANOUT as u64) || depth >= SHARD_LEVELS_MAX {
            return Err(malformed());
        }
        let used = used(data.data.as_deref().unwrap_or_default()).ok_or_else(malformed)?;
        if used.len() != node.links.len() {
            return Err(malformed());
        }
        let mut links = Vec::with_capacity(node.links.len());
        for (link, slot) in node.links.iter().zip(used) {
            let (digits, rest) = link.name.split_at_checked(2).ok_or_else(malformed)?;
            if digits != format!("{slot:02X}").as_bytes() {
                return Err(malformed());
            }
            let mut slots = slots;
            slots[depth] = slot;
            let depth = depth + 1;
            if rest.is_empty() {
                links.push((None, link.cid, Role::Shard { depth, slots }));
                continue;
            }
            let name = name(cid, rest)?;
            if shard::hash(name)[..depth] != slots[..depth] {
                return Err(no_name(cid, name));
            }
            links.push((Some(name.into()), link.cid, Role::Entry));
        }
        Ok(Self::new(links, path_bytes))
    }

    /// Opens a node of a file. Returns the bytes of its content too.
    pub(super) fn file(
        cid: Cid,
        node: &Node<'_>,
        data: &Data<'_>,
        path_bytes: usize,
    ) -> Result<(Self, u64), WalkError> {
        let malformed = || WalkError::Sizes { cid: cid.into() };
        if data.block_bytes.len() != node.links.len() {
            return Err(malformed());
        }
        let inline = data.data.as_ref().map_or(0, |data| data.len() as u64);
        let sum =
            data.block_bytes.iter().try_fold(inline, |sum, bytes| sum.checked_add(*bytes)).ok_or_else(malformed)?;
        // Some of the oldest nodes say the sizes of their parts alone.
        if data.file_bytes.is_some_and(|said| said != sum) {
            return Err(malformed());
        }
        let links = node.links.iter().zip(&data.block_bytes);
        let links = links.map(|(link, &bytes)| (None, link.cid, Role::Part { bytes })).collect();
        Ok((Self::new(links, path_bytes), sum))
    }
}

/// Returns the slots in use, from the lowest.
fn used(bits: &[u8]) -> Option<Vec<u8>> {
    if bits.len() > FANOUT / 8 {
        return None;
    }
    // The lowest slot is the lowest bit of the last byte.
    let is_used = |slot: u8| {
        let byte = usize::from(slot / 8);
        byte < bits.len() && bits[bits.len() - 1 - byte] & 1 << (slot % 8) != 0
    };
    Some((0..=u8::MAX).filter(|slot| is_used(*slot)).collect())
}

fn name(cid: Cid, name: &[u8]) -> Result<&str, WalkError> {
    match std::str::from_utf8(name) {
        Ok(name) if is_name(name) => Ok(name),
        _ => Err(no_name(cid, &String::from_utf8_lossy(name))),
    }
}

fn no_name(cid: Cid, name: &str) -> WalkError {
    WalkError::Name { cid: cid.into(), name: name.chars().take(300).collect() }
}
