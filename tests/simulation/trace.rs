//! The steps of a seed.

use std::fmt;

use crate::action::Action;
use crate::seeds::Sum;

/// The steps, and a checksum of them and of their effects on the storage.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    steps: Vec<String>,
    crc: u32,
    pub(crate) tally: Tally,
}

impl Trace {
    /// Notes a step and the number of file changes so far.
    pub(crate) fn note(&mut self, ops: u64, what: &str) {
        self.add(what.as_bytes());
        self.add(&ops.to_be_bytes());
        self.steps.push(format!("{ops:>6} {what}"));
    }

    /// Adds bytes to the checksum.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        let mut hasher = crc32fast::Hasher::new_with_initial(self.crc);
        hasher.update(bytes);
        self.crc = hasher.finalize();
    }

    pub(crate) fn hash(&self) -> u32 {
        self.crc
    }

    pub(crate) fn all_steps(&self) -> String {
        self.steps.join("\n")
    }

    pub(crate) fn last_steps(&self) -> String {
        self.steps[self.steps.len().saturating_sub(40)..].join("\n")
    }
}

/// How often each kind of event happened.
#[derive(Debug, Default, Clone)]
pub(crate) struct Tally {
    actions: Vec<(Action, u64)>,
    pub(crate) lives: u64,
    pub(crate) kills: u64,
    pub(crate) power_losses: u64,
    pub(crate) faults: u64,
    pub(crate) read_faults: u64,
    pub(crate) failures: u64,
    pub(crate) evictions: u64,
    /// How often a consumer continued with a topic that was created again under the name that it
    /// assigned.
    pub(crate) renewals: u64,
    /// How often the engine rejected a position in a deleted topic.
    pub(crate) refusals: u64,
    /// How many records compaction has removed when it was asked to.
    pub(crate) compacted: u64,
    /// How many records have gone to make room for an append.
    pub(crate) dropped: u64,
    /// How many appends the disk budget had no room for.
    pub(crate) no_room: u64,
    /// How many transactions were committed, and how many were refused for a reason.
    pub(crate) transactions: u64,
    pub(crate) refused_transactions: u64,
    /// How many positions transactions took, and how many records were duplicates.
    pub(crate) taken: u64,
    pub(crate) duplicates: u64,
}

impl Tally {
    pub(crate) fn count(&mut self, action: Action) {
        match self.actions.iter_mut().find(|(known, _)| *known == action) {
            Some((_, count)) => *count += 1,
            None => self.actions.push((action, 1)),
        }
    }
}

impl Sum for Tally {
    fn add(&mut self, other: &Self) {
        for (action, count) in &other.actions {
            match self.actions.iter_mut().find(|(known, _)| known == action) {
                Some((_, sum)) => *sum += count,
                None => self.actions.push((*action, *count)),
            }
        }
        self.lives += other.lives;
        self.kills += other.kills;
        self.power_losses += other.power_losses;
        self.faults += other.faults;
        self.read_faults += other.read_faults;
        self.failures += other.failures;
        self.evictions += other.evictions;
        self.renewals += other.renewals;
        self.refusals += other.refusals;
        self.compacted += other.compacted;
        self.dropped += other.dropped;
        self.no_room += other.no_room;
        self.transactions += other.transactions;
        self.refused_transactions += other.refused_transactions;
        self.taken += other.taken;
        self.duplicates += other.duplicates;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} lives, {} kills, {} power losses, {} faults set, {} of reads, {} brokers failed, \
             {} evictions, {} renewals, {} refusals, {} records compacted, {} dropped, \
             {} without room, {} transactions, {} refused, {} positions taken, \
             {} duplicates; ",
            self.lives,
            self.kills,
            self.power_losses,
            self.faults,
            self.read_faults,
            self.failures,
            self.evictions,
            self.renewals,
            self.refusals,
            self.compacted,
            self.dropped,
            self.no_room,
            self.transactions,
            self.refused_transactions,
            self.taken,
            self.duplicates
        )?;
        let mut actions = self.actions.clone();
        actions.sort_by_key(|(action, _)| *action);
        let all: Vec<_> = actions.iter().map(|(action, n)| format!("{action:?} {n}")).collect();
        write!(f, "{}", all.join(", "))
    }
}
