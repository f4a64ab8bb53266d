//! The answer of a command: lines for people, or one JSON document with `--json`.
//!
//! Names of files and objects are other people's, too. What in them would move the cursor, colour the text or turn its
//! direction around is shown as an escape.

use std::{
    fmt::Display,
    io::{self, Write},
    path::Path,
};

use anyhow::Context;
use serde::Serialize;

use crate::commands::Options;

impl Options {
    /// Prints an answer in the form that was asked for. `text` must end with a newline or be empty.
    pub(crate) fn answer<T: Serialize>(&self, json: &T, text: impl FnOnce() -> String) -> anyhow::Result<()> {
        self.tell(json, text).map(drop)
    }

    /// The same, with the document in one line: the program goes on, and whoever reads it waits for a line.
    pub(crate) fn line<T: Serialize>(&self, json: &T, text: impl FnOnce() -> String) -> anyhow::Result<()> {
        match self.json {
            true => print(&(harmless(&serde_json::to_string(json)?) + "\n")),
            false => self.answer(json, text),
        }
    }

    /// The same; returns whether anybody was there to read it.
    pub(crate) fn tell<T: Serialize>(&self, json: &T, text: impl FnOnce() -> String) -> anyhow::Result<bool> {
        match self.json {
            true => write(&(document(json)? + "\n")),
            false => write(&text().split('\n').map(escape).collect::<Vec<_>>().join("\n")),
        }
    }
}

/// Prints one document.
pub(crate) fn print_json<T: Serialize>(json: &T) -> anyhow::Result<()> {
    print(&(document(json)? + "\n"))
}

fn document<T: Serialize>(json: &T) -> serde_json::Result<String> {
    Ok(harmless(&serde_json::to_string_pretty(json)?))
}

/// Escapes in a document what would act on a terminal.
fn harmless(json: &str) -> String {
    // Only strings have such characters, and those that JSON leaves as they are have one UTF-16 unit each.
    rewrite(json, |c| is_harmful(c) && c != '\n', |c| format!("\\u{:04x}", u32::from(c)))
}

/// Whether a terminal does not show a character but does what it says: control characters, and those that Unicode has
/// for the direction of text.
fn is_harmful(c: char) -> bool {
    let turns = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || turns
}

/// Formats one line for a terminal.
pub(crate) fn escape(text: &str) -> String {
    rewrite(text, is_harmful, |c| c.escape_default().to_string())
}

/// Puts something else in the place of some characters. Most texts have none of them.
fn rewrite(text: &str, is_one: impl Fn(char) -> bool, other: impl Fn(char) -> String) -> String {
    if !text.contains(&is_one) {
        return text.to_owned();
    }
    text.chars().map(|c| if is_one(c) { other(c) } else { c.to_string() }).collect()
}

/// Formats a path for a terminal.
pub(crate) fn shown(path: &Path) -> String {
    escape(&path.display().to_string())
}

/// Writes to standard output. A reader that closes the pipe early (`| head`) is no failure.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    write(text).map(drop)
}

/// Returns whether the reader was still there.
fn write(text: &str) -> anyhow::Result<bool> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        written => written.map(|()| true).context("standard output cannot be written"),
    }
}

/// Formats rows as aligned columns. The first row is the heading.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| escape(cell)).collect()).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

/// Formats how many things of a regular name there are: `1 object`, `2 objects`.
pub(crate) fn count<N: Copy + Display + PartialEq + From<u8>>(number: N, thing: &str) -> String {
    format!("{number} {thing}{}", if number == N::from(1) { "" } else { "s" })
}

/// Formats which nodes did not get an order, a line for each.
pub(crate) fn missed<N: Display>(nodes: impl IntoIterator<Item = N>) -> String {
    nodes.into_iter().map(|node| format!("not reached, will learn of it when it is back: {node}\n")).collect()
}

/// Formats a number of bytes for people.
pub(crate) fn bytes(count: u64) -> String {
    indicatif::BinaryBytes(count).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_act_on_a_terminal_is_shown() {
        let name =
            "a\u{202e}gpj.exe \u{2066}\u{200f}\u{61c}\u{1b}[31m\u{9b}2J\u{7f}\r\nx \u{6f22}\u{e9}\u{200d}\u{1f600}";
        let line = "a\\u{202e}gpj.exe \\u{2066}\\u{200f}\\u{61c}\\u{1b}[31m\\u{9b}2J\\u{7f}\\r\\nx \u{6f22}\u{e9}\u{200d}\u{1f600}";
        assert_eq!(escape(name), line);
        assert_eq!(table(&[vec![name.to_owned(), "b".to_owned()]]), format!("{line}  b\n"));
        let json = document(&[name]).unwrap();
        assert!(!json.contains(|c| is_harmful(c) && c != '\n'), "{json:?}");
        assert_eq!(serde_json::from_str::<[String; 1]>(&json).unwrap(), [name]);
    }

    #[test]
    fn one_thing_is_no_plural() {
        assert_eq!([0, 1, 2].map(|number: u64| count(number, "object")), ["0 objects", "1 object", "2 objects"]);
    }
}
