//! A turn of a group: the folder is taken, read to its end, and given back.

use std::path::Path;

use grouplog::{Broker, ConsumerConfig};

use crate::args::Consume;
use crate::failure::Failure;
use crate::folder::with_writer;
use crate::read::{Printer, Read, drain, partitions, seek};

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

/// Kafka's default of `max.poll.records`; as many may be printed again after a kill.
const POLL_RECORDS: u64 = 500;
