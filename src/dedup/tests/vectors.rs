//! The worked cases of `tests/vectors/transactions.json` about ids. Each names itself when it fails.

use serde_json::Value;

use crate::dedup::{Claims, Decision, DedupSettings, DedupTable, IdHasher, Place, load, write_out};
use crate::storage::Memory;
use crate::types::{PartitionNumber, TopicId};

/// A topic of one partition, whose records are counted and not kept.
struct Topic {
    table: DedupTable,
    settings: DedupSettings,
    hasher: IdHasher,
    end: i64,
    storage: Memory,
}

impl Topic {
    fn new(config: &Value) -> Self {
        let settings = DedupSettings {
            window_ms: config["windowMs"].as_u64().unwrap(),
            max_ids: config["maxIds"].as_u64().map_or(1_000_000, |ids| ids as u32),
        };
        Self {
            table: DedupTable::new(TopicId::from_bytes([1; 16]), settings),
            settings,
            hasher: IdHasher::new(&[2; 16]),
            end: 0,
            storage: Memory::new(),
        }
    }

    /// Returns whether the record is a duplicate, and its offset.
    fn send(&mut self, id: Option<&str>, now: i64) -> (bool, i64) {
        let mut claims = Claims::default();
        let time = self.table.time(now);
        let claim = match id.map(|id| {
            let hash = self.hasher.hash(id.as_bytes()).unwrap();
            claims.decide(&mut self.table, hash, now)
        }) {
            Some(Decision::Duplicate(place)) => return (true, place.offset),
            Some(Decision::New(claim)) => Some(claim),
            Some(Decision::Repeat(_) | Decision::Off) | None => None,
        };
        let offset = self.end;
        self.end += 1;
        if let Some(claim) = claim {
            claims.place(claim, Place { partition: PartitionNumber(0), offset });
        }
        claims.register(&mut self.table, time);
        (false, offset)
    }

    fn restart(&mut self, now: i64) {
        let frozen = self.table.freeze();
        let images = write_out(&[frozen], &self.storage).unwrap();
        self.table = load(&self.storage, &images[0], self.settings, now).unwrap();
    }
}

#[test]
fn the_worked_cases_hold() {
    let text = include_str!("../../../tests/vectors/transactions.json");
    let json: Value = serde_json::from_str(text).unwrap();
    let cases = json["cases"].as_array().unwrap().iter();
    for case in cases.filter(|case| case["kind"] == "dedup") {
        let name = case["name"].as_str().unwrap();
        let mut topic = Topic::new(&case["config"]);
        for step in case["steps"].as_array().unwrap() {
            let (now, expect) = (step["at"].as_i64().unwrap(), &step["expect"]);
            match step["op"].as_str().unwrap() {
                "send" => {
                    let (duplicate, offset) = topic.send(step["id"].as_str(), now);
                    assert_eq!(expect["duplicate"], duplicate, "{name}: {step}");
                    assert_eq!(expect["offset"], offset, "{name}: {step}");
                }
                "restart" => {
                    topic.restart(now);
                    let remembered = expect["remembered"].as_array().unwrap();
                    assert_eq!(topic.table.len(), remembered.len() as u64, "{name}: {step}");
                    for id in remembered {
                        let hash = topic.hasher.hash(id.as_str().unwrap().as_bytes()).unwrap();
                        assert!(topic.table.lookup(hash, now).is_some(), "{name}: {step}");
                    }
                }
                op => panic!("{name}: unknown step {op}"),
            }
        }
    }
}
