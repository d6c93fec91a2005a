//! Random sends, settings, checkpoints and restarts, compared with a plain list.

use proptest::prelude::*;

use crate::dedup::entry::Entry;
use crate::dedup::{
    Claims, Decision, DedupSettings, DedupTable, Frozen, IdHash, IdSection, Place, TopicImage,
    decode_topics, encode_topics, load, remove_unlisted, write_out,
};
use crate::storage::Memory;
use crate::types::{PartitionNumber, TopicId};

#[derive(Debug, Clone)]
enum Step {
    /// Sends ids in one frame, some milliseconds later (or earlier). The frame may fail.
    Send {
        ids: Vec<u8>,
        later: i64,
        fails: bool,
    },
    /// Sends that many new ids.
    Burst(u16),
    Configure(DedupSettings),
    Expire {
        later: i64,
    },
    Freeze,
    End(Outcome),
    Restart {
        later: i64,
        failed_counts: bool,
    },
}

/// What becomes of a checkpoint.
#[derive(Debug, Clone, Copy)]
enum Outcome {
    Durable,
    /// It is written, and its sync fails, so it may count or not.
    Unknown,
    /// It fails before anything is written.
    Refused,
}

fn settings() -> impl Strategy<Value = DedupSettings> {
    let window = prop_oneof![1 => Just(0), 6 => 1..200_u64, 1 => Just(u64::MAX)];
    let most = prop_oneof![3 => 1..20_u32, 3 => 20..3000_u32, 1 => Just(100_000_000)];
    (window, most).prop_map(|(window_ms, max_ids)| DedupSettings { window_ms, max_ids })
}

fn step() -> impl Strategy<Value = Step> {
    let outcome = prop_oneof![
        3 => Just(Outcome::Durable),
        1 => Just(Outcome::Unknown),
        1 => Just(Outcome::Refused),
    ];
    prop_oneof![
        12 => (prop::collection::vec(0..24_u8, 1..6), -5..30_i64, prop::bool::weighted(0.1))
            .prop_map(|(ids, later, fails)| Step::Send { ids, later, fails }),
        2 => (0..1500_u16).prop_map(Step::Burst),
        1 => settings().prop_map(Step::Configure),
        1 => (0..100_i64).prop_map(|later| Step::Expire { later }),
        4 => Just(Step::Freeze),
        4 => outcome.prop_map(Step::End),
        2 => (0..50_i64, any::<bool>())
            .prop_map(|(later, failed_counts)| Step::Restart { later, failed_counts }),
    ]
}

fn hash(id: u64) -> IdHash {
    IdHash { high: id << 59 | id, low: id % 7 }
}

/// A checkpoint: its images, and the frames before it.
#[derive(Debug, Clone)]
struct Checkpoint {
    bytes: Vec<u8>,
    frames: usize,
    configured: usize,
}

/// The table, and all that is needed to make it again.
struct World {
    table: DedupTable,
    settings: DedupSettings,
    storage: Memory,
    frames: Vec<IdSection>,
    configured: usize,
    durable: Option<Checkpoint>,
    /// The last one of unknown outcome, unless a later one is durable.
    unknown: Option<Checkpoint>,
    frozen: Option<(Frozen, usize, usize)>,
    now: i64,
    seen: i64,
    end: i64,
    /// All entries ever registered, and how many of the first do not count any more.
    entries: Vec<Entry>,
    dead: usize,
    forgotten: u64,
}

const TOPIC: TopicId = TopicId::from_bytes([1; 16]);

impl World {
    fn new(settings: DedupSettings) -> Self {
        let mut world = Self {
            table: DedupTable::new(TOPIC, settings),
            settings,
            storage: Memory::new(),
            frames: Vec::new(),
            configured: 0,
            durable: None,
            unknown: None,
            frozen: None,
            now: 1000,
            seen: 0,
            end: 0,
            entries: Vec::new(),
            dead: 0,
            forgotten: 0,
        };
        world.small_buckets();
        world
    }

    fn small_buckets(&mut self) {
        self.table.files.bucket_entries = 5;
    }

    fn advance(&mut self, later: i64) -> i64 {
        self.now += later;
        self.seen = self.seen.max(self.now);
        self.bury();
        self.now
    }

    /// Passes over the entries whose window is over.
    fn bury(&mut self) {
        let is_over = |entry: &Entry| (self.seen - entry.time) as u64 >= self.settings.window_ms;
        self.dead += self.entries[self.dead..].iter().take_while(|entry| is_over(entry)).count();
    }

    fn first_place(&self, hash: IdHash) -> Option<Place> {
        let found = self.entries[self.dead..].iter().find(|entry| entry.hash == hash);
        found.map(|entry| entry.place)
    }

    fn register(&mut self, hash: IdHash, place: Place) {
        if self.entries.len() - self.dead >= self.settings.max_ids as usize {
            self.dead += 1;
            self.forgotten += 1;
        }
        self.entries.push(Entry { hash, place, time: self.seen });
    }

    fn send(&mut self, ids: impl Iterator<Item = u64>, later: i64, fails: bool) {
        let now = self.advance(later);
        let (mut claims, mut claimed) = (Claims::default(), Vec::new());
        for id in ids {
            let hash = hash(id);
            let decision = claims.decide(&mut self.table, hash, now);
            if self.settings.window_ms == 0 {
                assert_eq!(decision, Decision::Off);
                continue;
            }
            let repeated = claimed.iter().find(|(other, _, _)| *other == hash);
            match (self.first_place(hash), repeated) {
                (_, Some((_, claim, _))) => assert_eq!(decision, Decision::Repeat(*claim)),
                (Some(place), None) => assert_eq!(decision, Decision::Duplicate(place)),
                (None, None) => {
                    let Decision::New(claim) = decision else { panic!("{decision:?}") };
                    let place = Place { partition: PartitionNumber(2), offset: self.end };
                    self.end += 1;
                    claims.place(claim, place);
                    claimed.push((hash, claim, place));
                }
            }
        }
        if fails || claimed.is_empty() {
            return;
        }
        let (mut bytes, time) = (Vec::new(), self.table.time(now));
        assert_eq!(time, self.seen);
        claims.encode(TOPIC, time, &mut bytes);
        self.frames.push(IdSection::decode(&bytes).unwrap());
        claims.register(&mut self.table, time);
        for (hash, _, place) in claimed {
            self.register(hash, place);
        }
    }

    fn configure(&mut self, settings: DedupSettings) {
        let now = self.advance(0);
        self.table.configure(settings, now);
        self.configured += 1;
        self.settings = settings;
        self.bury();
        let kept = self.entries.len() - self.dead;
        let excess = kept.saturating_sub(settings.max_ids as usize);
        self.dead += excess;
        self.forgotten += excess as u64;
    }

    fn end(&mut self, outcome: Outcome) {
        let Some((frozen, frames, configured)) = self.frozen.take() else { return };
        if matches!(outcome, Outcome::Refused) {
            return;
        }
        let images = write_out(&[frozen], &self.storage).unwrap();
        let mut bytes = Vec::new();
        encode_topics(&images, &mut bytes);
        let checkpoint = Checkpoint { bytes, frames, configured };
        if matches!(outcome, Outcome::Unknown) {
            self.unknown = Some(checkpoint);
            return;
        }
        (self.durable, self.unknown) = (Some(checkpoint), None);
        self.table.committed(&images[0]);
        remove_unlisted(&images, &self.storage).unwrap();
    }

    fn restart(&mut self, later: i64, failed_counts: bool) {
        // A clock that has gone back while the table saw it further on is another test's.
        self.now = self.now.max(self.seen) + later;
        self.seen = self.now;
        self.frozen = None;
        if failed_counts && self.unknown.is_some() {
            self.durable = self.unknown.take();
        }
        self.unknown = None;
        let (frames, configured) = match &self.durable {
            None => {
                self.table = DedupTable::new(TOPIC, self.settings);
                (0, 0)
            }
            Some(Checkpoint { bytes, frames, configured }) => {
                let images = decode_topics(bytes).unwrap();
                self.table = self.load(&images[0]);
                (*frames, *configured)
            }
        };
        self.small_buckets();
        self.table.time(self.now);
        self.frames[frames..].iter().for_each(|section| section.replay(&mut self.table));
        let changed = configured != self.configured;
        self.compare_after_restart(changed);
    }

    fn load(&self, image: &TopicImage) -> DedupTable {
        load(&self.storage, image, self.settings, self.now).unwrap()
    }

    fn compare_after_restart(&mut self, settings_changed: bool) {
        self.bury();
        if settings_changed {
            // Ids that smaller settings have ended may count again, as the present settings say.
            let found = self.table.entries();
            let first = self.entries.len() - found.len();
            assert!(first <= self.dead);
            assert!(found.len() <= self.settings.max_ids as usize);
            self.dead = first;
        }
        self.bury();
        self.forgotten = self.table.forgotten();
        self.compare();
    }

    fn compare(&mut self) {
        // The clock of the table may be behind until its next call.
        self.table.time(self.seen);
        assert_eq!(self.table.entries(), self.entries[self.dead..]);
        assert_eq!(self.table.len(), (self.entries.len() - self.dead) as u64);
        assert_eq!(self.table.forgotten(), self.forgotten);
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Send { ids, later, fails } => {
                self.send(ids.into_iter().map(u64::from), later, fails);
            }
            Step::Burst(count) => {
                let first = self.end as u64 + 1000;
                self.send(first..first + u64::from(count), 1, false);
            }
            Step::Configure(settings) => self.configure(settings),
            Step::Expire { later } => {
                let now = self.advance(later);
                while self.table.expire(now) {}
            }
            Step::Freeze if self.frozen.is_none() => {
                let frozen = self.table.freeze();
                self.frozen = Some((frozen, self.frames.len(), self.configured));
            }
            Step::Freeze => {}
            Step::End(outcome) => self.end(outcome),
            Step::Restart { later, failed_counts } => self.restart(later, failed_counts),
        }
        self.compare();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_table_is_a_list(
        settings in settings(), steps in prop::collection::vec(step(), 0..80)
    ) {
        let mut world = World::new(settings);
        for step in steps { world.take(step); }
    }
}
