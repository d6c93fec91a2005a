//! Consumers read records, alone or as members of a group.
//!
//! Imported by `share`, `transaction`, `broker` and `internal`.

mod commit;
mod durable;
mod held;
mod listener;
mod membership;
mod poll;
mod polls;
mod position;
mod records;
mod seek;
mod source;
mod transactional;
mod typed;
mod wakeup;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

pub use listener::{Rebalance, RebalanceListener};
pub use membership::GroupMetadata;
pub use polls::Polls;
pub use position::{OffsetAndMetadata, OffsetAndTimestamp, Position};
pub use records::{ConsumerRecord, ConsumerRecords};
pub(crate) use source::Source;
use transactional::Outcomes;
pub(crate) use transactional::{Taken, TakenPosition, Taking};
pub use typed::{TypedConsumer, TypedConsumerRecord, TypedRecords};
pub use wakeup::WakeupHandle;

use crate::config::ConsumerConfig;
use crate::engine::Event;
use crate::error::{Error, Result};
use crate::group::{Subscription, TopicPattern};
use crate::types::{GroupMembershipOperation, TopicPartition};
use held::Held;
use listener::Listener;
use membership::Membership;

/// Reads records, as a member of a group or from chosen partitions.
///
/// [`Consumer::subscribe`] joins a group, and the group assigns partitions to its members.
/// [`Consumer::assign`] reads chosen partitions without other members. One thread uses a consumer at a time.
///
/// [`Consumer::poll`] is the heartbeat. A member that does not call it for `max.poll.interval.ms` is evicted:
/// its partitions go to other members, and its later commits are refused. A rebalance moves partitions one by
/// one. The old owner of a partition gives it up in its own `poll`, and only then does the new owner get it.
///
/// Dropping a consumer leaves the group without committing. [`Consumer::close`] commits first if
/// `enable.auto.commit` is on.
///
/// ```
/// use grouplog::{Broker, Record, TopicConfig};
/// use std::time::Duration;
///
/// let broker = Broker::open_in_memory()?;
/// broker.create_topic("orders", TopicConfig::new().partitions(2))?;
/// broker.producer()?.send(Record::to("orders").value("1 pear"))?;
///
/// let mut first = broker.consumer("billing")?;
/// first.subscribe(["orders"])?;
/// assert_eq!(first.poll(Duration::from_secs(1))?.len(), 1);
/// assert_eq!(first.assignment().len(), 2);
/// first.commit()?;
///
/// let mut second = broker.consumer("billing")?; // a second member gets one of the partitions
/// second.subscribe(["orders"])?;
/// first.poll(Duration::ZERO)?; // gives one partition up
/// second.poll(Duration::ZERO)?;
/// assert_eq!((first.assignment().len(), second.assignment().len()), (1, 1));
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Debug)]
pub struct Consumer {
    source: Source,
    config: ConsumerConfig,
    membership: Option<Membership>,
    assigned: bool,
    held: Vec<Held>,
    /// The index in `held` where the next fetch begins.
    next: usize,
    event: Arc<Event>,
    wakeup: WakeupHandle,
    next_auto_commit: Duration,
    listener: Listener,
    outcomes: Arc<Outcomes>,
    /// Whether the listener panicked.
    poisoned: bool,
    closed: bool,
}

impl Consumer {
    pub(crate) fn new(source: Source, config: ConsumerConfig) -> Result<Self> {
        config.validate()?;
        if let Some(group) = &config.group {
            crate::types::check_group_name(group)
                .map_err(|reason| Error::InvalidName { name: group.clone(), reason })?;
        }
        let event = Arc::default();
        let now = source.clock().monotonic();
        let next_auto_commit = now.saturating_add(config.auto_commit_interval);
        Ok(Self {
            source,
            config,
            membership: None,
            assigned: false,
            held: Vec::new(),
            next: 0,
            wakeup: WakeupHandle::new(Arc::clone(&event)),
            event,
            next_auto_commit,
            listener: Listener::default(),
            outcomes: Arc::default(),
            poisoned: false,
            closed: false,
        })
    }

    /// Joins the group of this consumer and subscribes to these topics, in place of any earlier subscription.
    ///
    /// The next polls assign the partitions. A topic may not exist yet: its partitions are assigned once it
    /// is created. An empty list of topics unsubscribes.
    ///
    /// # Errors
    /// `Misuse` without `group.id`, or after `assign`. `InvalidName` if a topic name is not allowed.
    /// `InconsistentGroupProtocol` or `GroupMaxSizeReached` if the group does not accept the member.
    pub fn subscribe<T: AsRef<str>>(&mut self, topics: impl IntoIterator<Item = T>) -> Result<()> {
        self.check_not_poisoned()?;
        self.source.check_open()?;
        if self.assigned {
            return Err(Error::Misuse("subscribe and assign cannot be mixed: unsubscribe first"));
        }
        let mut subscription = BTreeSet::new();
        for topic in topics {
            let name = topic.as_ref();
            crate::types::check_topic_name(name)
                .map_err(|reason| Error::InvalidName { name: name.to_owned(), reason })?;
            subscription.insert(Arc::from(name));
        }
        if subscription.is_empty() {
            return self.unsubscribe();
        }
        self.join(Subscription::Topics(subscription))
    }

    /// Subscribes to all topics whose whole names match a regular expression, as [`Consumer::subscribe`]
    /// does.
    ///
    /// A topic that is created later and matches is added at once. The syntax is that of the crate
    /// `regex-lite`: no look-around, no back references, ASCII classes.
    ///
    /// # Errors
    /// `InvalidPattern` if `pattern` is not a regular expression. Otherwise as [`Consumer::subscribe`].
    ///
    /// ```
    /// use grouplog::{Broker, TopicConfig};
    /// use std::time::Duration;
    ///
    /// let broker = Broker::open_in_memory()?;
    /// let mut consumer = broker.consumer("billing")?;
    /// consumer.subscribe_pattern("orders\\..+")?;
    /// broker.create_topic("orders.eu", TopicConfig::new())?;
    /// broker.create_topic("invoices", TopicConfig::new())?;
    /// consumer.poll(Duration::ZERO)?;
    /// assert_eq!(consumer.assignment()[0].topic(), "orders.eu");
    /// # assert_eq!(consumer.assignment().len(), 1);
    /// # Ok::<(), grouplog::Error>(())
    /// ```
    pub fn subscribe_pattern(&mut self, pattern: &str) -> Result<()> {
        self.check_not_poisoned()?;
        self.source.check_open()?;
        if self.assigned {
            return Err(Error::Misuse("subscribe and assign cannot be mixed: unsubscribe first"));
        }
        self.join(Subscription::Pattern(TopicPattern::new(pattern)?))
    }

    /// Reads exactly these partitions, without other members.
    ///
    /// With `group.id`, reading begins at the committed offsets of that group. The consumer can commit while
    /// the group has no members. Partitions that were assigned before keep their positions. With
    /// `enable.auto.commit`, the positions are committed first.
    ///
    /// A partition is named by its topic. If the topic is deleted, `poll` returns `UnknownTopic` until a
    /// topic of this name is created again. The consumer then reads the new topic; [`Consumer::poll`] says
    /// from where.
    ///
    /// # Errors
    /// `Misuse` after `subscribe`. `UnknownTopic` or `UnknownPartition` if a partition does not exist.
    pub fn assign(&mut self, partitions: impl IntoIterator<Item = TopicPartition>) -> Result<()> {
        self.check_not_poisoned()?;
        self.source.check_open()?;
        if self.membership.is_some() {
            return Err(Error::Misuse("subscribe and assign cannot be mixed: unsubscribe first"));
        }
        // A map, so each partition counts once and memory is bounded by the partitions that exist.
        let mut logs = BTreeMap::new();
        for partition in partitions {
            let log = self.source.registry()?.log(&partition)?;
            logs.insert(log.number(), log);
        }
        self.auto_commit_now();
        let mut held: Vec<Held> = Vec::with_capacity(logs.len());
        for log in logs.into_values() {
            match self.held.iter().position(|held| Arc::ptr_eq(&held.log, &log)) {
                Some(at) => held.push(self.held.swap_remove(at)),
                None => held.push(Held::new(log, &self.config)),
            }
        }
        held.sort_by(|a, b| a.partition().cmp(b.partition()));
        self.held = held;
        self.next = 0;
        self.assigned = true;
        Ok(())
    }

    /// Leaves the group, or drops the assigned partitions. Commits nothing; the listener may commit.
    ///
    /// # Errors
    /// Any error that the [`RebalanceListener`] returns. The consumer leaves the group even then.
    pub fn unsubscribe(&mut self) -> Result<()> {
        self.check_not_poisoned()?;
        let told = self.give_up_all(GroupMembershipOperation::Default);
        self.assigned = false;
        told
    }

    /// Returns the partitions that this consumer reads now, in order.
    pub fn assignment(&self) -> Vec<TopicPartition> {
        self.held.iter().map(|held| held.partition().clone()).collect()
    }

    /// Commits the positions if `enable.auto.commit` is on, and leaves the group.
    ///
    /// Positions in deleted topics are not committed.
    ///
    /// # Errors
    /// Those of [`Consumer::commit`], and any error that the [`RebalanceListener`] returns. The consumer
    /// leaves the group even then.
    pub fn close(self) -> Result<()> {
        self.close_with(GroupMembershipOperation::Default)
    }

    /// Closes the consumer as [`Consumer::close`] does. `operation` says whether a static member keeps its
    /// place in the group.
    ///
    /// # Errors
    /// As [`Consumer::close`].
    pub fn close_with(mut self, operation: GroupMembershipOperation) -> Result<()> {
        self.check_not_poisoned()?;
        let committed = self.auto_commit_at_close();
        let told = self.give_up_all(operation);
        self.closed = true;
        committed.and(told)
    }

    fn check_not_poisoned(&self) -> Result<()> {
        if !self.poisoned {
            return Ok(());
        }
        let what = "this consumer (it happened in its rebalance listener)".to_owned();
        Err(Error::Poisoned { what })
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        if !self.closed {
            self.leave(GroupMembershipOperation::Default);
        }
    }
}
