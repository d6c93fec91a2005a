//! Consumers, what the simulation knows about them, and how they join and leave.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use grouplog::{
    Consumer, ConsumerConfig, ConsumerRecords, Error, OffsetReset, Position, TopicPartition,
};

use crate::budget::DROPS;
use crate::disturb::Mark;
use crate::oracle::{COMPACTED, Place, RecordModel};
use crate::positions::Tenure;
use crate::session::Session;
use crate::world::{Step, World, violation};

/// A consumer, and what it is known to have received.
#[derive(Debug)]
pub(crate) struct Member {
    /// Its `client.id`, which is unique.
    pub(crate) name: String,
    pub(crate) group: Option<&'static str>,
    pub(crate) subscription: BTreeSet<String>,
    pub(crate) auto_commit: bool,
    pub(crate) reset: OffsetReset,
    pub(crate) consumer: Consumer,
    /// Its next offsets, with the incarnation of the topic.
    pub(crate) positions: BTreeMap<Place, (u64, i64)>,
    pub(crate) paused: BTreeSet<Place>,
    pub(crate) polled: Duration,
    /// What its last successful poll has returned.
    pub(crate) last: ConsumerRecords,
    /// Whether its positions are committed by transactions alone.
    pub(crate) transacts: bool,
    /// How often it has joined again.
    pub(crate) joins: u64,
    /// What it knows of the partitions that it was assigned.
    pub(crate) tenures: BTreeMap<Place, Tenure>,
    /// How many assignments of a partition it has seen.
    pub(crate) begun: u64,
    /// Where a transaction with its positions has failed since it polled.
    pub(crate) failed: BTreeSet<Place>,
}

/// A position that a program keeps itself: the next offset, and the record before it.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(crate) place: Place,
    pub(crate) position: Position,
    pub(crate) record: Arc<RecordModel>,
}

pub(crate) const GROUPS: [&str; 2] = ["g", "h"];
pub(crate) const TOPICS: [&str; 4] = ["a", "b", "c", COMPACTED];
/// `max.poll.interval.ms` of all consumers.
pub(crate) const INTERVAL: Duration = Duration::from_secs(10);

pub(crate) fn partition((topic, partition): &Place) -> TopicPartition {
    TopicPartition::new(topic.as_str(), *partition)
}

pub(crate) fn place_of(partition: &TopicPartition) -> Place {
    (partition.topic().to_owned(), partition.partition())
}

impl Member {
    pub(crate) fn is_subscribed(&self) -> bool {
        !self.subscription.is_empty()
    }
}

impl World {
    pub(crate) fn subscribe(&mut self, session: &mut Session) -> Step {
        let subscription: BTreeSet<String> = TOPICS
            .iter()
            .filter(|_| self.one_in(2))
            .map(|topic| (*topic).to_owned())
            .chain([TOPICS[0].to_owned()])
            .collect();
        if !session.members.is_empty() && self.one_in(4) {
            let at = self.below(session.members.len());
            let member = &mut session.members[at];
            if member.is_subscribed() {
                self.note(format!("{} subscribes to {subscription:?} now", member.name));
                member.consumer.subscribe(&subscription).or_else(unexpected)?;
                member.subscription = subscription;
            }
            return Ok(());
        }
        let Some(mut member) = self.new_member(session, true)? else { return Ok(()) };
        self.note(format!("{} joins {:?} for {subscription:?}", member.name, member.group));
        member.consumer.subscribe(&subscription).or_else(unexpected)?;
        member.subscription = subscription;
        session.members.push(member);
        Ok(())
    }

    pub(crate) fn assign(&mut self, session: &mut Session) -> Step {
        let places: BTreeSet<Place> =
            (0..3).filter_map(|_| self.any_place()).filter(|place| place.0 != DROPS).collect();
        if places.is_empty() || self.is_uncertain() {
            return Ok(());
        }
        let Some(mut member) = self.new_member(session, false)? else { return Ok(()) };
        self.note(format!("{} of {:?} assigns {places:?}", member.name, member.group));
        member.consumer.assign(places.iter().map(partition)).or_else(unexpected)?;
        self.take_up(&mut member)?;
        session.members.push(member);
        Ok(())
    }

    fn new_member(&mut self, session: &Session, in_group: bool) -> Step<Option<Member>> {
        if session.members.len() >= self.options.consumers_max {
            return Ok(None);
        }
        self.names += 1;
        let name = format!("c{}", self.names);
        let group = (in_group || self.one_in(2)).then(|| GROUPS[self.below(GROUPS.len())]);
        let reset = if self.one_in(4) { OffsetReset::Latest } else { OffsetReset::Earliest };
        let auto_commit =
            group.is_some() && self.options.auto_commit && !self.options.pipeline && self.one_in(2);
        let mut config = ConsumerConfig::new()
            .client_id(name.as_str())
            .auto_offset_reset(reset)
            .enable_auto_commit(auto_commit)
            .auto_commit_interval(Duration::from_millis(300))
            .max_poll_records(self.options.max_poll_records)
            .max_poll_interval(INTERVAL);
        if let Some(group) = group {
            config = config.group(group);
        }
        Ok(Some(Member {
            name,
            group,
            subscription: BTreeSet::new(),
            auto_commit,
            reset,
            consumer: session.broker.consumer_with(config).or_else(unexpected)?,
            positions: BTreeMap::new(),
            paused: BTreeSet::new(),
            polled: self.now(),
            last: ConsumerRecords::default(),
            transacts: in_group && !auto_commit && (self.options.pipeline || self.below(3) > 0),
            joins: 0,
            tenures: BTreeMap::new(),
            begun: 0,
            failed: BTreeSet::new(),
        }))
    }

    /// A consumer closes, is dropped, or panics.
    pub(crate) fn leave(&mut self, session: &mut Session) -> Step {
        if session.members.is_empty() {
            return Ok(());
        }
        let member = session.members.swap_remove(self.below(session.members.len()));
        match self.below(3) {
            0 => {
                self.note(format!("{} closes", member.name));
                let commits = member.auto_commit && !self.is_evicted(&member);
                let offsets = if commits { self.positions_of(&member) } else { Vec::new() };
                self.with_commit(session, member.group, &offsets, |_| {
                    // Fenced, or failed with the disk. At worst records are read again.
                    drop(member.consumer.close());
                })
            }
            1 => {
                self.note(format!("{} is dropped", member.name));
                drop(member);
                self.alive()
            }
            _ => {
                self.note(format!("{} panics", member.name));
                let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
                    let _held_by_what_unwinds = member;
                    std::panic::resume_unwind(Box::new("a consumer's own"));
                }));
                assert!(panicked.is_err());
                self.alive()
            }
        }
    }

    /// Lets a member be silent for too long while the others poll. It must be evicted, and its
    /// later commits must be refused (F23, F25).
    pub(crate) fn stall(&mut self, session: &mut Session) -> Step {
        let subscribed = |member: &Member| member.is_subscribed();
        let Some(at) = session.members.iter().position(subscribed) else { return Ok(()) };
        let name = session.members[at].name.clone();
        self.note(format!("{name} stalls"));
        for _ in 0..2 {
            self.clock.advance(INTERVAL * 3 / 5);
            // A member that has lost its topic leaves while it polls.
            for other in (0..session.members.len()).rev() {
                if session.members[other].name != name {
                    self.poll(session, other)?;
                }
            }
        }
        let Some(at) = session.members.iter().position(|member| member.name == name) else {
            return Ok(());
        };
        let group = session.members[at].group.unwrap_or_default();
        // Describing a group evicts silent members.
        if let Ok(summary) = session.broker.describe_group(group)
            && summary.members.iter().any(|member| member.client_id == name)
        {
            return violation(format!("{name} is a member although it was silent"));
        }
        self.trace.tally.evictions += 1;
        session.members[at].failed.clear();
        match session.members[at].consumer.commit() {
            Err(Error::Fenced { .. }) => self.alive(),
            Ok(()) => {
                self.alive()?;
                violation("a commit of an evicted member succeeds")
            }
            Err(error) => {
                self.alive()?;
                self.judge(&error, Mark::default())
            }
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "given to or_else")]
pub(crate) fn unexpected<T>(error: Error) -> Step<T> {
    violation(format!("unexpected: {error:?}"))
}
