//! A folder on disk as it will be stored: every file and folder in it, parents before children.
//!
//! Hidden files are included (`.well-known` belongs to a site, and a tree should come back as it went in). Symbolic
//! links are never followed, because they may lead out of the tree or form a cycle. Links, sockets, pipes and devices
//! are left out and reported. What cannot be stored, by its name or because it cannot be read, is collected, so that
//! its owner is told all of it at once, before anything is sent.

use std::{
    ffi::OsStr,
    fmt, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use format::{
    Directory, DirectoryError,
    limits::{DIRECTORY_ENTRIES_MAX, PATH_SEGMENTS_MAX},
};

use crate::{index::PATH_BYTES_MAX, plain_file};

/// Most files and folders of one tree. Each takes some 200 B of memory.
pub(crate) const NODES_MAX: usize = 1_000_000;
/// Faults that an error names; it counts the others.
const FAULTS_SHOWN: usize = 20;

/// A tree, planned.
#[derive(Debug)]
pub struct Tree {
    /// The folder itself first, then all below it; each parent stands before its children.
    pub nodes: Vec<Node>,
    /// What was left out: symbolic links, and whatever is neither file nor folder.
    pub skipped: Vec<PathBuf>,
    /// What is in the folder and cannot be stored; it is not among the nodes.
    pub bad: Vec<TreeFault>,
}

/// One file or folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name in its folder; for the top, the name of the whole.
    pub name: String,
    /// The name of the whole, and the path from there, with slashes.
    pub inner: String,
    /// Where it is on disk.
    pub path: PathBuf,
    /// Index of its folder in [`Tree::nodes`]; `None` for the top.
    pub parent: Option<usize>,
    /// File or folder.
    pub kind: NodeKind,
}

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeKind {
    /// A file.
    File {
        /// Bytes.
        length: u64,
    },
    /// A folder.
    Folder,
}

/// Why a file or folder of a tree cannot be stored. The owner must correct it, or leave it out.
#[derive(Debug, thiserror::Error)]
pub enum TreeFault {
    /// It cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A name that is not UTF-8.
    #[error("the name of {} is not UTF-8", path.display())]
    Utf8 {
        /// Which file or folder.
        path: PathBuf,
    },
    /// A name that no directory takes.
    #[error("{}: {source}", folder.display())]
    Name {
        /// The folder that has it.
        folder: PathBuf,
        /// Which name, and why.
        source: DirectoryError,
    },
    /// Folders are nested too deeply.
    #[error("{} lies more than {PATH_SEGMENTS_MAX} folders deep", path.display())]
    Deep {
        /// Which file or folder.
        path: PathBuf,
    },
    /// This program's own folder, with the owner's key.
    #[error("{} has the state of this program and the owner's key, which nobody else may read", path.display())]
    State {
        /// Where it is.
        path: PathBuf,
    },
    /// The path is too long.
    #[error("the path of {} has more than {PATH_BYTES_MAX} bytes", path.display())]
    Long {
        /// Which file or folder.
        path: PathBuf,
    },
}

/// Why a tree cannot be stored. The owner must correct it.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The folder itself cannot be read, or its name cannot be that of an object.
    #[error(transparent)]
    Top(#[from] TreeFault),
    /// Files or folders in it cannot be stored.
    #[error("{}", Faults(faults))]
    Bad {
        /// All of them.
        faults: Vec<TreeFault>,
    },
    /// A folder with too many names.
    #[error("the folder {} has over {DIRECTORY_ENTRIES_MAX} names; use sub-folders", path.display())]
    Wide {
        /// Which folder.
        path: PathBuf,
    },
    /// A tree with too many files.
    #[error("the tree has over {NODES_MAX} files and folders; store its parts")]
    Large,
}

/// Device and inode: one file, whatever the path.
type FileId = (u64, u64);

struct Faults<'f>(&'f [TreeFault]);

impl fmt::Display for Faults<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, fault) in self.0.iter().take(FAULTS_SHOWN).enumerate() {
            write!(f, "{}{fault}", if at == 0 { "" } else { "; " })?;
        }
        match self.0.len().saturating_sub(FAULTS_SHOWN) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

impl TreeFault {
    /// Returns what cannot be stored.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        match self {
            Self::Io { path, .. }
            | Self::Utf8 { path }
            | Self::Deep { path }
            | Self::State { path }
            | Self::Long { path } => path.clone(),
            Self::Name { folder, source: DirectoryError::Name { name } } => folder.join(name),
            Self::Name { folder, .. } => folder.clone(),
        }
    }
}

impl Tree {
    /// Lists everything under `top`. The whole is called `name`, or as the folder is. The folder `state` cannot be
    /// stored, wherever it is. Reads the disk and opens each file: run it outside of the async reactor.
    ///
    /// # Errors
    /// [`TreeError`].
    pub fn walk(top: &Path, name: Option<&str>, state: Option<&Path>) -> Result<Self, TreeError> {
        let state = state.and_then(|state| std::fs::metadata(state).ok()).map(|it| (it.dev(), it.ino()));
        let metadata = std::fs::metadata(top).map_err(|source| TreeFault::Io { path: top.to_owned(), source })?;
        if state == Some((metadata.dev(), metadata.ino())) {
            return Err(TreeFault::State { path: top.to_owned() }.into());
        }
        let name = match name {
            Some(name) => name.to_owned(),
            None => own_name(top)?,
        };
        let root = Node { inner: name.clone(), name, path: top.to_owned(), parent: None, kind: NodeKind::Folder };
        let mut tree = Self { nodes: vec![root], skipped: Vec::new(), bad: Vec::new() };
        let mut at = 0;
        while at < tree.nodes.len() {
            if tree.nodes[at].kind == NodeKind::Folder {
                tree.list(at, state)?;
            }
            at += 1;
        }
        Ok(tree)
    }

    /// Refuses a tree in which something cannot be stored.
    ///
    /// # Errors
    /// [`TreeError::Bad`] with all of it.
    pub fn whole(self) -> Result<Self, TreeError> {
        if self.bad.is_empty() { Ok(self) } else { Err(TreeError::Bad { faults: self.bad }) }
    }

    /// Returns the bytes of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let length = |node: &Node| match node.kind {
            NodeKind::File { length } => length,
            NodeKind::Folder => 0,
        };
        self.nodes.iter().map(length).fold(0, u64::saturating_add)
    }

    /// Appends the content of one folder, sorted by the bytes of the names.
    fn list(&mut self, folder: usize, state: Option<FileId>) -> Result<(), TreeError> {
        let path = self.nodes[folder].path.clone();
        let io = |source| TreeFault::Io { path: path.clone(), source };
        let mut names = Vec::new();
        let entries = match std::fs::read_dir(&path) {
            Err(source) if folder == 0 => return Err(io(source).into()),
            Err(source) => {
                self.bad.push(io(source));
                return Ok(());
            }
            Ok(entries) => entries,
        };
        for entry in entries {
            if names.len() == DIRECTORY_ENTRIES_MAX {
                return Err(TreeError::Wide { path });
            }
            match entry {
                Ok(entry) => names.push(entry.file_name()),
                Err(source) => self.bad.push(io(source)),
            }
        }
        names.sort_unstable();
        for name in names {
            if self.nodes.len() == NODES_MAX {
                return Err(TreeError::Large);
            }
            match self.node(folder, &name, state) {
                Ok(Some(node)) => self.nodes.push(node),
                Ok(None) => self.skipped.push(path.join(name)),
                Err(fault) => self.bad.push(fault),
            }
        }
        Ok(())
    }

    /// Looks at one name of a folder. Returns `None` for what is neither file nor folder.
    fn node(&self, folder: usize, name: &OsStr, state: Option<FileId>) -> Result<Option<Node>, TreeFault> {
        let above = &self.nodes[folder];
        let path = above.path.join(name);
        let io = |source| TreeFault::Io { path: path.clone(), source };
        let metadata = std::fs::symlink_metadata(&path).map_err(io)?;
        if state == Some((metadata.dev(), metadata.ino())) {
            return Err(TreeFault::State { path });
        }
        let kind = match metadata.file_type() {
            kind if kind.is_dir() => NodeKind::Folder,
            kind if kind.is_file() => NodeKind::File { length: metadata.len() },
            _ => return Ok(None),
        };
        let name = utf8(name, &path)?;
        Directory::check_name(&name).map_err(|source| TreeFault::Name { folder: above.path.clone(), source })?;
        let inner = format!("{}/{name}", above.inner);
        if inner[self.nodes[0].inner.len()..].matches('/').count() > PATH_SEGMENTS_MAX {
            return Err(TreeFault::Deep { path });
        }
        if inner.len() > PATH_BYTES_MAX {
            return Err(TreeFault::Long { path });
        }
        // Whatever cannot be opened is found before anything is sent.
        match kind {
            NodeKind::File { .. } => plain_file::open(&path).map(drop),
            NodeKind::Folder => std::fs::read_dir(&path).map(drop),
        }
        .map_err(io)?;
        Ok(Some(Node { name, inner, path, parent: Some(folder), kind }))
    }
}

/// Returns the name of a folder. `.` and `..` have no name of their own.
fn own_name(top: &Path) -> Result<String, TreeFault> {
    let named = std::fs::canonicalize(top).map_err(|source| TreeFault::Io { path: top.to_owned(), source })?;
    utf8(named.file_name().unwrap_or(OsStr::new("root")), top)
}

fn utf8(name: &OsStr, path: &Path) -> Result<String, TreeFault> {
    name.to_str().map(str::to_owned).ok_or_else(|| TreeFault::Utf8 { path: path.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::os::unix::{ffi::OsStrExt, fs::symlink};

    use super::*;

    #[test]
    fn parents_stand_before_children_and_links_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().join("site");
        std::fs::create_dir_all(top.join("img/deep")).unwrap();
        std::fs::create_dir(top.join("empty")).unwrap();
        for (path, bytes) in [("index.html", "<p>"), (".hidden", "h"), ("img/a.png", "png"), ("img/deep/b", "")] {
            std::fs::write(top.join(path), bytes).unwrap();
        }
        symlink("/etc", top.join("link")).unwrap();
        let tree = Tree::walk(&top, None, None).unwrap();
        let inner: Vec<_> = tree.nodes.iter().map(|node| node.inner.strip_prefix("site").unwrap()).collect();
        assert_eq!(inner, ["", "/.hidden", "/empty", "/img", "/index.html", "/img/a.png", "/img/deep", "/img/deep/b"]);
        assert_eq!(tree.nodes[0].name, "site");
        assert!(tree.nodes.iter().enumerate().skip(1).all(|(at, node)| node.parent.is_some_and(|parent| parent < at)));
        assert_eq!((tree.bytes(), tree.skipped, tree.bad.len()), (7, vec![top.join("link")], 0));
        assert_eq!(Tree::walk(&top, Some("other"), None).unwrap().nodes[6].inner, "other/img/deep");
    }

    #[test]
    fn all_that_cannot_be_stored_is_told_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let deep = (0..PATH_SEGMENTS_MAX).fold(folder.path().to_owned(), |path, _| path.join("d"));
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::write(deep.join("f"), "x").unwrap();
        let not_utf8 = OsStr::from_bytes(b"caf\xe9");
        for name in ["good", "Icon\r", "a\tb"].map(OsStr::new).into_iter().chain([not_utf8]) {
            std::fs::write(folder.path().join(name), "x").unwrap();
        }
        let tree = Tree::walk(folder.path(), Some("top"), None).unwrap();
        let mut bad: Vec<_> = tree.bad.iter().map(TreeFault::path).collect();
        bad.sort_unstable();
        let mut expected =
            [folder.path().join("Icon\r"), folder.path().join("a\tb"), folder.path().join(not_utf8), deep.join("f")];
        expected.sort_unstable();
        assert_eq!(bad, expected);
        assert!(tree.nodes.iter().any(|node| node.name == "good"));
        assert_eq!(tree.nodes.len(), 2 + PATH_SEGMENTS_MAX, "the top, its good file, the folders");
        let told = tree.whole().unwrap_err().to_string();
        assert!(told.contains(r#""Icon\r" cannot be a name"#) && told.contains("is not UTF-8"), "{told}");
    }

    #[test]
    fn the_programs_own_state_is_never_stored_whatever_leads_there() {
        let home = tempfile::tempdir().unwrap();
        let state = home.path().join(".evernear");
        std::fs::create_dir(&state).unwrap();
        std::fs::write(state.join("owner.key"), "secret").unwrap();
        std::fs::write(home.path().join("photo"), "x").unwrap();
        let tree = Tree::walk(home.path(), Some("home"), Some(&home.path().join("./.evernear"))).unwrap();
        assert!(matches!(&tree.bad[..], [TreeFault::State { path }] if *path == state));
        assert_eq!(tree.nodes.iter().map(|node| &node.name[..]).collect::<Vec<_>>(), ["home", "photo"]);
        let top = Tree::walk(&state, None, Some(&state)).unwrap_err();
        assert!(matches!(top, TreeError::Top(TreeFault::State { .. })));
    }

    #[test]
    fn a_top_that_cannot_be_read_is_an_error_and_no_empty_folder() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "x").unwrap();
        for (top, name) in [(&file, Some("named")), (&file, None), (&folder.path().join("absent"), Some("named"))] {
            assert!(
                matches!(Tree::walk(top, name, None), Err(TreeError::Top(TreeFault::Io { .. }))),
                "{}",
                top.display()
            );
        }
    }

    #[test]
    fn of_very_many_faults_twenty_are_named_and_the_others_counted() {
        let fault = |at: usize| TreeFault::Utf8 { path: format!("f{at}").into() };
        let told = |count| TreeError::Bad { faults: (0..count).map(fault).collect() }.to_string();
        assert!(told(20).ends_with("f19 is not UTF-8"));
        assert!(told(22).ends_with("f19 is not UTF-8; and 2 more"));
    }
}
