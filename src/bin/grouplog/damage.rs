//! Reading on when records are damaged: the other partitions, or past the damage.

use std::collections::BTreeSet;

use grouplog::{Consumer, Error, TopicPartition};

use crate::failure::{Failure, say};

/// Decides what happens to partitions with damage.
#[derive(Debug)]
pub(crate) struct Damage {
    /// `--skip-damaged`: continue after each damaged range.
    skip: bool,
    /// The partitions that are no longer read.
    stopped: BTreeSet<TopicPartition>,
}

impl Damage {
    pub(crate) fn new(skip: bool) -> Self {
        Self { skip, stopped: BTreeSet::new() }
    }

    /// Returns whether damage stopped this partition.
    pub(crate) fn has_stopped(&self, partition: &TopicPartition) -> bool {
        self.stopped.contains(partition)
    }

    /// Returns whether damage stopped any partition.
    pub(crate) fn has_stopped_any(&self) -> bool {
        !self.stopped.is_empty()
    }

    /// Seeks past the damage with `--skip-damaged`, else stops the partition. Reports it on stderr.
    ///
    /// Returns an error that is not damage of one partition.
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

    /// Stops the damaged partition, so that the others continue. Reports it on stderr.
    ///
    /// Returns an error that is not damage of one partition.
    pub(crate) fn stop(&mut self, consumer: &mut Consumer, error: Error) -> Result<(), Failure> {
        let Some(partition) = partition(&error, consumer) else { return Err(error.into()) };
        consumer.pause(&partition)?;
        say(&Failure::Engine(error).to_string());
        self.stopped.insert(partition);
        Ok(())
    }

    /// Returns [`Failure::Reported`] if damage stopped a partition.
    pub(crate) fn into_result(self) -> Result<(), Failure> {
        if self.stopped.is_empty() { Ok(()) } else { Err(Failure::Reported) }
    }
}

/// Seeks past the damaged range, and returns the offsets that were skipped. Returns `None` if the range is
/// unknown, or if it does not end between the position and the log end.
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

/// Returns the partition of this consumer in which something is damaged or missing.
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
