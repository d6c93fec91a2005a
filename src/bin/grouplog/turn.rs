//! One turn of a group: open the folder, read to its end, and close it.

use std::collections::BTreeMap;
use std::path::Path;

use grouplog::{Broker, Consumer, ConsumerConfig, Error, Position, TopicPartition};

use crate::args::Consume;
use crate::damage::Damage;
use crate::failure::Failure;
use crate::folder::with_writer;
use crate::from::From;
use crate::read::{Look, Printer, Read, drain, partitions, seek_all};

/// What to read, as which group, from where, and where the records go.
pub(crate) struct Turn<'a, 'out> {
    pub(crate) data: &'a Path,
    pub(crate) command: &'a Consume,
    pub(crate) group: &'a str,
    pub(crate) begin: Begin,
    pub(crate) printer: &'a mut Printer<'out>,
    pub(crate) damage: Damage,
}

/// The place where the group begins in partitions without a committed offset.
pub(crate) enum Begin {
    /// The place that `--from` means in this turn.
    From(From),
    /// The place that `--from` meant when the command began. Partitions that were added later are read from
    /// their beginning, and so are those of a topic that was deleted and created again.
    At(BTreeMap<TopicPartition, Position>),
}

impl Turn<'_, '_> {
    /// Reads as the group to the current end. Nothing can be appended meanwhile, since this process is the
    /// only writer.
    pub(crate) fn take(&mut self) -> Result<(), Failure> {
        with_writer(self.data, |broker| {
            while !self.printer.is_done() {
                if self.read_and_commit(broker)? == Read::All {
                    break;
                }
            }
            Ok(())
        })
    }

    /// Reads with one consumer that never returns more records than may be printed. So the committed
    /// positions cover exactly what was printed, with the leader epochs that belong to them.
    ///
    /// The consumer assigns itself the partitions instead of subscribing. No other process can have members,
    /// and a slow reader of the output must not get this one evicted.
    fn read_and_commit(&mut self, broker: &Broker) -> Result<Read, Failure> {
        let records_max = self.printer.left.min(POLL_RECORDS);
        let config = ConsumerConfig::new()
            .group(self.group)
            .enable_auto_commit(false)
            .max_poll_records(usize::try_from(records_max).unwrap_or(1));
        let mut consumer = broker.consumer_with(config)?;
        let look = self.begin.look();
        let partitions =
            partitions(self.command, look, &self.damage, |topic| broker.describe_topic(topic))?;
        consumer.assign(partitions.iter().cloned())?;
        let mut fresh = Vec::new();
        for partition in partitions {
            if consumer.committed(&partition)?.is_none() {
                fresh.push(partition);
            }
        }
        self.begin.seek(&mut consumer, &fresh, &mut self.damage)?;
        let printer = &mut *self.printer;
        let damage = &mut self.damage;
        let failed = |consumer: &mut Consumer, error| damage.pass(consumer, error).map(|()| true);
        let end = drain(&mut consumer, failed, |consumer, records| {
            printer.print(records)?;
            // Print before the commit: after a kill in between, the next run prints again and skips nothing.
            printer.flush()?;
            consumer.commit()?;
            Ok(printer.left >= records_max)
        })?;
        // Commit even if there was nothing to read, so that the next run begins here.
        consumer.commit()?;
        consumer.close()?;
        Ok(end)
    }
}

impl Begin {
    /// A turn that knows where the command began follows its topics.
    fn look(&self) -> Look {
        match self {
            Self::From(_) => Look::First,
            Self::At(_) => Look::Later,
        }
    }

    fn seek(
        &self,
        consumer: &mut Consumer,
        partitions: &[TopicPartition],
        damage: &mut Damage,
    ) -> Result<(), Failure> {
        let known = match self {
            Self::From(from) => return seek_all(consumer, partitions, *from, damage),
            Self::At(known) => known,
        };
        for partition in partitions {
            let known = known.get(partition).map(|position| consumer.seek(partition, *position));
            match known {
                Some(Err(Error::InconsistentTopicId { .. })) | None => {
                    consumer.seek_to_beginning(partition)?;
                }
                Some(sought) => sought?,
            }
        }
        Ok(())
    }
}

/// Kafka's default of `max.poll.records`. After a kill, up to this many records are printed again.
const POLL_RECORDS: u64 = 500;
