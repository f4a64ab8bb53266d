//! A folder on disk as it will be stored: every file and folder in it, parents before children.
//!
//! Hidden files are included (`.well-known` belongs to a site, and a tree should come back as it went in). Symbolic
//! links are never followed, because they may lead out of the tree or form a cycle. Links, sockets, pipes and devices
//! are left out and reported. A name that is not UTF-8 is an error, because leaving the file out would store less than
//! was asked.

use std::{
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
};

use format::limits::{DIRECTORY_ENTRIES_MAX, PATH_SEGMENTS_MAX};

/// Most files and folders of one tree. Each takes some 200 B of memory.
const NODES_MAX: usize = 1_000_000;

/// A tree, planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// The folder itself first, then all below it; each parent stands before its children.
    pub nodes: Vec<Node>,
    /// What was left out: symbolic links, and whatever is neither file nor folder.
    pub skipped: Vec<PathBuf>,
}

/// One file or folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name in its folder; for the top, the folder's own name.
    pub name: String,
    /// Its path from the top, with slashes; empty for the top itself.
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

/// Why a tree cannot be stored. The owner must correct it.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The disk returns an error.
    #[error("{} cannot be read", path.display())]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A name that is not UTF-8.
    #[error("the name of {} is not UTF-8; rename it", path.display())]
    Name {
        /// Which file or folder.
        path: PathBuf,
    },
    /// A folder with too many names.
    #[error("the folder {} has over {DIRECTORY_ENTRIES_MAX} names; use sub-folders", path.display())]
    Wide {
        /// Which folder.
        path: PathBuf,
    },
    /// Folders are nested too deeply.
    #[error("{} lies more than {PATH_SEGMENTS_MAX} folders deep", path.display())]
    Deep {
        /// Which file or folder.
        path: PathBuf,
    },
    /// A tree with too many files.
    #[error("the tree has over {NODES_MAX} files and folders; store its parts")]
    Large,
}

impl Tree {
    /// Lists everything under `top`. Reads the disk: run it outside of the async reactor.
    ///
    /// # Errors
    /// [`TreeError`].
    pub fn walk(top: &Path) -> Result<Self, TreeError> {
        // `.` and `..` have no name of their own.
        let named = std::fs::canonicalize(top).map_err(|source| TreeError::Io { path: top.to_owned(), source })?;
        let name = utf8(named.file_name().unwrap_or(OsStr::new("root")), top)?;
        let root = Node { name, inner: String::new(), path: top.to_owned(), parent: None, kind: NodeKind::Folder };
        let mut tree = Self { nodes: vec![root], skipped: Vec::new() };
        let mut at = 0;
        while at < tree.nodes.len() {
            if tree.nodes[at].kind == NodeKind::Folder {
                tree.list(at)?;
            }
            at += 1;
        }
        Ok(tree)
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
    fn list(&mut self, folder: usize) -> Result<(), TreeError> {
        let path = self.nodes[folder].path.clone();
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| TreeError::Io { path, source }
        };
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&path).map_err(io(&path))? {
            if names.len() == DIRECTORY_ENTRIES_MAX {
                return Err(TreeError::Wide { path });
            }
            names.push(entry.map_err(io(&path))?.file_name());
        }
        names.sort_unstable();
        for name in names {
            let path = path.join(&name);
            let metadata = std::fs::symlink_metadata(&path).map_err(io(&path))?;
            let kind = match metadata.file_type() {
                kind if kind.is_dir() => NodeKind::Folder,
                kind if kind.is_file() => NodeKind::File { length: metadata.len() },
                _ => {
                    self.skipped.push(path);
                    continue;
                }
            };
            let name = utf8(&name, &path)?;
            let above = &self.nodes[folder].inner;
            let inner = if above.is_empty() { name.clone() } else { format!("{above}/{name}") };
            if inner.split('/').count() > PATH_SEGMENTS_MAX {
                return Err(TreeError::Deep { path });
            }
            if self.nodes.len() == NODES_MAX {
                return Err(TreeError::Large);
            }
            self.nodes.push(Node { name, inner, path, parent: Some(folder), kind });
        }
        Ok(())
    }
}

fn utf8(name: &OsStr, path: &Path) -> Result<String, TreeError> {
    name.to_str().map(str::to_owned).ok_or_else(|| TreeError::Name { path: path.to_owned() })
}

#[cfg(test)]
mod tests {
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
        #[cfg(unix)]
        std::os::unix::fs::symlink("/etc", top.join("link")).unwrap();
        let tree = Tree::walk(&top).unwrap();
        let inner: Vec<_> = tree.nodes.iter().map(|node| node.inner.as_str()).collect();
        assert_eq!(inner, ["", ".hidden", "empty", "img", "index.html", "img/a.png", "img/deep", "img/deep/b"]);
        assert_eq!(tree.nodes[0].name, "site");
        assert!(tree.nodes.iter().enumerate().skip(1).all(|(at, node)| node.parent.is_some_and(|parent| parent < at)));
        assert_eq!(tree.bytes(), 7);
        #[cfg(unix)]
        assert_eq!(tree.skipped, [top.join("link")]);
    }

    #[cfg(unix)]
    #[test]
    fn a_name_that_is_not_utf_8_is_told_not_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let name = std::os::unix::ffi::OsStrExt::from_bytes(b"caf\xe9");
        std::fs::write(folder.path().join::<&OsStr>(name), "x").unwrap();
        assert!(matches!(Tree::walk(folder.path()), Err(TreeError::Name { .. })));
    }
}
