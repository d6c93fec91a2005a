use std::collections::BTreeMap;
use std::time::Duration;

use crate::group::member::{MemberConfig, MemberEpoch};
use crate::group::subscription::Subscription;
use crate::types::{TopicId, TopicPartition};

/// A consumer, as it sees itself.
#[derive(Debug, Clone)]
pub(super) struct Consumer {
    pub(super) config: MemberConfig,
    pub(super) subscription: Subscription,
    pub(super) holds: BTreeMap<TopicPartition, Holding>,
    pub(super) epoch: MemberEpoch,
    /// The version on which it has acted.
    pub(super) seen: u64,
    /// The version that the shell has published for it.
    pub(super) published: u64,
    pub(super) woken: bool,
    /// Partitions that it must give up and has not acknowledged yet.
    pub(super) revoking: Vec<TopicPartition>,
    pub(super) inside: bool,
    pub(super) polled: Duration,
    /// The time of the last call of any kind.
    pub(super) heard: Duration,
}

/// A partition that a consumer believes it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Holding {
    pub(super) topic: TopicId,
    /// The epoch in which the consumer got it.
    pub(super) since: MemberEpoch,
    /// The next offset to read.
    pub(super) position: i64,
}

impl Consumer {
    pub(super) fn new(config: MemberConfig, subscription: Subscription, now: Duration) -> Self {
        Self {
            config,
            subscription,
            holds: BTreeMap::new(),
            epoch: MemberEpoch(0),
            // A number that is no version: the first poll always asks the group.
            seen: u64::MAX,
            published: 0,
            woken: true,
            revoking: Vec::new(),
            inside: false,
            polled: now,
            heard: now,
        }
    }

    /// Returns when it is evicted if it makes no further call. `grace` is a static member's time
    /// beyond its interval.
    pub(super) fn deadline(&self, grace: Duration) -> Option<Duration> {
        let polled = self.polled + self.config.max_poll_interval + grace;
        let heard = self.config.session_timeout.map(|session| self.heard + session);
        (!self.inside).then(|| heard.map_or(polled, |heard| heard.min(polled)))
    }

    /// Returns whether a poll would act: because of its version, or because it has not finished the
    /// last step.
    pub(super) fn has_news(&self) -> bool {
        self.seen != self.published || !self.revoking.is_empty()
    }
}
