//! The program of the README: a folder, a topic, a producer, a member of a consumer group.
//!
//! Run it twice: the second run finds the topic, and the group continues where the first run
//! stopped. Without an argument it uses a temporary folder and removes it at the end.
#![allow(clippy::print_stdout, reason = "it shows what it found")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use grouplog::{Broker, Record, TopicConfig};

fn main() -> grouplog::Result<()> {
    if let Some(folder) = std::env::args_os().nth(1) {
        return run(&PathBuf::from(folder));
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    run(&folder.path().join("data"))
}

fn run(folder: &Path) -> grouplog::Result<()> {
    let broker = Broker::open(folder)?;
    broker.ensure_topic("orders", TopicConfig::new().partitions(4))?;

    let producer = broker.producer()?;
    producer.send(Record::to("orders").key("alice").value("3 apples"))?;
    producer.flush()?; // the record survives power loss from here on

    let mut billing = broker.consumer("billing")?; // a member of group "billing"
    billing.subscribe(["orders"])?;
    let records = billing.poll(Duration::from_secs(1))?;
    for record in &records {
        let text = String::from_utf8_lossy(record.value().unwrap_or_default());
        println!("{}-{}@{}: {text}", record.topic(), record.partition(), record.offset());
    }
    assert_eq!(records.len(), 1);
    billing.commit()?;
    billing.close()?;
    broker.close()
}
