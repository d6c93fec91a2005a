//! Reads to the current end of the log and prints the records.

use std::time::Duration;

use grouplog::{Consumer, ConsumerRecords, Error, Position, TopicDescription, TopicPartition};

use crate::args::Consume;
use crate::damage::Damage;
use crate::failure::{Failure, say};
use crate::format::Format;
use crate::from::From;
use crate::output::{Output, count};
use crate::scope::check_partition;

/// Prints records to stdout, until `left` of them are printed.
pub(crate) struct Printer<'a> {
    pub(crate) format: Format,
    pub(crate) left: u64,
    pub(crate) out: &'a mut Output,
}

impl Printer<'_> {
    pub(crate) fn is_done(&self) -> bool {
        self.left == 0
    }

    /// Prints records until none are left to print.
    pub(crate) fn print(&mut self, records: &ConsumerRecords) -> Result<(), Failure> {
        for record in records {
            if self.is_done() {
                break;
            }
            self.format.print(&record.into(), self.out)?;
            self.left -= 1;
        }
        Ok(())
    }

    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.out.flush().map_err(Failure::Output)
    }
}

/// Tells whether a consumer has read everything.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Read {
    All,
    /// Reading must continue, with a consumer that returns fewer records per poll.
    Some,
}

/// Tells whether a topic that does not exist is an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// All topics must exist.
    First,
    /// The command follows its topics, and waits for one that was deleted.
    Later,
}

/// Prints everything up to the current end. `failed` decides whether to continue after a poll that failed.
pub(crate) fn drain_to_end(
    consumer: &mut Consumer,
    printer: &mut Printer<'_>,
    failed: impl FnMut(&mut Consumer, Error) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    drain(consumer, failed, |_, records| {
        printer.print(records)?;
        Ok(!printer.is_done())
    })
    .map(|_| ())
}

/// Passes everything up to the current end to `each`, until `each` returns `false`. `failed` decides whether
/// to continue after a poll that failed.
pub(crate) fn drain(
    consumer: &mut Consumer,
    mut failed: impl FnMut(&mut Consumer, Error) -> Result<bool, Failure>,
    mut each: impl FnMut(&mut Consumer, &ConsumerRecords) -> Result<bool, Failure>,
) -> Result<Read, Failure> {
    let mut before = positions(consumer)?;
    loop {
        let records = match consumer.poll(Duration::ZERO) {
            Ok(records) => records,
            // Each failure advances a position or pauses a partition, so the loop ends.
            Err(error) => {
                if failed(consumer, error)? {
                    continue;
                }
                return Ok(Read::Some);
            }
        };
        if !records.is_empty() {
            if !each(consumer, &records)? {
                return Ok(Read::Some);
            }
            continue;
        }
        // A poll may skip batches without returning a record.
        let now = positions(consumer)?;
        if now == before {
            return Ok(Read::All);
        }
        before = now;
    }
}

/// Returns the position in each partition that is still read.
pub(crate) fn positions(
    consumer: &mut Consumer,
) -> Result<Vec<(TopicPartition, Position)>, Failure> {
    let (mut positions, stopped) = (Vec::new(), consumer.paused());
    for partition in consumer.assignment() {
        if stopped.contains(&partition) {
            continue;
        }
        let position = consumer.position(&partition)?;
        positions.push((partition, position));
    }
    Ok(positions)
}

/// Returns the partitions that the command reads: all of its topics, or those that `--partition` names,
/// without those that damage has stopped.
pub(crate) fn partitions(
    command: &Consume,
    look: Look,
    damage: &Damage,
    describe: impl Fn(&str) -> grouplog::Result<TopicDescription>,
) -> Result<Vec<TopicPartition>, Failure> {
    let mut partitions = Vec::new();
    for topic in &command.topics {
        let topic = match describe(topic) {
            Err(Error::UnknownTopic { .. }) if look == Look::Later => continue,
            described => described?,
        };
        for &number in &command.partition {
            check_partition(&topic, number)?;
        }
        let is_wanted = |partition: &TopicPartition| {
            let number = partition.partition();
            (command.partition.is_empty() || command.partition.contains(&number))
                && !damage.has_stopped(partition)
        };
        partitions.extend(topic.partitions.into_iter().map(|p| p.partition).filter(is_wanted));
    }
    Ok(partitions)
}

/// Seeks partitions to where reading begins. Reports on stderr if that is not the requested offset.
pub(crate) fn seek_all(
    consumer: &mut Consumer,
    partitions: &[TopicPartition],
    from: From,
    damage: &mut Damage,
) -> Result<(), Failure> {
    let mut elsewhere = Vec::new();
    for partition in partitions {
        match seek(consumer, partition, from) {
            Ok(note) => elsewhere.extend(note),
            // The search for a time reads records, which may be damaged.
            Err(error) => damage.stop(consumer, error)?,
        }
    }
    if let Some(first) = elsewhere.first() {
        let others = match elsewhere.len() as u64 - 1 {
            0 => String::new(),
            more => format!("; {} likewise", count(more, "other partition", "other partitions")),
        };
        say(&format!("{first}{others}"));
    }
    Ok(())
}

/// Seeks one partition to where reading begins. Returns a note if that is not the requested offset.
fn seek(
    consumer: &mut Consumer,
    partition: &TopicPartition,
    from: From,
) -> grouplog::Result<Option<String>> {
    match from {
        From::Earliest => consumer.seek_to_beginning(partition)?,
        From::Latest => consumer.seek_to_end(partition)?,
        From::Offset(offset) => {
            let start = consumer.beginning_offsets([partition])?[partition];
            let end = consumer.end_offsets([partition])?[partition];
            consumer.seek(partition, offset.min(end).max(start))?;
            if offset > end {
                return Ok(Some(format!(
                    "{partition} ends at offset {end}: reading begins there, not at {offset}"
                )));
            }
            if offset < start && offset > 0 {
                return Ok(Some(format!(
                    "{partition} starts at offset {start}: reading begins there, not at {offset}"
                )));
            }
        }
        From::Time(timestamp) => consumer.seek_to_timestamp(partition, timestamp)?,
    }
    Ok(None)
}
