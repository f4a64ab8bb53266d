//! Directories in directories, from a list of paths.
//!
//! Place in the flow: whoever uploads a folder adds each file with the root that [`crate::Importer`] made of it, in any
//! order. Keeps true: entries are sorted by the names on their paths and made into directories one after another, so
//! what is open at a time is one path, and no call goes deeper for a deeper tree.

use crate::{
    Directory, DirectoryError, Profile,
    directory::is_name,
    limits::PATH_NAMES_MAX,
    sink::{Root, Sink},
};

/// A tree that is being made.
#[derive(Debug, Clone)]
pub struct Tree {
    profile: Profile,
    entries: Vec<Entry>,
}

#[derive(Debug, Clone)]
struct Entry {
    path: Box<str>,
    /// None for a directory that is to be there even if nothing is in it.
    root: Option<Root>,
}

/// Why a tree cannot have an entry. Who named it is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// A name on the path cannot be one.
    #[error(
        "{path:?} is no path in a tree: at most {PATH_NAMES_MAX} names with '/' between them, none empty, '.' or '..'"
    )]
    Path {
        /// The first 300 characters of it.
        path: String,
    },
    /// Two entries have one path.
    #[error("{path:?} is there twice")]
    Twice {
        /// The path.
        path: String,
    },
    /// Something lies below what is no directory.
    #[error("{path:?} lies below {file:?}, which is no directory")]
    BelowFile {
        /// What lies below.
        path: String,
        /// What is no directory.
        file: String,
    },
    /// A directory cannot be made.
    #[error("directory {path:?}: {source}")]
    Directory {
        /// Its path; empty for the root.
        path: String,
        /// Why.
        source: DirectoryError,
    },
}

impl Tree {
    /// Begins a tree.
    #[must_use]
    pub fn new(profile: Profile) -> Self {
        Self { profile, entries: Vec::new() }
    }

    /// Adds a file, or any other DAG, at a path: names with `/` between them.
    ///
    /// # Errors
    /// [`TreeError::Path`].
    pub fn insert(&mut self, path: &str, root: Root) -> Result<(), TreeError> {
        self.entries.push(Entry { path: checked(path)?, root: Some(root) });
        Ok(())
    }

    /// Adds a directory, which may stay empty. One that has entries need not be added.
    ///
    /// # Errors
    /// [`TreeError::Path`].
    pub fn insert_directory(&mut self, path: &str) -> Result<(), TreeError> {
        self.entries.push(Entry { path: checked(path)?, root: None });
        Ok(())
    }

    /// Makes all directories and returns the one around all entries.
    ///
    /// # Errors
    /// [`TreeError::Twice`], [`TreeError::BelowFile`] and [`TreeError::Directory`].
    pub fn finish(mut self, sink: &mut impl Sink) -> Result<Root, TreeError> {
        self.entries.sort_by(|a, b| a.path.split('/').cmp(b.path.split('/')));
        let mut open = Open { profile: self.profile, path: Vec::new(), root: Directory::new(self.profile) };
        let mut file: Option<&str> = None;
        for entry in &self.entries {
            // Sorted, what lies below a file follows it directly, or other entries below it do.
            if let Some(file) = file.filter(|file| is_below(&entry.path, file)) {
                return Err(TreeError::BelowFile { path: entry.path.to_string(), file: file.to_owned() });
            }
            let (folders, name) = entry.path.rsplit_once('/').unwrap_or(("", &entry.path));
            match entry.root {
                Some(root) => {
                    open.go_to(folders, sink)?;
                    open.insert(name, root)?;
                    file = Some(&entry.path);
                }
                None => open.go_to(&entry.path, sink)?,
            }
        }
        open.go_to("", sink)?;
        open.root.finish(sink).map_err(|source| TreeError::Directory { path: String::new(), source })
    }
}

/// The directories on the way to the last entry.
struct Open<'a> {
    profile: Profile,
    path: Vec<(&'a str, Directory)>,
    root: Directory,
}

impl<'a> Open<'a> {
    /// Closes and opens directories until the one at a path is the innermost.
    fn go_to(&mut self, path: &'a str, sink: &mut impl Sink) -> Result<(), TreeError> {
        let names = || path.split('/').filter(|name| !name.is_empty());
        let same = self.path.iter().zip(names()).take_while(|((open, _), name)| open == name).count();
        while self.path.len() > same {
            let Some((name, directory)) = self.path.pop() else { break };
            let root = directory.finish(sink).map_err(|source| {
                let mut path = self.written();
                path.push_str(name);
                TreeError::Directory { path, source }
            })?;
            self.insert(name, root)?;
        }
        for name in names().skip(same) {
            self.path.push((name, Directory::new(self.profile)));
        }
        Ok(())
    }

    fn insert(&mut self, name: &str, root: Root) -> Result<(), TreeError> {
        let innermost = self.path.last_mut().map_or(&mut self.root, |(_, directory)| directory);
        innermost.insert(name, root).map_err(|_| TreeError::Twice { path: self.written() + name })
    }

    /// Returns the path of the innermost directory, with a slash at its end.
    fn written(&self) -> String {
        self.path.iter().map(|(name, _)| format!("{name}/")).collect()
    }
}

fn checked(path: &str) -> Result<Box<str>, TreeError> {
    let is_path = path.split('/').all(is_name) && path.split('/').count() <= PATH_NAMES_MAX;
    if is_path { Ok(path.into()) } else { Err(TreeError::Path { path: path.chars().take(300).collect() }) }
}

fn is_below(path: &str, file: &str) -> bool {
    path.strip_prefix(file).is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cid, Codec};

    fn file() -> Root {
        Root { cid: Cid::of(Codec::Raw, b"hello\n"), tsize: 6 }
    }

    fn tree(paths: &[&str]) -> Result<Root, TreeError> {
        let mut tree = Tree::new(Profile::UNIXFS_V1_2025);
        for path in paths {
            match path.strip_suffix('/') {
                Some(folder) => tree.insert_directory(folder)?,
                None => tree.insert(path, file())?,
            }
        }
        tree.finish(&mut ())
    }

    #[test]
    fn a_tree_is_its_directories_in_any_order_of_its_paths() {
        let directory = |entries: &[(&str, Root)]| {
            let mut directory = Directory::new(Profile::UNIXFS_V1_2025);
            entries.iter().for_each(|(name, root)| directory.insert(name, *root).unwrap());
            directory.finish(&mut ()).unwrap()
        };
        let deep = directory(&[("d", file())]);
        let below = directory(&[("b", file()), ("c", deep), ("e", directory(&[]))]);
        let whole = directory(&[("a", below), ("a.txt", file()), ("a-", file()), ("z", file())]);
        assert_eq!(tree(&["a/b", "a/c/d", "a/e/", "a.txt", "a-", "z"]), Ok(whole));
        assert_eq!(tree(&["z", "a.txt", "a/e/", "a/c/d", "a-", "a/", "a/c/", "a/b"]), Ok(whole));
        assert_eq!(tree(&[]), Ok(directory(&[])));
    }

    #[test]
    fn what_cannot_be_is_refused_by_its_path() {
        for path in ["", "/a", "a/", "a//b", "a/../b", "./a", &format!("{}a", "a/".repeat(PATH_NAMES_MAX))] {
            let refused = Tree::new(Profile::UNIXFS_V1_2025).insert(path, file());
            assert!(matches!(refused, Err(TreeError::Path { .. })), "{path:.20}");
        }
        assert!(tree(&[&format!("{}a", "a/".repeat(PATH_NAMES_MAX - 1))]).is_ok());
        assert_eq!(tree(&["b", "a/b", "a/b"]), Err(TreeError::Twice { path: "a/b".into() }));
        let below = |path: &str, file: &str| Err(TreeError::BelowFile { path: path.into(), file: file.into() });
        assert_eq!(tree(&["a/b", "a"]), below("a/b", "a"));
        assert_eq!(tree(&["x/a", "x/a/b/c", "x/a-"]), below("x/a/b/c", "x/a"));
        // A file and an empty directory of one name.
        assert!(tree(&["a", "a/"]).is_err());
        assert!(tree(&["a/", "a"]).is_err());
    }
}
