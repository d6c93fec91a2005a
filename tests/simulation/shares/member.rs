//! Members of share groups, what they hold, and how they come and go.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use grouplog::time::Clock;
use grouplog::{
    Acks, Broker, Consumer, Producer, ProducerConfig, Result, ShareConsumer, ShareConsumerConfig,
    ShareRecord,
};

use super::fate::{Letter, Number};
use super::history::Change;
use super::world::World;
use super::{GROUPS, TOPICS};
use crate::member::unexpected;
use crate::world::{Step, violation};

/// An open folder with everything that uses it.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) broker: Broker,
    pub(super) written: Producer,
    pub(super) synced: Producer,
    pub(super) members: Vec<Member>,
    /// Members that say nothing any more.
    pub(super) vanished: Vec<Member>,
    /// Reads dead letters, once there is a topic for them.
    pub(super) letters: Option<Consumer>,
}

/// A member of a group.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) group: usize,
    pub(super) topics: Vec<&'static str>,
    pub(super) acks: Acks,
    pub(super) consumer: ShareConsumer,
    pub(super) held: Vec<Held>,
    /// Jobs whose locks had ended when it spoke of them, with their delivery counts. As long as nobody has looked, the
    /// group takes them for its own.
    pub(super) late: Vec<(Number, u16)>,
}

/// A job in the hands of a member.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) number: Number,
    pub(super) count: u16,
    /// When the lock ends, by the monotonic clock.
    pub(super) lock_end: Duration,
    /// How often the job's topic had been deleted.
    pub(super) deletions: u64,
    pub(super) record: ShareRecord,
}

/// What a member's word about a job is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Worth {
    Counts,
    /// The lock has ended, or somebody else has ended the attempt.
    IsLate,
    /// The job's record was deleted: there is nothing to change.
    IsNothing,
    /// The job's topic was deleted.
    HasNoTopic,
}

impl Session {
    pub(super) fn new(broker: Broker) -> Result<Self> {
        let producer = |acks| broker.producer_with(ProducerConfig::new().acks(acks));
        let (written, synced) = (producer(Acks::Written)?, producer(Acks::Synced)?);
        let (members, vanished) = (Vec::new(), Vec::new());
        Ok(Self { broker, written, synced, members, vanished, letters: None })
    }

    /// Returns the members of a group that hold a job, with what they hold.
    fn holders(&self, group: usize, number: Number) -> impl Iterator<Item = &Held> {
        let members = self.members.iter().chain(&self.vanished);
        let held = members.filter(move |member| member.group == group);
        held.flat_map(|member| &member.held).filter(move |held| held.number == number)
    }

    /// Lets no lock of a job count any more.
    pub(super) fn end_locks_of(&mut self, group: usize, number: Number) {
        let members = self.members.iter_mut().chain(&mut self.vanished);
        let held = members.filter(|member| member.group == group);
        let held = held.flat_map(|member| &mut member.held).filter(|held| held.number == number);
        held.for_each(|held| held.lock_end = Duration::ZERO);
    }
}

impl World {
    /// Returns whether a member holds a job, and its lock has not ended.
    pub(super) fn is_held(&self, session: &Session, group: usize, number: Number) -> bool {
        let now = self.clock.monotonic();
        session.holders(group, number).any(|held| held.lock_end > now)
    }

    pub(super) fn worth_of(&self, held: &Held) -> Worth {
        let topic = self.jobs[&held.number].place.0.as_str();
        if self.deletions.get(topic).copied().unwrap_or(0) != held.deletions {
            Worth::HasNoTopic
        } else if !self.history.fate(held.number).is_there {
            Worth::IsNothing
        } else if held.lock_end > self.clock.monotonic() {
            Worth::Counts
        } else {
            Worth::IsLate
        }
    }

    pub(super) fn join(&mut self, session: &mut Session) -> Step {
        if session.members.len() >= self.options.members_max {
            return Ok(());
        }
        let group = self.below(GROUPS.len());
        let topics = match self.below(4) {
            0 => vec![TOPICS[0]],
            1 => vec![TOPICS[1]],
            _ => TOPICS.to_vec(),
        };
        let acks = if self.one_in(3) { Acks::Synced } else { Acks::Written };
        let member = self.member_of(session, group, topics, acks)?;
        session.members.push(member);
        Ok(())
    }

    pub(super) fn member_of(
        &mut self,
        session: &Session,
        group: usize,
        topics: Vec<&'static str>,
        acks: Acks,
    ) -> Step<Member> {
        self.names += 1;
        let name = format!("m{}", self.names);
        self.note(format!("{name} joins {} for {topics:?}, {acks:?}", GROUPS[group]));
        let max = self.options.max_poll_records;
        let config = ShareConsumerConfig::new().acks(acks).max_poll_records(max);
        let consumer = session.broker.share_consumer_with(GROUPS[group], config);
        let mut consumer = consumer.or_else(unexpected)?;
        let subscribed = consumer.subscribe(&topics);
        self.alive()?;
        subscribed.or_else(unexpected)?;
        Ok(Member { name, group, topics, acks, consumer, held: Vec::new(), late: Vec::new() })
    }

    /// A member keeps what it has for ever.
    pub(super) fn vanish(&mut self, session: &mut Session) {
        if !session.members.is_empty() {
            let member = session.members.swap_remove(self.below(session.members.len()));
            self.note(format!("{} vanishes with {}", member.name, member.held.len()));
            session.vanished.push(member);
        }
    }

    pub(super) fn leave_one(&mut self, session: &mut Session) -> Step {
        if session.members.is_empty() {
            return Ok(());
        }
        let member = session.members.swap_remove(self.below(session.members.len()));
        self.leave(session, member)
    }

    /// A member closes, is dropped, or panics. All that it has comes again.
    pub(super) fn leave(&mut self, session: &mut Session, member: Member) -> Step {
        let how = self.below(3);
        self.note(format!("{} {}", member.name, ["closes", "is dropped", "panics"][how]));
        let group = member.group;
        let delay = if how == 0 { 0 } else { self.options.groups[group].backoff };
        let (changes, letters) = self.given_back(&member, delay);
        for (number, _) in &changes {
            self.loose.remove(&(group, *number));
        }
        self.history.attempt_each(changes);
        let Member { consumer, held, .. } = member;
        let closed = match how {
            0 => {
                let closed = consumer.close();
                drop(held);
                closed
            }
            1 => {
                drop((consumer, held));
                Ok(())
            }
            _ => {
                let panicked = catch_unwind(AssertUnwindSafe(move || {
                    let _held_by_what_unwinds = (consumer, held);
                    resume_unwind(Box::new("a member's own"));
                }));
                assert!(panicked.is_err());
                Ok(())
            }
        };
        self.alive()?;
        closed.or_else(|error| violation(format!("a member cannot leave: {error:?}")))?;
        self.history.written();
        self.expect_letters(session, letters)
    }

    /// Returns what becomes of the jobs of a member that leaves, and the dead letters. Of a lock that has ended, nobody may
    /// have taken note.
    fn given_back(&self, member: &Member, delay: i64) -> (Vec<Change>, Vec<(Number, Letter)>) {
        let (mut changes, mut letters) = (Vec::new(), Vec::new());
        let held = member.held.iter().map(|held| {
            let counts = self.worth_of(held) == Worth::Counts;
            (held.number, held.count, counts)
        });
        let late = member.late.iter().map(|(number, count)| (*number, *count, false));
        for (number, count, counts) in held.chain(late) {
            // What is gone is not open.
            let is_latest = self.history.fate(number).groups[member.group].open == Some(count);
            let is_last = count >= self.options.groups[member.group].limit;
            if !is_latest || !(counts || is_last) {
                continue;
            }
            let (fate, letter) = self.released(member.group, number, count, delay);
            letters.extend(letter.map(|letter| (number, letter)));
            changes.push((number, fate));
        }
        (changes, letters)
    }
}
