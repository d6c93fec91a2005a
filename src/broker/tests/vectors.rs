//! The cases of kind `read` of `tests/vectors/transactions.json`, over real segment files.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use serde_json::Value;

use super::kafka::{BOTH, Batch, folder, from, open, partition, segments, settings};
use crate::storage::{Memory, Storage};
use crate::{
    Broker, Consumer, ConsumerConfig, IsolationLevel, ReadMode, ReadOnlyBroker, TopicConfig,
};

fn cases() -> Vec<Value> {
    let given = include_str!("../../../tests/vectors/transactions.json");
    let more = include_str!("../../../tests/vectors/transactions_more.json");
    let all = [given, more].map(|text| serde_json::from_str::<Value>(text).unwrap());
    let all = all.iter().flat_map(|all| all["cases"].as_array().unwrap());
    all.filter(|case| case["kind"] == "read").cloned().collect()
}

fn numbers(value: &Value) -> Vec<i64> {
    value.as_array().unwrap().iter().map(|number| number.as_i64().unwrap()).collect()
}

fn batch(value: &Value) -> Batch {
    let number = |field: &str| value[field].as_i64();
    Batch {
        base: number("base").unwrap(),
        last: number("last").unwrap(),
        records: numbers(&value["records"]),
        producer: number("producerId"),
        is_transactional: value["transactional"].as_bool().unwrap_or_default(),
        control: value["control"].as_str().map(|kind| match kind {
            "abort" => 0,
            "commit" => 1,
            // By its number: one of a later version of Kafka.
            other => other.parse().unwrap_or_else(|_| panic!("unknown control {other}")),
        }),
    }
}

/// Makes consumers of one folder.
trait Folder {
    fn consumer(&self, config: ConsumerConfig) -> Consumer;
}

impl Folder for Broker {
    fn consumer(&self, config: ConsumerConfig) -> Consumer {
        self.consumer_with(config).unwrap()
    }
}

impl Folder for ReadOnlyBroker {
    fn consumer(&self, config: ConsumerConfig) -> Consumer {
        self.consumer_with(config).unwrap()
    }
}

fn check(case: &Value, folder: &dyn Folder) {
    let expected = &case["expect"];
    for level in BOTH {
        let (records, position, end) = match level {
            IsolationLevel::ReadCommitted => ("read_committed", "positionCommitted", "lso"),
            IsolationLevel::ReadUncommitted => {
                ("read_uncommitted", "positionUncommitted", "logEnd")
            }
        };
        for most in [1, 2, 500] {
            let config = ConsumerConfig::new().isolation_level(level).max_poll_records(most);
            for fetch in expected["fetches"].as_array().unwrap() {
                // Each begins without what others have found.
                let mut consumer = folder.consumer(config.clone());
                consumer.assign([partition()]).unwrap();
                let got = from(&mut consumer, fetch["from"].as_i64().unwrap()).unwrap();
                let want = (numbers(&fetch[records]), fetch[position].as_i64().unwrap());
                assert_eq!(got, want, "{level:?} from {}", fetch["from"]);
                let ends = consumer.end_offsets([&partition()]).unwrap();
                assert_eq!(Some(ends[&partition()]), expected[end].as_i64(), "{level:?}");
                let lag = ends[&partition()].saturating_sub(want.1).max(0);
                assert_eq!(consumer.lag(&partition()).unwrap(), lag);
                consumer.seek_to_end(&partition()).unwrap();
                let last = consumer.position(&partition()).unwrap().offset();
                assert_eq!(Some(last), expected[end].as_i64());
            }
        }
    }
}

/// Runs a case over one segment, and over a segment for each batch.
fn run(case: &Value) {
    let batches: Vec<Batch> = case["log"].as_array().unwrap().iter().map(batch).collect();
    for starts in [vec![], (0..batches.len()).collect(), (0..batches.len()).step_by(2).collect()] {
        let memory = folder(&segments(&batches, &starts), TopicConfig::new());
        for mode in [ReadMode::Map, ReadMode::Pread] {
            let storage: Arc<dyn Storage> = Arc::new(Memory::clone(&memory));
            // One fetch alone in a folder that was just opened, and all in one.
            for fetch in case["expect"]["fetches"].as_array().unwrap() {
                let config = settings().read_mode(mode);
                let broker = Broker::open_storage(Arc::clone(&storage), config).unwrap();
                let mut single = case.clone();
                single["expect"]["fetches"] = Value::Array(vec![fetch.clone()]);
                check(&single, &broker);
                check(case, &broker);
                broker.close().unwrap();
            }
            check(case, &Broker::open_storage_read_only(storage).unwrap());
        }
        drop(open(&memory));
    }
}

#[test]
fn readers_see_what_kafkas_readers_see() {
    let all = cases();
    assert!(all.len() >= 16);
    let fails = |case: &&Value| catch_unwind(AssertUnwindSafe(|| run(case))).is_err();
    let failing: Vec<_> = all.iter().filter(fails).map(|case| &case["name"]).collect();
    assert!(failing.is_empty(), "{failing:#?}");
}
