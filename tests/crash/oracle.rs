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

/// Returns what a state contains in place of a deleted record.
pub(crate) fn gone() -> Arc<RecordModel> {
    let headers = vec![("deleted".to_owned(), None)];
    Arc::new(RecordModel { key: None, value: None, headers, timestamp: None })
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
    Append(Vec<(Place, Arc<RecordModel>)>),
    Commit {
        group: String,
        offsets: Vec<(Place, i64)>,
    },
    /// Deletes a group's offset of one partition, or all of them.
    Forget {
        group: String,
        place: Option<Place>,
    },
}

/// Everything that can be seen of a broker. Also the effect of a prefix of changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) topics: BTreeMap<String, Vec<Vec<Arc<RecordModel>>>>,
    pub(crate) offsets: BTreeMap<(String, Place), i64>,
    /// The offset below which retention may have deleted records.
    may_be_gone: BTreeMap<Place, i64>,
}

/// Topics of this name are compacted: a record may be gone once a later one has its key. `delete.retention.ms` is 0,
/// so a record without a value may be gone once all older ones of its key are.
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
                self.may_be_gone.retain(|place, _| place.0 != *topic);
            }
            Change::AddPartitions { topic, total } => {
                if let Some(logs) = self.topics.get_mut(topic) {
                    logs.resize(*total as usize, Vec::new());
                }
            }
            Change::DeleteRecords { place: (topic, partition), before } => {
                let logs = self.topics.get_mut(topic);
                if let Some(log) = logs.and_then(|logs| logs.get_mut(*partition as usize)) {
                    log.iter_mut().take(*before as usize).for_each(|record| *record = gone());
                }
            }
            Change::MayDelete(places) => {
                for (place, before) in places {
                    let limit = self.may_be_gone.entry(place.clone()).or_default();
                    *limit = (*limit).max(*before);
                }
            }
            Change::Append(records) => {
                for ((topic, partition), record) in records {
                    if let Some(log) = self
                        .topics
                        .get_mut(topic)
                        .and_then(|topic| topic.get_mut(*partition as usize))
                    {
                        log.push(Arc::clone(record));
                        if topic == SHRINKING {
                            let before = log.len() as i64 - KEPT;
                            self.may_be_gone.insert((topic.clone(), *partition), before);
                        }
                    }
                }
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

    /// Returns whether this is what was seen. Compares lengths first: most states differ in them.
    pub(crate) fn is(&self, seen: &Self) -> bool {
        let lens = |state: &Self| -> Vec<usize> {
            state.topics.values().flatten().map(Vec::len).collect()
        };
        self.topics.keys().eq(seen.topics.keys())
            && self.offsets == seen.offsets
            && lens(self) == lens(seen)
            && self.topics.iter().zip(&seen.topics).all(|((topic, logs), (_, seen))| {
                logs.len() == seen.len()
                    && (0..).zip(logs.iter().zip(seen)).all(|(partition, (log, seen))| {
                        let may = self.may_be_gone.get(&(topic.clone(), partition)).copied();
                        let may = may.unwrap_or(0);
                        let gone = gone();
                        let replaced = |offset: i64| {
                            topic == COMPACTED && may_be_compacted(log, seen, offset as usize)
                        };
                        (0..).zip(log.iter().zip(seen)).all(|(offset, (a, b))| {
                            a.is(b) || *b == gone && (offset < may || replaced(offset))
                        })
                    })
            })
    }

    /// Returns the log start offset of a partition.
    #[allow(dead_code, reason = "the crash tests have no consumers that begin somewhere")]
    pub(crate) fn start(&self, (topic, partition): &Place) -> i64 {
        let log = self.topics.get(topic).and_then(|topic| topic.get(*partition as usize));
        log.map_or(0, |log| log.iter().take_while(|record| **record == gone()).count() as i64)
    }

    /// Returns the log end offset of a partition.
    pub(crate) fn end(&self, (topic, partition): &Place) -> i64 {
        let log = self.topics.get(topic).and_then(|topic| topic.get(*partition as usize));
        log.map_or(0, |log| log.len() as i64)
    }
}

/// Returns whether compaction may have removed the record at an offset.
fn may_be_compacted(log: &[Arc<RecordModel>], seen: &[Arc<RecordModel>], offset: usize) -> bool {
    let record = &log[offset];
    let same_key = |(_, other): &(usize, &Arc<RecordModel>)| other.key == record.key;
    let has_later = log.iter().enumerate().skip(offset + 1).any(|other| same_key(&other));
    let mut older = log.iter().enumerate().take(offset).filter(same_key);
    has_later || record.value.is_none() && older.all(|(at, _)| *seen[at] == *gone())
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
