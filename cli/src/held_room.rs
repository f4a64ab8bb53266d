//! A `put` that nodes have no room for, while earlier ones of the same owner that did not end hold some there.

use client::{PlacementError, UploadError};
use twin::{PutError, Twin, Unfinished};

use crate::output::count;

/// Nodes refused an upload, and what did not end takes room at them.
#[derive(Debug, thiserror::Error)]
#[error(
    "nodes have too little room, and {} of yours that did not end {} some of it", count(*uploads, "upload"),
    if *uploads == 1 { "takes" } else { "take" }
)]
pub(crate) struct HeldRoom {
    uploads: usize,
    source: PutError,
}

/// Says so of what failed, if it is so as far as this machine knows.
pub(crate) async fn explain(error: PutError, twin: &Twin) -> anyhow::Error {
    if !lacks_room(&error) {
        return error.into();
    }
    let held = twin.resumable().await.unwrap_or_default();
    match held.iter().filter(|it| is_other(it, &error)).count() {
        0 => error.into(),
        uploads => HeldRoom { uploads, source: error }.into(),
    }
}

/// Whether nodes said that it is room that they lack: all that they have, or this caller's share of it.
fn lacks_room(error: &PutError) -> bool {
    let PutError::Upload { source, .. } = error else { return false };
    match source {
        UploadError::Placement(PlacementError::TooFew { full, .. }) => *full > 0,
        UploadError::Lost { failed, .. } => failed.iter().any(|it| matches!(it.status(), Some(503 | 507))),
        _ => false,
    }
}

/// Whether an upload has cells at nodes, and is not the one that failed.
fn is_other(upload: &Unfinished, failed: &PutError) -> bool {
    let is_it = |path| matches!(failed, PutError::Upload { path: failed, .. } if is_in(failed, path));
    upload.sessions > 0 && !upload.path.as_deref().is_some_and(is_it)
}

fn is_in(path: &std::path::Path, folder: &std::path::Path) -> bool {
    std::fs::canonicalize(path).is_ok_and(|path| path.starts_with(folder))
}

#[cfg(test)]
mod tests {
    use client::TransportError;
    use twin::Batch;

    use super::*;
    use crate::fault::Report;

    fn failed(source: UploadError) -> PutError {
        PutError::Upload { path: "/proc/self/status".into(), source }
    }

    fn too_few(full: usize) -> UploadError {
        let redundancy = format::Redundancy::new(1, 1).unwrap();
        let (wanted, refused) = (Vec::new(), Vec::new());
        PlacementError::TooFew { redundancy, need: 2, have: 1, known: 2, full, leaving: 0, wanted, refused }.into()
    }

    fn lost(status: u16) -> UploadError {
        let node = "o1".parse().unwrap();
        UploadError::Lost {
            source: client::ScatterLost { left: 0, columns: 2, quorum: 2 },
            failed: vec![TransportError::Failed { node, status, reason: "no room".into() }],
            silent_zones: [].into(),
        }
    }

    #[test]
    fn nodes_without_room_are_told_from_those_that_are_away() {
        for (error, lacks) in
            [(too_few(1), true), (too_few(0), false), (lost(507), true), (lost(503), true), (lost(500), false)]
        {
            assert_eq!(lacks_room(&failed(error)), lacks);
        }
    }

    #[test]
    fn only_another_upload_that_nodes_have_something_of_takes_their_room() {
        let upload = |path: Option<&str>, sessions| Unfinished {
            batch: Batch([1; 16]),
            path: path.map(Into::into),
            begun: 1,
            files_stored: 0,
            sessions,
        };
        let here = std::fs::canonicalize("/proc/self/status").unwrap();
        let here = here.to_str().unwrap();
        for (path, sessions, counts) in
            [(Some("/other"), 1, true), (Some("/other"), 0, false), (None, 2, true), (Some(here), 2, false)]
        {
            assert_eq!(is_other(&upload(path, sessions), &failed(too_few(1))), counts, "{path:?} {sessions}");
        }
    }

    #[test]
    fn what_takes_the_room_is_told_with_what_ends_it() {
        let report = Report::of(&HeldRoom { uploads: 2, source: failed(too_few(1)) }.into());
        let told = serde_json::to_value(&report).unwrap();
        assert_eq!(
            told["error"],
            "nodes have too little room, and 2 uploads of yours that did not end take some of it"
        );
        let advice = told["try"].as_str().unwrap();
        assert!(advice.contains("`evernear ls --unfinished`") && advice.contains("`evernear rm --unfinished`"));
        assert!(told["causes"].as_array().unwrap().len() >= 2, "and why: {told}");
    }
}
