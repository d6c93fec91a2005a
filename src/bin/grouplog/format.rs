use std::str::FromStr;

use grouplog::record::RecordHeader;
use serde_json::{Value, json};

use crate::escape::escape;
use crate::failure::Failure;
use crate::output::{Output, json_bytes};
use crate::record::Printed;

/// The format in which records are printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Format {
    /// The value and a line feed.
    Value,
    /// One JSON object per line.
    Json,
    /// The pieces of a template, in order.
    Template(Vec<Piece>),
}

/// A piece of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    Text(String),
    Topic,
    Partition,
    Offset,
    Key,
    Value,
    Timestamp,
    Headers,
}

impl Format {
    pub(crate) fn print(&self, record: &Printed<'_>, out: &mut Output) -> Result<(), Failure> {
        match self {
            Self::Value => {
                out.bytes(record.value.unwrap_or_default())?;
                out.bytes(b"\n")
            }
            Self::Json => out.object(&json_record(record)),
            Self::Template(pieces) => pieces.iter().try_for_each(|piece| piece.print(record, out)),
        }
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "json" {
            return Ok(Self::Json);
        }
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            match c {
                '\\' => literal.push(escape(chars.next())?),
                '%' => match piece(chars.next())? {
                    Some(piece) => {
                        if !literal.is_empty() {
                            pieces.push(Piece::Text(std::mem::take(&mut literal)));
                        }
                        pieces.push(piece);
                    }
                    None => literal.push('%'),
                },
                other => literal.push(other),
            }
        }
        if !literal.ends_with(['\n', '\0']) {
            literal.push('\n');
        }
        pieces.push(Piece::Text(literal));
        Ok(Self::Template(pieces))
    }
}

impl Piece {
    fn print(&self, record: &Printed<'_>, out: &mut Output) -> Result<(), Failure> {
        match self {
            Self::Text(text) => out.text(text),
            Self::Topic => out.text(record.topic),
            Self::Partition => out.text(&record.partition.to_string()),
            Self::Offset => out.text(&record.offset.to_string()),
            Self::Key => out.bytes(record.key.unwrap_or_default()),
            Self::Value => out.bytes(record.value.unwrap_or_default()),
            Self::Timestamp => out.text(&record.timestamp.to_string()),
            Self::Headers => {
                for (at, header) in record.headers().enumerate() {
                    out.text(if at == 0 { "" } else { "," })?;
                    out.bytes(header.name_bytes())?;
                    if let Some(value) = header.value() {
                        out.text("=")?;
                        out.bytes(value)?;
                    }
                }
                Ok(())
            }
        }
    }
}

/// Returns the piece for `%` and this letter, or `None` for `%%`.
fn piece(letter: Option<char>) -> Result<Option<Piece>, String> {
    Ok(Some(match letter {
        Some('t') => Piece::Topic,
        Some('p') => Piece::Partition,
        Some('o') => Piece::Offset,
        Some('k') => Piece::Key,
        Some('v') => Piece::Value,
        Some('T') => Piece::Timestamp,
        Some('h') => Piece::Headers,
        Some('%') => return Ok(None),
        Some(other) => {
            return Err(format!("%{other} is not known: use %t %p %o %k %v %T %h or %%"));
        }
        None => return Err("a single % at the end: write %% for a percent sign".to_owned()),
    }))
}

fn json_record(record: &Printed<'_>) -> Value {
    json!({
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp.as_millis(),
        "key": json_bytes(record.key),
        "value": json_bytes(record.value),
        "headers": json_headers(record.headers()),
    })
}

/// Returns headers as an array, since their names may repeat and their order matters.
pub(crate) fn json_headers<'a>(headers: impl Iterator<Item = RecordHeader<'a>>) -> Value {
    let header = |header: RecordHeader<'_>| json!({ "name": json_bytes(Some(header.name_bytes())), "value": json_bytes(header.value()) });
    headers.map(header).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_parsed_into_pieces_and_end_with_a_line_feed() {
        let text = |text: &str| Piece::Text(text.to_owned());
        let parsed: Format = r"%t-%p\t100%%\\n %v".parse().unwrap();
        let pieces = vec![
            Piece::Topic,
            text("-"),
            Piece::Partition,
            text("\t100%\\n "),
            Piece::Value,
            text("\n"),
        ];
        assert_eq!(parsed, Format::Template(pieces));
        let ends = |template: &str| match template.parse() {
            Ok(Format::Template(pieces)) => pieces.last().cloned(),
            other => panic!("{other:?}"),
        };
        assert_eq!(ends(r"%k\n"), Some(text("\n")));
        assert_eq!(ends(r"%k\0"), Some(text("\0")));
        assert_eq!(ends(""), Some(text("\n")));
        assert_eq!("json".parse(), Ok(Format::Json));
    }

    #[test]
    fn unknown_letters_and_incomplete_escapes_are_refused() {
        for bad in ["%x", "%", r"\q", r"\"] {
            assert!(bad.parse::<Format>().is_err(), "{bad}");
        }
    }
}
