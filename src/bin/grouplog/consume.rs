use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use grouplog::{
    Broker, Consumer, ConsumerConfig, ConsumerRecords, Timestamp, TopicDescription, TopicPartition,
};

use crate::args::Consume;
use crate::failure::Failure;
use crate::follow;
use crate::format::Format;
use crate::output::Output;
use crate::time::timestamp;
use crate::{open_read_only, with_writer};

/// Where a partition is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    Earliest,
    Latest,
    /// An offset, or the nearest one that the log holds.
    Offset(i64),
    /// The first record that is not older.
    Time(Timestamp),
}

pub(crate) fn run(data: &Path, command: &Consume, out: &mut Output) -> Result<(), Failure> {
    let json = if out.json { Format::Json } else { Format::Value };
    let mut printer = Printer {
        format: command.format.clone().unwrap_or(json),
        left: command.max.unwrap_or(u64::MAX),
        out,
    };
    match &command.group {
        None => follow::read(open_read_only(data)?, command, &mut printer),
        Some(group) => {
            take_turn(data, command, group, &mut printer)?;
            if command.follow {
                follow::as_group(data, command, group, &mut printer)
            } else {
                Ok(())
            }
        }
    }
}

/// Stdout, and how many records it still gets.
pub(crate) struct Printer<'a> {
    format: Format,
    left: u64,
    out: &'a mut Output,
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

/// Reads as the group to the present end: nothing can be appended meanwhile, since the folder has one
/// writer, which is this process.
pub(crate) fn take_turn(
    data: &Path,
    command: &Consume,
    group: &str,
    printer: &mut Printer<'_>,
) -> Result<(), Failure> {
    with_writer(data, |broker| {
        while !printer.is_done() {
            if read_and_commit(broker, command, group, printer)? == Read::All {
                break;
            }
        }
        Ok(())
    })
}

/// Whether a consumer has read everything.
#[derive(Debug, PartialEq, Eq)]
enum Read {
    All,
    /// A consumer that returns fewer records a poll must go on.
    Some,
}

/// Reads with one consumer, which never returns more than may be printed: so what is committed is
/// what was printed, with the leader epochs that go with it.
///
/// It assigns itself all partitions instead of subscribing. Members of other processes cannot exist,
/// and a reader of the output who takes his time does not get this one evicted.
fn read_and_commit(
    broker: &Broker,
    command: &Consume,
    group: &str,
    printer: &mut Printer<'_>,
) -> Result<Read, Failure> {
    let records_max = printer.left.min(POLL_RECORDS);
    let config = ConsumerConfig::new()
        .group(group)
        .enable_auto_commit(false)
        .max_poll_records(usize::try_from(records_max).unwrap_or(1));
    let mut consumer = broker.consumer_with(config)?;
    let partitions = partitions(&command.topics, |topic| broker.describe_topic(topic))?;
    consumer.assign(partitions.iter().cloned())?;
    for partition in &partitions {
        if consumer.committed(partition)?.is_none() {
            seek(&mut consumer, partition, command.from)?;
        }
    }
    let end = drain(&mut consumer, |consumer, records| {
        printer.print(records)?;
        // Printed first: whoever is killed in between prints again, and skips nothing.
        printer.flush()?;
        consumer.commit()?;
        Ok(printer.left >= records_max)
    })?;
    // Where the group begins counts too, even if there was nothing to read: the next run goes on here.
    consumer.commit()?;
    consumer.close()?;
    Ok(end)
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

fn drain(
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

impl FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || "expected earliest, latest, an offset or @TIME".to_owned();
        match text {
            "earliest" => return Ok(Self::Earliest),
            "latest" => return Ok(Self::Latest),
            _ => {}
        }
        if let Some(time) = text.strip_prefix('@') {
            return timestamp(time).map(Self::Time);
        }
        let offset = text.parse().map_err(|_| expected())?;
        if offset < 0 { Err(expected()) } else { Ok(Self::Offset(offset)) }
    }
}

/// Kafka's default of `max.poll.records`; as many may be printed again after a kill.
const POLL_RECORDS: u64 = 500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_not_negative() {
        assert_eq!("7".parse(), Ok(From::Offset(7)));
        assert!("-1".parse::<From>().is_err());
        assert!("first".parse::<From>().is_err());
    }
}
