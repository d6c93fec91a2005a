//! Reads without a group, and follows a log to which another process appends.

use std::collections::BTreeMap;
use std::time::Duration;

use grouplog::{Error, Position, ReadOnlyBroker, TopicPartition};

use crate::args::Consume;
use crate::damage::Damage;
use crate::failure::Failure;
use crate::folder::open_read_only;
use crate::from::From;
use crate::read::{Look, Printer, drain_to_end, partitions, positions, seek_all};
use crate::stdout;
use crate::turn::{Begin, Turn};

/// Reads without a group, beside the writer: to the current end, or without end with `--follow`.
pub(crate) fn read(
    mut broker: ReadOnlyBroker,
    command: &Consume,
    printer: &mut Printer<'_>,
) -> Result<(), Failure> {
    let mut damage = Damage::new(command.skip_damaged);
    let mut known: BTreeMap<TopicPartition, Position> = BTreeMap::new();
    // Partitions that are added later are read from their beginning.
    let (mut look, mut from) = (Look::First, command.from);
    loop {
        let mut consumer = broker.consumer()?;
        let partitions = partitions(command, look, &damage, |topic| broker.describe_topic(topic))?;
        consumer.assign(partitions.iter().cloned())?;
        let mut fresh = Vec::new();
        for partition in &partitions {
            match known.get(partition).map(|position| consumer.seek(partition, *position)) {
                // The topic was deleted and created again.
                Some(Err(Error::InconsistentTopicId { .. })) | None => {
                    fresh.push(partition.clone());
                }
                Some(sought) => sought?,
            }
        }
        seek_all(&mut consumer, &fresh, from, &mut damage)?;
        let (mut deleted, mut stale) = (false, false);
        drain_to_end(&mut consumer, printer, |consumer, error| {
            if matches!(error, Error::Stale { .. }) {
                // Compaction has replaced files. The records are in the new ones.
                stale = true;
                refresh_now(&mut broker)?;
                return Ok(false);
            }
            // If the topic was deleted, its files are gone, and that is no damage.
            deleted = command.follow && was_deleted(&mut broker, &positions(consumer)?)?;
            if !deleted {
                damage.pass(consumer, error)?;
            }
            Ok(!deleted)
        })?;
        let all_stopped = partitions.iter().all(|partition| damage.has_stopped(partition));
        let is_over = all_stopped && !partitions.is_empty();
        if !command.follow && !stale || printer.is_done() || is_over {
            return damage.into_result();
        }
        printer.flush()?;
        known.extend(positions(&mut consumer)?);
        (look, from) = (Look::Later, From::Earliest);
        if deleted || stale {
            // The broker is refreshed already.
            continue;
        }
        wait()?;
        while !refresh(&mut broker)? {
            wait()?;
        }
    }
}

/// Refreshes the broker. Returns whether one of the topics was deleted.
fn was_deleted(
    broker: &mut ReadOnlyBroker,
    reached: &[(TopicPartition, Position)],
) -> Result<bool, Failure> {
    refresh_now(broker)?;
    Ok(reached.iter().any(|(partition, position)| {
        let now = broker.describe_topic(partition.topic()).ok();
        now.map(|topic| topic.id) != position.topic_id()
    }))
}

/// Refreshes the broker. Waits if the writer is too fast for that now.
fn refresh_now(broker: &mut ReadOnlyBroker) -> Result<(), Failure> {
    while let Err(error) = broker.refresh() {
        if !error.is_retryable() {
            return Err(error.into());
        }
        wait()?;
    }
    Ok(())
}

/// Follows as a group. Opens the folder for writing only while there is something to read, so that other
/// processes can append in between.
pub(crate) fn as_group(mut turn: Turn<'_, '_>) -> Result<(), Failure> {
    let mut broker = open_read_only(turn.data)?;
    turn.begin = Begin::At(begin(&broker, turn.command, &mut turn.damage)?);
    // Whether there is something to do as the group. True at first: a new group commits where it begins, even
    // if there is nothing to read yet.
    let mut more = true;
    loop {
        if more {
            match turn.take() {
                Ok(()) => more = false,
                // Another process writes the folder. Try again after the next tick.
                Err(Failure::Engine(Error::Locked { .. })) => {}
                Err(failure) => return Err(failure),
            }
        }
        if turn.printer.is_done()
            || turn.damage.has_stopped_any() && partitions_of(&broker, &turn)?.is_empty()
        {
            return turn.damage.into_result();
        }
        wait()?;
        if refresh(&mut broker)? {
            more = has_more(&broker, &turn)?;
        }
    }
}

/// Returns the positions to which `--from` points now.
fn begin(
    broker: &ReadOnlyBroker,
    command: &Consume,
    damage: &mut Damage,
) -> Result<BTreeMap<TopicPartition, Position>, Failure> {
    let mut consumer = broker.consumer()?;
    let partitions =
        partitions(command, Look::First, damage, |topic| broker.describe_topic(topic))?;
    consumer.assign(partitions.iter().cloned())?;
    seek_all(&mut consumer, &partitions, command.from, damage)?;
    Ok(positions(&mut consumer)?.into_iter().collect())
}

fn partitions_of(
    broker: &ReadOnlyBroker,
    turn: &Turn<'_, '_>,
) -> Result<Vec<TopicPartition>, Failure> {
    partitions(turn.command, Look::Later, &turn.damage, |topic| broker.describe_topic(topic))
}

fn has_more(broker: &ReadOnlyBroker, turn: &Turn<'_, '_>) -> Result<bool, Failure> {
    let committed: BTreeMap<_, _> = match broker.describe_group(turn.group) {
        Ok(group) => group.offsets.into_iter().map(|at| (at.partition, at.committed)).collect(),
        Err(Error::UnknownGroup { .. }) => BTreeMap::new(),
        Err(error) => return Err(error.into()),
    };
    for partition in partitions_of(broker, turn)? {
        let (start, end) = broker.log_bounds(&partition)?;
        let position = committed.get(&partition).copied().flatten().unwrap_or(start);
        if position < end {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Refreshes the broker. Returns whether there is anything new. If the writer is too fast for that now, the
/// next tick tries again.
pub(crate) fn refresh(broker: &mut ReadOnlyBroker) -> Result<bool, Failure> {
    match broker.refresh() {
        Err(error) if error.is_retryable() => Ok(false),
        other => Ok(other?),
    }
}

/// Waits for the next tick. There is no event to wait for, since the writer is another process. Fails as soon
/// as the reader of stdout goes away.
pub(crate) fn wait() -> Result<(), Failure> {
    stdout::wait(TICK).map_err(Failure::Output)
}

const TICK: Duration = Duration::from_millis(200);
