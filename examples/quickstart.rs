//! The program of the README: a folder, a topic, a producer, a member of a consumer group.
#![allow(clippy::print_stdout, reason = "it shows what it found")]

use std::time::Duration;

use grouplog::{Broker, Record, TopicConfig};

fn main() -> grouplog::Result<()> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let broker = Broker::open(folder.path().join("data"))?;
    broker.create_topic("orders", TopicConfig::new().partitions(4))?;

    let producer = broker.producer()?;
    producer.send(Record::to("orders").key("alice").value("3 apples"))?;
    producer.flush()?; // everything sent so far is on disk

    let mut billing = broker.consumer("billing")?; // a member of group "billing"
    billing.subscribe(["orders"])?;
    let records = billing.poll(Duration::from_secs(1))?;
    for record in &records {
        println!("{}@{} {:?}", record.topic(), record.offset(), record.value());
    }
    assert_eq!(records.len(), 1);
    billing.commit()?;
    billing.close()?;
    broker.close()
}
