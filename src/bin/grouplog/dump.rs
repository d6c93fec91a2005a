use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use grouplog::TimestampType;
use grouplog::record::{
    Batch, BatchHeader, ControlType, DEFAULT_MAX_DECOMPRESSED_BYTES, DecodeError, HEADER_BYTES,
    RecordView,
};
use serde_json::{Value, json};

use crate::args::Dump;
use crate::entries;
use crate::failure::Failure;
use crate::format::json_headers;
use crate::input;
use crate::kafka_files;
use crate::output::{Output, count, json_bytes, quoted};

pub(crate) fn run(data: &Path, command: &Dump, out: &mut Output) -> Result<(), Failure> {
    if let Some(path) = entries::find(data, &command.what) {
        if let Some(kind) = kafka_files::kind(&path) {
            return kafka_files::print(&path, kind, out);
        }
        if entries::is_known(&path) {
            return entries::print(&path, out);
        }
        check_kind(&path)?;
    }
    let mut damage = Damage::default();
    let from = command.from.unwrap_or(0);
    for path in files(data, &command.what)? {
        let mut segment = Segment::open(path.clone())?;
        loop {
            let (position, what) = match segment.next() {
                Ok(None) => break,
                Ok(Some((_, batch))) if batch.header().last_offset() < from => continue,
                Ok(Some((position, batch))) => {
                    let printed = if command.records {
                        print_records(&batch, from, out)
                    } else {
                        print_batch(&path, position, &batch, out)
                    };
                    match printed? {
                        Ok(()) => continue,
                        Err(what) => (position, what),
                    }
                }
                Err(Stop::Failed(failure)) => return Err(failure),
                // The start of the next batch is unknown.
                Err(Stop::Damaged(position, what)) => {
                    damage.add(&path, position, &what);
                    break;
                }
            };
            damage.add(&path, position, &what);
        }
    }
    damage.into_result()
}

/// Refuses files that hold no batches. Otherwise `dump` would report their bytes as damaged batches.
fn check_kind(path: &Path) -> Result<(), Failure> {
    // Kafka's text files, lock files, and reserved space.
    const OTHERS: [&str; 8] = [
        "recovery-point-offset-checkpoint",
        "log-start-offset-checkpoint",
        "replication-offset-checkpoint",
        "cleaner-offset-checkpoint",
        ".kafka_cleanshutdown",
        ".lock",
        "grouplog.lock",
        "reserve",
    ];
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if OTHERS.contains(&name) && path.is_file() {
        let path = path.display();
        return Err(Failure::Other(format!(
            "{path}: `grouplog dump` does not read this kind of file"
        )));
    }
    Ok(())
}

/// The damage found so far: the first place in full, and the number of others.
#[derive(Debug, Default)]
struct Damage {
    first: Option<String>,
    others: u64,
}

impl Damage {
    fn add(&mut self, path: &Path, position: u64, what: &str) {
        if self.first.is_some() {
            self.others += 1;
        } else {
            let path = path.display();
            self.first = Some(format!("{path}: the batch at byte {position} is damaged: {what}"));
        }
    }

    fn into_result(self) -> Result<(), Failure> {
        match (self.first, self.others) {
            (None, _) => Ok(()),
            (Some(first), 0) => Err(Failure::Other(first)),
            (Some(first), others) => {
                let others = count(others, "more damaged batch", "more damaged batches");
                Err(Failure::Other(format!("{first} (and {others})")))
            }
        }
    }
}

/// Returns the file, or the segment files of the partition ordered by offset.
fn files(data: &Path, what: &Path) -> Result<Vec<PathBuf>, Failure> {
    let Some(folder) = entries::find(data, what) else {
        return Err(Failure::Other(format!(
            "there is neither a file {} nor a partition folder {}; a partition gets its folder with its first full batch, or when the data folder is closed",
            what.display(),
            data.join(what).display()
        )));
    };
    if !folder.is_dir() {
        return Ok(vec![folder]);
    }
    let mut files = list(&folder).map_err(|error| input::cannot_read(&folder, &error))?;
    // Their names are offsets, all of the same length.
    files.sort();
    if files.is_empty() {
        return Err(Failure::Other(format!("{} holds no .log file", folder.display())));
    }
    Ok(files)
}

fn list(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            files.push(path);
        }
    }
    Ok(files)
}

/// A segment file, read batch by batch.
struct Segment {
    path: PathBuf,
    reader: Box<dyn Read>,
    position: u64,
    len: u64,
    /// The smallest offset at which the next batch may begin.
    next_offset: i64,
    buffer: Vec<u8>,
}

/// The reason why there is no next batch.
enum Stop {
    Damaged(u64, String),
    Failed(Failure),
}

impl Segment {
    fn open(path: PathBuf) -> Result<Self, Failure> {
        let (file, len) = input::open(&path)?;
        let reader = Box::new(BufReader::with_capacity(1 << 20, file));
        Ok(Self { path, reader, position: 0, len, next_offset: 0, buffer: Vec::new() })
    }

    /// Returns the next batch and its position. Only its header has been checked.
    fn next(&mut self) -> Result<Option<(u64, Batch<'_>)>, Stop> {
        let position = self.position;
        let left = self.len.saturating_sub(position);
        if left == 0 {
            return Ok(None);
        }
        let damaged = |what: String| Stop::Damaged(position, what);
        let cut = |need: usize| {
            damaged(format!("the file ends after {left} of the batch's {need} bytes"))
        };
        if left < HEADER_BYTES as u64 {
            return Err(damaged(format!(
                "the file ends after {left} of the header's {HEADER_BYTES} bytes"
            )));
        }
        self.fill(0, HEADER_BYTES)?;
        let header = BatchHeader::parse(&self.buffer).map_err(|e| damaged(reason(&e)))?;
        let total = header.total_bytes();
        // A wrong length must not make the buffer larger than the file.
        if total as u64 > left {
            return Err(cut(total));
        }
        if header.base_offset < self.next_offset {
            let (found, next) = (header.base_offset, self.next_offset);
            return Err(damaged(format!("it begins at offset {found}, expected {next} or more")));
        }
        self.fill(HEADER_BYTES, total)?;
        self.position += total as u64;
        self.next_offset = header.next_offset();
        let batch = Batch::parse(&self.buffer).map_err(|e| damaged(reason(&e)))?;
        Ok(Some((position, batch)))
    }

    /// Reads the bytes `from..to` of the batch.
    fn fill(&mut self, from: usize, to: usize) -> Result<(), Stop> {
        self.buffer.resize(to, 0);
        let space = self.buffer.get_mut(from..).unwrap_or_default();
        self.reader
            .read_exact(space)
            .map_err(|error| Stop::Failed(input::cannot_read(&self.path, &error)))
    }
}

fn reason(error: &DecodeError) -> String {
    match error {
        DecodeError::Corrupt { reason, .. } => reason.to_string(),
        other => other.to_string(),
    }
}

/// Prints a batch. The inner error is damage; `dump` then continues with the next batch.
fn print_batch(
    path: &Path,
    position: u64,
    batch: &Batch<'_>,
    out: &mut Output,
) -> Result<Result<(), String>, Failure> {
    let header = batch.header();
    let crc_is_right = batch.verify_crc().is_ok();
    let intact = batch.verify(DEFAULT_MAX_DECOMPRESSED_BYTES).map_err(|error| reason(&error));
    let time = match header.attributes.timestamp_type() {
        TimestampType::CreateTime => "CreateTime",
        TimestampType::LogAppendTime => "LogAppendTime",
    };
    let codec = header.attributes.compression();
    let flags = flags(header);
    if out.json {
        out.object(&json!({
            "file": path.display().to_string(),
            "position": position,
            "size": header.total_bytes(),
            "base_offset": header.base_offset,
            "last_offset": header.last_offset(),
            "count": header.count,
            "leader_epoch": header.leader_epoch,
            "codec": codec.name(),
            "timestamp_type": time,
            "base_timestamp": header.base_timestamp,
            "max_timestamp": header.max_timestamp,
            "producer_id": header.producer_id,
            "producer_epoch": header.producer_epoch,
            "base_sequence": header.base_sequence,
            "crc": header.crc,
            "crc_ok": crc_is_right,
            "whole": intact.is_ok(),
            "flags": flags,
        }))?;
        return Ok(intact);
    }
    let flags = if flags.is_empty() { "-".to_owned() } else { flags.join(",") };
    out.text(&format!(
        "position={position} size={} offsets={}..{} count={} epoch={} codec={codec} {time}={}..{} crc={} flags={flags}\n",
        header.total_bytes(),
        header.base_offset,
        header.last_offset(),
        header.count,
        header.leader_epoch,
        header.base_timestamp,
        header.max_timestamp,
        if crc_is_right { "ok" } else { "wrong" },
    ))?;
    Ok(intact)
}

fn flags(header: &BatchHeader) -> Vec<&'static str> {
    let attributes = header.attributes;
    [
        (attributes.is_transactional(), "transactional"),
        (attributes.is_control(), "control"),
        (attributes.has_delete_horizon(), "delete-horizon"),
        (header.producer_id >= 0, "idempotent"),
    ]
    .into_iter()
    .filter_map(|(set, name)| set.then_some(name))
    .collect()
}

/// Prints the records of a batch. The inner error is damage; `dump` then continues with the next batch.
fn print_records(
    batch: &Batch<'_>,
    from: i64,
    out: &mut Output,
) -> Result<Result<(), String>, Failure> {
    if let Err(error) = batch.verify_crc() {
        return Ok(Err(reason(&error)));
    }
    let records = match batch.records(DEFAULT_MAX_DECOMPRESSED_BYTES) {
        Ok(records) => records,
        Err(error @ DecodeError::UnsupportedCodec(_)) => {
            return Err(Failure::Other(error.to_string()));
        }
        Err(error) => return Ok(Err(reason(&error))),
    };
    for record in records.iter().filter(|record| record.offset() >= from) {
        let control = batch.header().attributes.is_control();
        let control = control.then(|| control_name(record.key().unwrap_or_default()));
        if out.json {
            out.object(&json_record(&record, control.as_deref()))?;
            continue;
        }
        let (offset, timestamp) = (record.offset(), record.timestamp());
        out.text(&format!("offset={offset} timestamp={timestamp}"))?;
        if let Some(name) = control {
            out.text(&format!(" control={name}"))?;
        } else {
            let (key, value) = (quoted(record.key()), quoted(record.value()));
            out.text(&format!(" key={key} value={value}"))?;
        }
        for header in record.headers() {
            let (name, value) = (quoted(Some(header.name_bytes())), quoted(header.value()));
            out.text(&format!(" header {name}={value}"))?;
        }
        out.text("\n")?;
    }
    Ok(Ok(()))
}

fn json_record(record: &RecordView<'_>, control: Option<&str>) -> Value {
    json!({
        "offset": record.offset(),
        "timestamp": record.timestamp().as_millis(),
        "key": json_bytes(record.key()),
        "value": json_bytes(record.value()),
        "headers": json_headers(record.headers()),
        "control": control,
    })
}

fn control_name(key: &[u8]) -> String {
    match ControlType::parse(key) {
        Ok(kind) => format!("{kind:?}"),
        Err(error) => reason(&error),
    }
}
