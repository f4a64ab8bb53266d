//! The chore `tidy`: checks rules of the repository that the compiler does not check.
//!
//! Place in the flow: CI, and before a commit. It takes one second. Keeps true: every complaint names its file or crate
//! and the rule. All complaints are shown, not only the first.

mod documents;
mod features;
mod layers;
mod promises;
mod rooms;
mod sources;
mod workspace;

use std::path::{Path, PathBuf};

use crate::command;
use crate::fault::Fault;

/// What one check found.
#[derive(Debug, Default, PartialEq, Eq)]
struct Findings {
    /// What must change.
    faults: Vec<String>,
    /// What should be considered.
    warnings: Vec<String>,
}

/// Runs all checks.
pub(crate) fn run(arguments: &[String]) -> Result<(), Fault> {
    if let Some(argument) = arguments.first() {
        return Err(Fault::new(format!("tidy does not know `{argument}`"), "run `./x tidy` without arguments"));
    }
    let root = command::root();
    let members = workspace::members()?;
    let files = files(&root);
    let mut findings = Findings::default();
    layers::check(&members, &mut findings);
    rooms::check(&root, &files, &mut findings);
    sources::check(&root, &files, &mut findings);
    documents::check(&root, &files, &mut findings);
    promises::check(&root, &files, &mut findings);
    features::check(&mut findings)?;
    for warning in &findings.warnings {
        println!("tidy: warning: {warning}");
    }
    for fault in &findings.faults {
        println!("tidy: {fault}");
    }
    if findings.faults.is_empty() {
        println!("tidy: {} crates and {} files are in order", members.len(), files.len());
        Ok(())
    } else {
        let count = findings.faults.len();
        Err(Fault::new(
            format!("tidy found {count} faults"),
            "mend them; a rule that is wrong is changed in xtask/src/tidy, with the reason in the commit",
        ))
    }
}

/// Returns every file that we write, relative to the root, sorted. Hidden and built folders are left out.
fn files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if is_folder && !name.starts_with('.') && name != "target" && name != "node_modules" {
                folders.push(path);
            } else if !is_folder && let Ok(relative) = path.strip_prefix(root) {
                found.push(relative.to_path_buf());
            }
        }
    }
    found.sort();
    found
}
