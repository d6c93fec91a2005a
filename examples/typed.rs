//! Orders as a Rust type, JSON in the log. One line each makes a typed producer and consumer. The
//! example also skips a record that cannot be read and continues with the others.

use std::time::Duration;

use grouplog::serialization::{Json, Text};
use grouplog::{Broker, Record, TopicConfig, TypedRecord};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
struct Order {
    item: String,
    count: u32,
}

fn main() -> grouplog::Result<()> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let broker = Broker::open(folder.path().join("data"))?;
    broker.create_topic("orders", TopicConfig::new())?;
    broker.create_topic("orders.bad", TopicConfig::new())?;

    let orders = broker.producer()?.typed::<Text, Json<Order>>();
    for (who, item, count) in [("alice", "apple", 3), ("bob", "pear", 1), ("alice", "fig", 9)] {
        let order = Order { item: item.to_owned(), count };
        orders.send(TypedRecord::to("orders").key(who).value(&order))?;
        if who == "bob" {
            // Another program writes to the topic too.
            orders.raw().send(Record::to("orders").key("eve").value("no JSON"))?;
        }
    }

    let mut billing = broker.consumer("billing")?.typed::<Text, Json<Order>>();
    billing.subscribe(["orders"])?;
    let (mut total, mut bad) = (0, Vec::new());
    for record in &billing.poll(Duration::from_secs(1))? {
        match record.value() {
            Ok(Some(order)) => total += order.count,
            Ok(None) => {}
            Err(poison) => {
                let reason = poison.to_string();
                let bytes = record.raw().value().unwrap_or_default();
                let aside = Record::to("orders.bad").value(bytes).header("reason", &reason);
                orders.raw().send(aside)?.wait()?;
                bad.push(record.offset());
            }
        }
    }
    billing.commit()?;
    assert_eq!((total, bad), (13, vec![2]));
    assert_eq!(broker.describe_topic("orders.bad")?.partitions[0].end_offset, 1);
    billing.close()?;
    broker.close()
}
