//! Reads as a member of a share group, and accepts what was printed.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use grouplog::{
    Broker, Error, ReadOnlyBroker, RecordStateReason, ShareConsumerConfig, ShareRecord,
    ShareRecords,
};

use crate::args::Consume;
use crate::failure::{Failure, say};
use crate::folder::{open_read_only, with_writer};
use crate::follow::{refresh, wait};
use crate::read::{Look, Printer};
use crate::record::Printed;

/// What to read, as which share group, and where the records go.
pub(crate) struct Member<'a, 'out> {
    pub(crate) data: &'a Path,
    pub(crate) command: &'a Consume,
    pub(crate) group: &'a str,
    pub(crate) printer: &'a mut Printer<'out>,
}

impl Member<'_, '_> {
    /// Reads until there is nothing to hand out, or without end with `--follow`.
    pub(crate) fn run(mut self) -> Result<(), Failure> {
        if self.command.follow { self.follow() } else { self.take(Look::First) }
    }

    /// Opens the folder for writing only while there is something to read, so that other processes can append in
    /// between.
    fn follow(&mut self) -> Result<(), Failure> {
        let mut broker = open_read_only(self.data)?;
        self.command
            .topics
            .iter()
            .try_for_each(|topic| broker.describe_topic(topic).map(|_| ()))?;
        // True at first: a delay may have ended while nobody looked.
        let mut more = true;
        while !self.printer.is_done() {
            if more {
                match self.take(Look::Later) {
                    // Another process writes the folder. Try again after the next tick.
                    Ok(()) | Err(Failure::Engine(Error::Locked { .. })) => {}
                    Err(failure) => return Err(failure),
                }
                if self.printer.is_done() {
                    break;
                }
            }
            wait()?;
            refresh(&mut broker)?;
            more = self.has_more(&broker)?;
        }
        Ok(())
    }

    /// Returns whether a record may be handed out, if the process that has the folder ends.
    fn has_more(&self, broker: &ReadOnlyBroker) -> Result<bool, Failure> {
        let group = match broker.describe_share_group(self.group) {
            Err(Error::UnknownGroup { .. }) => None,
            described => Some(described?),
        };
        if group.as_ref().is_some_and(|group| group.paused) {
            return Ok(false);
        }
        for topic in &self.command.topics {
            let Ok(topic) = broker.describe_topic(topic) else { continue };
            for partition in topic.partitions {
                let known = group.iter().flat_map(|group| &group.partitions);
                let waits = known
                    .filter(|row| row.partition == partition.partition)
                    .map(|row| row.lag > row.delayed)
                    .next();
                if waits.unwrap_or(partition.start_offset < partition.end_offset) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Reads until there is nothing to hand out now.
    fn take(&mut self, look: Look) -> Result<(), Failure> {
        with_writer(self.data, |broker| {
            if look == Look::First {
                // Before the group is created.
                for topic in &self.command.topics {
                    broker.describe_topic(topic)?;
                }
            }
            self.drain(broker)
        })
    }

    fn drain(&mut self, broker: &Broker) -> Result<(), Failure> {
        let records = u32::try_from(self.printer.left.min(POLL_RECORDS)).unwrap_or(1);
        let config = ShareConsumerConfig::new().max_poll_records(records);
        let mut member = broker.share_consumer_with(self.group, config)?;
        member.subscribe(&self.command.topics)?;
        let (mut damaged, mut seen) = (false, BTreeSet::new());
        while !self.printer.is_done() {
            match member.poll(Duration::ZERO) {
                Ok(records) if records.is_empty() => break,
                Ok(records) => {
                    seen.clear();
                    self.print(records)?;
                }
                // The other partitions go on. If the same comes again, nothing else is left.
                Err(error) if error.is_corruption() => {
                    let failure = Failure::from(error).to_string();
                    if !seen.insert(failure.clone()) {
                        break;
                    }
                    if !damaged {
                        say(&failure);
                    }
                    damaged = true;
                }
                Err(error) => return Err(error.into()),
            }
        }
        member.close()?;
        if damaged { Err(Failure::Reported) } else { Ok(()) }
    }

    /// Prints records one by one. Those that are not reached go back, and their delivery does not count.
    fn print(&mut self, records: ShareRecords) -> Result<(), Failure> {
        let mut printed = Ok(());
        for record in records {
            if printed.is_err() || self.printer.is_done() {
                // If it cannot be put back, it comes again when this member leaves.
                let _comes_again = record.snooze(Duration::ZERO);
            } else {
                printed = self.print_one(record);
            }
        }
        printed
    }

    /// Prints a record, and accepts it once stdout has it. If stdout fails, the record is dropped, and so released.
    fn print_one(&mut self, record: ShareRecord) -> Result<(), Failure> {
        // A slow reader of the output must not cost the locks of the records behind.
        match record.renew() {
            Err(Error::InvalidRecordState { reason, .. })
                if reason != RecordStateReason::RenewDisabled =>
            {
                // It comes again.
                return Ok(());
            }
            Ok(_) | Err(Error::InvalidRecordState { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        self.printer.format.print(&Printed::from(&record), self.printer.out)?;
        self.printer.flush()?;
        self.printer.left -= 1;
        match record.accept() {
            Err(error @ Error::InvalidRecordState { .. }) => {
                say(&format!("{error}; the output has it, and will have it again"));
                Ok(())
            }
            accepted => Ok(accepted?),
        }
    }
}

/// Kafka's default of `max.poll.records`.
const POLL_RECORDS: u64 = 500;
