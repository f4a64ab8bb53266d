//! The answer of a command: lines for people, or one JSON document with `--json`.

use std::{
    fmt::Display,
    io::{self, Write},
};

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

/// Writes to standard output. A reader that closes the pipe early (`| head`) is no failure.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
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
    fn one_thing_is_no_plural() {
        assert_eq!([0, 1, 2].map(|number: u64| count(number, "object")), ["0 objects", "1 object", "2 objects"]);
    }
}
