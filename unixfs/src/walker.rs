//! What files a DAG has, and what parts each has, in order.
//!
//! Place in the flow: whoever has the blocks asks for [`Walker::step`] and gives what it wants: the bytes of nodes, and
//! of leaves no more than their length. Files are told with their parts as one after another makes their content. Keeps
//! true: a block is used when it has its name; the sizes that a file's nodes say are those of its parts, so who puts
//! the parts together gets as many bytes as were told. What is walked has bounds, whatever the blocks repeat: a few
//! kilobytes may be a DAG of 2^64 files. No names repeat in a directory, and none leads out of it.

mod fault;
mod frame;

use std::collections::VecDeque;

use bytes::Bytes;

pub use fault::WalkError;

use crate::{Cid, Codec, Data, Kind, Node, limits::BLOCK_BYTES_MAX, walker::frame::Frame};

/// Walks one DAG.
#[derive(Debug)]
pub struct Walker {
    bounds: Bounds,
    /// Directories and files that are open, from the root.
    frames: Vec<Frame>,
    /// Of the entry that is walked.
    path: String,
    want: Option<Want>,
    told: VecDeque<Step>,
    blocks: u64,
    entries: u64,
    content_bytes: u64,
    node_bytes: u64,
    /// Links that wait in the frames.
    waiting: usize,
}

/// How far a DAG may go. Over one of these the walk ends with an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Files, directories, links and other DAGs.
    pub entries: u64,
    /// Blocks that are looked at, leaves included.
    pub blocks: u64,
    /// The content of all files.
    pub content_bytes: u64,
    /// What is read of nodes beside content. Files of 10 TiB have at most 5 GB of it.
    pub node_bytes: u64,
    /// Nodes that have links, one below the other.
    pub depth: usize,
    /// A path.
    pub path_bytes: usize,
    /// Links that are held at a time: about 150 bytes each, and their names.
    pub links: usize,
}

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The bytes of this block are wanted: [`Walker::give`].
    Block(Cid),
    /// The length of this block is wanted: [`Walker::give_length`].
    Length(Cid),
    /// A directory. What is in it follows, and begins with its path.
    Directory {
        /// Names with `/` between them; empty for the root.
        path: String,
    },
    /// A file. Its parts follow, until the next step that is none.
    File {
        /// Names with `/` between them; empty for the root.
        path: String,
        /// Of its content.
        bytes: u64,
    },
    /// A part of the file: a whole raw block.
    Leaf {
        /// The block.
        cid: Cid,
        /// Its length.
        bytes: u64,
    },
    /// A part of the file, out of a node.
    Inline(Bytes),
    /// A symbolic link.
    Symlink {
        /// Names with `/` between them; empty for the root.
        path: String,
        /// Where it points, whatever that is.
        target: Bytes,
    },
    /// A DAG that is neither file nor directory: dag-cbor, or a codec that is not known.
    Other {
        /// Names with `/` between them; empty for the root.
        path: String,
        /// Its root.
        cid: Cid,
    },
    /// All was told.
    End,
}

/// A block that is wanted.
#[derive(Debug, Clone, Copy)]
struct Want {
    cid: Cid,
    role: Role,
}

/// What a block is there for.
#[derive(Debug, Clone, Copy)]
enum Role {
    /// An entry of a directory, or the root.
    Entry,
    /// The next level of a sharded directory: how many slots lead to it, and which.
    Shard { depth: usize, slots: [u8; 8] },
    /// A part of a file, of which the node above says that it has so many bytes.
    Part { bytes: u64 },
}

impl Default for Bounds {
    /// A million entries, 10 TiB, and what goes with these.
    fn default() -> Self {
        Self {
            entries: 1_000_000,
            blocks: 100_000_000,
            content_bytes: 10 << 40,
            node_bytes: 5 << 30,
            depth: 256,
            path_bytes: 16 << 10,
            links: 500_000,
        }
    }
}

impl Walker {
    /// Begins at a root.
    #[must_use]
    pub fn new(root: Cid, bounds: Bounds) -> Self {
        Self {
            bounds,
            frames: Vec::new(),
            path: String::new(),
            want: Some(Want { cid: root, role: Role::Entry }),
            told: VecDeque::new(),
            blocks: 0,
            entries: 0,
            content_bytes: 0,
            node_bytes: 0,
            waiting: 0,
        }
    }

    /// Returns what comes next. While a block is wanted, that is the same again.
    ///
    /// # Errors
    /// [`WalkError`]; the walk is over then.
    pub fn step(&mut self) -> Result<Step, WalkError> {
        loop {
            if let Some(told) = self.told.pop_front() {
                return Ok(told);
            }
            if let Some(want) = self.want {
                match (want.cid.codec(), want.cid.inline()) {
                    // What stands in its own name is there.
                    (Codec::Raw | Codec::DagPb, Some(block)) => self.take(want, Bytes::copy_from_slice(block))?,
                    (Codec::DagPb, None) => return Ok(Step::Block(want.cid)),
                    (Codec::Raw, None) => return Ok(Step::Length(want.cid)),
                    (Codec::DagCbor | Codec::Other(_), _) => self.other(want)?,
                }
                continue;
            }
            if !self.next_link()? {
                return Ok(Step::End);
            }
        }
    }

    /// Gives the block that is wanted.
    ///
    /// # Errors
    /// [`WalkError`]; the walk is over then.
    pub fn give(&mut self, block: Bytes) -> Result<(), WalkError> {
        let want = self.want.filter(|want| want.cid.codec() == Codec::DagPb).ok_or(WalkError::NotWanted)?;
        if block.len() > BLOCK_BYTES_MAX {
            return Err(WalkError::BlockTooBig { cid: want.cid.into(), bytes: block.len() as u64 });
        }
        want.cid.verify(&block).map_err(|source| WalkError::Verify { cid: want.cid.into(), source })?;
        self.take(want, block)
    }

    /// Gives the length of the raw block that is wanted, in bytes.
    ///
    /// # Errors
    /// [`WalkError`]; the walk is over then.
    pub fn give_length(&mut self, bytes: u64) -> Result<(), WalkError> {
        let want = self.want.filter(|want| want.cid.codec() == Codec::Raw).ok_or(WalkError::NotWanted)?;
        if bytes > BLOCK_BYTES_MAX as u64 {
            return Err(WalkError::BlockTooBig { cid: want.cid.into(), bytes });
        }
        self.leaf(want, bytes, Step::Leaf { cid: want.cid, bytes })
    }

    /// Takes the next link of the innermost frame that has one. Returns false when there is none.
    fn next_link(&mut self) -> Result<bool, WalkError> {
        while let Some(frame) = self.frames.last_mut() {
            self.path.truncate(frame.path_bytes());
            let Some((name, cid, role)) = frame.next() else {
                self.frames.pop();
                continue;
            };
            self.waiting -= 1;
            if let Some(name) = name {
                if !self.path.is_empty() {
                    self.path.push('/');
                }
                self.path.push_str(&name);
                if self.path.len() > self.bounds.path_bytes {
                    return Err(self.over("path", self.bounds.path_bytes as u64));
                }
            }
            self.want = Some(Want { cid, role });
            return Ok(true);
        }
        Ok(false)
    }

    fn take(&mut self, want: Want, block: Bytes) -> Result<(), WalkError> {
        if want.cid.codec() == Codec::Raw {
            let bytes = block.len() as u64;
            return self.leaf(want, bytes, Step::Inline(block));
        }
        let cid = want.cid;
        let node = Node::decode(&block).map_err(|source| WalkError::Node { cid: cid.into(), source })?;
        let data = node.data.as_deref().unwrap_or_default();
        let data = Data::decode(data).map_err(|source| WalkError::Data { cid: cid.into(), source })?;
        self.count(want)?;
        let inline_bytes = data.data.as_ref().map_or(0, |data| data.len());
        self.node_bytes = self.node_bytes.saturating_add((block.len() - inline_bytes) as u64);
        if self.node_bytes > self.bounds.node_bytes {
            return Err(self.over("bytes of nodes", self.bounds.node_bytes));
        }
        match (want.role, data.kind) {
            (Role::Entry, Kind::Directory) => {
                self.told.push_back(Step::Directory { path: self.path.clone() });
                self.open(Frame::directory(cid, &node, self.path.len())?)
            }
            (Role::Entry, Kind::Shard) => {
                self.told.push_back(Step::Directory { path: self.path.clone() });
                self.open(Frame::shard(cid, &node, &data, self.path.len(), 0, [0; 8])?)
            }
            (Role::Shard { depth, slots }, Kind::Shard) => {
                self.open(Frame::shard(cid, &node, &data, self.path.len(), depth, slots)?)
            }
            (Role::Entry, Kind::Symlink) => {
                let target = data.data.as_deref().map_or_else(Bytes::new, |target| block.slice_ref(target));
                self.told.push_back(Step::Symlink { path: self.path.clone(), target });
                Ok(())
            }
            (Role::Entry | Role::Part { .. }, Kind::File | Kind::Raw) => {
                let (frame, bytes) = Frame::file(cid, &node, &data, self.path.len())?;
                match want.role {
                    Role::Part { bytes: said } if said != bytes => {
                        return Err(WalkError::Size { cid: cid.into(), said, bytes });
                    }
                    Role::Part { .. } => {}
                    _ => self.file(bytes)?,
                }
                if let Some(inline) = data.data.as_deref().filter(|inline| !inline.is_empty()) {
                    self.told.push_back(Step::Inline(block.slice_ref(inline)));
                }
                self.open(frame)
            }
            _ => Err(WalkError::Unexpected { cid: cid.into() }),
        }
    }

    /// Takes a raw block: a file, or a part of one.
    fn leaf(&mut self, want: Want, bytes: u64, told: Step) -> Result<(), WalkError> {
        self.count(want)?;
        match want.role {
            Role::Entry => self.file(bytes)?,
            Role::Part { bytes: said } if said == bytes => {}
            Role::Part { bytes: said } => return Err(WalkError::Size { cid: want.cid.into(), said, bytes }),
            Role::Shard { .. } => return Err(WalkError::Unexpected { cid: want.cid.into() }),
        }
        if bytes > 0 {
            self.told.push_back(told);
        }
        Ok(())
    }

    /// Takes a DAG that is not walked.
    fn other(&mut self, want: Want) -> Result<(), WalkError> {
        self.count(want)?;
        if !matches!(want.role, Role::Entry) {
            return Err(WalkError::Unexpected { cid: want.cid.into() });
        }
        self.told.push_back(Step::Other { path: self.path.clone(), cid: want.cid });
        Ok(())
    }

    fn file(&mut self, bytes: u64) -> Result<(), WalkError> {
        let most = self.bounds.content_bytes;
        self.content_bytes = self.content_bytes.saturating_add(bytes);
        if self.content_bytes > most {
            return Err(self.over("bytes of content", most));
        }
        self.told.push_back(Step::File { path: self.path.clone(), bytes });
        Ok(())
    }

    /// Counts a block that came.
    fn count(&mut self, want: Want) -> Result<(), WalkError> {
        self.want = None;
        self.blocks += 1;
        if self.blocks > self.bounds.blocks {
            return Err(self.over("blocks", self.bounds.blocks));
        }
        if matches!(want.role, Role::Entry) {
            self.entries += 1;
            if self.entries > self.bounds.entries {
                return Err(self.over("entries", self.bounds.entries));
            }
        }
        Ok(())
    }

    fn open(&mut self, frame: Frame) -> Result<(), WalkError> {
        if frame.len() == 0 {
            return Ok(());
        }
        self.waiting += frame.len();
        if self.waiting > self.bounds.links {
            return Err(self.over("links at a time", self.bounds.links as u64));
        }
        self.frames.push(frame);
        if self.frames.len() > self.bounds.depth {
            return Err(self.over("levels", self.bounds.depth as u64));
        }
        Ok(())
    }

    fn over(&self, what: &'static str, most: u64) -> WalkError {
        WalkError::Over { what, most, path: self.path.chars().take(300).collect() }
    }
}
