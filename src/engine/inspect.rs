//! Shows the contents of any file of a folder, entry by entry, for people to read.

use std::fmt;
use std::path::Path;

use crate::dedup::IdSection;
use crate::engine::catalogue::{Catalogue, CatalogueChange};
use crate::engine::image::CheckpointImage;
use crate::engine::owners::{OwnerChange, Owners};
use crate::engine::shares::{
    GroupSettings, ShareChange, ShareChangeKind, ShareStates, decode_share_image,
};
use crate::error::{CorruptReason, Error, Result, Unreadable};
use crate::group::share::{Item, To};
use crate::group::{ImageHeader, OffsetCommit, OffsetStore, decode_image};
use crate::journal::{SectionKind, inspect_frames, inspect_header, sections};
use crate::log::{AppendSection, LogStartSection, StoredSection};
use crate::segment::{Extension, parse_file_name};
use crate::storage::{Disk, OpenMode, Storage};
use crate::types::{Lsn, TopicId};

/// An entry of a file, such as a frame of a journal, a topic of a checkpoint, or an entry of an index.
///
/// [`Entry::visit`] reads the entries of a file. `Display` writes an entry as one line of `name=value` pairs.
///
/// ```
/// use grouplog::{Broker, Entry, TopicConfig};
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("data");
/// let broker = Broker::open(&path)?;
/// broker.create_topic("orders", TopicConfig::new())?;
/// broker.close()?;
///
/// let mut topics = Vec::new();
/// for name in ["checkpoint.a", "checkpoint.b"] {
///     Entry::visit(&path.join(name), |entry| {
///         if entry.kind == "topic" {
///             topics.push(entry.to_string());
///         }
///     })?;
/// }
/// assert!(topics[0].contains("name=orders"), "{topics:?}");
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Entry {
    /// The kind of entry: `header`, `data`, `append`, `topic`, `segment`, `offset`, `entry`, `line`, ...
    pub kind: &'static str,
    /// The position in the file where the entry begins, in bytes, if it is known.
    pub position: Option<u64>,
    /// The names and values of its fields.
    pub fields: Vec<(&'static str, EntryValue)>,
}

/// A field of an [`Entry`].
///
/// ```
/// assert_eq!(grouplog::EntryValue::Number(7).to_string(), "7");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum EntryValue {
    /// A number.
    Number(i64),
    /// Text.
    Text(String),
}

impl Entry {
    fn new(kind: &'static str) -> Self {
        Self { kind, position: None, fields: Vec::new() }
    }

    fn at(mut self, position: u64) -> Self {
        self.position = Some(position);
        self
    }

    fn number(mut self, name: &'static str, value: impl TryInto<i64>) -> Self {
        let value = value.try_into().unwrap_or(i64::MAX);
        self.fields.push((name, EntryValue::Number(value)));
        self
    }

    fn text(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.fields.push((name, EntryValue::Text(value.to_string())));
        self
    }

    /// Reads a file and passes its entries to `each`, in order.
    ///
    /// The file's name tells its format: `*.journal`, `checkpoint.a` and `.b`, `offsets.a` and `.b`,
    /// `shares.a` and `.b`, `*.index`, `*.timeindex`, `*.sums`, `meta.properties`, `partition.metadata`,
    /// `leader-epoch-checkpoint`. Read segments (`*.log`) with [`record::Batch`](crate::record::Batch).
    ///
    /// The call takes no lock. It stops at the first damaged entry, after it has passed on the entries before
    /// it.
    ///
    /// # Errors
    /// - `Corrupt` if an entry is damaged.
    /// - `UnsupportedFormat` if a newer version wrote the file.
    /// - `LimitExceeded` if the file is larger than 1 GiB.
    /// - `Misuse` if the file has another name.
    /// - `Io` if the file cannot be read.
    pub fn visit(path: &Path, mut each: impl FnMut(Self)) -> Result<()> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let bytes = read(path, name)?;
        match name {
            "checkpoint.a" | "checkpoint.b" => {
                let image = CheckpointImage::decode(&bytes).map_err(|cause| cause.at(path, 0))?;
                checkpoint(&image, &mut each);
            }
            "offsets.a" | "offsets.b" => {
                let (header, store) = decode_image(&bytes).map_err(|error| error.at(path))?;
                each(image_header(header));
                offsets(&store, &mut each);
            }
            "shares.a" | "shares.b" => {
                let (header, states) = decode_share_image(&bytes, path)?;
                each(image_header(header));
                shares(&states, &mut each);
            }
            "meta.properties" | "partition.metadata" | "leader-epoch-checkpoint" => {
                for line in String::from_utf8_lossy(&bytes).lines() {
                    each(Entry::new("line").text("text", line));
                }
            }
            _ if name.ends_with(".journal") => journal(path, &bytes, &mut each)?,
            _ => match parse_file_name(name).filter(|name| name.suffix.is_none()) {
                Some(name) => entries(name.extension, name.id.base_offset, &bytes, &mut each)?,
                None => return Err(NO_SUCH_FORMAT),
            },
        }
        Ok(())
    }
}

const NO_SUCH_FORMAT: Error =
    Error::Misuse("cannot inspect this file: its name is not one of a grouplog folder");

/// The largest file to read, in bytes.
const MAX_BYTES: u64 = 1 << 30;

fn read(path: &Path, name: &str) -> Result<Vec<u8>> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let file =
        Disk::open(parent.unwrap_or(Path::new(".")))?.open(Path::new(name), OpenMode::Read)?;
    let len = file.len()?;
    if len > MAX_BYTES {
        return Err(Error::LimitExceeded { what: "bytes in the file", found: len, max: MAX_BYTES });
    }
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
    let read = file.read_at(&mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}

fn lsn(lsn: Lsn) -> String {
    format!("{}:{}", lsn.sequence(), lsn.position())
}

fn checkpoint(image: &CheckpointImage, each: &mut impl FnMut(Entry)) {
    let mut header = Entry::new("header")
        .number("generation", image.generation)
        .text("directory_id", TopicId::from_bytes(image.directory_id))
        .text("journal_end", lsn(image.end))
        .number("epoch", image.epoch)
        .number("closed", i64::from(image.closed));
    if let Some(file) = image.offsets {
        header = header
            .text("offsets", if file.slot == 0 { "offsets.a" } else { "offsets.b" })
            .number("offsets_generation", file.generation);
    }
    if let Some(file) = image.shares {
        header = header
            .text("shares", if file.slot == 0 { "shares.a" } else { "shares.b" })
            .number("shares_generation", file.generation);
    }
    each(header);
    catalogue(&image.catalogue, image, each);
    owners(&image.owners, each);
}

fn image_header(header: ImageHeader) -> Entry {
    let entry = Entry::new("header").number("generation", header.generation);
    entry.text("directory_id", TopicId::from_bytes(header.directory_id))
}

fn share_settings(entry: Entry, settings: &GroupSettings) -> Entry {
    let mut entry = entry.number("paused", i64::from(settings.paused));
    for (key, value) in settings.config.entries() {
        entry = entry.text(key, value);
    }
    entry
}

fn shares(states: &ShareStates, each: &mut impl FnMut(Entry)) {
    for (name, state) in states.iter() {
        each(share_settings(Entry::new("share_group").text("group", name), &state.settings));
        for (number, partition) in &state.partitions {
            each(
                Entry::new("share_partition")
                    .text("group", name)
                    .number("partition_number", number.0)
                    .number("start_offset", partition.start())
                    .number("end_offset", partition.end().saturating_add(1))
                    .number("runs", partition.runs().count() as u64)
                    .number("delayed", partition.delayed(0).count() as u64),
            );
        }
    }
}

fn share_change(change: &ShareChange) -> Entry {
    let entry = Entry::new("share").text("group", &change.group);
    match &change.kind {
        ShareChangeKind::Settings(settings) => {
            share_settings(entry.text("change", "settings"), settings)
        }
        ShareChangeKind::Delete => entry.text("change", "deleted"),
        ShareChangeKind::Partition(number, section) => {
            let mut entry = entry.number("partition_number", number.0);
            for item in section.items() {
                entry = match item {
                    Item::LogStart(offset) => entry.number("log_start", *offset),
                    Item::Reset { start, .. } => entry.number("reset", *start),
                    Item::Set(span, to) => {
                        let (name, count) = match to {
                            To::Started { count } => ("started", count),
                            To::Available { count, .. } => ("available", count),
                            To::Acknowledged { count } => ("acknowledged", count),
                            To::Archived { count } => ("archived", count),
                            To::Delayed { count, .. } => ("delayed", count),
                        };
                        entry.text(name, format_args!("{}-{}x{count}", span.first, span.last))
                    }
                };
            }
            entry
        }
    }
}

fn owners(owners: &Owners, each: &mut impl FnMut(Entry)) {
    for (id, owner) in owners.iter() {
        each(
            Entry::new("owner")
                .text("transactional_id", id)
                .number("epoch", owner.epoch)
                .number("last_sequence", owner.last_sequence.unwrap_or(-1)),
        );
    }
}

fn catalogue(catalogue: &Catalogue, image: &CheckpointImage, each: &mut impl FnMut(Entry)) {
    for topic in catalogue.topics() {
        let mut entry = Entry::new("topic").text("name", &topic.name).text("id", topic.id);
        for (key, value) in topic.config.entries() {
            entry = entry.text(key, value);
        }
        each(entry);
        for (partition, number) in topic.numbers().enumerate() {
            let Some(log) = image.logs.get(&number) else { continue };
            each(
                Entry::new("partition")
                    .text("topic", &topic.name)
                    .number("partition", partition as u64)
                    .number("number", number.0)
                    .number("start_offset", log.start_offset)
                    .number("end_offset", log.end_offset)
                    .number("first_dirty_offset", log.first_dirty_offset.unwrap_or(-1))
                    .text("epochs", format!("{:?}", log.epochs)),
            );
            for segment in &log.segments {
                each(
                    Entry::new("segment")
                        .text("topic", &topic.name)
                        .number("partition", partition as u64)
                        .number("base_offset", segment.base_offset)
                        .number("generation", segment.generation)
                        .number("end_offset", segment.end_offset)
                        .number("bytes", segment.len)
                        .text("checksum", format!("{:08x}", segment.checksum))
                        .number("max_timestamp", segment.max_timestamp),
                );
            }
        }
    }
    for gone in catalogue.deletions() {
        each(Entry::new("deletion").text("name", &gone.name).text("id", gone.id));
    }
}

fn offsets(store: &OffsetStore, each: &mut impl FnMut(Entry)) {
    for (group, offsets) in store.iter() {
        for (partition, committed) in offsets.iter() {
            each(
                Entry::new("offset")
                    .text("group", group)
                    .number("partition_number", partition.0)
                    .number("offset", committed.offset)
                    .number("leader_epoch", committed.leader_epoch.unwrap_or(-1))
                    .number("committed_at", committed.commit_timestamp.as_millis())
                    .text("metadata", &committed.metadata),
            );
        }
    }
}

fn journal(path: &Path, bytes: &[u8], each: &mut impl FnMut(Entry)) -> Result<()> {
    let header = inspect_header(bytes).map_err(|cause| cause.at(path, 8))?;
    let Some(header) = header else {
        if bytes.iter().all(|byte| *byte == 0) {
            // A writer prepares it now, or ended while it did so.
            each(Entry::new("unused").at(0).number("size", bytes.len() as u64));
            return Ok(());
        }
        return Err(Error::corrupt(path, 0, CorruptReason::Magic));
    };
    each(
        Entry::new("header")
            .at(0)
            .number("sequence", header.sequence)
            .number("size", header.size)
            .number("epoch", header.epoch)
            .text("directory_id", TopicId::from_bytes(header.directory_id))
            .text("continues_from", lsn(header.continues_from))
            .text("known_synced", lsn(header.known_synced)),
    );
    for frame in inspect_frames(bytes) {
        let frame = frame.map_err(|(position, cause)| cause.at(path, position))?;
        each(
            Entry::new(frame.kind)
                .at(frame.position)
                .number("payload_bytes", frame.payload.len() as u64)
                .text("known_synced", lsn(frame.known_synced)),
        );
        if frame.is_data {
            for section in sections(frame.payload) {
                let entry = section.and_then(|(kind, body)| describe(kind, body));
                each(entry.map_err(|cause| cause.at(path, frame.position))?);
            }
        }
    }
    Ok(())
}

fn describe(kind: u8, body: &[u8]) -> Result<Entry, Unreadable> {
    match kind {
        SectionKind::APPEND => {
            let (section, records) = AppendSection::decode(body)?;
            Ok(Entry::new("append")
                .number("partition_number", section.partition.0)
                .number("first_offset", section.first_offset())
                .number("count", section.count)
                .number("batch_base_offset", section.base_offset)
                .number("max_timestamp", section.max_timestamp)
                .number("record_bytes", records.len() as u64))
        }
        SectionKind::GROUP_OFFSETS => {
            let commit = OffsetCommit::decode(body)?;
            Ok(Entry::new("commit")
                .text("group", &commit.group)
                .text("change", format!("{:?}", commit.change)))
        }
        SectionKind::CATALOGUE => {
            let change = CatalogueChange::decode(body)?;
            Ok(Entry::new("catalogue").text("change", format!("{change:?}")))
        }
        SectionKind::IDS => {
            let section = IdSection::decode(body)?;
            Ok(Entry::new("ids")
                .text("topic_id", section.topic)
                .number("time", section.time)
                .number("count", section.ids.len() as u64))
        }
        SectionKind::OWNER => {
            let OwnerChange { id, owner } = OwnerChange::decode(body)?;
            let entry = Entry::new("owner").text("transactional_id", id);
            Ok(match owner {
                Some(owner) => entry
                    .number("epoch", owner.epoch)
                    .number("last_sequence", owner.last_sequence.unwrap_or(-1)),
                None => entry.text("change", "deleted"),
            })
        }
        SectionKind::SHARE => Ok(share_change(&ShareChange::decode(body)?)),
        SectionKind::LOG_START => {
            let section = LogStartSection::decode(body)?;
            Ok(Entry::new("log_start")
                .number("partition_number", section.partition.0)
                .number("start_offset", section.start_offset))
        }
        SectionKind::STORED => {
            let section = StoredSection::decode(body)?;
            let last = section.images.last();
            Ok(Entry::new("stored")
                .number("partition_number", section.partition.0)
                .number("first_offset", section.first_offset)
                .number("count", section.count)
                .number("segments", section.images.len() as u64)
                .number("segment_base_offset", last.map_or(-1, |last| last.base_offset))
                .number("segment_bytes", last.map_or(0, |last| last.len)))
        }
        _ => Err(CorruptReason::Field.into()),
    }
}

/// Visits the entries of a segment's side file, in the order of the file.
fn entries(
    extension: Extension,
    base_offset: i64,
    bytes: &[u8],
    each: &mut impl FnMut(Entry),
) -> Result<()> {
    let entry = |at: usize, size: usize| Entry::new("entry").at(at.saturating_mul(size) as u64);
    match extension {
        Extension::Index => {
            for (at, [o0, o1, o2, o3, p0, p1, p2, p3]) in
                bytes.as_chunks::<8>().0.iter().enumerate()
            {
                let offset = i64::from(i32::from_be_bytes([*o0, *o1, *o2, *o3]));
                let position = u32::from_be_bytes([*p0, *p1, *p2, *p3]);
                let last = base_offset.saturating_add(offset);
                each(entry(at, 8).number("last_offset", last).number("log_position", position));
            }
        }
        Extension::TimeIndex => {
            for (at, [t @ .., o0, o1, o2, o3]) in bytes.as_chunks::<12>().0.iter().enumerate() {
                let offset = i64::from(i32::from_be_bytes([*o0, *o1, *o2, *o3]));
                let timestamp = i64::from_be_bytes(*t);
                let last = base_offset.saturating_add(offset);
                each(entry(at, 12).number("timestamp", timestamp).number("last_offset", last));
            }
        }
        Extension::Sums => {
            for (at, bytes) in bytes.as_chunks::<4>().0.iter().enumerate() {
                // The header takes seven words; see `segment::sums`.
                let Some(block) = at.checked_sub(7) else { continue };
                let sum = format!("{:08x}", u32::from_be_bytes(*bytes));
                each(entry(at, 4).number("block", block as u64).text("checksum", sum));
            }
        }
        Extension::Log | Extension::TxnIndex | Extension::Snapshot => return Err(NO_SUCH_FORMAT),
    }
    Ok(())
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind)?;
        if let Some(position) = self.position {
            write!(f, " position={position}")?;
        }
        self.fields.iter().try_for_each(|(name, value)| write!(f, " {name}={value}"))
    }
}

impl fmt::Display for EntryValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => fmt::Display::fmt(number, f),
            Self::Text(text) if text.contains(|c: char| c.is_whitespace() || c.is_control()) => {
                write!(f, "{text:?}")
            }
            Self::Text(text) => f.write_str(text),
        }
    }
}
