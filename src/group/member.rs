use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::types::{TopicId, TopicPartition};

/// The identity of a member: `<client.id>-<number>`.
///
/// Ordered as text, as Kafka orders member ids: `m-1 < m-10 < m-2`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct MemberId(Arc<str>);

impl MemberId {
    /// The id of member `number` of the process; the caller never gives a number twice.
    pub(crate) fn new(client_id: &str, number: u64) -> Self {
        Self(format!("{client_id}-{number}").into())
    }

    #[cfg(test)]
    pub(super) fn from_text(text: &str) -> Self {
        Self(text.into())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The epoch of a group, and the one up to which a member has reconciled; 0 is before the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct MemberEpoch(pub(crate) i32);

impl MemberEpoch {
    /// The next epoch. The last one stays: two thousand million changes of one group within the life
    /// of a process; unknown members are still fenced then.
    pub(super) fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// What a member brings along when it joins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MemberConfig {
    /// `client.id`.
    pub(crate) client_id: Arc<str>,
    /// `group.instance.id`; orders the members of the range assignor, nothing else yet.
    pub(crate) instance_id: Option<Arc<str>>,
    /// `max.poll.interval.ms`.
    pub(crate) max_poll_interval: Duration,
}

/// One member, as the coordinator sees it.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) config: MemberConfig,
    pub(super) subscription: BTreeSet<Arc<str>>,
    /// The epoch it has reconciled to; 0 until then.
    pub(super) epoch: MemberEpoch,
    /// The epoch of the last answer to a heartbeat, `<= epoch`.
    pub(super) told_epoch: MemberEpoch,
    /// What it holds: from the answer that gave it until the member acknowledged its revocation.
    pub(super) owned: BTreeMap<TopicPartition, Owned>,
    /// What it is to hold.
    pub(super) target: BTreeSet<TopicPartition>,
    /// Rises whenever a heartbeat would tell the member something new.
    pub(super) version: u64,
    pub(super) timer: PollTimer,
}

/// A partition that a member holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owned {
    /// The epoch in which it was given to the member.
    pub(super) since: MemberEpoch,
    /// The topic it was given of: one created later under the same name is another topic.
    pub(super) topic: TopicId,
    /// The member was told to give it up, and from then on it must: it may have begun already.
    pub(super) revoking: bool,
}

impl Member {
    pub(super) fn new(
        config: MemberConfig,
        subscription: BTreeSet<Arc<str>>,
        now: Duration,
    ) -> Self {
        let timer = PollTimer::new(config.max_poll_interval, now);
        Self {
            config,
            subscription,
            epoch: MemberEpoch(0),
            told_epoch: MemberEpoch(0),
            owned: BTreeMap::new(),
            target: BTreeSet::new(),
            version: 0,
            timer,
        }
    }
}

/// How long a member has been silent.
///
/// Runs only while the program has control. Time blocked inside the engine is not silence: `poll`
/// starts the interval anew, other calls (`commit`) stop it and let it go on when they return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PollTimer {
    interval: Duration,
    /// What is left of the interval at `outside_since`.
    left: Duration,
    /// When the program got control; `None` while a call is inside the engine.
    outside_since: Option<Duration>,
}

impl PollTimer {
    fn new(interval: Duration, now: Duration) -> Self {
        Self { interval, left: interval, outside_since: Some(now) }
    }

    /// A poll was made: the interval begins anew.
    pub(super) fn refresh(&mut self, now: Duration) {
        self.left = self.interval;
        // Readings taken before a lock was had may come late; the clock never runs backwards here.
        self.outside_since = self.outside_since.map(|since| since.max(now));
    }

    /// A call other than poll went into the engine.
    pub(super) fn enter(&mut self, now: Duration) {
        if let Some(since) = self.outside_since.take() {
            self.left = self.left.saturating_sub(now.saturating_sub(since));
        }
    }

    /// The call returned to the program.
    pub(super) fn exit(&mut self, now: Duration) {
        self.outside_since = Some(self.outside_since.map_or(now, |since| since.max(now)));
    }

    /// When the member is silent for too long; `None` while it is inside the engine.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.outside_since.map(|since| since.saturating_add(self.left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn member_ids_are_ordered_as_text() {
        let ids = [MemberId::new("m", 1), MemberId::new("m", 10), MemberId::new("m", 2)];
        assert!(ids.is_sorted());
        assert_eq!(ids[1].as_str(), "m-10");
    }

    #[test]
    fn a_poll_starts_the_interval_anew_and_time_inside_it_does_not_count() {
        let mut timer = PollTimer::new(S(10), S(0));
        assert_eq!(timer.deadline(), Some(S(10)));
        timer.enter(S(9));
        timer.refresh(S(9));
        assert_eq!(timer.deadline(), None);
        timer.exit(S(1_000));
        assert_eq!(timer.deadline(), Some(S(1_010)));
    }

    #[test]
    fn a_commit_stops_the_interval_without_starting_it_anew() {
        let mut timer = PollTimer::new(S(10), S(0));
        timer.enter(S(4));
        assert_eq!(timer.deadline(), None);
        timer.exit(S(100));
        assert_eq!(timer.deadline(), Some(S(106)));
    }

    #[test]
    fn late_readings_of_the_clock_do_not_shorten_the_interval() {
        let mut timer = PollTimer::new(S(10), S(50));
        timer.refresh(S(40));
        assert_eq!(timer.deadline(), Some(S(60)));
        timer.exit(S(45));
        assert_eq!(timer.deadline(), Some(S(60)));
        assert_eq!(PollTimer::new(Duration::MAX, S(50)).deadline(), Some(Duration::MAX));
    }
}
