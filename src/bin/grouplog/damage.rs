//! Going on beside damage, or behind it.

use std::collections::BTreeSet;

use grouplog::{Consumer, Error, TopicPartition};

use crate::failure::{Failure, say};

/// What happens to partitions in which something is damaged.
#[derive(Debug)]
pub(crate) struct Damage {
    /// `--skip-damaged`: go on behind what is damaged.
    skip: bool,
    /// The partitions that are not read any further.
    stopped: BTreeSet<TopicPartition>,
}

impl Damage {
    pub(crate) fn new(skip: bool) -> Self {
        Self { skip, stopped: BTreeSet::new() }
    }

    /// Whether damage ended the reading of this partition.
    pub(crate) fn has_stopped(&self, partition: &TopicPartition) -> bool {
        self.stopped.contains(partition)
    }

    /// Whether damage ended the reading of any partition.
    pub(crate) fn has_stopped_any(&self) -> bool {
        !self.stopped.is_empty()
    }

    /// Moves the consumer behind the damage if that was asked for, else stops the partition; says so on
    /// stderr. An error that is not damage of one partition is returned.
    pub(crate) fn pass(&mut self, consumer: &mut Consumer, error: Error) -> Result<(), Failure> {
        if self.skip
            && let Some(partition) = partition(&error, consumer)
            && let Some((first, last)) = skip(&error, consumer, &partition)?
        {
            say(&format!("skipped offsets {first} to {last} of {partition}: {error}"));
            return Ok(());
        }
        self.stop(consumer, error)
    }

    /// Stops the partition that is damaged, so that the others go on; says so on stderr. An error that is not
    /// damage of one partition is returned.
    pub(crate) fn stop(&mut self, consumer: &mut Consumer, error: Error) -> Result<(), Failure> {
        let Some(partition) = partition(&error, consumer) else { return Err(error.into()) };
        consumer.pause(&partition)?;
        say(&Failure::Engine(error).to_string());
        self.stopped.insert(partition);
        Ok(())
    }

    /// A failure that was reported already, if a partition was stopped.
    pub(crate) fn into_result(self) -> Result<(), Failure> {
        if self.stopped.is_empty() { Ok(()) } else { Err(Failure::Reported) }
    }
}

/// Seeks behind the damaged range; the offsets that are passed over. `None` where the range is not known,
/// or lies elsewhere.
fn skip(
    error: &Error,
    consumer: &mut Consumer,
    partition: &TopicPartition,
) -> Result<Option<(i64, i64)>, Failure> {
    let offsets = match error {
        Error::Corrupt(corruption) => corruption.offsets,
        Error::MissingSegment { offsets, .. } => Some(*offsets),
        _ => None,
    };
    let Some((_, last)) = offsets else { return Ok(None) };
    let position = consumer.position(partition)?.offset();
    let end = consumer.end_offsets([partition])?.get(partition).copied().unwrap_or(position);
    if last < position || last >= end {
        return Ok(None);
    }
    consumer.seek(partition, last + 1)?;
    Ok(Some((position, last)))
}

/// The partition of this consumer in which something is damaged or missing.
fn partition(error: &Error, consumer: &Consumer) -> Option<TopicPartition> {
    let path = match error {
        Error::Corrupt(corruption) => {
            if let Some(partition) = &corruption.partition {
                return Some(partition.clone());
            }
            &corruption.path
        }
        Error::MissingSegment { path, .. } => path,
        _ => return None,
    };
    let folder = path.parent()?.file_name()?.to_str()?;
    consumer.assignment().into_iter().find(|partition| partition.to_string() == folder)
}
