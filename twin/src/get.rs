//! Reading: finds the object that a capability and a path name, and writes its verified blocks to a sink in order.
//!
//! ```text
//! find -> Found        read: stripes ahead (2) -> slices of blocks -> writer thread: BLAKE3 of the whole, write
//! ```
//!
//! A stripe that fails because of the network is read again for a while (`get/again.rs`).
//!
//! Every byte is verified under the capability before it reaches the sink. When a whole object is read, the hash of its
//! plaintext is checked too. `get/fetch.rs` writes files and folders.

use std::{
    collections::BTreeSet,
    io::{self, Write},
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use client::{Near, ReadError};
use format::{
    Capability, Directory, DirectoryError, Geometry, Kind, Label, Mode, Moment, NodeName, Object, Pointer, Record,
    StripeIndex,
    limits::{DIRECTORY_BYTES_MAX, PATH_SEGMENTS_MAX},
};
use futures::{StreamExt, TryStreamExt};
use tokio::{sync::mpsc, task::spawn_blocking};
use zeroize::Zeroizing;

use crate::{clock::time_of_nodes, network::Network, twin::now};

mod again;
mod fetch;
mod part;

pub(crate) use again::PATIENCE;
use again::{Kept, Tries};
use fetch::NODES_MAX;
pub use part::part_of;

/// Stripes that are fetched while an earlier one is written (read-ahead); decoded, 2 x 6 MiB of a standard object.
const STRIPES_AHEAD: usize = 2;
/// Slices of blocks that wait for the sink, at most 2 MiB.
const SLICES_AHEAD: usize = 8;

/// An object at the end of a path.
pub struct Found {
    /// Opens it.
    pub capability: Capability,
    /// The opened object.
    pub object: Arc<Object>,
    /// Its record: lease and placement.
    pub record: Record,
}

/// What a read cost.
#[derive(Debug, Clone, Default)]
pub struct Delivered {
    /// Plaintext bytes delivered.
    pub bytes: u64,
    /// Bytes pulled from nodes.
    pub pulled: u64,
    /// Nodes whose strips were used.
    pub nodes: BTreeSet<NodeName>,
    /// Stripes whose missing strips had to be recovered from parity.
    pub recovered: u64,
    /// Nodes that sent wrong bytes. None of these bytes was used.
    pub wrong: BTreeSet<NodeName>,
    /// Files of a tree that an earlier fetch had left, verified anew and not fetched again.
    pub kept: usize,
    /// Bytes that an earlier fetch had left, of whole files and of others, verified anew and not fetched again.
    pub kept_bytes: u64,
}

/// Why something cannot be fetched.
#[derive(Debug, thiserror::Error)]
pub enum GetError {
    /// The object cannot be read.
    #[error("the object cannot be read")]
    Read(#[from] ReadError),
    /// The directory has no entry of this name; the caller's fault.
    #[error("the directory has no {name:?}")]
    NoEntry {
        /// The name.
        name: String,
    },
    /// The path continues after a file; the caller's fault.
    #[error("{name:?} is looked for inside a file")]
    NotDirectory {
        /// The first name after the file.
        name: String,
    },
    /// The stable name's pointer is past its end; its owner's to renew, or nodes withhold a newer one.
    #[error("what the name stands for was not renewed by its owner before {}", Moment(*fresh_until))]
    NameEnded {
        /// Seconds since 1970.
        fresh_until: u64,
    },
    /// The object is a directory where a file is needed.
    #[error("it is a directory; name a file in it, or a folder to fetch it into")]
    Directory,
    /// The stored directory is malformed; whoever stored it broke it.
    #[error("the directory is broken as it was stored")]
    BrokenDirectory(#[from] DirectoryError),
    /// Every block is valid, but the hash of the whole is not the manifest's; whoever stored it broke it.
    #[error("the object as a whole is not what its manifest says; it is broken as it was stored")]
    Hash,
    /// The range names no byte of the object; the caller's fault.
    #[error("the range lies outside of the object's {length} bytes")]
    Range {
        /// Bytes of the object.
        length: u64,
    },
    /// The tree is too large to fetch as a whole.
    #[error(
        "the tree has over {NODES_MAX} files and folders, or is more than {PATH_SEGMENTS_MAX} deep; fetch its parts"
    )]
    Large,
    /// The disk or pipe refuses.
    #[error("{} cannot be written", path.display())]
    Write {
        /// Where the bytes go.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file system does not take the name.
    #[error("{} cannot be a name on this file system; fetch it to another one, or the parts by themselves", path.display())]
    Name {
        /// Where it was to be.
        path: PathBuf,
        /// What the system said; `None` where it took the name for another.
        source: Option<io::Error>,
    },
    /// The file system takes two names of a folder for one.
    #[error(
        "{} and another name beside it are one on this file system; fetch it to another one, or the parts by themselves",
        path.display()
    )]
    Folded {
        /// The second of them. The first one is as it was.
        path: PathBuf,
    },
    /// A file was to be in the place of a folder. Its own name, its owner's choice, is not taken for one in there.
    #[error("{} is a folder, and no file takes its place", path.display())]
    Folder {
        /// Where.
        path: PathBuf,
    },
    /// The path where the tree should go exists already.
    #[error("{} exists already; trees are fetched into a new folder", path.display())]
    Exists {
        /// Where.
        path: PathBuf,
    },
}

impl Delivered {
    fn add(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.pulled += other.pulled;
        self.nodes.extend(other.nodes);
        self.recovered += other.recovered;
        self.wrong.extend(other.wrong);
        self.kept += other.kept;
        self.kept_bytes += other.kept_bytes;
    }
}

impl Network {
    /// Returns the capability of the object that a label stands for now.
    ///
    /// # Errors
    /// [`GetError`].
    pub async fn stands_for(&self, label: &Label) -> Result<Capability, GetError> {
        match label.mode() {
            Mode::Open => Ok(label.capability().clone()),
            Mode::Name => match self.reader.pointer(label.capability(), None).await? {
                (pointer, _) if pointer.is_fresh(time_of_nodes(now(), &self.transport.clocks())) => Ok(pointer.target),
                (Pointer { fresh_until, .. }, _) => Err(GetError::NameEnded { fresh_until }),
            },
        }
    }

    /// Opens an object, or the object that a path inside a directory names.
    ///
    /// # Errors
    /// [`GetError`].
    pub async fn find(&self, capability: &Capability, path: &[String]) -> Result<Found, GetError> {
        let mut found = self.open(capability).await?;
        for name in path {
            if found.object.kind() != Kind::Directory {
                return Err(GetError::NotDirectory { name: name.clone() });
            }
            let directory = self.directory(&found).await?;
            let entry = directory.entry(name).ok_or_else(|| GetError::NoEntry { name: name.clone() })?;
            found = self.open(&entry.capability).await?;
        }
        Ok(found)
    }

    async fn open(&self, capability: &Capability) -> Result<Found, GetError> {
        let (object, record) = self.reader.object(capability).await?;
        Ok(Found { capability: capability.clone(), object, record })
    }

    /// Reads the names of a directory.
    ///
    /// # Errors
    /// [`GetError`].
    pub async fn directory(&self, found: &Found) -> Result<Directory, GetError> {
        let length = found.object.length();
        if length > DIRECTORY_BYTES_MAX as u64 {
            return Err(GetError::Large);
        }
        // It names what lies in it by capabilities. With all the room from the start no copy of them stays behind.
        let room = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
        let (body, _) = self.read(found, 0..length, room, Path::new("memory")).await?;
        Ok(Directory::decode(&Zeroizing::new(body))?)
    }

    /// Writes a range of an object to a sink, in order, and returns the sink. Errors call the sink `name`.
    ///
    /// When it fails, the sink holds a prefix of the range: those bytes are right, but incomplete.
    ///
    /// # Errors
    /// [`GetError`].
    pub async fn read<W: Write + Send + 'static>(
        &self,
        found: &Found,
        range: Range<u64>,
        sink: W,
        name: &Path,
    ) -> Result<(W, Delivered), GetError> {
        let whole = (range == (0..found.object.length())).then(blake3::Hasher::new);
        self.deliver(found, range, whole, sink, name).await
    }

    /// Writes a range of an object to a sink. `before` has hashed all bytes before a range that ends with the object;
    /// then the hash of the whole is checked.
    async fn deliver<W: Write + Send + 'static>(
        &self,
        found: &Found,
        range: Range<u64>,
        before: Option<blake3::Hasher>,
        sink: W,
        name: &Path,
    ) -> Result<(W, Delivered), GetError> {
        let hash = found.object.manifest().hash;
        let whole = before.map(|hasher| (hasher, hash));
        let (to, from) = mpsc::channel(SLICES_AHEAD);
        let writer = spawn_blocking(move || write(from, sink, whole));
        // If the writer has failed, its own error says more than the closed channel does.
        let sent = self.send(found, range, to).await;
        let written = writer.await.expect("the writer neither panics nor is cancelled");
        let (sink, fault) = written.map_err(|source| GetError::Write { path: name.to_owned(), source })?;
        let delivered = sent?;
        if fault { Err(GetError::Hash) } else { Ok((sink, delivered)) }
    }

    async fn send(&self, found: &Found, range: Range<u64>, to: mpsc::Sender<Bytes>) -> Result<Delivered, GetError> {
        let mut delivered = Delivered::default();
        let Some(geometry) = found.object.geometry() else {
            let slice = slice_of(found.object.inline().unwrap_or_default(), &range);
            delivered.bytes = slice.len() as u64;
            // A closed channel is the writer's failure, which the caller sees.
            let _ = to.send(slice).await;
            return Ok(delivered);
        };
        if range.is_empty() {
            return Ok(delivered);
        }
        let (first, _) = geometry.place(geometry.block_at(range.start));
        let (last, _) = geometry.place(geometry.block_at(range.end - 1));
        let stripes = futures::stream::iter(first.0..=last.0)
            .map(|stripe| self.stripe(found, geometry, StripeIndex(stripe), &range));
        let mut stripes = stripes.buffered(STRIPES_AHEAD);
        while let Some((slices, cost)) = stripes.try_next().await? {
            delivered.add(cost);
            for slice in slices {
                delivered.bytes += slice.len() as u64;
                if to.send(slice).await.is_err() {
                    return Ok(delivered);
                }
            }
        }
        Ok(delivered)
    }

    /// Reads the part of a range that lies in one stripe.
    async fn stripe(
        &self,
        found: &Found,
        geometry: Geometry,
        stripe: StripeIndex,
        range: &Range<u64>,
    ) -> Result<(Vec<Bytes>, Delivered), GetError> {
        let columns = geometry.columns(stripe);
        let start = geometry.range(geometry.block(stripe, 0)).start;
        let end = geometry.range(geometry.block(stripe, columns - 1)).end;
        let slices: Vec<_> = geometry.slices(range.start.max(start)..range.end.min(end)).collect();
        let wanted: Vec<_> = slices.iter().map(|slice| geometry.place(slice.block).1).collect();
        // What came before a try failed is not fetched again.
        let (kept, mut tries) = (Kept::default(), Tries::new(self.patience));
        let (pulled, read) = loop {
            let (pulled, object, placement) = (kept.bytes(), &found.object, &found.record.placement);
            let near = Near { shelf: Some(&kept), neighbour: None };
            match self.reader.blocks_near(near, object, placement, stripe, &wanted).await {
                Ok(read) => break (pulled, read),
                Err(error) => tries.failed(error, kept.count()).await?,
            }
        };
        let cost = Delivered {
            pulled: pulled + read.bytes,
            nodes: read.nodes,
            recovered: u64::from(read.recovered),
            wrong: read.wrong.into_iter().map(|(node, _)| node).collect(),
            ..Delivered::default()
        };
        let bytes = slices.into_iter().zip(read.blocks).map(|(slice, (block, bytes))| {
            debug_assert_eq!(slice.block, block);
            bytes.slice(slice.within)
        });
        Ok((bytes.collect(), cost))
    }
}

fn slice_of(inline: &[u8], range: &Range<u64>) -> Bytes {
    let [start, end] = [range.start, range.end].map(|at| usize::try_from(at).unwrap_or(usize::MAX).min(inline.len()));
    Bytes::copy_from_slice(&inline[start.min(end)..end])
}

/// Writes slices until the channel closes. Returns the sink, and true when the hash of the whole, of which a hasher has
/// what was before, is another.
fn write<W: Write>(
    mut from: mpsc::Receiver<Bytes>,
    mut sink: W,
    mut whole: Option<(blake3::Hasher, [u8; 32])>,
) -> io::Result<(W, bool)> {
    while let Some(slice) = from.blocking_recv() {
        if let Some((hasher, _)) = &mut whole {
            hasher.update(&slice);
        }
        sink.write_all(&slice)?;
    }
    sink.flush()?;
    Ok((sink, whole.is_some_and(|(hasher, hash)| *hasher.finalize().as_bytes() != hash)))
}
