use std::collections::BTreeMap;
use std::fmt;

use crate::types::TopicPartition;

/// What became of dead letters, from [`Admin::redrive`](crate::Admin::redrive) and
/// [`Admin::plan_redrive`](crate::Admin::plan_redrive).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Redriven {
    /// How many records went back to each partition. Those that got none are missing.
    pub sent: BTreeMap<TopicPartition, u64>,
    /// How many letters were skipped. The next redrive tries them again.
    pub skipped: u64,
    /// The first letters that were skipped, at most 1,000.
    pub first_skipped: Vec<SkippedLetter>,
}

/// A dead letter that could not be sent back.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SkippedLetter {
    /// The partition of the letter.
    pub partition: TopicPartition,
    /// The offset of the letter.
    pub offset: i64,
    /// Partition and offset of the record; `None` if the letter does not say it.
    pub source: Option<(TopicPartition, i64)>,
    /// Why.
    pub reason: NotRedriven,
}

/// Why a dead letter could not be sent back.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotRedriven {
    /// The headers of the letter do not say where its record comes from. Another program has written it.
    Malformed,
    /// The topic that the record comes from does not exist any more. Create it, and redrive again.
    UnknownTopic,
    /// The topic has fewer partitions than it had. Add partitions, and redrive again.
    UnknownPartition {
        /// The number of partitions.
        partitions: u32,
    },
    /// The letter has no copy of the record, and the record is in its topic no more: retention, compaction or
    /// `delete_records` took it.
    RecordGone,
    /// The letter has no copy of the record, and another topic has the name now.
    TopicReplaced,
    /// The topic does not take the record, or the record cannot be read.
    Refused {
        /// The error.
        error: String,
    },
}

impl fmt::Display for NotRedriven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => f.write_str("its headers do not say where the record comes from"),
            Self::UnknownTopic => {
                f.write_str("the topic does not exist any more; create it, and redrive again")
            }
            Self::UnknownPartition { partitions } => {
                write!(
                    f,
                    "the topic has no such partition, only {partitions} of them; add some, and redrive again"
                )
            }
            Self::RecordGone => {
                f.write_str("it is no whole copy, and the topic does not have the record any more")
            }
            Self::TopicReplaced => {
                f.write_str("it is no whole copy, and another topic has the name now")
            }
            Self::Refused { error } => f.write_str(error),
        }
    }
}

impl fmt::Display for SkippedLetter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "letter {} of {}", self.offset, self.partition)?;
        if let Some((partition, offset)) = &self.source {
            write!(f, ", record {offset} of {partition}")?;
        }
        write!(f, ": {}", self.reason)
    }
}

/// The most letters that are listed.
const LISTED_MAX: usize = 1_000;

impl Redriven {
    /// Returns how many records went back.
    pub fn records(&self) -> u64 {
        self.sent.values().copied().fold(0, u64::saturating_add)
    }

    pub(super) fn add_sent(&mut self, partition: &TopicPartition) {
        match self.sent.get_mut(partition) {
            Some(count) => *count = count.saturating_add(1),
            None => {
                self.sent.insert(partition.clone(), 1);
            }
        }
    }

    pub(super) fn add_skipped(&mut self, skipped: SkippedLetter) {
        self.skipped = self.skipped.saturating_add(1);
        if self.first_skipped.len() < LISTED_MAX {
            self.first_skipped.push(skipped);
        }
    }
}
