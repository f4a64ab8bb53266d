//! Whether all blocks of a DAG are there, block by block as they come, in any order and from several CARs of one root.
//!
//! Place in the flow: an upload tells each block once it is stored. Keeps true: a DAG is complete when each block that
//! can be reached from the root came; blocks that cannot be reached say nothing for or against it. A block's links are
//! gone through once, so all blocks together take as long as all links. Memory is bounded by the names and links that
//! are held: about 100 bytes each.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use crate::{Cid, Codec, Links, LinksError};

/// What is known of a DAG's blocks.
#[derive(Debug, Clone)]
pub struct Completeness {
    blocks: BTreeMap<Key, State>,
    missing: BTreeSet<Key>,
    /// Blocks that were reached and cannot be read here.
    unknown: u64,
    /// Names, and links of blocks that were not reached.
    held: usize,
    held_max: usize,
}

/// The name of a block, whatever its version. Small for those that nearly all blocks have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Raw([u8; 32]),
    Node([u8; 32]),
    Other(Box<[u8]>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// It was reached and did not come.
    Missing,
    /// It came and was not reached; its links wait for that.
    Loose(Leads),
    /// It came and was reached.
    Held,
}

/// What a block leads to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Leads {
    to: Box<[Key]>,
    /// And to blocks of which nothing is known.
    and_more: bool,
}

/// What can be said of a DAG.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Structure {
    /// Each block is there.
    Complete,
    /// Blocks are missing.
    Partial,
    /// No block that is known of is missing, but some are in a codec that is not read here, and may lead to more.
    Unknown,
}

/// Why a block is not taken. Who sent it is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompletenessError {
    /// The DAG has more blocks and links than may be held.
    #[error("the DAG has more than {held_max} blocks and links; send it as several DAGs")]
    TooMany {
        /// The bound.
        held_max: usize,
    },
    /// A block that stands in its own name is malformed.
    #[error("the block in the name {cid}: {source}")]
    Inline {
        /// The name.
        cid: Box<Cid>,
        /// Why.
        source: LinksError,
    },
}

impl Completeness {
    /// Begins with a root and nothing else. At most so many names and links will be held at a time.
    ///
    /// # Errors
    /// [`CompletenessError`], for a root that stands in its own name.
    pub fn new(root: &Cid, held_max: usize) -> Result<Self, CompletenessError> {
        let (blocks, missing) = (BTreeMap::new(), BTreeSet::new());
        let mut new = Self { blocks, missing, unknown: 0, held: 0, held_max };
        new.reach(Leads::of(&Links::Known(vec![*root]))?)?;
        Ok(new)
    }

    /// Takes a block that came, with what it leads to. One that came before changes nothing.
    ///
    /// # Errors
    /// [`CompletenessError`]. The block is not taken then.
    pub fn insert(&mut self, cid: &Cid, links: &Links) -> Result<(), CompletenessError> {
        let leads = Leads::of(links)?;
        let key = Key::of(cid);
        match self.blocks.get(&key) {
            Some(State::Held | State::Loose(_)) => Ok(()),
            Some(State::Missing) => {
                self.room(leads.to.len())?;
                self.missing.remove(&key);
                self.blocks.insert(key, State::Held);
                self.reach(leads)
            }
            None => {
                self.room(1 + leads.to.len())?;
                self.held += 1 + leads.to.len();
                self.blocks.insert(key, State::Loose(leads));
                Ok(())
            }
        }
    }

    /// Says what can be said.
    #[must_use]
    pub fn structure(&self) -> Structure {
        match (self.missing.is_empty(), self.unknown) {
            (false, _) => Structure::Partial,
            (true, 0) => Structure::Complete,
            (true, _) => Structure::Unknown,
        }
    }

    /// Returns how many blocks are known to be missing. Each may lead to more.
    #[must_use]
    pub fn missing_count(&self) -> usize {
        self.missing.len()
    }

    /// Returns the blocks that are known to be missing, in a fixed order, by names of version 1.
    pub fn missing(&self) -> impl Iterator<Item = Cid> {
        self.missing.iter().map(Key::cid)
    }

    /// Goes on from a block that was reached to all that can be reached by it.
    fn reach(&mut self, leads: Leads) -> Result<(), CompletenessError> {
        let mut reached = Vec::new();
        let mut leads = Some(leads);
        loop {
            if let Some(leads) = leads.take() {
                self.unknown += u64::from(leads.and_more);
                reached.extend(leads.to);
            }
            let Some(key) = reached.pop() else { return Ok(()) };
            match self.blocks.entry(key) {
                Entry::Vacant(slot) => {
                    if self.held >= self.held_max {
                        return Err(CompletenessError::TooMany { held_max: self.held_max });
                    }
                    self.held += 1;
                    self.missing.insert(slot.key().clone());
                    slot.insert(State::Missing);
                }
                Entry::Occupied(mut slot) => {
                    if let State::Loose(loose) = slot.get_mut() {
                        let loose = std::mem::take(loose);
                        self.held -= loose.to.len();
                        slot.insert(State::Held);
                        leads = Some(loose);
                    }
                }
            }
        }
    }

    /// Checks that so much more may be held.
    fn room(&self, more: usize) -> Result<(), CompletenessError> {
        let fits = self.held.checked_add(more).is_some_and(|held| held <= self.held_max);
        if fits { Ok(()) } else { Err(CompletenessError::TooMany { held_max: self.held_max }) }
    }
}

impl Leads {
    /// Follows links: to the blocks they name, or, where a block stands in its name, to those that it names. Such a
    /// name has 64 bytes, so this ends soon.
    fn of(links: &Links) -> Result<Self, CompletenessError> {
        let Links::Known(links) = links else { return Ok(Self { to: Box::default(), and_more: true }) };
        let mut to = Vec::with_capacity(links.len());
        let mut and_more = false;
        let mut inline = Vec::new();
        for &link in links {
            inline.push(link);
            while let Some(link) = inline.pop() {
                let Some(block) = link.inline() else {
                    to.push(Key::of(&link));
                    continue;
                };
                let malformed = |source| CompletenessError::Inline { cid: Box::new(link), source };
                match Links::of(link.codec(), block).map_err(malformed)? {
                    Links::Known(more) => inline.extend(more),
                    Links::Unknown => and_more = true,
                }
            }
        }
        to.sort_unstable();
        to.dedup();
        Ok(Self { to: to.into(), and_more })
    }
}

impl Key {
    fn of(cid: &Cid) -> Self {
        match (cid.codec(), cid.sha256()) {
            (Codec::Raw, Some(sha256)) => Self::Raw(sha256),
            (Codec::DagPb, Some(sha256)) => Self::Node(sha256),
            _ => Self::Other(cid.to_v1().to_bytes().into()),
        }
    }

    fn cid(&self) -> Cid {
        match self {
            Self::Raw(sha256) => Cid::v1(Codec::Raw, *sha256),
            Self::Node(sha256) => Cid::v1(Codec::DagPb, *sha256),
            Self::Other(bytes) => Cid::decode(bytes).expect("they were written by a CID"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANY: usize = 1000;

    /// Blocks of numbers: one leads to the blocks of the numbers that it is given.
    fn cid(number: u32) -> Cid {
        Cid::of(Codec::DagPb, &number.to_le_bytes())
    }

    fn links(numbers: &[u32]) -> Links {
        Links::Known(numbers.iter().map(|number| cid(*number)).collect())
    }

    fn missing(dag: &Completeness) -> BTreeSet<Cid> {
        dag.missing().collect()
    }

    #[test]
    fn a_dag_is_complete_in_any_order_of_its_blocks_and_not_before() {
        // 4 is linked twice, 5 not at all.
        let blocks: [(u32, &[u32]); 6] = [(0, &[1, 2, 2]), (1, &[3, 4]), (2, &[4]), (3, &[]), (4, &[]), (5, &[6])];
        let mut orders = vec![vec![]];
        for block in blocks {
            let with = |order: &Vec<_>, at: usize| [&order[..at], &[block], &order[at..]].concat();
            orders = orders.iter().flat_map(|order| (0..=order.len()).map(|at| with(order, at))).collect();
        }
        assert_eq!(orders.len(), 720);
        for order in orders {
            let mut dag = Completeness::new(&cid(0), MANY).unwrap();
            let mut came = BTreeSet::new();
            for (number, to) in order {
                dag.insert(&cid(number), &links(to)).unwrap();
                came.insert(number);
                let is_complete = (0..5).all(|number| came.contains(&number));
                assert_eq!(dag.structure() == Structure::Complete, is_complete, "{came:?}");
                assert_eq!(dag.missing_count() == 0, is_complete);
            }
        }
    }

    #[test]
    fn what_is_missing_is_what_can_be_reached() {
        let mut dag = Completeness::new(&cid(0), MANY).unwrap();
        assert_eq!(missing(&dag), [cid(0)].into());
        dag.insert(&cid(1), &links(&[3])).unwrap();
        assert_eq!(missing(&dag), [cid(0)].into(), "1 may not be of the DAG");
        dag.insert(&cid(0), &links(&[1, 2])).unwrap();
        assert_eq!(missing(&dag), [cid(2), cid(3)].into());
        assert_eq!(dag.structure(), Structure::Partial);
        dag.insert(&cid(0), &links(&[9])).unwrap();
        assert_eq!(missing(&dag), [cid(2), cid(3)].into(), "a block that came is not taken again");
        dag.insert(&cid(3), &links(&[])).unwrap();
        dag.insert(&cid(2), &Links::Unknown).unwrap();
        assert_eq!((dag.structure(), dag.missing_count()), (Structure::Unknown, 0));
    }

    #[test]
    fn both_versions_name_one_block() {
        let (v0, leaf) = (Cid::v0([7; 32]), Cid::v1(Codec::Raw, [7; 32]));
        let mut dag = Completeness::new(&v0.to_v1(), MANY).unwrap();
        dag.insert(&v0, &Links::Known(vec![leaf])).unwrap();
        assert_eq!(missing(&dag), [leaf].into(), "one hash, and two codecs");
        dag.insert(&leaf, &Links::Known(Vec::new())).unwrap();
        assert_eq!(dag.structure(), Structure::Complete);
    }

    #[test]
    fn a_block_in_its_own_name_is_there_and_what_it_leads_to_is_not() {
        let inline = |codec: u8, block: &[u8]| {
            Cid::decode(&[&[1, codec, 0, u8::try_from(block.len()).unwrap()][..], block].concat()).unwrap()
        };
        let node = crate::Node { links: vec![crate::Link { cid: cid(1), name: b""[..].into(), tsize: 4 }], data: None };
        let mut dag = Completeness::new(&inline(0x70, &node.encode()), MANY).unwrap();
        assert_eq!(missing(&dag), [cid(1)].into());
        dag.insert(&cid(1), &Links::Known(vec![inline(0x55, b"leaf")])).unwrap();
        assert_eq!(dag.structure(), Structure::Complete);
        let unknown = Completeness::new(&inline(0x7f, b"{}"), MANY).unwrap();
        assert_eq!((unknown.structure(), unknown.missing_count()), (Structure::Unknown, 0));
        let bad = Completeness::new(&inline(0x70, b"\xff"), MANY);
        assert!(matches!(bad, Err(CompletenessError::Inline { .. })));
    }

    #[test]
    fn what_is_held_has_a_bound() {
        let all: Vec<u32> = (1..100).collect();
        let mut dag = Completeness::new(&cid(0), 100).unwrap();
        dag.insert(&cid(0), &links(&all)).unwrap();
        let too_many = Err(CompletenessError::TooMany { held_max: 100 });
        assert_eq!(dag.insert(&cid(1), &links(&[200])), too_many);
        assert_eq!(dag.insert(&cid(200), &links(&[])), too_many, "loose blocks count too");
        for number in all {
            dag.insert(&cid(number), &links(&[])).unwrap();
        }
        assert_eq!(dag.structure(), Structure::Complete);
    }

    #[test]
    fn a_long_chain_that_comes_from_its_end_takes_no_stack() {
        let mut dag = Completeness::new(&cid(0), 1 << 20).unwrap();
        for number in (1..100_000).rev() {
            dag.insert(&cid(number), &links(&[number + 1])).unwrap();
        }
        dag.insert(&cid(0), &links(&[1])).unwrap();
        assert_eq!(missing(&dag), [cid(100_000)].into());
    }
}
