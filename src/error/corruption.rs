use std::fmt;
use std::path::PathBuf;

use crate::types::TopicPartition;

/// Where stored bytes are damaged, and how it was noticed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Corruption {
    /// The file.
    pub path: PathBuf,
    /// The position of the damaged batch, frame or entry, in bytes.
    pub position: u64,
    /// The partition, where the file belongs to one.
    pub partition: Option<TopicPartition>,
    /// The offsets that are lost by it, first and last inclusive; `None` where none are.
    ///
    /// They come from what surrounds the damage, never from the damaged bytes: the checkpoint, the index,
    /// the nearest sound batches. The range may be larger than what was written over, never smaller. A
    /// reader that seeks behind it reads on.
    pub offsets: Option<(i64, i64)>,
    /// What is wrong.
    pub reason: CorruptReason,
}

/// What is wrong with stored bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CorruptReason {
    /// A length field is negative, too small or beyond its file or container.
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
    /// Offsets are not where the chain or the file name says they must be.
    Offsets,
    /// The leader epoch is lower than that of an earlier batch.
    Epoch,
    /// Text is not UTF-8.
    Utf8,
    /// A file is shorter than its checkpointed length.
    Short,
    /// A file that must follow is not there or not valid.
    Missing,
    /// A frame lies below a position that is known to be synced, but is not valid.
    BelowSynced,
    /// An index entry points to no batch, or entries are out of order.
    Index,
    /// The block sums of a segment are not those of its log.
    Sums,
    /// A file that is made from others is not there.
    Absent,
    /// A field holds a value that its format does not know.
    Field,
    /// The topic id is not that of the topic.
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
            Self::Offsets => "offsets are not the expected ones",
            Self::Epoch => "the leader epoch goes back",
            Self::Utf8 => "text is not UTF-8",
            Self::Short => "the file is shorter than recorded",
            Self::Missing => "what must follow is missing",
            Self::BelowSynced => "an invalid frame below a synced position",
            Self::Index => "the index does not match the log",
            Self::Sums => "the block sums do not match the log",
            Self::Absent => "the file is missing",
            Self::Field => "a field holds an unknown value",
            Self::TopicId => "the topic id is another topic's",
        })
    }
}
