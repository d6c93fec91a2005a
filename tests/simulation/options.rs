//! The features that a seed enables, and their rates (swarm testing: some combinations only occur
//! if other features are off).

use std::time::Duration;

use grouplog::record::Compression;
use grouplog::time::{Random, SeededRandom};
use grouplog::{JournalMode, ReadMode};

use crate::action::{ALL, Action};

/// The features and rates of one seed.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each switches one feature of a seed")]
pub(crate) struct Options {
    pub(crate) mode: JournalMode,
    /// The journal's limit, in files of 64 KiB.
    pub(crate) journal_files: u64,
    pub(crate) batch_size: u32,
    pub(crate) segment_bytes: u32,
    pub(crate) compression: Compression,
    /// One topic in this many has the broker's timestamps. 0 for none.
    pub(crate) append_time_in: u64,
    pub(crate) partitions_max: u32,
    pub(crate) value_bytes_max: usize,
    pub(crate) max_poll_records: usize,
    pub(crate) consumers_max: usize,
    pub(crate) auto_commit: bool,
    pub(crate) lives: u64,
    pub(crate) steps_max: usize,
    /// Whether a life may crash while it recovers.
    pub(crate) crash_in_recovery: bool,
    /// Whether a life may end by power loss, and not only by kills and closing.
    pub(crate) power_loss: bool,
    /// Whether a bit is flipped after the last life.
    pub(crate) damage: bool,
    pub(crate) weights: Vec<(Action, u32)>,
    /// How segments are read.
    pub(crate) read_mode: ReadMode,
    /// Appends from this size in bytes on go to the segments at once.
    pub(crate) stored_from: u32,
    /// Whether there is a disk budget, until the last life.
    pub(crate) budget: bool,
    /// Whether there are no other topics than those that make room, and large records. Then many appends need it.
    pub(crate) only_room: bool,
    /// Whether there is no other topic than a compacted one.
    pub(crate) only_compacted: bool,
    /// The number of keys in a compacted topic.
    pub(crate) keys: usize,
    pub(crate) delete_retention: Duration,
    pub(crate) min_dirty_ratio: f64,
    /// Whether members commit their positions by transactions alone, and often.
    pub(crate) pipeline: bool,
    /// Whether some records have an idempotency id.
    pub(crate) ids: bool,
    pub(crate) dedup_window: Duration,
    pub(crate) dedup_max_ids: u32,
    /// Whether compacted topics end their active segment after some time.
    pub(crate) compaction_lag: bool,
}

impl Options {
    pub(crate) fn of(seed: u64) -> Self {
        let random = SeededRandom::new(seed ^ 0x6f70_7469_6f6e_7321);
        let below = |n: u64| random.next_u64() % n;
        let coin = || below(2) == 0;
        let pick = |choices: &[u64]| choices[below(choices.len() as u64) as usize];
        let weights = ALL.iter().filter_map(|&(action, weight)| {
            let on = action == Action::Send || below(4) > 0;
            on.then(|| (action, weight << below(3)))
        });
        let weights = weights.collect();
        let mut options = Self {
            mode: if coin() { JournalMode::Map } else { JournalMode::Write },
            journal_files: pick(&[4, 4, 5, 8]),
            batch_size: pick(&[1024, 1024, 3000, 16_384]) as u32,
            segment_bytes: pick(&[2048, 8192, 1 << 20]) as u32,
            compression: if below(4) == 0 { Compression::Zstd } else { Compression::None },
            append_time_in: pick(&[0, 2, 4]),
            partitions_max: pick(&[1, 2, 4]) as u32,
            value_bytes_max: pick(&[20, 300, 300, 3_000, 25_000]) as usize,
            max_poll_records: pick(&[1, 7, 500]) as usize,
            consumers_max: pick(&[1, 2, 4]) as usize,
            auto_commit: coin(),
            lives: pick(&[2, 3, 5]),
            steps_max: pick(&[8, 25, 60]) as usize,
            crash_in_recovery: coin(),
            power_loss: below(4) > 0,
            damage: below(4) == 0,
            weights,
            read_mode: if coin() { ReadMode::Map } else { ReadMode::Pread },
            stored_from: pick(&[1, 200, 1000, u64::from(u32::MAX)]) as u32,
            budget: below(4) == 0,
            only_room: false,
            only_compacted: below(4) == 0,
            keys: pick(&[1, 3, 10]) as usize,
            delete_retention: Duration::from_millis(pick(&[0, 1000])),
            min_dirty_ratio: pick(&[0, 5]) as f64 / 10.0,
            compaction_lag: coin(),
            pipeline: below(4) == 0,
            ids: coin(),
            dedup_window: Duration::from_millis(pick(&[0, 1000, 5000, 120_000, 120_000])),
            dedup_max_ids: pick(&[1, 3, 1000]) as u32,
        };
        if options.budget && coin() {
            (options.only_room, options.only_compacted) = (true, false);
            (options.value_bytes_max, options.steps_max) = (25_000, 60);
        }
        if options.pipeline {
            let often = [(Action::Transact, 80), (Action::EndTransaction, 60)];
            let moves = [(Action::Subscribe, 20), (Action::Poll, 40), (Action::Stall, 8)];
            options.weights.extend(often.into_iter().chain(moves));
        }
        options
    }

    /// Returns whether read-only calls sometimes fail.
    pub(crate) fn reads_fail(&self) -> bool {
        self.weights.iter().any(|(action, _)| *action == Action::SetReadFault)
    }
}
