//! A reader of a compacted topic sees the last value of every key, whatever happened.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use grouplog::storage::{Crash, Memory};
use grouplog::time::{Random, SeededRandom};
use grouplog::{Acks, Broker, CleanupPolicy, Error, ProducerConfig, Record, TopicConfig};

use crate::world::{Owned, World, all, drain, reader};

/// Longer than nothing, shorter than some steps of the clock.
const DELETE_RETENTION: Duration = Duration::from_mins(1);

/// What was sent: the key and the value of each offset.
type Sent = Vec<(u8, Option<Vec<u8>>)>;

struct Run {
    world: World,
    broker: Option<Broker>,
    random: SeededRandom,
    sent: Sent,
    /// How many of them no crash may take.
    synced: usize,
}

impl Run {
    fn new(seed: u64) -> Self {
        let world = World::on(Memory::crash_simulating(seed)).batch_size(1024);
        let broker = world.open();
        let config = TopicConfig::new()
            .cleanup_policy(CleanupPolicy::Compact)
            .segment_bytes(1024 + (seed % 5) as u32 * 512)
            .delete_retention(DELETE_RETENTION)
            .min_cleanable_dirty_ratio((seed % 3) as f64 * 0.3);
        broker.create_topic("t", config).unwrap();
        let random = SeededRandom::new(seed);
        Self { world, broker: Some(broker), random, sent: Vec::new(), synced: 0 }
    }

    fn broker(&self) -> &Broker {
        self.broker.as_ref().unwrap()
    }

    fn draw(&self, below: u64) -> u64 {
        self.random.next_u64() % below
    }

    fn send(&mut self) {
        let synced = self.draw(20) == 0;
        let acks = if synced { Acks::Synced } else { Acks::Written };
        let producer = self.broker().producer_with(ProducerConfig::new().acks(acks)).unwrap();
        for _ in 0..=self.draw(30) {
            let key = self.draw(12) as u8;
            let key_bytes = [key];
            let number = self.sent.len().to_string();
            let value = (self.draw(4) > 0).then(|| [number.as_bytes(), &[b'.'; 60]].concat());
            let record = Record::to("t").key(&key_bytes);
            let record = match &value {
                Some(value) => record.value(value),
                None => record,
            };
            let sent = producer.send(record).unwrap();
            if synced {
                sent.wait().unwrap();
                self.synced = self.sent.len() + 1;
            }
            self.sent.push((key, value));
        }
    }

    fn crash(&mut self) {
        let crash = match self.draw(5) {
            0 => Crash::Kill,
            1 => Crash::LoseAll,
            2 => Crash::Subset { unit: 512 },
            3 => Crash::Subset { unit: 4096 },
            _ => Crash::TornUnit,
        };
        let left = self.world.storage.crash(crash, &self.random);
        // Its last act must not reach the folder that the crash left.
        drop(self.broker.take());
        let (clock, config) = (Arc::clone(&self.world.clock), self.world.config.clone());
        self.world = World { storage: left, clock, config };
        let broker = self.world.open();
        assert!(broker.recovery_report().damaged.is_empty());
        let end = broker.describe_topic("t").unwrap().partitions[0].end_offset as usize;
        assert!((self.synced..=self.sent.len()).contains(&end), "{end}");
        if matches!(crash, Crash::Kill) {
            assert_eq!(end, self.sent.len());
        }
        self.sent.truncate(end);
        self.broker = Some(broker);
    }

    fn step(&mut self) {
        match self.draw(12) {
            0..=4 => self.send(),
            5 => self.broker().checkpoint().unwrap(),
            6 => self.broker().maintain().unwrap(),
            7 => drop(self.broker().admin().compact("t").unwrap()),
            8 => {
                let seconds = self.draw(90);
                self.world.clock.advance(Duration::from_secs(seconds));
            }
            9 => {
                self.broker.take().unwrap().close().unwrap();
                self.broker = Some(self.world.open());
            }
            10 => self.crash(),
            _ => self.read_beside(),
        }
        self.check(&all(self.broker(), "t"));
    }

    /// A reader that compaction overtakes sees nothing twice and nothing older.
    fn read_beside(&mut self) {
        let mut early = reader(self.broker(), "t", 1);
        let mut seen = crate::world::owned(&early.poll(Duration::ZERO).unwrap());
        self.send();
        match self.broker().admin().compact("t") {
            Ok(_) | Err(Error::Closed) => {}
            Err(error) => panic!("{error}"),
        }
        seen.extend(drain(&mut early));
        self.check(&seen);
    }

    /// Checks what a reader from the start has seen.
    fn check(&self, seen: &[Owned]) {
        assert!(seen.is_sorted_by(|a, b| a.offset < b.offset), "in the order of offsets");
        let mut view: BTreeMap<u8, Option<Vec<u8>>> = BTreeMap::new();
        for record in seen {
            let (key, value) = &self.sent[record.offset as usize];
            assert_eq!(record.key, Some(vec![*key]), "offset {}", record.offset);
            assert_eq!(record.value, *value, "offset {}", record.offset);
            view.insert(*key, value.clone());
        }
        let mut expected = BTreeMap::new();
        for (key, value) in &self.sent {
            expected.insert(*key, value.clone());
        }
        // A deleted key may have disappeared altogether.
        view.retain(|_, value| value.is_some());
        expected.retain(|_, value| value.is_some());
        assert_eq!(view, expected);
    }
}

#[test]
fn a_reader_from_the_start_sees_the_last_value_of_every_key() {
    let seeds = std::env::var("GROUPLOG_SEEDS").ok().and_then(|seeds| seeds.parse().ok());
    for seed in 0..seeds.unwrap_or(60) {
        let watch = std::panic::catch_unwind(|| {
            let mut run = Run::new(seed);
            (0..60).for_each(|_| run.step());
        });
        if let Err(failed) = watch {
            std::panic::resume_unwind(Box::new(format!("seed {seed}: {failed:?}")));
        }
    }
}
