//! Whatever documents name must exist: the targets of relative links with their headings, and our files in backticks.
//!
//! Place in the flow: `tidy` reads each `.md` file; a moved file fails here until the text moves too.

use std::path::{Component, Path, PathBuf};

use super::Findings;

/// Endings that make a word in backticks the name of a file.
const ENDINGS: &[&str] = &[".rs", ".md", ".toml", ".wit", ".wasm", ".sh", ".py", ".svg", ".html", ".json", ".bin"];

/// Checks every Markdown file.
pub(super) fn check(root: &Path, files: &[PathBuf], findings: &mut Findings) {
    let exists = |path: &Path| root.join(path).exists();
    let read = |path: &Path| std::fs::read_to_string(root.join(path)).unwrap_or_default();
    for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "md")) {
        findings.faults.extend(judge(file, &read(file), exists, read));
    }
}

fn judge(file: &Path, text: &str, exists: impl Fn(&Path) -> bool, read: impl Fn(&Path) -> String) -> Vec<String> {
    let folder = file.parent().unwrap_or(Path::new(""));
    let mut faults = Vec::new();
    for (line, text) in prose(text) {
        let mut fault = |what: String| faults.push(format!("{}:{line}: {what}", file.display()));
        for (link, heading) in links(text) {
            let target = if link.is_empty() { Some(file.to_path_buf()) } else { inside(&folder.join(link)) };
            match target.filter(|path| exists(path)) {
                None => fault(format!("links to `{link}`, which is not there")),
                Some(page) if page.extension().is_some_and(|extension| extension == "md") => {
                    if !heading.is_empty() && !has_heading(&read(&page), heading) {
                        fault(format!("links to `{link}#{heading}`, a heading that is not there"));
                    }
                }
                Some(_) => {}
            }
        }
        for name in named_files(text) {
            let at_root = exists(Path::new(name));
            let beside = inside(&folder.join(name)).is_some_and(|path| exists(&path));
            // The first folder distinguishes our files from those of other projects and from paths on a node's disk.
            let is_ours = name.split('/').next().is_some_and(|first| exists(Path::new(first)));
            if is_ours && !at_root && !beside {
                fault(format!("names `{name}`, which is not there"));
            }
        }
    }
    faults
}

/// Returns the numbered lines outside fenced code.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let is_fence = line.trim_start().starts_with("```");
        fenced ^= is_fence;
        (!fenced && !is_fence).then_some((index + 1, line))
    })
}

/// Returns the paths that a line's Markdown links lead to, with their anchors; links to other hosts are left out.
fn links(line: &str) -> impl Iterator<Item = (&str, &str)> {
    let targets = line.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next());
    targets
        .filter(|target| !target.is_empty() && !target.contains(':'))
        .map(|it| it.split_once('#').unwrap_or((it, "")))
}

/// Returns whether a page has an anchor: a heading, as the hosting platform spells it in links, or an `id`.
fn has_heading(page: &str, anchor: &str) -> bool {
    let spelled = |heading: &str| -> String {
        let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    let id = format!("<a id=\"{anchor}\"");
    prose(page)
        .any(|(_, line)| line.contains(&id) || line.starts_with('#') && spelled(line.trim_start_matches('#')) == anchor)
}

/// Returns the words in backticks that are paths of files: a folder, and a known ending or a closing slash.
fn named_files(line: &str) -> impl Iterator<Item = &str> {
    let is_plain = |word: &str| word.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
    let is_placeholder = |word: &str| word.contains("NNNN") || word.contains("LABEL") || word.contains("NAME");
    line.split('`').skip(1).step_by(2).filter(move |word| {
        let ends_as_file = ENDINGS.iter().any(|ending| word.ends_with(ending)) || word.ends_with('/');
        word.contains('/') && !word.starts_with('/') && ends_as_file && is_plain(word) && !is_placeholder(word)
    })
}

/// Resolves `.` and `..` in a relative path; `None` when it leaves the repository.
fn inside(path: &Path) -> Option<PathBuf> {
    let mut inside = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => inside.push(name),
            Component::CurDir => {}
            Component::ParentDir => {
                if !inside.pop() {
                    return None;
                }
            }
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults_of(file: &str, text: &str) -> Vec<String> {
        let there = ["format", "format/", "format/src/names.rs", "docs", "docs/format.md", "README.md"];
        let read = |_: &Path| "# Page\n## The byte layout: a `strip`\n<a id=\"old\"></a>\n".to_owned();
        judge(Path::new(file), text, |path| there.iter().any(|name| Path::new(name) == path), read)
    }

    #[test]
    fn links_lead_somewhere() {
        let good = "[a](docs/format.md#the-byte-layout-a-strip) [b](https://a.example/x) [c](#page) ![d](README.md \"title\") \
                    [e](docs/format.md#old)";
        assert_eq!(faults_of("README.md", good), [""; 0]);
        assert_eq!(faults_of("docs/format.md", "[up](../README.md)"), [""; 0]);
        assert_eq!(
            faults_of("README.md", "one\n[a](docs/gone.md)"),
            ["README.md:2: links to `docs/gone.md`, which is not there"]
        );
        assert_eq!(faults_of("README.md", "[a](../elsewhere.md)").len(), 1);
        assert_eq!(
            faults_of("README.md", "[a](docs/format.md#layout)"),
            ["README.md:1: links to `docs/format.md#layout`, a heading that is not there"]
        );
    }

    #[test]
    fn files_of_ours_in_backticks_exist() {
        assert_eq!(faults_of("README.md", "see `format/src/names.rs`, `format/` and `docs/format.md`"), [""; 0]);
        assert_eq!(faults_of("docs/format.md", "see `format/src/names.rs`"), [""; 0]);
        assert_eq!(faults_of("README.md", "see `format/src/gone.rs`").len(), 1);
    }

    #[test]
    fn other_peoples_files_and_placeholders_are_left_alone() {
        let text = "`src/util/migrate.rs` `shards/ab/cd.bin` `docs/NNNN-title.md` `a/b` `let x = a/b.rs`";
        assert_eq!(faults_of("README.md", text), [""; 0]);
    }

    #[test]
    fn fenced_code_is_not_read() {
        assert_eq!(faults_of("README.md", "```\n[a](gone.md)\n```\n[b](README.md)"), [""; 0]);
    }
}
