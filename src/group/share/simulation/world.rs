//! The world around a share-partition.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::super::section::Section;
use super::super::{Decision, Fetch, MemberNumber, Now, ReadRecord, SharePartition, ShareSettings};
use super::member::Member;
use super::truth::Truth;
use crate::types::{AcquireMode, Backoff, ShareOrdering};

/// SplitMix64.
#[derive(Debug, Clone)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    pub(super) fn one_in(&mut self, odds: u64) -> bool {
        self.below(odds) == 0
    }
}

/// A batch as it was read: base, last, and its records unless it is dense or has none.
#[derive(Debug, Clone)]
pub(super) struct BatchRead {
    pub(super) base: i64,
    pub(super) last: i64,
    pub(super) records: Vec<ReadRecord>,
}

/// A fetch that reads, and what it has read.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) fetch: Fetch,
    pub(super) member: usize,
    pub(super) batches: Vec<BatchRead>,
    pub(super) end: i64,
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) dice: Dice,
    pub(super) monotonic: Duration,
    pub(super) wall: i64,
    /// The latest that the wall clock ever showed.
    pub(super) wall_max: i64,
    pub(super) settings: ShareSettings,
    /// The highest limit so far.
    pub(super) limit_max: u16,
    pub(super) partition: SharePartition,
    pub(super) image: Vec<u8>,
    pub(super) journal: Vec<Vec<u8>>,
    pub(super) truths: BTreeMap<i64, Truth>,
    /// The bounds of the batches of the log.
    pub(super) bounds: Vec<(i64, i64)>,
    pub(super) log_start: i64,
    pub(super) log_end: i64,
    pub(super) members: Vec<Member>,
    pub(super) next_member: u32,
    pub(super) pending: Option<Pending>,
    pub(super) lowest_start: i64,
}

fn settings(dice: &mut Dice) -> ShareSettings {
    let second = Duration::from_secs(1);
    let backoffs = [
        Backoff::NONE,
        Backoff { base: second, ..Backoff::NONE },
        Backoff { base: second / 2, factor_percent: 100, jitter_percent: 0, ..Backoff::NONE },
    ];
    ShareSettings {
        lock_duration: Duration::from_millis(100 + dice.below(2_000)),
        delivery_count_limit: 1 + dice.below(6) as u16,
        max_record_locks: 2 + dice.below(40) as u32,
        acquire_mode: if dice.one_in(3) {
            AcquireMode::BatchOptimized
        } else {
            AcquireMode::RecordLimit
        },
        ordering: if dice.one_in(2) { ShareOrdering::Key } else { ShareOrdering::None },
        backoff: backoffs[dice.below(3) as usize],
        ..ShareSettings::default()
    }
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut dice = Dice(seed.wrapping_mul(0x5851_f42d_4c95_7f2d));
        let settings = settings(&mut dice);
        let partition = SharePartition::new(Arc::new(settings.clone()), 0);
        let mut image = Vec::new();
        partition.encode(&mut image);
        let mut world = Self {
            dice,
            monotonic: Duration::from_secs(5),
            wall: 1_000_000,
            wall_max: 1_000_000,
            limit_max: settings.delivery_count_limit,
            settings,
            partition,
            image,
            journal: Vec::new(),
            truths: BTreeMap::new(),
            bounds: Vec::new(),
            log_start: 0,
            log_end: 0,
            members: Vec::new(),
            next_member: 1,
            pending: None,
            lowest_start: 0,
        };
        for _ in 0..3 {
            world.join();
        }
        world
    }

    pub(super) fn now(&self) -> Now {
        Now { monotonic: self.monotonic, wall: self.wall }
    }

    pub(super) fn join(&mut self) {
        self.members.push(Member::new(MemberNumber(self.next_member)));
        self.next_member += 1;
    }

    pub(super) fn truth(&mut self, offset: i64) -> &mut Truth {
        self.truths.get_mut(&offset).unwrap_or_else(|| panic!("no record {offset}"))
    }

    /// Journals a section and applies what the journal holds.
    pub(super) fn commit_section(&mut self, section: &Section) {
        let mut bytes = Vec::new();
        section.encode(&mut bytes);
        let decoded = Section::decode(&bytes).unwrap();
        assert_eq!(&decoded, section);
        self.partition.apply(&decoded, self.monotonic);
        self.journal.push(bytes);
        if self.dice.one_in(8) {
            // Applying the last section again changes nothing.
            let before = self.stored();
            self.partition.clone().apply(&decoded, self.monotonic);
            assert_eq!(before, self.stored());
        }
    }

    pub(super) fn commit(&mut self, decision: &Decision) {
        for letter in &decision.letters {
            for offset in letter.span.first..=letter.span.last {
                self.truth(offset).letters += 1;
            }
        }
        self.commit_section(&decision.section);
    }

    pub(super) fn stored(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.partition.encode(&mut bytes);
        bytes
    }
}
