//! A folder: its files, several concurrently, then its directories from the leaves to the top.
//!
//! What of it is stored its journal says, directories too, so that a folder that goes on stores nothing twice. What was
//! stored and is no part of it any more, because a file was changed or taken out in between, is left over: the index
//! keeps it beside the folder as what did not end.

use std::{
    collections::{BTreeSet, HashMap},
    io::Cursor,
    path::Path,
    sync::Arc,
};

use client::Receipt;
use format::{Directory, Entry as DirectoryEntry, Kind, Label, Locator, Retention};
use futures::StreamExt;
use tokio::task::spawn_blocking;

use super::{
    Bad, Deduplication, EncodingError, FILES_AT_ONCE, LeftOut, PutError, PutOptions, Stored, check_name,
    encoding::Source,
    held, is_other,
    object::{Item, Noting},
};
use crate::{
    index::{Entry, PATH_BYTES_MAX, Position, State, Tenure},
    leases::{Patience, Renewal, Sooner},
    progress::Progress,
    tree::{Node, NodeKind, Tree, TreeFault},
    twin::{Twin, now},
    unfinished::{Journal, RESUMABLE_BYTES_MIN, SourceLock, Stamp, folder_key},
};

/// Media type of a directory object. Edges never send it: they send a list of the names.
pub(super) const DIRECTORY_MIME: &str = "inode/directory";

impl Twin {
    /// Stores all files of a folder, several concurrently, then its directories from the leaves to the top.
    pub(super) async fn put_tree(
        &self,
        path: &Path,
        options: &PutOptions,
        progress: &Arc<dyn Progress>,
        lock: &Arc<SourceLock>,
    ) -> Result<Stored, PutError> {
        if options.mime.is_some() {
            return Err(PutError::FolderType { path: path.to_owned() });
        }
        let (top, name) = (path.to_owned(), options.name.clone());
        let state = self.with_index(|index| index.path().parent().map(Path::to_owned)).await;
        let walked = spawn_blocking(move || {
            let tree = Tree::walk(&top, name.as_deref(), state.as_deref())?;
            let stamps = stamps(&tree);
            Ok::<_, PutError>((tree, stamps))
        });
        let (tree, stamps) = walked.await.expect("a walk neither panics nor is cancelled")?;
        let tree = if options.bad == Bad::LeftOut { tree } else { tree.whole()? };
        check_name(&tree.nodes[0].name)?;
        let stamp = stamps.as_ref().map(|stamps| stamp_of(&tree, stamps));
        if let Some(stamp) = stamp
            && let Some(stored) = self.untold(lock, (stamp, &tree.nodes[0].name), options).await?
        {
            let bad = tree.bad.iter().map(LeftOut::of_fault).collect();
            return Ok(Stored { skipped: tree.skipped, bad, ..stored });
        }
        let mut journal = self.open_journal(path, None, options).await?;
        let has_gone = self.forget_gone(journal.head.batch).await?;
        // One that came to its end is told again as it is, and is never mixed with what was changed since.
        if self.is_topped(&journal).await && (has_gone || !is_all_of(&journal, &tree, stamps.as_deref())) {
            journal.end();
            journal = self.open_journal(path, None, options).await?;
        }
        let mut retention = match journal.head.asked == options.asked() && !journal.head.retention.has_ended(self.now())
        {
            true => journal.head.retention,
            false => options.tenure.retention,
        };
        if !self.prolongs(journal.all_stored(), retention, Sooner::Allowed).await? {
            self.leave(journal.head.batch, BTreeSet::new()).await?;
            journal.end();
            (journal, retention) = (self.open_journal(path, None, options).await?, options.tenure.retention);
        }
        let options = &PutOptions { tenure: Tenure { retention, ..options.tenure.clone() }, ..options.clone() };
        let noting = stamp.map(|stamp| held::noting(lock, stamp));
        let stored = self.put_nodes_of(tree, &journal, options, progress, noting).await;
        journal.close(&stored);
        stored
    }

    /// Returns whether the folder of a journal was stored to its top.
    async fn is_topped(&self, journal: &Journal) -> bool {
        let batch = journal.head.batch;
        let is_it = move |it: &Entry| it.batch == batch && it.position == Position::Top && it.state == State::Stored;
        self.with_index(move |index| index.entries().any(|(_, entry)| is_it(entry))).await
    }

    /// Gives what is stored already the times that are asked for. Returns whether it has them: what expired or was
    /// erased meanwhile has not, and neither has what was promised to be kept for longer.
    pub(super) async fn prolongs(
        &self,
        stored: BTreeSet<Locator>,
        asked: Retention,
        sooner: Sooner,
    ) -> Result<bool, PutError> {
        let now = self.now();
        let is_right = move |entry: &Entry| entry.tenure.retention == asked && !asked.has_ended(now);
        let (stored, others) = self
            .with_index(move |index| {
                let is_stored = |at: &Locator| index.entry(at).is_some_and(|entry| entry.state == State::Stored);
                let stored: BTreeSet<_> = stored.into_iter().filter(is_stored).collect();
                let others = stored.iter().filter_map(|locator| index.entry(locator)).any(|entry| !is_right(entry));
                (stored, others)
            })
            .await;
        if !others {
            return Ok(true);
        }
        let keep_until = (asked.keep_until != 0).then_some(asked.keep_until);
        let renewal = Renewal { keep_until, expires: Some(asked.expires), sooner, ..Renewal::default() };
        let quiet: Arc<dyn Progress> = Arc::new(());
        let failed = match self.renew_all(&stored, &renewal, &quiet).await {
            Ok((_, failed)) => failed.into_values().next(),
            Err(error) => Some(error),
        };
        match failed {
            None => Ok(true),
            Some(error) if error.is_passing() => Err(error.into()),
            Some(error) => {
                tracing::warn!(%error, "what was stored before does not get the times asked for; it is stored anew");
                Ok(false)
            }
        }
    }

    async fn put_nodes_of(
        &self,
        tree: Tree,
        journal: &Arc<Journal>,
        options: &PutOptions,
        progress: &Arc<dyn Progress>,
        noting: Option<Noting>,
    ) -> Result<Stored, PutError> {
        let Tree { nodes, skipped, bad } = tree;
        let mut bad: Vec<_> = bad.iter().map(LeftOut::of_fault).collect();
        let left_out = bad.len();
        let batch = journal.head.batch;
        let mut directories: HashMap<usize, Directory> = HashMap::new();
        let (mut bytes, mut kept) = (0, BTreeSet::new());
        let file = |(at, node): (usize, &Node)| match node.kind {
            NodeKind::File { length } => Some((at, length)),
            NodeKind::Folder => None,
        };
        let files: Vec<(usize, u64)> = nodes.iter().enumerate().filter_map(file).collect();
        let nodes = &nodes;
        let put_file = |(at, length): (usize, u64)| async move {
            let node = &nodes[at];
            let _room = self.room_for(length).await;
            progress.file(&node.path, Some(length));
            (at, self.put_file_of(node, journal, options, progress).await)
        };
        let mut stored = futures::stream::iter(files.into_iter().map(put_file)).buffer_unordered(FILES_AT_ONCE);
        while let Some((at, stored)) = stored.next().await {
            match stored {
                Err(PutError::Encoding(error)) if options.bad == Bad::LeftOut && error.is_of_file() => {
                    bad.push(LeftOut::of(&nodes[at].path, &error));
                }
                stored => {
                    let entry = stored?;
                    bytes += entry.length;
                    kept.insert(entry.capability.locator());
                    insert(&mut directories, nodes, at, (&entry, &Directory::default()))?;
                }
            }
        }
        drop(stored);
        for at in (0..nodes.len()).rev().filter(|at| nodes[*at].kind == NodeKind::Folder) {
            let directory = directories.remove(&at).unwrap_or_default();
            let is_top = at == 0;
            // Before the top: beside a folder that was stored it would be told by nothing.
            let left_over = if is_top { self.leave(batch, kept.clone()).await? } else { 0 };
            // What fell out on the way would be told as if it were there.
            let noting = noting.clone().filter(|_| is_top && bad.len() == left_out);
            let (entry, receipt) =
                self.put_folder_of(&nodes[at], &directory, journal, options, progress, noting).await?;
            kept.insert(entry.capability.locator());
            if is_top {
                let (label, objects) = (Label::open(entry.capability.clone()), kept.len());
                return Ok(Stored { label, entry, receipt, objects, bytes, skipped, bad, left_over });
            }
            insert(&mut directories, nodes, at, (&entry, &directory))?;
        }
        unreachable!("the first node of a tree is its top folder, and the loop ends with it")
    }

    /// Stores a file of a folder, unless the journal says that it is stored and has not changed since.
    async fn put_file_of(
        &self,
        node: &Node,
        journal: &Arc<Journal>,
        options: &PutOptions,
        progress: &Arc<dyn Progress>,
    ) -> Result<Entry, PutError> {
        let fault = |source| EncodingError::Read { path: node.path.clone(), source };
        let metadata = tokio::fs::symlink_metadata(&node.path).await.map_err(fault)?;
        let (stamp, length) = (Stamp::of(&metadata), metadata.len());
        if let Some(locator) = journal.stored(&node.inner, stamp)
            && let Some(entry) = self.with_index(move |index| index.entry(&locator).cloned()).await
            && entry.state == State::Stored
        {
            progress.read(length);
            progress.sent(length);
            return Ok(entry);
        }
        let part = match length > RESUMABLE_BYTES_MIN {
            true => Some(self.part_of(journal, &node.inner, stamp, options.resumption).await?),
            false => None,
        };
        // With a part it goes on under the same secrets, and its sessions end with the journal until it is stored.
        let noting = part.is_none().then(|| noting(journal, node.inner.clone(), stamp));
        let item = |part| Item {
            source: Source::Inner(node.path.clone()),
            part,
            path: node.path.clone(),
            name: node.name.clone(),
            inner: node.inner.clone(),
            mime: None,
            kind: Kind::File,
            batch: journal.head.batch,
            position: Position::Inner,
            noting: noting.clone(),
        };
        let mut stored = self.store(item(part), options, progress).await;
        if is_other(&stored, options) {
            let part = journal.part_anew(&node.inner, stamp, now())?;
            stored = self.store(item(Some(part)), options, progress).await;
        }
        let (entry, _) = stored?;
        journal.done(&node.inner, stamp, entry.capability.locator());
        Ok(entry)
    }

    /// Stores a directory, unless the journal says that it is stored as it is now.
    async fn put_folder_of(
        &self,
        node: &Node,
        directory: &Directory,
        journal: &Arc<Journal>,
        options: &PutOptions,
        progress: &Arc<dyn Progress>,
        also: Option<Noting>,
    ) -> Result<(Entry, Receipt), PutError> {
        let (body, key) = (directory.encode(), folder_key(&node.inner));
        let stamp = Stamp::of_bytes(&body);
        if let Some(locator) = journal.stored(&key, stamp)
            && let Some((entry, receipt)) = self.stored_before(locator, &Patience::begin()).await?
        {
            also.iter().for_each(|also| also(locator, entry.tenure.version));
            return Ok((entry, receipt));
        }
        // A longer key would not be read back.
        let own = (key.len() <= PATH_BYTES_MAX).then(|| noting(journal, key, stamp));
        let all: Vec<Noting> = own.into_iter().chain(also).collect();
        let item = Item {
            source: Source::Stream(Box::new(Cursor::new(body))),
            part: None,
            path: node.path.clone(),
            inner: node.inner.clone(),
            name: node.name.clone(),
            mime: Some(DIRECTORY_MIME.to_owned()),
            kind: Kind::Directory,
            batch: journal.head.batch,
            position: if node.parent.is_none() { Position::Top } else { Position::Inner },
            noting: Some(Arc::new(move |locator, version| all.iter().for_each(|noting| noting(locator, version)))),
        };
        // A directory's body holds capabilities, so it is never de-duplicated, even when files are.
        let options = PutOptions { deduplication: Deduplication::Off, ..options.clone() };
        let quiet: Arc<dyn Progress> = Arc::new(());
        let (entry, receipt) = self.store(item, &options, &quiet).await?;
        progress.durable(&node.path, receipt.durable);
        Ok((entry, receipt))
    }
}

/// Returns what notes in a journal that a file or folder is about to be stored.
fn noting(journal: &Arc<Journal>, key: String, stamp: Stamp) -> Noting {
    let journal = journal.clone();
    Arc::new(move |locator, _| journal.done(&key, stamp, locator))
}

/// Returns the stamps of the files of a tree, none for its folders; none at all when one cannot be looked at any more.
fn stamps(tree: &Tree) -> Option<Vec<Option<Stamp>>> {
    let stamp = |node: &Node| match node.kind {
        NodeKind::File { .. } => Some(Some(Stamp::of(&std::fs::symlink_metadata(&node.path).ok()?))),
        NodeKind::Folder => Some(None),
    };
    tree.nodes.iter().map(stamp).collect()
}

/// Returns the stamp of a whole tree: of all names and stamps in it.
fn stamp_of(tree: &Tree, stamps: &[Option<Stamp>]) -> Stamp {
    let mut hasher = blake3::Hasher::new();
    for (node, stamp) in tree.nodes.iter().zip(stamps) {
        // No name has a zero byte, so nothing of one is taken for the other.
        hasher.update(node.inner.as_bytes()).update(&[0, u8::from(stamp.is_some())]);
        if let Some(stamp) = stamp {
            hasher.update(&stamp.encode());
        }
    }
    Stamp::of_bytes(hasher.finalize().as_bytes())
}

/// Returns whether a journal knows all of a tree, as it is now, and nothing else.
fn is_all_of(journal: &Journal, tree: &Tree, stamps: Option<&[Option<Stamp>]>) -> bool {
    let nodes = |stamps: &[Option<Stamp>]| {
        let inner = tree.nodes.iter().map(|node| node.inner.as_str());
        journal.is_all(inner.zip(stamps.iter().copied()))
    };
    stamps.is_some_and(nodes)
}

impl LeftOut {
    fn of(path: &Path, error: &(dyn std::error::Error + 'static)) -> Self {
        let causes = std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string);
        Self { path: path.to_owned(), reason: causes.collect::<Vec<_>>().join(": ") }
    }

    fn of_fault(fault: &TreeFault) -> Self {
        Self { path: fault.path(), reason: fault.to_string() }
    }
}

/// Adds a stored object, which `directory` is the content of unless it is a file, to the directory of its folder.
fn insert(
    directories: &mut HashMap<usize, Directory>,
    nodes: &[Node],
    at: usize,
    (entry, directory): (&Entry, &Directory),
) -> Result<(), PutError> {
    let node = &nodes[at];
    let parent = node.parent.expect("all but the top have a folder, and the top is not inserted");
    let into = directories.entry(parent).or_default();
    let inserted = into.insert(&node.name, named(entry, directory, into.room()));
    inserted.map_err(|source| PutError::Directory { path: nodes[parent].path.clone(), source })
}

/// Returns what a directory says of an object in it, of which `directory` is the content unless it is a file. At most
/// `room` directories are named below it.
pub(super) fn named(entry: &Entry, directory: &Directory, room: usize) -> DirectoryEntry {
    DirectoryEntry {
        capability: entry.capability.clone(),
        length: entry.length,
        mime: entry.mime.clone(),
        kind: entry.kind,
        below: directory.folders(room),
        unknown: Default::default(),
    }
}
