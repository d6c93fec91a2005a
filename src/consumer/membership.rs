use std::sync::Arc;

use super::Consumer;
use super::held::Held;
use super::listener::Event;
use crate::engine::{GroupHandle, MemberSignal, assignor};
use crate::error::{Error, Result};
use crate::group::{
    Heartbeat, MemberConfig, MemberEpoch, MemberId, Reconcile, Refusal, Subscription,
};
use crate::types::{GroupMembershipOperation, TopicPartition, planted};

/// The membership of a consumer in its group.
#[derive(Debug)]
pub(super) struct Membership {
    pub(super) group: Arc<GroupHandle>,
    pub(super) id: MemberId,
    pub(super) epoch: MemberEpoch,
    signal: Arc<MemberSignal>,
    /// The version of the signal that this member has acted on.
    seen: u64,
    subscription: Subscription,
}

/// The identity of a member in its group, from [`Consumer::group_metadata`]. Kafka's `ConsumerGroupMetadata`.
///
/// ```
/// use grouplog::{Broker, TopicConfig};
///
/// let broker = Broker::open_in_memory()?;
/// broker.create_topic("orders", TopicConfig::new())?;
/// let mut consumer = broker.consumer("billing")?;
/// assert_eq!(consumer.group_metadata(), None); // not a member yet
/// consumer.subscribe(["orders"])?;
/// let metadata = consumer.group_metadata().unwrap();
/// assert_eq!(metadata.group, "billing");
/// assert_eq!(metadata.member_id, broker.describe_group("billing")?.members[0].id);
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupMetadata {
    /// The group's name.
    pub group: String,
    /// The member's id.
    pub member_id: String,
    /// The member epoch that its commits carry.
    pub member_epoch: i32,
    /// The `group.instance.id`, for a static member.
    pub instance_id: Option<String>,
}

impl GroupMetadata {
    /// Creates metadata without a member, for [`Transaction::send_offsets`](crate::Transaction::send_offsets) to a
    /// group that has no members.
    pub fn of_group(group: impl Into<String>) -> Self {
        Self { group: group.into(), member_id: String::new(), member_epoch: -1, instance_id: None }
    }
}

impl Consumer {
    /// Returns the identity of this consumer in its group, or `None` if it is not a member.
    pub fn group_metadata(&self) -> Option<GroupMetadata> {
        self.membership.as_ref().map(|member| GroupMetadata {
            group: member.group.name().to_string(),
            member_id: member.id.as_str().to_owned(),
            member_epoch: member.epoch.0,
            instance_id: self.config.group_instance_id.clone(),
        })
    }

    pub(super) fn join(&mut self, subscription: Subscription) -> Result<()> {
        let engine = Arc::clone(self.source.engine()?);
        if let Some(member) = &mut self.membership {
            member.subscription.clone_from(&subscription);
            match member.group.subscribe(&member.id, subscription, &engine.registry) {
                // An evicted member is unknown here. Its next poll joins again with the new subscription, or
                // is refused if another consumer has its instance id.
                Ok(()) | Err(Refusal::UnknownMember | Refusal::FencedInstanceId) => return Ok(()),
                Err(refusal) => {
                    return Err(refusal.into_error(member.group.name(), Some(&member.id)));
                }
            }
        }
        let Some(group) = &self.config.group else {
            return Err(Error::Misuse("subscribe needs a group: set group.id, or use assign"));
        };
        engine.check_not_share_group(group)?;
        let group = engine.groups.get(group)?;
        let id = engine
            .groups
            .next_member(&self.config.client_id, self.config.group_instance_id.as_deref());
        let signal = Arc::new(MemberSignal::new(Arc::clone(&self.event)));
        let member =
            Membership { group, id, epoch: MemberEpoch::default(), signal, seen: 0, subscription };
        self.membership = Some(member);
        let entered = self.enter_group();
        if entered.is_err() {
            self.membership = None;
        }
        entered
    }

    /// Enters the group with the id in `membership`. If the program's assignor panics, the consumer stays a
    /// member until it is dropped.
    fn enter_group(&self) -> Result<()> {
        let engine = self.source.engine()?;
        let Some(member) = &self.membership else { return Ok(()) };
        let config = MemberConfig {
            client_id: self.config.client_id.as_str().into(),
            max_poll_interval: self.config.max_poll_interval,
            session_timeout: self.config.session_timeout,
            assignors: self.config.assignment_strategies.iter().map(assignor).collect(),
            offset_reset: self.config.auto_offset_reset,
        };
        let joined = member.group.join(
            &member.id,
            config,
            member.subscription.clone(),
            &engine.registry,
            engine.clock().monotonic(),
            &member.signal,
        );
        joined.map_err(|refusal| refusal.into_error(member.group.name(), Some(&member.id)))
    }

    /// Makes the group compute a new assignment at once, even if nothing changed. Kafka's `enforceRebalance`.
    ///
    /// This serves an [`Assignor`](crate::Assignor) of the program that uses more than the group's state,
    /// such as load. Partitions that move do so in the next polls.
    ///
    /// # Errors
    /// `Misuse` before `subscribe`. `Fenced` if the member was evicted; its next poll joins again.
    /// `FencedInstanceId` if another consumer has its instance id.
    ///
    /// ```
    /// use grouplog::{Broker, TopicConfig};
    ///
    /// let broker = Broker::open_in_memory()?;
    /// broker.create_topic("orders", TopicConfig::new())?;
    /// let mut consumer = broker.consumer("billing")?;
    /// consumer.subscribe(["orders"])?;
    /// consumer.enforce_rebalance()?;
    /// # Ok::<(), grouplog::Error>(())
    /// ```
    pub fn enforce_rebalance(&mut self) -> Result<()> {
        self.source.check_open()?;
        let Some(member) = &self.membership else {
            return Err(Error::Misuse("enforce_rebalance needs subscribe first"));
        };
        let enforced = member.group.enforce_rebalance(&member.id);
        enforced.map_err(|refusal| refusal.into_error(member.group.name(), Some(&member.id)))
    }

    pub(super) fn leave(&mut self, operation: GroupMembershipOperation) {
        // A forked child is no member: the parent continues as the member.
        let forked = matches!(self.source.check_open(), Err(Error::ForkedChild));
        if let Some(member) = self.membership.take()
            && !forked
        {
            let now = self.source.clock().monotonic();
            member.group.leave(&member.id, operation, now);
        }
    }

    /// Reports to the group that `poll` has begun. An evicted member lost everything it held, including
    /// uncommitted positions, and joins from scratch, as in Kafka.
    pub(super) fn enter_poll(&mut self) -> Result<()> {
        if self.enter_engine() { Ok(()) } else { self.rejoin() }
    }

    /// Restarts the member's poll interval and pauses it. Returns false if the consumer is no longer a
    /// member.
    pub(super) fn enter_engine(&self) -> bool {
        let now = self.source.clock().monotonic();
        let Some(member) = &self.membership else { return true };
        member.group.enter_poll(&member.id, now).is_ok()
    }

    /// Pauses the member's poll interval, since a call other than `poll` may wait in the engine.
    pub(super) fn pause_interval(&self) {
        if let Some(member) = &self.membership
            && !planted("time_inside_is_silence")
        {
            member.group.enter(&member.id, self.source.clock().monotonic());
        }
    }

    /// Resumes the member's poll interval, since the program has control again.
    pub(super) fn leave_engine(&self) {
        if let Some(member) = &self.membership {
            member.group.exit(&member.id, self.source.clock().monotonic());
        }
    }

    /// Joins from scratch. The group refuses a member that was fenced by another with its instance id.
    fn rejoin(&mut self) -> Result<()> {
        let lost = self.assignment();
        // The listener runs under the old identity, so its commits are refused.
        let told = self.tell(Event::Lost, &lost);
        self.held.clear();
        let Some(member) = &mut self.membership else { return told };
        // A new signal, because the old one reports for ever that the member is gone.
        member.signal = Arc::new(MemberSignal::new(Arc::clone(&self.event)));
        member.seen = 0;
        member.epoch = MemberEpoch::default();
        self.enter_group()?;
        self.enter_engine();
        told
    }

    /// Returns whether the group has changed something for this member. Each poll pays one atomic load for
    /// it.
    pub(super) fn has_news(&self) -> bool {
        self.membership.as_ref().is_some_and(|member| member.signal.version() != member.seen)
    }

    /// Moves towards the assignment that the group wants.
    pub(super) fn reconcile(&mut self) -> Result<()> {
        while self.has_news() {
            let Some(member) = &mut self.membership else { return Ok(()) };
            let version = member.signal.version();
            match member.group.heartbeat(&member.id, self.source.clock().monotonic()) {
                Ok(Heartbeat::Unchanged) => member.seen = version,
                Ok(Heartbeat::Reconcile(step)) => self.follow(step)?,
                Err(Refusal::UnknownMember | Refusal::FencedInstanceId) => self.rejoin()?,
                Err(refusal) => {
                    return Err(refusal.into_error(member.group.name(), Some(&member.id)));
                }
            }
        }
        Ok(())
    }

    fn follow(&mut self, step: Reconcile) -> Result<()> {
        let Reconcile { epoch, revoke, assign, .. } = step;
        if let Some(member) = &mut self.membership {
            member.epoch = epoch;
        }
        if !revoke.is_empty() {
            self.give_up(&revoke)?;
        }
        let mut assigned = Vec::with_capacity(assign.len());
        for partition in assign {
            match self.source.registry()?.log(&partition) {
                Ok(log) => {
                    self.held.push(Held::new(log, &self.config));
                    assigned.push(partition);
                }
                // The topic was deleted a moment ago. The group finds out and takes the partition back.
                Err(Error::UnknownTopic { .. } | Error::UnknownPartition { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        self.held.sort_by(|a, b| a.partition().cmp(b.partition()));
        self.tell(Event::Assigned, &assigned)
    }

    /// Gives partitions up. Commits their positions first if `enable.auto.commit` is on, as Kafka does. The
    /// partitions go to their next owners even if the commit or the listener fails.
    fn give_up(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        self.auto_commit_now();
        let told = self.tell(Event::Revoked, partitions);
        self.held.retain(|held| !partitions.contains(held.partition()));
        let Some(member) = &self.membership else { return told };
        match member.group.revoked(&member.id, partitions) {
            Ok(()) => told,
            Err(Refusal::UnknownMember | Refusal::FencedInstanceId) => told.and(self.rejoin()),
            Err(refusal) => {
                told.and(Err(refusal.into_error(member.group.name(), Some(&member.id))))
            }
        }
    }

    /// Gives up all partitions and leaves the group.
    pub(super) fn give_up_all(&mut self, operation: GroupMembershipOperation) -> Result<()> {
        let all = if self.membership.is_some() { self.assignment() } else { Vec::new() };
        let evicted = self.membership.as_ref().is_some_and(|m| !m.group.is_member(&m.id));
        let told = self.tell(if evicted { Event::Lost } else { Event::Revoked }, &all);
        self.leave(operation);
        self.held.clear();
        told
    }
}
