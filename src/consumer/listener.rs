//! Calls to the program when partitions are assigned and revoked.

use super::{Consumer, OffsetAndMetadata, Position};
use crate::error::Result;
use crate::types::{GroupMembershipOperation, Timestamp, TopicPartition};

/// Receives a call when a group member gets partitions or gives them up. Kafka's `ConsumerRebalanceListener`.
///
/// [`Consumer::set_rebalance_listener`] sets it. The calls come in the thread that polls, from inside
/// [`Consumer::poll`], [`Consumer::unsubscribe`] and [`Consumer::close`]. The engine holds no lock during a
/// call. A listener may send, create topics, and use other consumers. It reaches its own consumer through
/// [`Rebalance`] alone. Dropping a consumer makes no call.
///
/// The time that a call takes counts towards `max.poll.interval.ms`, as the program's own time does. A
/// listener that takes longer gets the member evicted.
///
/// If a listener returns an error, the engine still finishes the rebalance step. The `poll` that made the
/// call then returns the error, and the next `poll` continues. If a listener panics, the panic passes through
/// `poll` to its caller. The consumer leaves its group without committing, and other members get its
/// partitions. Its other calls return [`Error::Poisoned`](crate::Error::Poisoned).
///
/// ```
/// use grouplog::{Broker, Rebalance, RebalanceListener, Record, TopicConfig, TopicPartition};
/// use std::time::Duration;
///
/// /// Commits exactly what was processed before a partition goes to another member.
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
    /// Called after the member got these partitions, in addition to those it had.
    ///
    /// No record of them has been returned yet. A program that stores positions itself calls
    /// [`seek`](Rebalance::seek) here.
    ///
    /// # Errors
    /// `poll` returns the error. The partitions stay assigned.
    fn on_partitions_assigned(
        &mut self,
        partitions: &[TopicPartition],
        consumer: &mut Rebalance<'_>,
    ) -> Result<()> {
        let _ = (partitions, consumer);
        Ok(())
    }

    /// Called before the member gives these partitions up.
    ///
    /// No other member reads them before this returns, and the next owner begins at the offsets committed
    /// here. With `enable.auto.commit` the positions are committed already. Partitions of a deleted topic are
    /// revoked, too: committing their positions returns `UnknownTopic`, or `InconsistentTopicId` if the topic
    /// was created again.
    ///
    /// # Errors
    /// `poll` returns the error. The partitions are given up even then.
    fn on_partitions_revoked(
        &mut self,
        partitions: &[TopicPartition],
        consumer: &mut Rebalance<'_>,
    ) -> Result<()> {
        let _ = (partitions, consumer);
        Ok(())
    }

    /// Called after the member was evicted and lost these partitions.
    ///
    /// Other members may read them already. A commit here is refused with
    /// [`Error::Fenced`](crate::Error::Fenced). By default this calls
    /// [`on_partitions_revoked`](RebalanceListener::on_partitions_revoked), as in Kafka.
    ///
    /// # Errors
    /// `poll` returns the error, after the member has joined again.
    fn on_partitions_lost(
        &mut self,
        partitions: &[TopicPartition],
        consumer: &mut Rebalance<'_>,
    ) -> Result<()> {
        self.on_partitions_revoked(partitions, consumer)
    }
}

/// Gives a [`RebalanceListener`] access to its consumer.
///
/// It has the methods of [`Consumer`] that neither poll nor change the subscription.
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

    /// As [`Consumer::assignment`]. Includes the partitions just assigned or about to be revoked.
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

/// The kind of call that a listener gets.
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
    /// Sets the listener for all later assignments and revocations, in place of any earlier one.
    pub fn set_rebalance_listener(&mut self, listener: impl RebalanceListener + 'static) {
        self.listener = Listener(Some(Box::new(listener)));
    }

    /// Calls the listener. No lock is held here, and the member's poll interval runs.
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

/// Poisons the consumer if its listener panics. The consumer then holds no partitions and is no member.
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
