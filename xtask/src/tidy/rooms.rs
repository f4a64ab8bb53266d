//! Who may use whom inside of `edge`: its rooms, and the arrows between them.
//!
//! Place in the flow: `tidy` reads every file of `edge/src`. A room is a folder with the file of its name, or a file at
//! the root. Keeps true: arrows go one way, so that a room can be read, and replaced, without those above it.

use std::path::{Path, PathBuf};

use super::Findings;

/// Where the rooms are.
const HOUSE: &str = "edge/src/";
const ROOT: &str = "crate::";
/// What names all rooms: the crate's own file, and the start of an edge.
const TOPS: [&str; 2] = ["lib", "edge"];

/// What every room may use: words, configuration, and what is counted. Of itself it uses nothing else.
const GROUND: &[&str] = &["clock", "config", "error", "log", "metrics", "net", "secret", "zone"];

/// The rooms above the ground, and which others of them each may use.
const ROOMS: &[(&str, &[&str])] = &[
    ("listen", &[]),
    ("policy", &[]),
    ("store", &[]),
    ("node", &["listen", "policy", "store"]),
    ("answer", &["node", "policy", "store"]),
    ("dns", &["listen", "node", "policy", "store"]),
    ("peers", &["listen", "node", "store"]),
    ("control", &["listen", "node", "policy", "store"]),
    ("door", &["answer", "listen", "node", "policy", "store"]),
];

/// Checks every file of the house.
pub(super) fn check(root: &Path, files: &[PathBuf], findings: &mut Findings) {
    for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "rs")) {
        let file = file.to_string_lossy();
        if let Some(inside) = file.strip_prefix(HOUSE) {
            let text = std::fs::read_to_string(root.join(&*file)).unwrap_or_default();
            findings.faults.extend(faults(inside, &text).into_iter().map(|fault| format!("{file}: {fault}")));
        }
    }
}

fn faults(file: &str, text: &str) -> Vec<String> {
    let room = file.split('/').next().map_or(file, |first| first.trim_end_matches(".rs"));
    if TOPS.contains(&room) {
        return Vec::new();
    }
    let Some(may) = uses(room) else {
        return vec![format!("{room} is no room; give it a place, and its arrows, in xtask/src/tidy/rooms.rs")];
    };
    let is_allowed = |used: &str| used == room || GROUND.contains(&used) || may.contains(&used);
    let named = named(text).into_iter().filter(|(_, used)| !is_allowed(used));
    named
        .map(|(line, used)| {
            let arrows = if may.is_empty() { "nothing above the ground".to_owned() } else { may.join(", ") };
            format!("line {line} names crate::{used}, but {room} uses {arrows}; move what both need to the lower room")
        })
        .collect()
}

fn uses(room: &str) -> Option<&'static [&'static str]> {
    let ground = GROUND.contains(&room).then_some(&[][..]);
    ground.or_else(|| ROOMS.iter().find(|(name, _)| *name == room).map(|&(_, may)| may))
}

/// Finds what code names at the root of the crate, in groups too. Returns (line, first part of the path).
fn named(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices(ROOT) {
        let before = &text[..at];
        let in_comment = before.rsplit('\n').next().is_some_and(|line| line.contains("//"));
        if in_comment || before.ends_with(|last: char| last.is_alphanumeric() || "_$".contains(last)) {
            continue;
        }
        let (line, rest) = (before.matches('\n').count() + 1, &text[at + ROOT.len()..]);
        match rest.strip_prefix('{') {
            Some(group) => found.extend(members(group).into_iter().map(|(down, path)| (line + down, first(path)))),
            None => found.push((line, first(rest))),
        }
    }
    found
}

/// Cuts a group, up to the brace that ends it, into its paths. Returns (lines down from the start, path).
fn members(group: &str) -> Vec<(usize, &str)> {
    let (mut depth, mut start, mut found) = (0_usize, 0, Vec::new());
    for (at, character) in group.char_indices() {
        if depth == 0 && matches!(character, ',' | '}') {
            let path = group[start..at].trim_start();
            if !path.is_empty() {
                found.push((group[..at - path.len()].matches('\n').count(), path));
            }
            start = at + 1;
        }
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            _ => {}
        }
    }
    found
}

/// The first part of a path.
fn first(path: &str) -> &str {
    let end = path.find(|character: char| !character.is_alphanumeric() && character != '_');
    end.map_or(path, |end| &path[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arrow_goes_down_and_none_goes_back() {
        for (file, text) in [
            ("door/h1.rs", "use crate::{answer::head, node::Node};\nuse super::tls;\n"),
            ("answer.rs", "use crate::{\n    error::Fault,\n    store::{body::Body, objects::Opened},\n};\n"),
            ("store/body.rs", "use crate::{error::Fault, store::cache};\n"),
            ("control/acme/shared.rs", "use crate::zone::Zone;\n"),
            ("metrics/answers.rs", "use crate::clock;\n"),
            ("lib.rs", "pub use crate::door::X;\n"),
            ("edge.rs", "use crate::{control::admin, door::HttpDoor};\n"),
        ] {
            assert_eq!(faults(file, text), [""; 0], "{file}");
        }
        for (file, text, fault) in [
            (
                "store/body.rs",
                "use bytes::Bytes;\nuse crate::{\n    error::Fault,\n    node::Node,\n};\n",
                "line 4 names crate::node",
            ),
            ("answer/ready.rs", "use crate::door::h1;\n", "line 1 names crate::door"),
            ("policy.rs", "fn a(_: &crate::store::miss::Fills) {}\n", "line 1 names crate::store"),
            ("config.rs", "use crate::{policy::places::Net, zone::Zone};\n", "line 1 names crate::policy"),
            ("dns/tcp.rs", "use crate::{listen::{a, b}, door::c};\n", "line 1 names crate::door"),
            ("node.rs", "pub use crate::dns;\n", "line 1 names crate::dns"),
            ("control.rs", "use crate::Config;\n", "line 1 names crate::Config"),
            ("attic/old.rs", "//! Old.\n", "attic is no room"),
        ] {
            let found = faults(file, text);
            assert!(found.len() == 1 && found[0].starts_with(fault), "{file}: {found:?}");
        }
    }

    #[test]
    fn words_of_comments_and_other_crates_are_no_arrows() {
        for text in
            ["/// As [`crate::door::h1`].\n", "a(); // crate::door\n", "mycrate::door::b();\n", "$crate::door!();\n"]
        {
            assert_eq!(faults("store.rs", text), [""; 0], "{text}");
        }
    }

    #[test]
    fn no_room_uses_one_that_uses_it() {
        for (at, (room, may)) in ROOMS.iter().enumerate() {
            for used in *may {
                assert!(
                    ROOMS[..at].iter().any(|(lower, _)| lower == used),
                    "{room} uses {used}, which stands above it"
                );
            }
        }
    }
}
