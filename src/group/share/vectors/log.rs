//! The log of a case.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::super::{Contents, Read, ReadBatch, ReadRecord};
use super::case::{Keys, int, text};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Data,
    Commit,
    Abort,
}

#[derive(Debug, Clone)]
struct Batch {
    base: i64,
    last: i64,
    kind: Kind,
    pid: Option<i64>,
    holes: BTreeSet<i64>,
}

/// A partition's log.
#[derive(Debug, Default)]
pub(super) struct Log {
    batches: Vec<Batch>,
    pub(super) start: i64,
    pub(super) end: i64,
    /// The data batches of aborted transactions, by base offset.
    aborted: BTreeSet<i64>,
    /// The first offset of each open transaction.
    open: BTreeMap<i64, (i64, Vec<i64>)>,
}

/// What a fetch has read, with the memory that it needs.
#[derive(Debug)]
pub(super) struct Fetched {
    batches: Vec<(i64, i64, Option<Vec<ReadRecord>>, bool)>,
    end: i64,
}

impl Fetched {
    pub(super) fn with<T>(&self, then: impl FnOnce(Read<'_>) -> T) -> T {
        let batches: Vec<ReadBatch<'_>> = self
            .batches
            .iter()
            .map(|(base, last, records, is_data)| {
                let contents = match records {
                    _ if !is_data => Contents::Nothing,
                    Some(records) => Contents::Records(records),
                    None => Contents::Dense,
                };
                ReadBatch { base: *base, last: *last, contents }
            })
            .collect();
        then(Read { batches: &batches, end: self.end })
    }

    pub(super) fn first_base(&self) -> Option<i64> {
        self.batches.first().map(|(base, ..)| *base)
    }
}

impl Log {
    pub(super) fn append(&mut self, value: &Value) {
        let mut keys = Keys::of(value);
        let (base, last) = (int(keys.take("base").unwrap()), int(keys.take("last").unwrap()));
        let kind = match keys.take("kind").map_or("data", text) {
            "data" => Kind::Data,
            "commit" => Kind::Commit,
            "abort" => Kind::Abort,
            other => panic!("kind of batch {other}"),
        };
        let pid = keys.take("pid").map(int);
        let holes =
            keys.take("holes").map(|holes| holes.as_array().unwrap().iter().map(int).collect());
        keys.finish();
        match (kind, pid) {
            (Kind::Data, Some(pid)) => {
                let open = self.open.entry(pid).or_insert((base, Vec::new()));
                open.1.push(base);
            }
            (Kind::Data, None) => {}
            (Kind::Commit, pid) => drop(self.open.remove(&pid.unwrap())),
            (Kind::Abort, pid) => {
                let open = self.open.remove(&pid.unwrap());
                self.aborted.extend(open.map(|(_, batches)| batches).unwrap_or_default());
            }
        }
        self.batches.push(Batch { base, last, kind, pid, holes: holes.unwrap_or_default() });
        self.end = self.end.max(last + 1);
    }

    pub(super) fn compact(&mut self, remove: &Value) {
        for offset in remove.as_array().unwrap().iter().map(int) {
            for batch in &mut self.batches {
                if (batch.base..=batch.last).contains(&offset) {
                    batch.holes.insert(offset);
                }
            }
        }
        self.batches.retain(|batch| batch.holes.len() as i64 <= batch.last - batch.base);
    }

    pub(super) fn move_start(&mut self, offset: i64) {
        self.start = self.start.max(offset);
        self.batches.retain(|batch| batch.last >= offset);
    }

    /// Returns whether there is a data record at an offset.
    pub(super) fn has_data(&self, offset: i64) -> bool {
        self.batches.iter().any(|batch| {
            (batch.base..=batch.last).contains(&offset)
                && batch.kind == Kind::Data
                && !batch.holes.contains(&offset)
        })
    }

    pub(super) fn is_aborted(&self, offset: i64) -> bool {
        self.batches.iter().any(|batch| {
            (batch.base..=batch.last).contains(&offset) && self.aborted.contains(&batch.base)
        })
    }

    /// Reads whole batches, as a broker does.
    pub(super) fn read(&self, from: i64, to: i64, committed: bool) -> Fetched {
        let stable = self.open.values().map(|(first, _)| *first).min().unwrap_or(self.end);
        let visible = if committed { stable } else { self.end };
        let wanted =
            |batch: &&Batch| batch.last >= from && batch.base <= to && batch.base < visible;
        let batches: Vec<_> = self
            .batches
            .iter()
            .filter(wanted)
            .map(|batch| {
                let aborted =
                    committed && self.aborted.contains(&batch.base) && batch.pid.is_some();
                let records = (!batch.holes.is_empty()).then(|| {
                    let there = (batch.base..=batch.last).filter(|at| !batch.holes.contains(at));
                    there.map(|offset| ReadRecord { offset, key: None, deliver_at: None }).collect()
                });
                (batch.base, batch.last, records, batch.kind == Kind::Data && !aborted)
            })
            .collect();
        let last = batches.last().map_or(from, |batch| batch.1 + 1);
        Fetched { batches, end: visible.min(to.saturating_add(1)).max(last) }
    }
}
