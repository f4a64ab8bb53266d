//! Checks what the demo is to store before anything starts, so that a user who mistypes a name does not wait for the
//! network.

use std::{
    fs::{self, File},
    path::Path,
};

use anyhow::{Context, Result, ensure};
use twin::{NodeKind, Tree};

/// Refuses what cannot be stored: a path that does not exist or cannot be read, what is neither file nor folder, and a
/// folder without a file. It opens only regular files and folders, because a pipe would wait for its writer and a
/// device may have no end.
///
/// # Errors
/// Which path is wrong, and why.
pub(crate) fn check(path: &Path) -> Result<()> {
    let kind = fs::metadata(path).with_context(|| format!("{} cannot be read", path.display()))?;
    if !kind.is_dir() {
        ensure!(kind.is_file(), "{} is neither file nor folder; name one of these", path.display());
        return check_name(path).and_then(|()| check_file(path));
    }
    let tree = Tree::walk(path, None, None)?.whole()?;
    let has_file = tree.nodes.iter().any(|node| matches!(node.kind, NodeKind::File { .. }));
    ensure!(has_file, "the folder {} holds no file; name one that does", path.display());
    check_name(Path::new(&tree.nodes[0].name))
}

/// Refuses names with control characters: a directory cannot hold them, and they must not reach a terminal.
fn check_name(path: &Path) -> Result<()> {
    let is_plain = path.file_name().unwrap_or_default().to_str().is_some_and(|name| !name.contains(char::is_control));
    ensure!(is_plain, "the name of {path:?} is not UTF-8 or has control characters; rename it");
    Ok(())
}

fn check_file(path: &Path) -> Result<()> {
    File::open(path).map(drop).with_context(|| format!("{} cannot be read", path.display()))
}
