//! The features that a seed enables, and their rates.

use std::time::Duration;

use grouplog::time::{Random, SeededRandom};
use grouplog::{Backoff, JournalMode, ReadMode, ShareGroupConfig};

use super::DEAD;
use super::action::{ALL, Action};

/// The features and rates of one seed.
#[derive(Debug, Clone)]
pub(super) struct Options {
    pub(super) mode: JournalMode,
    /// The journal's limit, in files of 64 KiB.
    pub(super) journal_files: u64,
    pub(super) read_mode: ReadMode,
    pub(super) batch_size: u32,
    pub(super) segment_bytes: u32,
    /// Appends from this size in bytes on go to the segments at once.
    pub(super) stored_from: u32,
    pub(super) partitions_max: usize,
    pub(super) value_bytes_max: usize,
    /// The number of keys. 0: jobs have none.
    pub(super) keys: usize,
    pub(super) max_poll_records: u32,
    pub(super) members_max: usize,
    pub(super) lives: usize,
    pub(super) steps_max: usize,
    /// Whether a life may crash while it recovers.
    pub(super) crash_in_recovery: bool,
    /// Whether a life may end by power loss, and not only by kills and closing.
    pub(super) power_loss: bool,
    pub(super) weights: Vec<(Action, u32)>,
    pub(super) groups: [Group; 2],
}

/// The settings of a group.
#[derive(Debug, Clone, Copy)]
pub(super) struct Group {
    pub(super) lock: Duration,
    /// The most deliveries.
    pub(super) limit: u16,
    /// The backoff in ms, the same after each attempt.
    pub(super) backoff: i64,
    pub(super) is_ordered: bool,
    pub(super) has_letters: bool,
    /// The most records under way in a partition, if there is a limit.
    pub(super) window: Option<u32>,
}

impl Group {
    fn of(pick: impl Fn(&[u64]) -> u64) -> Self {
        Self {
            lock: Duration::from_millis(pick(&[300, 1000, 5000])),
            limit: pick(&[1, 2, 3, 5, 50]) as u16,
            backoff: pick(&[0, 0, 200, 2000]) as i64,
            is_ordered: pick(&[0, 0, 1]) == 1,
            has_letters: pick(&[0, 1, 1, 1]) == 1,
            window: (pick(&[0, 0, 0, 1]) == 1).then(|| pick(&[1, 2, 5]) as u32),
        }
    }

    pub(super) fn config(&self) -> ShareGroupConfig {
        let config = ShareGroupConfig::new()
            .record_lock_duration(self.lock)
            .delivery_count_limit(self.limit)
            .retry_backoff(Backoff::fixed(Duration::from_millis(self.backoff as u64)))
            .ordered_by_key(self.is_ordered);
        let config = if self.has_letters { config.dead_letter_topic(DEAD) } else { config };
        match self.window {
            Some(records) => config.max_record_locks(records),
            None => config,
        }
    }
}

impl Options {
    pub(super) fn of(seed: u64) -> Self {
        let random = SeededRandom::new(seed ^ 0x6a6f_6273_6f66_7321);
        let below = |n: u64| random.next_u64() % n;
        let coin = || below(2) == 0;
        let pick = |choices: &[u64]| choices[below(choices.len() as u64) as usize];
        let weights = ALL.iter().filter_map(|&(action, weight)| {
            let needed = [Action::Send, Action::Join, Action::Poll, Action::Say].contains(&action);
            let on = needed || below(4) > 0;
            on.then(|| (action, weight << below(3)))
        });
        let weights = weights.collect();
        Self {
            mode: if coin() { JournalMode::Map } else { JournalMode::Write },
            journal_files: pick(&[4, 4, 5, 8]),
            read_mode: if coin() { ReadMode::Map } else { ReadMode::Pread },
            batch_size: pick(&[1024, 1024, 3000, 16_384]) as u32,
            segment_bytes: pick(&[2048, 8192, 1 << 20]) as u32,
            stored_from: pick(&[1, 200, 1000, u64::from(u32::MAX)]) as u32,
            partitions_max: pick(&[1, 1, 2, 3]) as usize,
            value_bytes_max: pick(&[20, 300, 1000, 3_000]) as usize,
            keys: pick(&[0, 1, 3, 10]) as usize,
            max_poll_records: pick(&[1, 3, 500]) as u32,
            members_max: pick(&[1, 2, 4]) as usize,
            lives: pick(&[1, 2, 4]) as usize,
            steps_max: pick(&[20, 60, 200]) as usize,
            crash_in_recovery: coin(),
            power_loss: below(4) > 0,
            weights,
            groups: [Group::of(pick), Group::of(pick)],
        }
    }
}
