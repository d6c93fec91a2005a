use std::io::{self, BufRead, BufReader, IsTerminal as _, Read, Write as _};
use std::path::Path;
use std::time::Duration;

use grouplog::time::{Clock as _, SystemClock};
use grouplog::{Error, Producer, ProducerConfig, Record};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::args::Produce;
use crate::failure::Failure;
use crate::folder::with_writer;
use crate::input;
use crate::output::{Output, count};
use crate::scope::check_partition;

pub(crate) fn run(data: &Path, command: &Produce, out: &mut Output) -> Result<(), Failure> {
    // Open the input first: a wrong file name must not lock the folder.
    let (reader, bar): (Box<dyn Read>, _) = if let Some(path) = &command.file {
        let (file, len) = input::open(path)?;
        (Box::new(file), file_bar(len))
    } else {
        (Box::new(io::stdin().lock()), stdin_bar())
    };
    let reader = BufReader::with_capacity(READ_BYTES, reader);
    let sent = with_writer(data, |broker| {
        let topic = broker.describe_topic(&command.topic)?;
        if let Some(number) = command.partition {
            check_partition(&topic, number)?;
        }
        let config = ProducerConfig::new().acks(command.acks.acks());
        let clock = SystemClock::new();
        let mut lines =
            Lines { command, producer: broker.producer_with(config)?, sent: Sent::default() };
        let read = lines.send_all(reader, &bar);
        // Also if a line was refused: the lines that the message counts must be acknowledged.
        lines.producer.flush()?;
        read.map(|()| (lines.sent, clock.monotonic()))
    });
    bar.finish_and_clear();
    let (sent, took) = sent?;
    summary(command, sent, took, out)
}

/// The amount that was appended.
#[derive(Debug, Default, Clone, Copy)]
struct Sent {
    records: u64,
    bytes: u64,
    /// Lines whose ids the topic remembered.
    duplicates: u64,
}

impl Sent {
    fn add(&mut self, line: &[u8], duplicate: bool) {
        if duplicate {
            self.duplicates += 1;
        } else {
            self.records += 1;
            self.bytes += line.len() as u64;
        }
    }

    /// Returns the number of lines that are in the topic now.
    fn lines(self) -> u64 {
        self.records + self.duplicates
    }
}

/// Returns whether a line is the cause of an error.
fn is_of_record(error: &Error) -> bool {
    matches!(error, Error::RecordTooLarge { .. } | Error::LimitExceeded { .. } | Error::Misuse(_))
}

/// Sends lines to the topic.
struct Lines<'a> {
    command: &'a Produce,
    producer: Producer,
    sent: Sent,
}

impl Lines<'_> {
    /// Sends all complete lines before it reads more, so that no line waits for the next one.
    fn send_all(&mut self, mut reader: impl BufRead, bar: &ProgressBar) -> Result<(), Failure> {
        let mut pending = Vec::new();
        loop {
            let read = match reader.fill_buf() {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.stopped(&self.cannot_read(&error))),
            };
            let len = read.len();
            // A line may begin in the pending bytes, but only new bytes can end it.
            let end = read.iter().rposition(|&byte| byte == b'\n');
            let end = end.map(|at| pending.len() + at + 1);
            pending.extend_from_slice(read);
            reader.consume(len);
            if let Some(end) = end {
                self.send_lines(pending.get(..end).unwrap_or_default())?;
                pending.drain(..end);
            }
            if len == 0 {
                return if pending.is_empty() { Ok(()) } else { self.send_lines(&pending) };
            }
            if pending.len() > LINE_BYTES_MAX {
                let what = format!(
                    "it is longer than {LINE_BYTES_MAX} bytes, the largest record of any topic"
                );
                return Err(self.refused(&what));
            }
            bar.inc(len as u64);
        }
    }

    /// Sends complete lines in groups.
    fn send_lines(&mut self, text: &[u8]) -> Result<(), Failure> {
        let mut group = Vec::new();
        let mut bytes = 0;
        for line in text.split_inclusive(|&byte| byte == b'\n') {
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            if group.len() == GROUP_LINES || bytes + line.len() > GROUP_BYTES {
                self.send_group(&group)?;
                group.clear();
                bytes = 0;
            }
            group.push(line);
            bytes += line.len();
        }
        self.send_group(&group)
    }

    fn send_group(&mut self, lines: &[&[u8]]) -> Result<(), Failure> {
        let Ok(records) =
            lines.iter().map(|line| record(self.command, line)).collect::<Result<Vec<_>, _>>()
        else {
            return self.send_one_by_one(lines);
        };
        match self.producer.send_all(records) {
            Ok(sent) => {
                for (metadata, line) in sent.metadata().zip(lines) {
                    self.sent.add(line, metadata.is_duplicate());
                }
                Ok(())
            }
            // The error does not name the record. Nothing of the group was appended.
            Err(error) if is_of_record(&error) => self.send_one_by_one(lines),
            Err(error) => Err(self.stopped(&error.into())),
        }
    }

    /// Sends lines until one is refused, and returns a failure that names it.
    fn send_one_by_one(&mut self, lines: &[&[u8]]) -> Result<(), Failure> {
        for line in lines {
            let record = record(self.command, line)
                .map_err(|missing| self.refused(&format!("it does not contain the {missing}")))?;
            match self.producer.send(record) {
                Ok(sent) => self.sent.add(line, sent.metadata().is_duplicate()),
                Err(error) if is_of_record(&error) => {
                    return Err(self.refused(&error.to_string()));
                }
                Err(error) => return Err(self.stopped(&error.into())),
            }
        }
        Ok(())
    }

    fn refused(&self, why: &str) -> Failure {
        let before = self.sent.lines();
        let line = before + 1;
        Failure::Other(format!(
            "line {line} of {} is refused: {why}; {}",
            self.input(),
            appended(before)
        ))
    }

    /// Returns a failure that is not caused by a line.
    fn stopped(&self, failure: &Failure) -> Failure {
        let before = self.sent.lines();
        let lines = count(before, "line was", "lines were");
        Failure::Other(format!("{failure}; {lines} appended"))
    }

    fn cannot_read(&self, error: &io::Error) -> Failure {
        Failure::Other(format!("cannot read {}: {error}", self.input()))
    }

    fn input(&self) -> String {
        let file = self.command.file.as_ref();
        file.map_or_else(|| "stdin".to_owned(), |path| path.display().to_string())
    }
}

/// Describes what was appended before a line was refused.
fn appended(lines: u64) -> String {
    match lines {
        0 => "no line was appended".to_owned(),
        1 => "the line before it was appended".to_owned(),
        lines => format!("the {lines} lines before it were appended"),
    }
}

/// Returns the record of a line, or which separator the line lacks.
fn record<'a>(command: &'a Produce, line: &'a [u8]) -> Result<Record<'a>, String> {
    let mut record = Record::to(&command.topic);
    if let Some(partition) = command.partition {
        record = record.partition(partition);
    }
    if let Some(delay) = command.deliver_after {
        record = record.deliver_after(delay);
    }
    if let Some(at) = command.deliver_at {
        record = record.deliver_at(at);
    }
    let mut line = line;
    if let Some(header) = &command.dedup_header {
        let separator = &command.dedup_separator;
        let (id, rest) =
            split(line, separator).ok_or_else(|| format!("id separator {separator:?}"))?;
        record = record.id(id).header(header, id);
        line = rest;
    }
    let Some(separator) = &command.key_separator else { return Ok(record.value(line)) };
    let (key, value) =
        split(line, separator).ok_or_else(|| format!("key separator {separator:?}"))?;
    Ok(record.key(key).value(value))
}

/// Splits a line at the first separator.
fn split<'a>(line: &'a [u8], separator: &str) -> Option<(&'a [u8], &'a [u8])> {
    let separator = separator.as_bytes();
    let at = line.windows(separator.len()).position(|part| part == separator)?;
    let (before, rest) = line.split_at_checked(at)?;
    Some((before, rest.get(separator.len()..)?))
}

fn summary(command: &Produce, sent: Sent, took: Duration, out: &mut Output) -> Result<(), Failure> {
    let seconds = took.as_secs_f64();
    let rate = (sent.records as f64 / seconds.max(0.001)) as u64;
    let acks = command.acks.name();
    if out.json {
        return out.object(&json!({
            "topic": command.topic,
            "records": sent.records,
            "bytes": sent.bytes,
            "duplicates": sent.duplicates,
            "acks": acks,
            "seconds": seconds,
            "records_per_second": rate,
        }));
    }
    let Sent { records, bytes, duplicates } = sent;
    let (records, bytes) = (count(records, "record", "records"), count(bytes, "byte", "bytes"));
    let known = match duplicates {
        0 => String::new(),
        known => format!(", {} left out", count(known, "duplicate", "duplicates")),
    };
    let text = format!("{records} {acks}{known}, {bytes}, {seconds:.3} s, {rate} records/s");
    // The records are appended, even if nobody reads stderr.
    let _nobody_listens = writeln!(io::stderr(), "{text}");
    Ok(())
}

/// Returns a progress bar for a file. indicatif draws it on stderr if that is a terminal.
fn file_bar(len: u64) -> ProgressBar {
    let style = ProgressStyle::with_template(
        "{bar:40} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}",
    );
    ProgressBar::new(len).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Returns a counter for a pipe, and a hidden bar for a terminal, where somebody types.
fn stdin_bar() -> ProgressBar {
    if io::stdin().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner} {binary_bytes} {binary_bytes_per_sec}");
    ProgressBar::new_spinner()
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
}

const READ_BYTES: usize = 256 << 10;
const GROUP_LINES: usize = 1000;
const GROUP_BYTES: usize = 1 << 20;
/// The largest `max.message.bytes`.
const LINE_BYTES_MAX: usize = 16 << 20;
