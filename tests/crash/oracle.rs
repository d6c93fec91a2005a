//! What must exist: the one global order of changes, how far each was acknowledged, and the state
//! after every prefix of it.
//!
//! O1. A change is noted before it is tried, so the possible changes are always a prefix of the
//!     notes.
//! O2. Contents are unique, so no lost record can be mistaken for a later one.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A record as it must be read back, every byte of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RecordModel {
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
    /// `None` if the broker set it and the program ended before it learned it.
    pub(crate) timestamp: Option<i64>,
    /// The idempotency id with which it is sent. It is not read back.
    pub(crate) id: Option<RecordId>,
}

/// An idempotency id, and the earliest and the latest time of its registration, in ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordId {
    pub(crate) name: &'static str,
    #[allow(dead_code, reason = "no id of the crash tests expires")]
    pub(crate) times: (i64, i64),
}

impl RecordModel {
    /// Returns whether this is what was read.
    pub(crate) fn is(&self, seen: &Self) -> bool {
        let same_time = self.timestamp.is_none() || self.timestamp == seen.timestamp;
        same_time
            && self.key == seen.key
            && self.value == seen.value
            && self.headers == seen.headers
    }
}

/// A registered id, with the partition and offset of its record.
pub(crate) type Registered = (RecordId, (u32, i64));

/// Returns what a state contains in place of a deleted record.
pub(crate) fn gone() -> Arc<RecordModel> {
    let headers = vec![("deleted".to_owned(), None)];
    Arc::new(RecordModel { key: None, value: None, headers, timestamp: None, id: None })
}

/// A partition, by topic and number.
pub(crate) type Place = (String, u32);

/// One frame of the global order.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    Create {
        topic: String,
        partitions: u32,
    },
    Delete {
        topic: String,
    },
    /// Sets the number of partitions of the topic.
    AddPartitions {
        topic: String,
        total: u32,
    },
    /// Deletes the records below the offset.
    DeleteRecords {
        place: Place,
        before: i64,
    },
    /// Retention may delete records below these offsets, none, some or all.
    MayDelete(Vec<(Place, i64)>),
    /// Compaction may remove records of the topic that are there now, none, some or all that it is
    /// allowed to.
    MayCompact {
        topic: String,
    },
    Append(Vec<(Place, Arc<RecordModel>)>),
    Commit {
        group: String,
        offsets: Vec<(Place, i64)>,
    },
    /// Records, offsets of groups and a sequence, all in one frame.
    Transaction {
        records: Vec<(Place, Arc<RecordModel>)>,
        offsets: Vec<(String, Place, i64)>,
        sequence: Option<(String, i64)>,
    },
    /// A producer takes a name over.
    Own {
        owner: String,
    },
    /// The folder forgets a name.
    #[allow(dead_code, reason = "the crash tests keep their names")]
    Disown {
        owner: String,
    },
    /// What a share group does with records of a partition, by offset, and the records of the same frame: dead letters,
    /// or what a transaction has made of them.
    Share {
        group: String,
        place: Place,
        jobs: Vec<(i64, Job)>,
        records: Vec<(Place, Arc<RecordModel>)>,
    },
    /// Deletes a group's offset of one partition, or all of them.
    Forget {
        group: String,
        place: Option<Place>,
    },
}

/// A record of a share group that was delivered, with its delivery count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(dead_code, reason = "the simulation keeps a ledger of its own of jobs")]
pub(crate) enum Job {
    UnderWay(u16),
    Waiting(u16),
    Done,
}

/// What can be seen of a share-partition: the lag, and the records under way with their delivery counts.
pub(crate) type SeenShare = (u64, BTreeMap<i64, u16>);

impl Change {
    /// Returns whether this changes nothing, because all its records are duplicates. Then there is no frame.
    #[allow(dead_code, reason = "the crash tests do not go on after a failure")]
    pub(crate) fn is_nothing(&self) -> bool {
        match self {
            Self::Append(records) => records.is_empty(),
            Self::Transaction { records, offsets, sequence } => {
                records.is_empty() && offsets.is_empty() && sequence.is_none()
            }
            _ => false,
        }
    }
}

/// Everything that can be seen of a broker. Also the effect of a prefix of changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) topics: BTreeMap<String, Vec<Vec<Arc<RecordModel>>>>,
    pub(crate) offsets: BTreeMap<(String, Place), i64>,
    /// The log start offsets that are not 0.
    pub(crate) starts: BTreeMap<Place, i64>,
    /// The named owners, each with its epoch and last sequence.
    pub(crate) owners: BTreeMap<String, (i32, Option<i64>)>,
    /// The idempotency ids of each topic in the order of their registrations.
    pub(crate) ids: BTreeMap<String, Vec<Registered>>,
    /// The records that share groups have delivered.
    pub(crate) jobs: BTreeMap<(String, Place), BTreeMap<i64, Job>>,
    /// What was seen of share groups that have delivered something. Empty in a state that was not seen.
    pub(crate) seen_shares: BTreeMap<(String, Place), SeenShare>,
    /// The offsets below which compaction has run.
    compacted: BTreeMap<Place, usize>,
    /// The offset below which retention may have deleted records.
    may_be_gone: BTreeMap<Place, i64>,
}

/// Topics of this name are compacted. A pass may remove a record once a later one below the end of the pass has its
/// key, and a record without a value once all older ones of its key are gone.
pub(crate) const COMPACTED: &str = "k";

/// Topics of this name have a `retention.bytes` that keeps this many of the last records.
pub(crate) const SHRINKING: &str = "r";
const KEPT: i64 = 3;

impl State {
    pub(crate) fn apply(&mut self, change: &Change) {
        match change {
            Change::Create { topic, partitions } => {
                self.topics.insert(topic.clone(), vec![Vec::new(); *partitions as usize]);
            }
            Change::Delete { topic } => {
                self.topics.remove(topic);
                self.offsets.retain(|(_, place), _| place.0 != *topic);
                self.starts.retain(|place, _| place.0 != *topic);
                self.ids.remove(topic);
                self.jobs.retain(|(_, place), _| place.0 != *topic);
                self.compacted.retain(|place, _| place.0 != *topic);
                self.may_be_gone.retain(|place, _| place.0 != *topic);
            }
            Change::AddPartitions { topic, total } => {
                if let Some(logs) = self.topics.get_mut(topic) {
                    logs.resize(*total as usize, Vec::new());
                }
            }
            Change::DeleteRecords { place, before } => self.delete_records(place, *before),
            Change::MayDelete(places) => {
                for (place, before) in places {
                    let limit = self.may_be_gone.entry(place.clone()).or_default();
                    *limit = (*limit).max(*before);
                }
            }
            Change::MayCompact { topic } => {
                for (partition, log) in (0..).zip(self.topics.get(topic).into_iter().flatten()) {
                    self.compacted.insert((topic.clone(), partition), log.len());
                }
            }
            Change::Append(records) => self.append(records),
            Change::Share { group, place, jobs, records } => {
                self.append(records);
                let known = self.jobs.entry((group.clone(), place.clone())).or_default();
                known.extend(jobs.iter().copied());
            }
            Change::Transaction { records, offsets, sequence } => {
                self.append(records);
                for (group, place, offset) in offsets {
                    self.offsets.insert((group.clone(), place.clone()), *offset);
                }
                if let Some((owner, sequence)) = sequence
                    && let Some((_, last)) = self.owners.get_mut(owner)
                {
                    *last = Some(*sequence);
                }
            }
            Change::Own { owner } => {
                let next = self.owners.get(owner).map_or(0, |(epoch, _)| epoch + 1);
                self.owners.entry(owner.clone()).or_default().0 = next;
            }
            Change::Disown { owner } => {
                self.owners.remove(owner);
            }
            Change::Commit { group, offsets } => {
                for (place, offset) in offsets {
                    self.offsets.insert((group.clone(), place.clone()), *offset);
                }
            }
            Change::Forget { group, place } => {
                let goes = |at: &Place| place.as_ref().is_none_or(|place| place == at);
                self.offsets.retain(|(of, at), _| of != group || !goes(at));
            }
        }
    }

    fn append(&mut self, records: &[(Place, Arc<RecordModel>)]) {
        for (place, record) in records {
            let logs = self.topics.get_mut(&place.0);
            let Some(log) = logs.and_then(|logs| logs.get_mut(place.1 as usize)) else { continue };
            log.push(Arc::clone(record));
            if let Some(id) = record.id {
                let at = (place.1, log.len() as i64 - 1);
                self.ids.entry(place.0.clone()).or_default().push((id, at));
            }
            if place.0 == SHRINKING {
                let before = log.len() as i64 - KEPT;
                self.may_be_gone.insert(place.clone(), before);
            }
        }
    }

    fn delete_records(&mut self, place: &Place, before: i64) {
        let logs = self.topics.get_mut(&place.0);
        let Some(log) = logs.and_then(|logs| logs.get_mut(place.1 as usize)) else { return };
        log.iter_mut().take(before as usize).for_each(|record| *record = gone());
        if before > 0 {
            let start = self.starts.entry(place.clone()).or_default();
            *start = before.max(*start);
        }
    }

    /// Returns whether this is what was seen. Compares lengths first: most states differ in them.
    pub(crate) fn is(&self, seen: &Self) -> bool {
        let lens = |state: &Self| -> Vec<usize> {
            state.topics.values().flatten().map(Vec::len).collect()
        };
        self.topics.keys().eq(seen.topics.keys())
            && self.offsets == seen.offsets
            && self.owners == seen.owners
            && self.shares() == seen.seen_shares
            && lens(self) == lens(seen)
            && self.topics.iter().all(|(topic, logs)| {
                (0..logs.len() as u32).all(|number| self.is_log(&(topic.clone(), number), seen))
            })
    }

    /// Returns what can be seen of the share groups.
    fn shares(&self) -> BTreeMap<(String, Place), SeenShare> {
        let seen = |((group, place), jobs): (&(String, Place), &BTreeMap<i64, Job>)| {
            let done = jobs.values().filter(|job| **job == Job::Done).count() as u64;
            let under_way = jobs.iter().filter_map(|(offset, job)| match job {
                Job::UnderWay(count) => Some((*offset, *count)),
                _ => None,
            });
            let under_way: BTreeMap<i64, u16> = under_way.collect();
            let shows = done > 0 || !under_way.is_empty();
            let lag = self.end(place) as u64 - done;
            shows.then(|| ((group.clone(), place.clone()), (lag, under_way)))
        };
        self.jobs.iter().filter_map(seen).collect()
    }

    /// Returns whether the partition's log start and records are those that were seen.
    fn is_log(&self, place: &Place, seen: &Self) -> bool {
        let may_be_gone = self.may_be_gone.get(place).copied().unwrap_or(0);
        let (start, seen_start) = (self.start(place), seen.start(place));
        let (Some(log), Some(seen)) = (self.log(place), seen.log(place)) else { return false };
        let gone = gone();
        let removed = |offset: usize| {
            let fallen = |older: usize| *seen[older] == *gone;
            self.may_be_compacted(place, offset, fallen)
        };
        (start == seen_start || start < seen_start && seen_start <= may_be_gone)
            && log.iter().zip(seen).enumerate().all(|(offset, (a, b))| {
                a.is(b) || *b == gone && ((offset as i64) < may_be_gone || removed(offset))
            })
    }

    /// Returns whether compaction may have removed the record at an offset. `is_gone` tells which older records
    /// are gone.
    pub(crate) fn may_be_compacted(
        &self,
        place: &Place,
        offset: usize,
        is_gone: impl Fn(usize) -> bool,
    ) -> bool {
        let end = self.compacted.get(place).copied().unwrap_or(0);
        let Some(log) = self.log(place).filter(|_| place.0 == COMPACTED && offset < end) else {
            return false;
        };
        let same_key = |at: &usize| log[*at].key == log[offset].key;
        (offset + 1..end).any(|at| same_key(&at))
            || log[offset].value.is_none() && (0..offset).filter(same_key).all(is_gone)
    }

    fn log(&self, (topic, partition): &Place) -> Option<&Vec<Arc<RecordModel>>> {
        self.topics.get(topic).and_then(|logs| logs.get(*partition as usize))
    }

    /// Returns the log start offset of a partition.
    pub(crate) fn start(&self, place: &Place) -> i64 {
        self.starts.get(place).copied().unwrap_or(0)
    }

    /// Returns the log end offset of a partition.
    pub(crate) fn end(&self, place: &Place) -> i64 {
        self.log(place).map_or(0, |log| log.len() as i64)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (topic, logs) in &self.topics {
            let ends: Vec<_> = logs.iter().map(Vec::len).collect();
            write!(f, "{topic}{ends:?} ")?;
        }
        for ((group, (topic, partition)), offset) in &self.offsets {
            write!(f, "{group}@{topic}-{partition}={offset} ")?;
        }
        for (owner, (epoch, sequence)) in &self.owners {
            write!(f, "{owner}: epoch {epoch}, sequence {sequence:?} ")?;
        }
        for ((group, place), share) in self.shares().iter().chain(&self.seen_shares) {
            write!(f, "{group} shares {place:?}: {share:?} ")?;
        }
        Ok(())
    }
}

/// The changes so far and what was promised about them.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    changes: Vec<Change>,
    /// The state after all of them.
    state: State,
    /// This many changes survive a killed process.
    written: usize,
    /// This many changes survive power loss.
    synced: usize,
    next_id: u64,
}

impl History {
    /// Notes a change that is about to be tried.
    pub(crate) fn attempt(&mut self, change: Change) {
        self.state.apply(&change);
        self.changes.push(change);
    }

    /// Notes that everything attempted was acknowledged as `Written`.
    pub(crate) fn written(&mut self) {
        self.written = self.changes.len();
    }

    /// Notes that everything attempted was acknowledged as `Synced`.
    pub(crate) fn synced(&mut self) {
        self.written();
        self.synced_up_to(self.written);
    }

    /// Notes that the first `count` changes became `Synced`.
    pub(crate) fn synced_up_to(&mut self, count: usize) {
        self.synced = self.synced.max(count);
    }

    /// Returns the state with everything attempted.
    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    pub(crate) fn attempted(&self) -> usize {
        self.changes.len()
    }

    /// Returns a number for contents that no other record has.
    pub(crate) fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Returns how many changes must at least exist after a kill or a power loss.
    pub(crate) fn promised(&self, power_loss: bool) -> usize {
        if power_loss { self.synced } else { self.written }
    }

    /// Finds the one prefix that explains everything seen: records of all partitions, offsets and
    /// topics.
    pub(crate) fn explain(&self, seen: &State, promised: usize) -> Result<usize, String> {
        if promised == self.changes.len() && self.state.is(seen) {
            return Ok(promised);
        }
        let mut state = State::default();
        let mut best = None;
        for count in 0..=self.changes.len() {
            if count > 0 {
                state.apply(&self.changes[count - 1]);
            }
            if state.is(seen) {
                if count >= promised {
                    return Ok(count);
                }
                // A change may leave the state unchanged, so a longer prefix may match as well.
                best = Some(format!("{count} changes are there"));
            }
        }
        let best = best.unwrap_or_else(|| "no prefix of the changes explains it".to_owned());
        Err(format!(
            "{best}; promised {promised}, attempted {}\n  seen:     {seen}\n  all:      {}\n  promised: {}",
            self.changes.len(),
            self.state,
            self.at(promised),
        ))
    }

    /// Returns the state with the first `count` changes.
    pub(crate) fn at(&self, count: usize) -> State {
        let mut state = State::default();
        self.changes.iter().take(count).for_each(|change| state.apply(change));
        state
    }

    /// Notes that the first `count` changes were found. `durable`: they survive power loss from
    /// here on.
    pub(crate) fn found(&mut self, count: usize, durable: bool) {
        self.cut_to(count);
        self.written = count;
        self.synced = if durable { count } else { self.synced.min(count) };
    }

    /// Notes what retention turned out to have deleted. `durable`: it survives power loss from here on.
    #[allow(dead_code, reason = "the crash tests have no consumers that begin somewhere")]
    pub(crate) fn note_starts(&mut self, seen: &State, durable: bool) {
        for place in self.state.may_be_gone.keys().cloned().collect::<Vec<_>>() {
            let before = seen.start(&place);
            if before > self.state.start(&place) {
                self.attempt(Change::DeleteRecords { place, before });
                self.written();
                if durable {
                    self.synced();
                }
            }
        }
    }

    /// Notes that the changes after the first `count` do not exist and never will.
    pub(crate) fn cut_to(&mut self, count: usize) {
        if count < self.changes.len() {
            self.state = self.at(count);
            self.changes.truncate(count);
        }
    }
}
