//! Prints files that Kafka keeps beside its segments and that grouplog does not write: aborted transactions
//! (`.txnindex`) and the state of producers (`.snapshot`). Numbers are big-endian.

use std::io::{self, BufReader, Read};
use std::path::Path;

use serde_json::{Map, Value};

use crate::failure::Failure;
use crate::input;
use crate::output::Output;

/// The content of a file, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    AbortedTransactions,
    ProducerState,
}

pub(crate) fn kind(path: &Path) -> Option<Kind> {
    match path.extension()?.to_str()? {
        "txnindex" => Some(Kind::AbortedTransactions),
        "snapshot" => Some(Kind::ProducerState),
        _ => None,
    }
}

/// Prints every intact entry, and then returns damage as an error.
pub(crate) fn print(path: &Path, kind: Kind, out: &mut Output) -> Result<(), Failure> {
    let (file, len) = input::open(path)?;
    let mut file = File { path, reader: BufReader::new(file), position: 0, len };
    match kind {
        Kind::AbortedTransactions => aborted_transactions(&mut file, out),
        Kind::ProducerState => producer_state(&mut file, out),
    }
}

/// Prints a `.txnindex`: entries of 34 bytes without a header, each an i16 version 0 and four i64.
fn aborted_transactions(file: &mut File<'_, impl Read>, out: &mut Output) -> Result<(), Failure> {
    let names = ["producer_id", "first_offset", "last_offset", "last_stable_offset"];
    while file.position < file.len {
        let position = file.position;
        let entry: [u8; 34] = file.read("an entry")?;
        let mut entry = Numbers(&entry);
        let version = entry.next(2);
        if version != 0 {
            return Err(file.damaged(position, &format!("version {version} is unknown")));
        }
        let fields = names.map(|name| (name, entry.next(8)));
        print_entry("aborted", position, &fields, out)?;
    }
    Ok(())
}

/// Prints a `.snapshot`: i16 version 1, u32 CRC-32C of all that follows, i32 count, and that many entries of
/// 46 bytes.
fn producer_state(file: &mut File<'_, impl Read>, out: &mut Output) -> Result<(), Failure> {
    let header: [u8; 10] = file.read("the header")?;
    let mut numbers = Numbers(&header);
    let (version, crc, count) = (numbers.next(2), numbers.next(4) as u32, numbers.next(4));
    if version != 1 {
        return Err(file.damaged(0, &format!("version {version} is unknown")));
    }
    print_entry("header", 0, &[("version", version), ("count", count)], out)?;
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    digest.update(header.get(6..).unwrap_or_default());
    for _ in 0..count {
        let position = file.position;
        let entry: [u8; 46] = file.read("an entry")?;
        digest.update(&entry);
        let mut entry = Numbers(&entry);
        let fields = [
            ("producer_id", 8),
            ("producer_epoch", 2),
            ("last_sequence", 4),
            ("last_offset", 8),
            ("offset_delta", 4),
            ("timestamp", 8),
            ("coordinator_epoch", 4),
            ("transaction_first_offset", 8),
        ]
        .map(|(name, width)| (name, entry.next(width)));
        print_entry("producer", position, &fields, out)?;
    }
    if file.position < file.len {
        return Err(file.damaged(file.position, "there are more bytes than the count says"));
    }
    if digest.finalize() as u32 != crc {
        return Err(file.damaged(2, "checksum mismatch"));
    }
    Ok(())
}

struct File<'a, R> {
    path: &'a Path,
    reader: BufReader<R>,
    position: u64,
    len: u64,
}

impl<R: Read> File<'_, R> {
    fn read<const N: usize>(&mut self, what: &str) -> Result<[u8; N], Failure> {
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                self.damaged(self.position, &format!("the file ends within {what}"))
            }
            _ => input::cannot_read(self.path, &error),
        })?;
        self.position += N as u64;
        Ok(bytes)
    }

    fn damaged(&self, position: u64, what: &str) -> Failure {
        Failure::Other(format!("{} is damaged at byte {position}: {what}", self.path.display()))
    }
}

/// Reads signed numbers from bytes.
struct Numbers<'a>(&'a [u8]);

impl Numbers<'_> {
    fn next(&mut self, width: usize) -> i64 {
        let (bytes, rest) = self.0.split_at_checked(width).unwrap_or_default();
        self.0 = rest;
        let negative = bytes.first().is_some_and(|&first| first >= 0x80);
        let sign = if negative { -1 } else { 0 };
        bytes.iter().fold(sign, |number, &byte| number << 8 | i64::from(byte))
    }
}

fn print_entry(
    kind: &str,
    position: u64,
    fields: &[(&str, i64)],
    out: &mut Output,
) -> Result<(), Failure> {
    if !out.json {
        out.text(&format!("{kind} position={position}"))?;
        for (name, value) in fields {
            out.text(&format!(" {name}={value}"))?;
        }
        return out.text("\n");
    }
    let mut object = Map::new();
    object.insert("kind".to_owned(), kind.into());
    object.insert("position".to_owned(), position.into());
    object.extend(fields.iter().map(|&(name, value)| (name.to_owned(), value.into())));
    out.object(&Value::Object(object))
}
