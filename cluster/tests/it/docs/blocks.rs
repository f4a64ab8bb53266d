//! The fenced blocks of a page that a shell can run, and what a page says about them.
//!
//! A block's language is `sh` or `toml`. `sh,manual` and `toml,manual` do not run; the line before the fence is a
//! comment with the reason: `<!-- manual: it needs systemd. -->`. A `toml` block begins with the name of its file:
//! `# eu.toml`, or `# e1.toml, at its end` for lines that are added. A `text` block right below a block is what it
//! prints, line by line.

/// The text before and after a reason.
const REASON: (&str, &str) = ("<!-- manual: ", " -->");

/// A block, as it stands in its page.
pub(super) struct Block {
    /// Page and line.
    pub(super) at: String,
    pub(super) run: Run,
    /// Its lines, each with its end.
    pub(super) text: String,
    /// Lines that it must print, among others; empty when the page shows none.
    pub(super) prints: String,
}

/// How a block is used.
#[derive(Debug, PartialEq)]
pub(super) enum Run {
    /// Its commands run.
    Shell,
    /// It becomes a file.
    NewFile { file: String },
    /// Its lines go to the end of a file.
    EndOfFile { file: String },
    /// Nothing.
    Manual { reason: String },
}

/// Reads the blocks of a page.
///
/// # Errors
/// Which line does not follow the form above.
pub(super) fn blocks(page: &str, text: &str) -> Result<Vec<Block>, String> {
    let mut found: Vec<Block> = Vec::new();
    let mut lines = text.lines().enumerate();
    // The last line before a fence, and whether that line ended a block of `found`.
    let (mut before, mut ended) = ("", false);
    while let Some((number, line)) = lines.next() {
        let Some(language) = line.strip_prefix("```") else {
            (before, ended) = (line, false);
            continue;
        };
        let at = format!("{page}:{}", number + 1);
        let above = std::mem::take(&mut before);
        let body = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```");
        let body: String = body.flat_map(|line| [line, "\n"]).collect();
        let run = match language.split(',').collect::<Vec<_>>()[..] {
            ["sh"] => Run::Shell,
            ["toml"] => into_file(&body).ok_or_else(|| format!("{at}: its first line names no file"))?,
            ["sh" | "toml", "manual"] => {
                let reason = above.strip_prefix(REASON.0).and_then(|rest| rest.strip_suffix(REASON.1));
                Run::Manual { reason: reason.ok_or_else(|| format!("{at}: no reason in the line before"))?.to_owned() }
            }
            ["sh" | "toml", ..] => return Err(format!("{at}: `{language}` is neither run nor manual")),
            ["text"] if ended => {
                found.last_mut().unwrap().prints = body;
                continue;
            }
            _ => {
                ended = false;
                continue;
            }
        };
        found.push(Block { at, run, text: body, prints: String::new() });
        ended = !matches!(found.last().unwrap().run, Run::Manual { .. });
    }
    Ok(found)
}

/// Reads the first line of a `toml` block: `# NAME.toml`, or `# NAME.toml, at its end`, and words after a colon.
fn into_file(body: &str) -> Option<Run> {
    let line = body.lines().next()?.strip_prefix("# ")?;
    let line = line.split(':').next()?;
    let (file, is_end) = line.strip_suffix(", at its end").map_or((line, false), |file| (file, true));
    let is_name = file.ends_with(".toml") && !file.contains([' ', '/', '\'']);
    let file = file.to_owned();
    is_name.then_some(if is_end { Run::EndOfFile { file } } else { Run::NewFile { file } })
}

#[test]
fn blocks_are_read_as_they_stand() {
    let page = "a\n```sh\none\n\ntwo\n```\n```text\nout\n```\n<!-- manual: it is late. -->\n```sh,manual\nx\n```\n```yaml\ny\n```\n\
                ```toml\n# a.toml: what it is\nb = 1\n```\n```toml\n# a.toml, at its end\nc = 1\n```\n";
    let all = blocks("p.md", page).unwrap();
    let seen: Vec<_> =
        all.iter().map(|block| (block.at.as_str(), block.text.as_str(), block.prints.as_str())).collect();
    let expected = [
        ("p.md:2", "one\n\ntwo\n", "out\n"),
        ("p.md:11", "x\n", ""),
        ("p.md:17", "# a.toml: what it is\nb = 1\n", ""),
        ("p.md:21", "# a.toml, at its end\nc = 1\n", ""),
    ];
    assert_eq!(seen, expected);
    let runs: Vec<_> = all.into_iter().map(|block| block.run).collect();
    let file = || "a.toml".to_owned();
    let reason = "it is late.".to_owned();
    assert_eq!(
        runs,
        [Run::Shell, Run::Manual { reason }, Run::NewFile { file: file() }, Run::EndOfFile { file: file() }]
    );
}

#[test]
fn a_block_that_does_not_run_needs_a_reason_and_a_file_a_name() {
    for page in
        ["a\n```sh,manual\nx\n```\n", "```toml\nb = 1\n```\n", "```toml\n# a/b.toml\n```\n", "```sh,later\n```\n"]
    {
        assert!(blocks("p.md", page).is_err_and(|fault| fault.starts_with("p.md:")), "{page}");
    }
}
