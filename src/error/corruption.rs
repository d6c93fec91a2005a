use std::fmt;
use std::path::PathBuf;

use crate::types::TopicPartition;

/// Where stored bytes are damaged, and how the engine noticed it. Part of
/// [`Error::Corrupt`](super::Error::Corrupt).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Corruption {
    /// The file.
    pub path: PathBuf,
    /// The position of the damaged batch, frame or entry in the file, in bytes.
    pub position: u64,
    /// The partition, if the file belongs to one.
    pub partition: Option<TopicPartition>,
    /// The offsets that are lost, first and last inclusive; `None` if no offsets are lost.
    ///
    /// The engine takes them from what surrounds the damage, never from the damaged bytes: the checkpoint,
    /// the index, the nearest sound batches. The range may be larger than the damage, never smaller. A reader
    /// that seeks behind the range can continue.
    pub offsets: Option<(i64, i64)>,
    /// What is wrong with the bytes.
    pub reason: CorruptReason,
}

/// What is wrong with stored bytes. The name of the reason is for programs; what to do is the same for all of
/// them: restore the file, or seek behind the damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CorruptReason {
    /// A length field is negative, too small, or reaches beyond its file or container.
    Length,
    /// The magic number of a file or batch is not the expected one.
    Magic,
    /// A checksum does not match.
    Checksum,
    /// A variable-length integer is too long.
    Varint,
    /// A count is negative or does not match what follows.
    Count,
    /// Attributes name an unknown codec.
    Codec,
    /// A compressed payload cannot be decompressed.
    Compression,
    /// Offsets do not follow the batch before them, or do not fit the name of the file.
    Offsets,
    /// The leader epoch is lower than that of an earlier batch.
    Epoch,
    /// Text is not UTF-8.
    Utf8,
    /// A file is shorter than the length that the checkpoint or a file header recorded.
    Short,
    /// A file that must follow another one does not exist or is not valid.
    Missing,
    /// A frame is not valid, but lies below a position that is known to be synced.
    BelowSynced,
    /// An index entry points to a place where no batch begins, or entries are out of order.
    Index,
    /// The block sums of a segment do not match its log.
    Sums,
    /// A file that is derived from other files does not exist. `grouplog verify --repair` rebuilds it.
    Absent,
    /// A field holds a value that its format does not allow.
    Field,
    /// A file or folder has the topic id of another topic.
    TopicId,
}

impl fmt::Display for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        if self.reason == CorruptReason::Absent {
            return write!(f, "{path} is missing");
        }
        write!(f, "{path} is damaged at byte {}: {}", self.position, self.reason)?;
        if let Some(partition) = &self.partition {
            write!(f, " (partition {partition}")?;
            if let Some((first, last)) = self.offsets {
                write!(f, ", offsets {first} to {last}")?;
            }
            f.write_str(")")?;
        }
        Ok(())
    }
}

impl fmt::Display for CorruptReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Length => "a length is out of range",
            Self::Magic => "wrong magic number",
            Self::Checksum => "checksum mismatch",
            Self::Varint => "a variable-length integer is too long",
            Self::Count => "a count does not match",
            Self::Codec => "unknown compression codec",
            Self::Compression => "the payload cannot be decompressed",
            Self::Offsets => "offsets are out of sequence",
            Self::Epoch => "the leader epoch does not match the log's history",
            Self::Utf8 => "text is not UTF-8",
            Self::Short => "the file is shorter than recorded",
            Self::Missing => "a file that must follow is missing",
            Self::BelowSynced => "an invalid frame lies below a synced position",
            Self::Index => "the index does not match the log",
            Self::Sums => "the block sums do not match the log",
            Self::Absent => "the file is missing",
            Self::Field => "a field holds an invalid value",
            Self::TopicId => "the topic id belongs to another topic",
        })
    }
}
