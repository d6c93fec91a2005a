//! A compacted topic as a table: the newest value of each key. The table is read back after a restart, and the folder
//! stays small, however often values change.
#![allow(clippy::print_stdout, reason = "it shows what it found")]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use grouplog::{Acks, Broker, CleanupPolicy, ConsumerConfig, ProducerConfig, Record, TopicConfig};

type Table = BTreeMap<String, String>;

fn main() -> grouplog::Result<()> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("data");
    let broker = Broker::open(&path)?;
    // Small segments, because the active one is never compacted.
    let config = TopicConfig::new().cleanup_policy(CleanupPolicy::Compact).segment_bytes(1 << 20);
    broker.create_topic("prices", config)?;

    // 500,000 prices of 1,000 articles.
    let producer = broker.producer_with(ProducerConfig::new().acks(Acks::Written))?;
    let mut expected = Table::new();
    for round in 0..500 {
        for article in 0..1_000 {
            let (key, price) = (format!("article {article}"), format!("{round}.{article:03}"));
            producer.send(Record::to("prices").key(&key).value(&price))?;
            expected.insert(key, price);
        }
    }
    // A record without a value deletes its key.
    producer.send(Record::to("prices").key("article 7"))?;
    expected.remove("article 7");

    // The engine compacts in the background. A program that cannot wait asks for it.
    let before = size(&broker)?;
    let done = broker.admin().compact("prices")?;
    println!("{} records, of which {} stay", done.records_in, done.records_out);
    println!("{before} bytes before, {} bytes after", size(&broker)?);
    assert!(size(&broker)? < before / 50);
    broker.close()?;

    let table = read(&path)?;
    println!("after a restart: {} prices, article 8 costs {}", table.len(), table["article 8"]);
    assert_eq!(table, expected);
    Ok(())
}

/// Returns the size of the topic's records in bytes.
fn size(broker: &Broker) -> grouplog::Result<u64> {
    Ok(broker.describe_topic("prices")?.partitions.iter().map(|partition| partition.bytes).sum())
}

/// Reads the table from the start of the log.
fn read(path: &Path) -> grouplog::Result<Table> {
    let broker = Broker::open(path)?;
    let mut reader = broker.consumer_with(ConsumerConfig::new())?;
    reader.assign([grouplog::TopicPartition::new("prices", 0)])?;
    let mut table = Table::new();
    loop {
        let records = reader.poll(Duration::ZERO)?;
        if records.is_empty() {
            return Ok(table);
        }
        for record in &records {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let key = text(record.key().unwrap_or_default());
            match record.value() {
                Some(value) => table.insert(key, text(value)),
                None => table.remove(&key),
            };
        }
    }
}
