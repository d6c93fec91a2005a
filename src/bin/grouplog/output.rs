use std::borrow::Cow;
use std::io::{self, BufWriter, Write as _};

use serde_json::{Value, json};

use crate::failure::Failure;
use crate::stdout::Stdout;

/// Buffered stdout, and whether to print JSON.
#[derive(Debug)]
pub(crate) struct Output {
    writer: BufWriter<Stdout>,
    pub(crate) json: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { writer: BufWriter::with_capacity(BUFFER_BYTES, Stdout), json }
    }

    /// Prints a JSON object as one line.
    pub(crate) fn object(&mut self, object: &Value) -> Result<(), Failure> {
        serde_json::to_writer(&mut self.writer, object)
            .map_err(|error| Failure::Output(error.into()))?;
        self.text("\n")
    }

    /// Prints text as it is.
    pub(crate) fn text(&mut self, text: &str) -> Result<(), Failure> {
        self.bytes(text.as_bytes())
    }

    /// Prints bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.writer.write_all(bytes).map_err(Failure::Output)
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// Columns under a heading. Columns of numbers are aligned to the right.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(heading: &[&str]) -> Self {
        Self { rows: vec![heading.iter().map(|&name| name.to_owned()).collect()] }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    pub(crate) fn print(&self, out: &mut Output) -> Result<(), Failure> {
        let columns = self.rows.first().map_or(0, Vec::len);
        let column = |at: usize| self.rows.iter().filter_map(move |row| row.get(at));
        let width = |at| column(at).map(|cell| cell.chars().count()).max().unwrap_or(0);
        let is_number = |cell: &String| cell == "-" || cell.parse::<i64>().is_ok();
        let layout: Vec<(usize, bool)> =
            (0..columns).map(|at| (width(at), column(at).skip(1).all(is_number))).collect();
        for row in &self.rows {
            let cells = row.iter().zip(&layout).map(|(cell, &(width, right))| {
                if right { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
            });
            let line = cells.collect::<Vec<_>>().join("  ");
            out.text(&format!("{}\n", line.trim_end()))?;
        }
        Ok(())
    }
}

/// Formats a number of things: `1 record`, `2 records`.
pub(crate) fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// Formats a cell that may be empty.
pub(crate) fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// Returns bytes as JSON: a string if they are UTF-8, else `{"hex": ...}`. No bytes are null.
pub(crate) fn json_bytes(bytes: Option<&[u8]>) -> Value {
    match bytes.map(|bytes| (std::str::from_utf8(bytes), bytes)) {
        None => Value::Null,
        Some((Ok(text), _)) => text.into(),
        Some((Err(_), bytes)) => json!({ "hex": hex(bytes) }),
    }
}

/// Formats bytes for a line of text: quoted if they are UTF-8, else `x` and hexadecimal digits.
pub(crate) fn quoted(bytes: Option<&[u8]>) -> Cow<'static, str> {
    match bytes.map(|bytes| (std::str::from_utf8(bytes), bytes)) {
        None => "null".into(),
        Some((Ok(text), _)) => format!("{text:?}").into(),
        Some((Err(_), bytes)) => format!("x{}", hex(bytes)).into(),
    }
}

fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('?');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

const BUFFER_BYTES: usize = 64 << 10;
