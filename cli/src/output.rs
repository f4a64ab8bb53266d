//! The answer of a command: lines for people, or one JSON document with `--json`.

use std::io::{self, Write};

use anyhow::Context;
use serde::Serialize;

use crate::commands::Options;

impl Options {
    /// Prints an answer in the form that was asked for. `text` must end with a newline or be empty.
    pub(crate) fn answer<T: Serialize>(&self, json: &T, text: impl FnOnce() -> String) -> anyhow::Result<()> {
        if self.json { print_json(json) } else { print(&text()) }
    }
}

/// Prints one document.
pub(crate) fn print_json<T: Serialize>(json: &T) -> anyhow::Result<()> {
    print(&(serde_json::to_string_pretty(json)? + "\n"))
}

/// Writes to standard output. A reader that has seen enough (`| head`) is no failure.
fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("standard output cannot be written"),
    }
}

/// Formats rows as aligned columns. The first row is the heading.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
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

/// Formats a number of bytes for people.
pub(crate) fn bytes(count: u64) -> String {
    indicatif::BinaryBytes(count).to_string()
}
