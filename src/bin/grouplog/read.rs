//! Reading to the present end of the log, and printing what was read.

use std::time::Duration;

use grouplog::{Consumer, ConsumerRecords, TopicDescription, TopicPartition};

use crate::failure::Failure;
use crate::format::Format;
use crate::from::From;
use crate::output::Output;

/// Stdout, and how many records it still gets.
pub(crate) struct Printer<'a> {
    pub(crate) format: Format,
    pub(crate) left: u64,
    pub(crate) out: &'a mut Output,
}

impl Printer<'_> {
    pub(crate) fn is_done(&self) -> bool {
        self.left == 0
    }

    /// Prints records until enough are printed.
    pub(crate) fn print(&mut self, records: &ConsumerRecords) -> Result<(), Failure> {
        for record in records {
            if self.is_done() {
                break;
            }
            self.format.print(&record, self.out)?;
            self.left -= 1;
        }
        Ok(())
    }

    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.out.flush().map_err(Failure::Output)
    }
}

/// Whether a consumer has read everything.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Read {
    All,
    /// A consumer that returns fewer records a poll must go on.
    Some,
}

/// Hands everything up to the present end to `each`, until it says that it is enough.
pub(crate) fn drain_to_end(
    consumer: &mut Consumer,
    printer: &mut Printer<'_>,
) -> Result<(), Failure> {
    drain(consumer, |_, records| {
        printer.print(records)?;
        Ok(!printer.is_done())
    })
    .map(|_| ())
}

pub(crate) fn drain(
    consumer: &mut Consumer,
    mut each: impl FnMut(&mut Consumer, &ConsumerRecords) -> Result<bool, Failure>,
) -> Result<Read, Failure> {
    let mut before = positions(consumer)?;
    loop {
        let records = consumer.poll(Duration::ZERO)?;
        if !records.is_empty() {
            if !each(consumer, &records)? {
                return Ok(Read::Some);
            }
            continue;
        }
        // A poll may pass over batches of which no record is returned.
        let now = positions(consumer)?;
        if now == before {
            return Ok(Read::All);
        }
        before = now;
    }
}

/// The next offset of each partition.
pub(crate) fn positions(consumer: &mut Consumer) -> Result<Vec<(TopicPartition, i64)>, Failure> {
    let mut positions = Vec::new();
    for partition in consumer.assignment() {
        let position = consumer.position(&partition)?.offset();
        positions.push((partition, position));
    }
    Ok(positions)
}

/// The partitions of the topics.
pub(crate) fn partitions(
    topics: &[String],
    describe: impl Fn(&str) -> grouplog::Result<TopicDescription>,
) -> Result<Vec<TopicPartition>, Failure> {
    let mut partitions = Vec::new();
    for topic in topics {
        partitions.extend(describe(topic)?.partitions.into_iter().map(|p| p.partition));
    }
    Ok(partitions)
}

pub(crate) fn seek(
    consumer: &mut Consumer,
    partition: &TopicPartition,
    from: From,
) -> Result<(), Failure> {
    match from {
        From::Earliest => consumer.seek_to_beginning(partition)?,
        From::Latest => consumer.seek_to_end(partition)?,
        From::Offset(offset) => {
            let start = consumer.beginning_offsets([partition])?[partition];
            let end = consumer.end_offsets([partition])?[partition];
            consumer.seek(partition, offset.min(end).max(start))?;
        }
        From::Time(timestamp) => consumer.seek_to_timestamp(partition, timestamp)?,
    }
    Ok(())
}
