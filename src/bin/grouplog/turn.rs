//! A turn of a group: the folder is taken, read to its end, and given back.

use std::collections::BTreeMap;
use std::path::Path;

use grouplog::{Broker, Consumer, ConsumerConfig, Error, Position, TopicPartition};

use crate::args::Consume;
use crate::damage::Damage;
use crate::failure::Failure;
use crate::folder::with_writer;
use crate::from::From;
use crate::read::{Look, Printer, Read, drain, partitions, seek_all};

/// Who reads, where it begins, and where the records go.
pub(crate) struct Turn<'a, 'out> {
    pub(crate) data: &'a Path,
    pub(crate) command: &'a Consume,
    pub(crate) group: &'a str,
    pub(crate) begin: Begin,
    pub(crate) printer: &'a mut Printer<'out>,
    pub(crate) damage: Damage,
}

/// Where the group begins in partitions for which it has committed nothing.
pub(crate) enum Begin {
    /// Where `--from` says, as the log is in this turn.
    From(From),
    /// Where `--from` pointed to when the command began. Partitions that came later are read from their
    /// beginning, and so are those of a topic that was deleted and created again.
    At(BTreeMap<TopicPartition, Position>),
}

impl Turn<'_, '_> {
    /// Reads as the group to the present end: nothing can be appended meanwhile, since the folder has one
    /// writer, which is this process.
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

    /// Reads with one consumer, which never returns more than may be printed. So what is committed is what
    /// was printed, with the leader epochs that belong to it.
    ///
    /// The consumer assigns itself the partitions instead of subscribing. Members in other processes cannot
    /// exist, and this one is not evicted when the reader of the output takes its time.
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
            // Printed first: a process that is killed in between prints again, and skips nothing.
            printer.flush()?;
            consumer.commit()?;
            Ok(printer.left >= records_max)
        })?;
        // Where the group begins counts too, even if there was nothing to read: the next run goes on here.
        consumer.commit()?;
        consumer.close()?;
        Ok(end)
    }
}

impl Begin {
    /// A command that knows where it began follows its topics.
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

/// Kafka's default of `max.poll.records`; as many may be printed again after a kill.
const POLL_RECORDS: u64 = 500;
