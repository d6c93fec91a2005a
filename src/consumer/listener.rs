//! Telling a program that partitions come and go.

use super::{Consumer, OffsetAndMetadata, Position};
use crate::error::Result;
use crate::types::{GroupMembershipOperation, Timestamp, TopicPartition};

/// Is told when a member of a group gets partitions and gives them up: Kafka's
/// `ConsumerRebalanceListener`, set by [`Consumer::set_rebalance_listener`].
///
/// Called in the thread that polls, from inside [`Consumer::poll`], [`Consumer::unsubscribe`] and
/// [`Consumer::close`], never under a lock of the engine: it may send, create topics, and use other
/// consumers. Its own consumer it reaches through [`Rebalance`] alone. Dropping a consumer calls nothing.
///
/// The time that a call takes counts as silence, as the program's own time does: a listener that takes
/// longer than `max.poll.interval.ms` costs the member its place.
///
/// An error that it returns comes out of the `poll` that called it, after the hand-over was finished all
/// the same; the next `poll` goes on. A panic passes through `poll` to its caller. The consumer has left
/// its group then, without committing anything, and its other calls return
/// [`Error::Poisoned`](crate::Error::Poisoned); other members get its partitions.
///
/// ```
/// use grouplog::{Broker, Rebalance, RebalanceListener, Record, TopicConfig, TopicPartition};
/// use std::time::Duration;
///
/// /// Commits exactly what was processed before a partition goes to somebody else.
/// struct CommitFirst;
///
/// impl RebalanceListener for CommitFirst {
///     fn on_partitions_revoked(
///         &mut self,
///         partitions: &[TopicPartition],
///         consumer: &mut Rebalance<'_>,
///     ) -> grouplog::Result<()> {
///         assert_eq!(partitions.len(), 1);
///         consumer.commit()
///     }
/// }
///
/// let broker = Broker::open_in_memory()?;
/// broker.create_topic("orders", TopicConfig::new())?;
/// broker.producer()?.send(Record::to("orders").value("1 pear"))?;
/// let mut consumer = broker.consumer("billing")?;
/// consumer.set_rebalance_listener(CommitFirst);
/// consumer.subscribe(["orders"])?;
/// consumer.poll(Duration::from_secs(1))?;
/// consumer.unsubscribe()?;
/// assert_eq!(broker.describe_group("billing")?.offsets[0].committed, Some(1));
/// # Ok::<(), grouplog::Error>(())
/// ```
pub trait RebalanceListener: Send {
    /// The member got these partitions, in addition to what it had. No record of them was returned yet:
    /// this is the place to [`seek`](Rebalance::seek) where an own store says.
    ///
    /// # Errors
    /// What it returns comes out of `poll`; the partitions stay assigned.
    fn on_partitions_assigned(
        &mut self,
        partitions: &[TopicPartition],
        consumer: &mut Rebalance<'_>,
    ) -> Result<()> {
        let _ = (partitions, consumer);
        Ok(())
    }

    /// The member is about to give these partitions up; nobody else reads them before this returns. What
    /// is committed here is where the next owner begins. With `enable.auto.commit` the positions are
    /// committed already. Partitions of a topic that was deleted are revoked, too: a commit of their positions
    /// is `UnknownTopic` then, or `InconsistentTopicId` if the topic was created again.
    ///
    /// # Errors
    /// What it returns comes out of `poll`; the partitions are given up.
    fn on_partitions_revoked(
        &mut self,
        partitions: &[TopicPartition],
        consumer: &mut Rebalance<'_>,
    ) -> Result<()> {
        let _ = (partitions, consumer);
        Ok(())
    }

    /// The member was evicted: others may read these partitions already, and what is committed here is
    /// refused as [`Error::Fenced`](crate::Error::Fenced). As in Kafka this calls
    /// [`on_partitions_revoked`](RebalanceListener::on_partitions_revoked) unless it is written.
    ///
    /// # Errors
    /// What it returns comes out of `poll`; the member has joined again by then.
    fn on_partitions_lost(
        &mut self,
        partitions: &[TopicPartition],
        consumer: &mut Rebalance<'_>,
    ) -> Result<()> {
        self.on_partitions_revoked(partitions, consumer)
    }
}

/// What a [`RebalanceListener`] may do with its consumer: everything that neither polls nor changes what
/// it is subscribed to. The methods are those of [`Consumer`].
///
/// ```
/// use grouplog::{Rebalance, RebalanceListener, TopicPartition};
///
/// struct FromTheStart;
///
/// impl RebalanceListener for FromTheStart {
///     fn on_partitions_assigned(
///         &mut self,
///         partitions: &[TopicPartition],
///         consumer: &mut Rebalance<'_>,
///     ) -> grouplog::Result<()> {
///         partitions.iter().try_for_each(|partition| consumer.seek_to_beginning(partition))
///     }
/// }
/// ```
#[derive(Debug)]
pub struct Rebalance<'a> {
    consumer: &'a mut Consumer,
}

impl Rebalance<'_> {
    /// As [`Consumer::commit`].
    pub fn commit(&mut self) -> Result<()> {
        self.consumer.commit()
    }

    /// As [`Consumer::commit_offsets`].
    pub fn commit_offsets<O: Into<OffsetAndMetadata>>(
        &mut self,
        offsets: impl IntoIterator<Item = (TopicPartition, O)>,
    ) -> Result<()> {
        self.consumer.commit_offsets(offsets)
    }

    /// As [`Consumer::committed`].
    pub fn committed(&self, partition: &TopicPartition) -> Result<Option<OffsetAndMetadata>> {
        self.consumer.committed(partition)
    }

    /// As [`Consumer::assignment`]: with the partitions that come or go.
    pub fn assignment(&self) -> Vec<TopicPartition> {
        self.consumer.assignment()
    }

    /// As [`Consumer::position`].
    pub fn position(&mut self, partition: &TopicPartition) -> Result<Position> {
        self.consumer.position(partition)
    }

    /// As [`Consumer::seek`].
    pub fn seek(
        &mut self,
        partition: &TopicPartition,
        position: impl Into<Position>,
    ) -> Result<()> {
        self.consumer.seek(partition, position)
    }

    /// As [`Consumer::seek_to_beginning`].
    pub fn seek_to_beginning(&mut self, partition: &TopicPartition) -> Result<()> {
        self.consumer.seek_to_beginning(partition)
    }

    /// As [`Consumer::seek_to_end`].
    pub fn seek_to_end(&mut self, partition: &TopicPartition) -> Result<()> {
        self.consumer.seek_to_end(partition)
    }

    /// As [`Consumer::seek_to_timestamp`].
    pub fn seek_to_timestamp(
        &mut self,
        partition: &TopicPartition,
        timestamp: Timestamp,
    ) -> Result<()> {
        self.consumer.seek_to_timestamp(partition, timestamp)
    }

    /// As [`Consumer::pause`].
    pub fn pause(&mut self, partition: &TopicPartition) -> Result<()> {
        self.consumer.pause(partition)
    }

    /// As [`Consumer::resume`].
    pub fn resume(&mut self, partition: &TopicPartition) -> Result<()> {
        self.consumer.resume(partition)
    }
}

/// What a listener is told of.
#[derive(Debug, Clone, Copy)]
pub(super) enum Event {
    Assigned,
    Revoked,
    Lost,
}

/// The listener of a consumer, if it has one.
#[derive(Default)]
pub(super) struct Listener(Option<Box<dyn RebalanceListener>>);

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Listener").field(&self.0.is_some()).finish()
    }
}

impl Consumer {
    /// Has `listener` told of all partitions that come and go from now on, instead of the one before.
    pub fn set_rebalance_listener(&mut self, listener: impl RebalanceListener + 'static) {
        self.listener = Listener(Some(Box::new(listener)));
    }

    /// Tells the listener. No lock is held here, and the member's interval runs.
    pub(super) fn tell(&mut self, event: Event, partitions: &[TopicPartition]) -> Result<()> {
        let Some(mut listener) = self.listener.0.take() else { return Ok(()) };
        if partitions.is_empty() {
            self.listener.0 = Some(listener);
            return Ok(());
        }
        self.leave_engine();
        let mut guard = PoisonGuard { consumer: self, returned: false };
        let mut rebalance = Rebalance { consumer: guard.consumer };
        let result = match event {
            Event::Assigned => listener.on_partitions_assigned(partitions, &mut rebalance),
            Event::Revoked => listener.on_partitions_revoked(partitions, &mut rebalance),
            Event::Lost => listener.on_partitions_lost(partitions, &mut rebalance),
        };
        guard.returned = true;
        drop(guard);
        self.listener.0 = Some(listener);
        self.enter_engine();
        result
    }
}

/// Poisons the consumer if its listener panics: it holds nothing and is a member no more.
struct PoisonGuard<'a> {
    consumer: &'a mut Consumer,
    returned: bool,
}

impl Drop for PoisonGuard<'_> {
    fn drop(&mut self) {
        if !self.returned {
            self.consumer.poisoned = true;
            self.consumer.leave(GroupMembershipOperation::Default);
            self.consumer.held.clear();
        }
    }
}
