//! Kafka's names of segment files and partition folders.
//!
//! ```text
//! 00000000000000005000.log              base offset in 20 digits; also .index .timeindex .txnindex,
//!                                       and .sums, which is not Kafka's
//! 00000000000000005000.3.log            the same segment after compaction has replaced it three times, not
//!                                       Kafka's: 3 is its generation
//! 00000000000000005087.snapshot         the offset that it was taken at
//! 00000000000000005000.log.deleted      a step of a deletion or replacement: .deleted .cleaned .swap
//! orders-0                              topic and partition, parted at the last '-'
//! orders-0.<32 hex>-delete              marked for deletion
//! ```
//!
//! A file name is recognised only if these rules produce exactly that name, so 19 digits are foreign. Writing
//! a recognised name gives the same name.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use crate::types::TopicId;

const OFFSET_DIGITS: usize = 20;
/// The usual limit of file systems for one name.
const MAX_NAME_BYTES: usize = 255;

/// The kind of a segment's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Extension {
    /// The batches.
    Log,
    /// Offsets to positions.
    Index,
    /// Timestamps to offsets.
    TimeIndex,
    /// Aborted transactions.
    TxnIndex,
    /// State of idempotent producers.
    Snapshot,
    /// Checksums of blocks.
    Sums,
}

impl Extension {
    pub(crate) const ALL: [Self; 6] =
        [Self::Log, Self::Index, Self::TimeIndex, Self::TxnIndex, Self::Snapshot, Self::Sums];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Index => "index",
            Self::TimeIndex => "timeindex",
            Self::TxnIndex => "txnindex",
            Self::Snapshot => "snapshot",
            Self::Sums => "sums",
        }
    }
}

/// The step of a deletion or replacement that a file is in (`LocalLog`), as in Kafka's order of renames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Suffix {
    /// Renamed before it is removed.
    Deleted,
    /// A replacement that may be unfinished.
    Cleaned,
    /// A replacement that is complete.
    Swap,
}

/// Tells the segments of a partition apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SegmentId {
    pub(crate) base_offset: i64,
    /// How often compaction has replaced the segment. The names of files of 0 are Kafka's.
    pub(crate) generation: u32,
}

impl SegmentId {
    /// Returns the id of a segment that compaction has not replaced.
    pub(crate) const fn first(base_offset: i64) -> Self {
        Self { base_offset, generation: 0 }
    }
}

/// A recognised file of a partition folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SegmentName {
    pub(crate) id: SegmentId,
    pub(crate) extension: Extension,
    pub(crate) suffix: Option<Suffix>,
}

/// Returns the name of a segment's file.
pub(crate) fn file_name(id: SegmentId, extension: Extension) -> String {
    let SegmentId { base_offset, generation } = id;
    let extension = extension.as_str();
    match generation {
        0 => format!("{base_offset:0OFFSET_DIGITS$}.{extension}"),
        _ => format!("{base_offset:0OFFSET_DIGITS$}.{generation}.{extension}"),
    }
}

/// Parses a name made by [`file_name`]; `None` for any other name.
pub(crate) fn parse_file_name(name: &str) -> Option<SegmentName> {
    let (digits, rest) = name.split_once('.')?;
    if digits.len() != OFFSET_DIGITS || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let base_offset = digits.parse().ok()?;
    let (generation, rest) = match rest.split_once('.').map(|(number, rest)| (number.parse(), rest))
    {
        Some((Ok(generation), after)) => (generation, after),
        _ => (0, rest),
    };
    let (extension, suffix) = match rest.split_once('.') {
        None => (rest, None),
        Some((extension, "deleted")) => (extension, Some(Suffix::Deleted)),
        Some((extension, "cleaned")) => (extension, Some(Suffix::Cleaned)),
        Some((extension, "swap")) => (extension, Some(Suffix::Swap)),
        Some(_) => return None,
    };
    let extension = Extension::ALL.into_iter().find(|e| e.as_str() == extension)?;
    let id = SegmentId { base_offset, generation };
    // Refuses a generation of 0, and one with a sign or zeros before it.
    let known = name.starts_with(&file_name(id, extension));
    known.then_some(SegmentName { id, extension, suffix })
}

/// Returns the name of a partition's folder.
pub(crate) fn folder_name(topic: &str, partition: u32) -> String {
    format!("{topic}-{partition}")
}

/// Returns the name of the folder of a partition that is being deleted. It cuts the topic if the name would
/// exceed the limit of file systems; the id keeps the name unique.
pub(crate) fn deleted_folder_name(topic: &str, partition: u32, id: TopicId) -> String {
    let tail = format!("-{partition}.{}-delete", id.to_hex());
    // Topic names are ASCII, so every length is a character boundary. If one were not, less is kept.
    let mut keep = topic.len().min(MAX_NAME_BYTES.saturating_sub(tail.len()));
    while !topic.is_char_boundary(keep) {
        keep = keep.saturating_sub(1);
    }
    format!("{}{tail}", topic.get(..keep).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_survive_a_round_trip() {
        assert_eq!(file_name(SegmentId::first(5000), Extension::Log), "00000000000000005000.log");
        let twelfth = SegmentId { base_offset: 5000, generation: 12 };
        assert_eq!(file_name(twelfth, Extension::Sums), "00000000000000005000.12.sums");
        for (base_offset, generation) in [(0, 0), (5000, 1), (i64::MAX, u32::MAX)] {
            let id = SegmentId { base_offset, generation };
            for extension in Extension::ALL {
                let name = file_name(id, extension);
                let parsed = SegmentName { id, extension, suffix: None };
                assert_eq!(parse_file_name(&name), Some(parsed));
                let swap = SegmentName { suffix: Some(Suffix::Swap), ..parsed };
                assert_eq!(parse_file_name(&format!("{name}.swap")), Some(swap));
            }
        }
    }

    #[test]
    fn other_files_are_not_recognised() {
        for name in [
            "",
            ".log",
            "partition.metadata",
            "leader-epoch-checkpoint",
            "0000000000000005000.log",
            "000000000000000005000.log",
            "-0000000000000005000.log",
            "+0000000000000005000.log",
            "99999999999999999999.log",
            "00000000000000005000",
            "00000000000000005000.",
            "00000000000000005000.LOG",
            "00000000000000005000.log.tmp",
            "00000000000000005000.log.swap.swap",
            "00000000000000005000.log.",
            "00000000000000005000.0.log",
            "00000000000000005000.01.log",
            "00000000000000005000.+1.log",
            "00000000000000005000.4294967296.log",
            "00000000000000005000.1.1.log",
            "00000000000000005000.1",
            "00000000000000005000.1.",
        ] {
            assert_eq!(parse_file_name(name), None, "{name}");
        }
    }

    #[test]
    fn names_of_deleted_folders_fit_a_file_system() {
        let id = TopicId::from_bytes([0xAB; 16]);
        let marked = format!(".{}-delete", "ab".repeat(16));
        assert_eq!(deleted_folder_name("orders", 3, id), format!("orders-3{marked}"));
        let long = deleted_folder_name(&"t".repeat(249), u32::MAX >> 1, id);
        assert_eq!(long.len(), 255);
        assert!(long.ends_with(&format!("t-2147483647{marked}")));
    }
}
