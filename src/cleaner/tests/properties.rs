//! Random logs, passes and clocks, against a model that knows only what was appended.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::vectors::map_bytes;
use super::world::{Content, NewRecord, World, horizon};
use crate::cleaner::Cleaned;
use crate::record::{BatchHeader, Compression};
use crate::types::TimestampType;

/// Key and value.
type Pair = (Vec<u8>, Option<Vec<u8>>);

/// Values of a reader by key.
type State = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Debug, Clone)]
enum Op {
    Append {
        producer: usize,
        gap: i64,
        records: Vec<(u8, Option<u8>, i8)>,
        codec: usize,
        append_time: bool,
    },
    End {
        producer: usize,
        commit: bool,
        next_epoch: bool,
    },
    Roll,
    Clean {
        advance: i64,
    },
    Expire {
        producer: usize,
    },
    /// A reader reads this share of the log, in percent, and goes on when a pass has ended.
    Read {
        percent: i64,
    },
}

/// No id, an idempotent producer, and two transactional ones.
const PRODUCERS: usize = 4;
const TRANSACTIONAL: std::ops::Range<usize> = 2..PRODUCERS;
/// The default of a `World`.
const RETENTION_MS: i64 = 1000;

fn append(producers: std::ops::Range<usize>) -> impl Strategy<Value = Op> {
    let value = proptest::option::weighted(0.7, 0_u8..3);
    let records = proptest::collection::vec((0_u8..6, value, any::<i8>()), 1..5);
    (producers, 0_i64..2, records, 0_usize..5, any::<bool>()).prop_map(
        |(producer, gap, records, codec, append_time)| Op::Append {
            producer,
            gap,
            records,
            codec,
            append_time,
        },
    )
}

fn plain_log() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        6 => append(0..1),
        2 => Just(Op::Roll),
        1 => (0_i64..1500).prop_map(|advance| Op::Clean { advance }),
        1 => (0_i64..=100).prop_map(|percent| Op::Read { percent }),
    ];
    proptest::collection::vec(op, 1..40)
}

fn any_log() -> impl Strategy<Value = Vec<Op>> {
    let end = (TRANSACTIONAL, any::<bool>(), any::<bool>());
    let op = prop_oneof![
        8 => append(0..PRODUCERS),
        4 => end.prop_map(|(producer, commit, next_epoch)| Op::End { producer, commit, next_epoch }),
        2 => Just(Op::Roll),
        2 => (0_i64..1500).prop_map(|advance| Op::Clean { advance }),
        1 => (0_i64..=100).prop_map(|percent| Op::Read { percent }),
    ];
    proptest::collection::vec(op, 1..50)
}

/// A log, the clock, and what a reader of committed records must end with.
struct Run {
    world: World,
    now: i64,
    /// Epoch and next sequence of each producer.
    producers: [(i16, i32); PRODUCERS],
    /// Committed records of everything appended, and those of open transactions.
    committed: BTreeMap<i64, Pair>,
    open: Vec<(usize, i64, Pair)>,
    /// When it began, where it is, and what it has seen.
    reader: Option<(i64, i64, State)>,
}

fn apply(state: &mut State, key: &[u8], value: Option<&Vec<u8>>) {
    match value {
        Some(value) => drop(state.insert(key.to_vec(), value.clone())),
        None => drop(state.remove(key)),
    }
}

impl Run {
    fn new() -> Self {
        Self {
            world: World::default(),
            now: 100_000,
            producers: [(0, 0); PRODUCERS],
            committed: BTreeMap::new(),
            open: Vec::new(),
            reader: None,
        }
    }

    fn step(&mut self, op: &Op) {
        match op {
            Op::Append { producer, gap, records, codec, append_time } => {
                self.append(*producer, *gap, records, *codec, *append_time);
            }
            Op::End { producer, commit, next_epoch } => self.end(*producer, *commit, *next_epoch),
            Op::Roll => self.world.roll(),
            Op::Clean { advance } => {
                self.now += advance;
                self.clean();
            }
            Op::Expire { producer } => {
                if !self.world.has_open_transaction(*producer as i64) {
                    self.world.expire(&[*producer as i64]);
                }
            }
            Op::Read { percent } => {
                let to = self.world.last_stable_offset() * percent / 100;
                let mut state = State::new();
                self.read(0, to, &mut state);
                self.reader = Some((self.now, to, state));
            }
        }
    }

    fn append(
        &mut self,
        producer: usize,
        gap: i64,
        records: &[(u8, Option<u8>, i8)],
        codec: usize,
        append_time: bool,
    ) {
        let base_offset = self.world.log_end() + gap;
        let built_in: Vec<_> = Compression::ALL.into_iter().filter(|c| c.is_built_in()).collect();
        let is_transactional = TRANSACTIONAL.contains(&producer);
        let kind =
            if append_time { TimestampType::LogAppendTime } else { TimestampType::CreateTime };
        let attributes = BatchHeader::default().attributes;
        let mut header = BatchHeader {
            base_offset,
            leader_epoch: 3,
            attributes: attributes
                .with_compression(built_in[codec % built_in.len()])
                .with_transactional(is_transactional)
                .with_timestamp_type(kind),
            last_offset_delta: records.len() as i32 - 1,
            max_timestamp: self.now,
            ..BatchHeader::default()
        };
        if producer > 0 {
            let (epoch, sequence) = &mut self.producers[producer];
            (header.producer_id, header.producer_epoch) = (producer as i64, *epoch);
            header.base_sequence = *sequence;
            *sequence += records.len() as i32;
        }
        let mut new = Vec::new();
        for (offset, (key, value, jitter)) in (base_offset..).zip(records) {
            let (key, value) = (vec![*key], value.map(|value| vec![value; 20]));
            if is_transactional {
                self.open.push((producer, offset, (key.clone(), value.clone())));
            } else {
                self.committed.insert(offset, (key.clone(), value.clone()));
            }
            let header = (*jitter < 0).then(|| ("name".to_owned(), vec![1, 2, 3]));
            let timestamp = self.now + i64::from(*jitter);
            new.push(NewRecord { offset, timestamp, key: Some(key), value, header });
        }
        self.world.append(header, &new);
    }

    fn end(&mut self, producer: usize, commit: bool, next_epoch: bool) {
        if !self.world.has_open_transaction(producer as i64) {
            return;
        }
        if next_epoch {
            self.producers[producer] = (self.producers[producer].0 + 1, 0);
        }
        let (epoch, _) = self.producers[producer];
        self.world.end_transaction(self.world.log_end(), (producer as i64, epoch), commit);
        for (owner, offset, pair) in std::mem::take(&mut self.open) {
            if owner != producer {
                self.open.push((owner, offset, pair));
            } else if commit {
                self.committed.insert(offset, pair);
            }
        }
    }

    fn bound(&self) -> i64 {
        self.world.last_stable_offset().min(self.world.segments.last().unwrap().base_offset)
    }

    fn clean(&mut self) -> Cleaned {
        let before = self.world.batches();
        let aborted = self.aborted();
        let (dirty, bound) = (self.world.next_dirty, self.bound());
        let cleaned = self.world.clean(self.now, dirty, bound).unwrap();
        let survivors = survivors(&before, &aborted, self.now, &cleaned);
        assert_eq!(self.data(), survivors, "the records that stay");
        self.check_readers();
        cleaned
    }

    /// Returns the offsets of all data records.
    fn data(&self) -> Vec<i64> {
        let batches = self.world.batches();
        let data = batches.iter().filter(|(header, _)| !header.attributes.is_control());
        data.flat_map(|(_, records)| records.iter().map(|record| record.0)).collect()
    }

    fn aborted(&self) -> impl Fn(&BatchHeader) -> bool + use<> {
        let aborted = self.world.aborted();
        move |header| {
            header.attributes.is_transactional()
                && aborted.iter().any(|entry| {
                    entry.producer_id == header.producer_id
                        && (entry.first_offset..entry.last_offset).contains(&header.base_offset)
                })
        }
    }

    /// Reads committed records of `from..to`.
    fn read(&self, from: i64, to: i64, state: &mut State) {
        let is_aborted = self.aborted();
        for (header, records) in self.world.batches() {
            if header.attributes.is_control() || is_aborted(&header) {
                continue;
            }
            for record in records.iter().filter(|record| (from..to).contains(&record.0)) {
                apply(state, record.2.as_deref().unwrap(), record.3.as_ref());
            }
        }
    }

    /// Whoever reads from the start, and whoever began before the last passes but not longer ago than tombstones
    /// live, ends with the newest values.
    fn check_readers(&self) {
        let end = self.world.last_stable_offset();
        let mut expected = State::new();
        for (_, (key, value)) in self.committed.range(..end) {
            apply(&mut expected, key, value.as_ref());
        }
        let mut state = State::new();
        self.read(0, end, &mut state);
        assert_eq!(state, expected, "C1");
        if let Some((began, position, state)) = &self.reader
            && self.now < began + RETENTION_MS
        {
            let mut state = state.clone();
            self.read(*position, end, &mut state);
            assert_eq!(state, expected, "a slow reader misses no tombstone");
        }
    }
}

/// Returns the data records that must stay in a log that was clean up to the first dirty offset.
fn survivors(
    before: &[(BatchHeader, Vec<Content>)],
    is_aborted: &impl Fn(&BatchHeader) -> bool,
    now: i64,
    cleaned: &Cleaned,
) -> Vec<i64> {
    let end = cleaned.next_dirty_offset;
    let rewritten = before.iter().take(cleaned.stats.batches_in as usize);
    let untouched = before.iter().skip(cleaned.stats.batches_in as usize);
    let is_data = |batch: &&(BatchHeader, _)| !batch.0.attributes.is_control();
    let kept: Vec<_> =
        rewritten.filter(is_data).filter(|(header, _)| !is_aborted(header)).collect();
    let mut newest = BTreeMap::new();
    for (_, records) in &kept {
        newest.extend(records.iter().filter(|r| r.0 < end).map(|r| (r.2.clone(), r.0)));
    }
    let stays = |header: &BatchHeader, record: &Content| {
        let is_expired = record.3.is_none() && horizon(header).is_some_and(|h| now >= h);
        record.0 >= end || (newest[&record.2] == record.0 && !is_expired)
    };
    let kept = kept.iter().flat_map(|(header, records)| {
        records.iter().filter(|record| stays(header, record)).map(|record| record.0)
    });
    let rest = untouched.filter(is_data).flat_map(|(_, records)| records.iter().map(|r| r.0));
    kept.chain(rest).collect()
}

fn run(ops: &[Op]) -> Run {
    let mut run = Run::new();
    for op in ops {
        run.step(op);
    }
    run
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn readers_end_with_the_newest_values(ops in any_log(), segment_bytes in 1_u64..2000) {
        let mut run = Run::new();
        run.world.segment_bytes = segment_bytes;
        for op in &ops {
            run.step(op);
        }
    }

    #[test]
    fn producers_that_expire_leave_no_headers(ops in any_log()) {
        let mut run = run(&ops);
        for producer in 1..PRODUCERS {
            run.step(&Op::End { producer, commit: true, next_epoch: false });
            run.step(&Op::Expire { producer });
        }
        prop_assert!(run.world.producers.held().is_empty());
        run.world.roll();
        run.step(&Op::Append {
            producer: 0, gap: 0, records: vec![(0, Some(0), 0)], codec: 0, append_time: false,
        });
        // Data goes, then the marker gets its horizon, then it goes.
        for advance in [0, 0, RETENTION_MS] {
            run.step(&Op::Clean { advance });
        }
        for (header, records) in run.world.batches() {
            prop_assert!(!records.is_empty(), "{:?}", header);
        }
    }

    #[test]
    fn a_pass_repeated_at_the_same_time_changes_nothing(ops in plain_log()) {
        let mut run = run(&ops);
        run.world.roll();
        run.clean();
        prop_assert!(run.clean().stats.is_unchanged());
        run.world.next_dirty = 0;
        prop_assert!(run.clean().stats.is_unchanged());
    }

    #[test]
    fn passes_repeated_at_the_same_time_come_to_an_end(ops in any_log()) {
        let mut run = run(&ops);
        run.world.roll();
        // The first removes data, the second gives its markers a horizon.
        run.clean();
        run.clean();
        prop_assert!(run.clean().stats.is_unchanged());
    }

    #[test]
    fn a_small_map_comes_to_the_same_records_in_more_passes(ops in any_log(), keys in 1_u64..4) {
        let [mut large, mut small] = [(); 2].map(|()| {
            let mut run = run(&ops);
            run.world.roll();
            run
        });
        small.world.map_bytes = map_bytes(keys);
        let end = large.clean().next_dirty_offset;
        let mut before = small.world.next_dirty - 1;
        while small.world.next_dirty < end {
            prop_assert!(small.world.next_dirty > before, "C9");
            before = small.world.next_dirty;
            small.clean();
        }
        prop_assert_eq!(small.world.next_dirty, end);
        let records = |run: &Run| run.world.batches().into_iter().map(|batch| batch.1).collect::<Vec<_>>();
        // The large map was used once, so its markers have had one pass less.
        large.clean();
        small.clean();
        prop_assert_eq!(records(&large), records(&small));
    }
}
