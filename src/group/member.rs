use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::silence::Silence;
use super::subscription::Subscription;
use crate::types::{Assignor, OffsetReset, TopicId, TopicPartition};

/// The identity of a member: `<client.id>-<number>`, or `<group.instance.id>-<number>` for a static
/// one.
///
/// Compares as text, as Kafka's member ids do: `m-1 < m-10 < m-2`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct MemberId {
    text: Arc<str>,
    is_static: bool,
}

impl MemberId {
    /// Creates the id of member `number` of the process. The caller never uses a number twice.
    pub(crate) fn new(client_id: &str, number: u64) -> Self {
        Self { text: format!("{client_id}-{number}").into(), is_static: false }
    }

    /// Creates the id of a static member (KIP-345). See [`MemberId::new`].
    pub(crate) fn of_instance(instance_id: &str, number: u64) -> Self {
        Self { text: format!("{instance_id}-{number}").into(), is_static: true }
    }

    /// Returns the id that a program got from [`MemberId::as_str`].
    pub(crate) fn named(text: &str, is_static: bool) -> Self {
        Self { text: text.into(), is_static }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the `group.instance.id` of a static member.
    pub(crate) fn instance_id(&self) -> Option<&str> {
        let (instance_id, _number) = self.text.rsplit_once('-')?;
        self.is_static.then_some(instance_id)
    }

    /// Returns the number in the process. Of two members that had one instance id, the newer one
    /// has the higher number.
    pub(super) fn number(&self) -> Option<u64> {
        self.text.rsplit_once('-').and_then(|(_, number)| number.parse().ok())
    }

    pub(super) fn text(&self) -> &Arc<str> {
        &self.text
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The epoch of a group, or the one to which a member has reconciled. 0 precedes the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct MemberEpoch(pub(crate) i32);

impl MemberEpoch {
    /// The epoch of a static member that left and may return: KIP-848's number.
    pub(super) const AWAY: Self = Self(-2);

    /// Returns the next epoch. The last one stays: reaching it takes two thousand million changes
    /// of one group within the life of a process. Unknown members are still fenced then.
    pub(super) fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// The settings with which a member joins.
#[derive(Debug, Clone)]
pub(crate) struct MemberConfig {
    /// `client.id`.
    pub(crate) client_id: Arc<str>,
    /// `max.poll.interval.ms`.
    pub(crate) max_poll_interval: Duration,
    /// `session.timeout.ms`, if the program set it.
    pub(crate) session_timeout: Option<Duration>,
    /// `partition.assignment.strategy`: the assignors it proposes, best first. Not empty.
    pub(crate) assignors: Vec<Arc<dyn Assignor>>,
    /// `auto.offset.reset`. The group does not use it. Descriptions of the group report it.
    pub(crate) offset_reset: OffsetReset,
}

impl MemberConfig {
    /// Kafka's default of `session.timeout.ms`.
    const SESSION_TIMEOUT: Duration = Duration::from_secs(45);

    /// Returns how long the group keeps the place of a static member while it is away.
    pub(super) fn absence(&self) -> Duration {
        self.session_timeout.unwrap_or(Self::SESSION_TIMEOUT)
    }

    /// Returns whether both propose the same assignors.
    pub(super) fn proposes_as(&self, other: &Self) -> bool {
        let names = |config: &Self| -> Vec<String> {
            config.assignors.iter().map(|assignor| assignor.name().to_owned()).collect()
        };
        names(self) == names(other)
    }
}

/// One member, as the coordinator sees it.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) config: MemberConfig,
    pub(super) subscription: Subscription,
    /// The topic names that the subscription resolves to. Members with equal subscriptions share
    /// them.
    pub(super) topics: Arc<BTreeSet<Arc<str>>>,
    /// The epoch to which it has reconciled, or 0 before.
    pub(super) epoch: MemberEpoch,
    /// The epoch of the last answer to a heartbeat, `<= epoch`.
    pub(super) told_epoch: MemberEpoch,
    /// The partitions it holds: from the answer that assigned them until it acknowledged their
    /// revocation.
    pub(super) owned: BTreeMap<TopicPartition, Owned>,
    /// The partitions it should hold, sorted.
    pub(super) target: Vec<TopicPartition>,
    /// Rises whenever a heartbeat would return something new to the member.
    pub(super) version: u64,
    pub(super) silence: Silence,
}

/// A partition that a member holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owned {
    /// The epoch in which the member got it.
    pub(super) since: MemberEpoch,
    /// The id of its topic. A topic created later under the same name is another topic.
    pub(super) topic: TopicId,
    /// Set once the member was told to give it up. From then on it must, because it may have begun
    /// already.
    pub(super) revoking: bool,
}

impl Member {
    pub(super) fn new(
        id: &MemberId,
        config: MemberConfig,
        subscription: Subscription,
        topics: Arc<BTreeSet<Arc<str>>>,
        now: Duration,
    ) -> Self {
        // As in Kafka: a static member that does not poll stops its heartbeats but does not leave.
        let grace = id.instance_id().map_or(Duration::ZERO, |_| config.absence());
        let interval = config.max_poll_interval.saturating_add(grace);
        let silence = Silence::new(interval, config.session_timeout, now);
        Self {
            config,
            subscription,
            topics,
            epoch: MemberEpoch(0),
            told_epoch: MemberEpoch(0),
            owned: BTreeMap::new(),
            target: Vec::new(),
            version: 0,
            silence,
        }
    }

    /// Returns whether the member left temporarily, so that the group keeps its place.
    pub(super) fn is_away(&self) -> bool {
        self.epoch == MemberEpoch::AWAY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn member_ids_are_ordered_as_text() {
        let ids = [MemberId::new("m", 1), MemberId::new("m", 10), MemberId::new("m", 2)];
        assert!(ids.is_sorted());
        assert_eq!(ids[1].as_str(), "m-10");
    }

    #[test]
    fn only_a_static_member_has_an_instance_id() {
        assert_eq!(MemberId::new("a-b", 1).instance_id(), None);
        assert_eq!(MemberId::of_instance("a-b", 12).instance_id(), Some("a-b"));
        assert_eq!(MemberId::of_instance("a-b", 12).as_str(), "a-b-12");
    }
}
