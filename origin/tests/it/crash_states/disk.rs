//! What a disk may hold after a power cut in the middle of recorded operations.
//!
//! What was synced is there. Of everything else the disk kept whatever it liked: each write whole, in some of its
//! sectors, or not at all; each name made, renamed or removed, or not; in no order (Pillai et al., "All File Systems
//! Are Not Created Equal", OSDI 2014, with none of the orderings that some file systems promise). A rename is one
//! thing: never both names, never none.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    os::unix::fs::FileExt,
    path::Path,
};

use fastrand::Rng;

use super::trace::{Entry, Inode, Op, ROOT};

/// What a disk writes as one.
const SECTOR_BYTES: usize = 512;

/// How a disk treats what it was not told to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Habit {
    /// Loses it all.
    Forgets,
    /// Keeps it all: only the process died.
    Keeps,
    /// Keeps each with this chance in 255, and tears writes.
    Mixes(u8),
}

/// Makes, in the empty folder `root`, one state that the disk may be in after the first `cut` operations.
pub(super) fn lay_out(ops: &[Op], cut: usize, rng: &mut Rng, root: &Path) {
    let habit = match rng.u8(..8) {
        0 => Habit::Forgets,
        1 => Habit::Keeps,
        _ => Habit::Mixes(rng.u8(20..235)),
    };
    let ops = &ops[..cut];
    // Walking back, an inode is in the set when a later operation synced it.
    let mut synced = BTreeSet::new();
    let mut kept = vec![false; cut];
    for (number, op) in ops.iter().enumerate().rev() {
        kept[number] = match op {
            Op::Sync { inode } => !synced.insert(*inode),
            Op::Write { inode, .. } | Op::Resize { inode, .. } => synced.contains(inode),
            Op::Make { entry, .. } | Op::Unlink { entry } => synced.contains(&entry.folder),
            Op::Rename { from, to, .. } => synced.contains(&to.folder) || synced.contains(&from.folder),
            Op::Said(_) => false,
        };
    }
    let mut state = State::default();
    for (op, is_durable) in ops.iter().zip(kept) {
        let chance = |rng: &mut Rng| match habit {
            Habit::Forgets => false,
            Habit::Keeps => true,
            Habit::Mixes(chance) => rng.u8(..) < chance,
        };
        if is_durable || chance(rng) {
            state.apply(op);
        } else if let (Op::Write { inode, at, bytes }, Habit::Mixes(chance)) = (op, habit)
            && rng.bool()
        {
            state.tear(*inode, *at, bytes, |rng| rng.u8(..) < chance, rng);
        }
    }
    state.write(ROOT, root);
}

/// Files and names.
#[derive(Default)]
struct State {
    files: BTreeMap<Inode, Vec<u8>>,
    names: BTreeMap<Entry, Inode>,
    folders: BTreeSet<Inode>,
}

impl State {
    fn apply(&mut self, op: &Op) {
        match op {
            Op::Write { inode, at, bytes } => self.put(*inode, *at, bytes),
            Op::Resize { inode, length } => {
                self.files.entry(*inode).or_default().resize(usize::try_from(*length).unwrap(), 0);
            }
            Op::Make { entry, inode, is_folder } => {
                self.names.insert(entry.clone(), *inode);
                if *is_folder {
                    self.folders.insert(*inode);
                }
            }
            Op::Rename { from, to, inode } => {
                if self.names.get(from) == Some(inode) {
                    self.names.remove(from);
                }
                self.names.insert(to.clone(), *inode);
            }
            Op::Unlink { entry } => {
                self.names.remove(entry);
            }
            Op::Sync { .. } | Op::Said(_) => {}
        }
    }

    fn put(&mut self, inode: Inode, at: u64, bytes: &[u8]) {
        let file = self.files.entry(inode).or_default();
        let at = usize::try_from(at).unwrap();
        if file.len() < at + bytes.len() {
            file.resize(at + bytes.len(), 0);
        }
        file[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Applies some of the sectors that a write touched.
    fn tear(&mut self, inode: Inode, at: u64, bytes: &[u8], keeps: impl Fn(&mut Rng) -> bool, rng: &mut Rng) {
        let mut done = 0;
        while done < bytes.len() {
            let from = at + done as u64;
            let to_border = SECTOR_BYTES - usize::try_from(from).unwrap() % SECTOR_BYTES;
            let end = (done + to_border).min(bytes.len());
            if keeps(rng) {
                self.put(inode, from, &bytes[done..end]);
            }
            done = end;
        }
    }

    /// Writes what can be reached from a folder.
    fn write(&self, folder: Inode, to: &Path) {
        let from = Entry { folder, name: String::new() };
        let inside = self.names.range(from..).take_while(|(entry, _)| entry.folder == folder);
        for (entry, inode) in inside {
            let path = to.join(&entry.name);
            if self.folders.contains(inode) {
                fs::create_dir(&path).unwrap();
                self.write(*inode, &path);
            } else {
                let bytes = self.files.get(inode).map_or(&[][..], Vec::as_slice);
                File::create(&path).unwrap().write_all_at(bytes, 0).unwrap();
            }
        }
    }
}
