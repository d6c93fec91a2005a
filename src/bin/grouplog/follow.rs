//! Going on at the end of the log, which another process moves.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use grouplog::{Error, ReadOnlyBroker, TopicPartition};

use crate::args::Consume;
use crate::failure::Failure;
use crate::folder::open_read_only;
use crate::from::From;
use crate::read::{Printer, drain_to_end, partitions, positions, seek};
use crate::turn::take_turn;

/// Reads without a group, beside the writer; to the present end, or on and on.
pub(crate) fn read(
    mut broker: ReadOnlyBroker,
    command: &Consume,
    printer: &mut Printer<'_>,
) -> Result<(), Failure> {
    let ticks = Ticks::new();
    let mut known: BTreeMap<TopicPartition, i64> = BTreeMap::new();
    // Partitions that come later are read from their beginning.
    let mut from = command.from;
    loop {
        let mut consumer = broker.consumer()?;
        let partitions = partitions(&command.topics, |topic| broker.describe_topic(topic))?;
        consumer.assign(partitions.iter().cloned())?;
        for partition in &partitions {
            match known.get(partition) {
                Some(position) => consumer.seek(partition, *position)?,
                None => seek(&mut consumer, partition, from)?,
            }
        }
        drain_to_end(&mut consumer, printer)?;
        if !command.follow || printer.is_done() {
            return Ok(());
        }
        printer.flush()?;
        known = positions(&mut consumer)?.into_iter().collect();
        from = From::Earliest;
        ticks.wait();
        while !refresh(&mut broker)? {
            ticks.wait();
        }
    }
}

/// Reads on as a group. The folder is taken only while there is something to read, so that others can
/// append to it in between.
pub(crate) fn as_group(
    data: &Path,
    command: &Consume,
    group: &str,
    printer: &mut Printer<'_>,
) -> Result<(), Failure> {
    let ticks = Ticks::new();
    let mut broker = open_read_only(data)?;
    // Whether there was more at the last look, which another one may have kept this one from taking.
    let mut more = true;
    while !printer.is_done() {
        ticks.wait();
        more = (refresh(&mut broker)? || more) && has_more(&broker, command, group)?;
        if !more {
            continue;
        }
        match take_turn(data, command, group, printer) {
            // Whoever has it is waited for.
            Err(Failure::Engine(Error::Locked { .. })) => {}
            result => result?,
        }
    }
    Ok(())
}

fn has_more(broker: &ReadOnlyBroker, command: &Consume, group: &str) -> Result<bool, Failure> {
    let committed: BTreeMap<_, _> = match broker.describe_group(group) {
        Ok(group) => group.offsets.into_iter().map(|at| (at.partition, at.committed)).collect(),
        Err(Error::UnknownGroup { .. }) => BTreeMap::new(),
        Err(error) => return Err(error.into()),
    };
    for partition in partitions(&command.topics, |topic| broker.describe_topic(topic))? {
        let (start, end) = broker.log_bounds(&partition)?;
        let position = committed.get(&partition).copied().flatten().unwrap_or(start);
        if position < end {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Looks at the folder again; whether anything has come. A writer that is too fast now is looked at with the
/// next tick.
fn refresh(broker: &mut ReadOnlyBroker) -> Result<bool, Failure> {
    match broker.refresh() {
        Err(error) if error.is_retryable() => Ok(false),
        other => Ok(other?),
    }
}

/// Waits from look to look. There is no event to wait on: the writer is another process.
struct Ticks {
    _never_sends: mpsc::Sender<()>,
    receiver: mpsc::Receiver<()>,
}

impl Ticks {
    fn new() -> Self {
        let (sender, receiver) = mpsc::channel();
        Self { _never_sends: sender, receiver }
    }

    fn wait(&self) {
        let _timeout = self.receiver.recv_timeout(TICK);
    }
}

const TICK: Duration = Duration::from_millis(200);
