//! A consumer group at work. Three members join one after the other and leave again, each in its
//! own thread, while another thread sends records. A listener prints every hand-over. It commits
//! what was processed before a partition goes to its next owner. So each record is processed
//! exactly once, and no partition ever has two owners.
//!
//! ```text
//! cargo run --example consumer_group
//! ```
#![allow(clippy::print_stdout, reason = "it shows what it found")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use grouplog::{
    Broker, Consumer, ConsumerConfig, Error, Producer, Rebalance, RebalanceListener, Record,
    Result, TopicConfig, TopicPartition, WakeupHandle,
};

const TOPIC: &str = "orders";
const GROUP: &str = "billing";
const PARTITIONS: u32 = 6;
const ROUND: usize = 300;
const LONG: Duration = Duration::from_mins(1);

/// The events that members send to the main thread.
enum Event {
    Assigned(&'static str, Vec<TopicPartition>),
    Revoked(&'static str, Vec<TopicPartition>),
    Processed(u32, i64),
}

/// Reports hand-overs, from the thread of the member, inside its `poll` or `close`.
struct HandOver {
    name: &'static str,
    events: Sender<Event>,
}

impl HandOver {
    fn tell(&self, event: Event) {
        self.events.send(event).expect("the main thread listens to the end");
    }
}

impl RebalanceListener for HandOver {
    fn on_partitions_assigned(
        &mut self,
        partitions: &[TopicPartition],
        _: &mut Rebalance<'_>,
    ) -> Result<()> {
        self.tell(Event::Assigned(self.name, partitions.to_vec()));
        Ok(())
    }

    fn on_partitions_revoked(
        &mut self,
        partitions: &[TopicPartition],
        consumer: &mut Rebalance<'_>,
    ) -> Result<()> {
        consumer.commit()?; // everything that `poll` returned is processed: the next owner starts after it
        self.tell(Event::Revoked(self.name, partitions.to_vec()));
        Ok(())
    }
}

/// A member in its own thread.
struct Member {
    thread: JoinHandle<Result<()>>,
    wakeup: WakeupHandle,
}

impl Member {
    fn join(broker: &Broker, name: &'static str, events: &Sender<Event>) -> Result<Self> {
        let config = ConsumerConfig::new().group(GROUP).client_id(name).enable_auto_commit(false);
        let mut consumer = broker.consumer_with(config)?;
        consumer.set_rebalance_listener(HandOver { name, events: events.clone() });
        consumer.subscribe([TOPIC])?;
        let wakeup = consumer.wakeup_handle();
        let events = events.clone();
        let thread = std::thread::spawn(move || process(consumer, &events));
        Ok(Self { thread, wakeup })
    }

    fn leave(self) -> Result<()> {
        self.wakeup.wakeup();
        self.thread.join().expect("a member does not panic")
    }
}

fn process(mut consumer: Consumer, events: &Sender<Event>) -> Result<()> {
    loop {
        match consumer.poll(LONG) {
            Ok(records) => {
                for record in &records {
                    let event = Event::Processed(record.partition(), record.offset());
                    events.send(event).expect("the main thread listens to the end");
                }
            }
            Err(Error::Wakeup) => return consumer.close(), // the listener commits
            Err(error) => return Err(error),
        }
    }
}

/// The group as its members report it.
struct Group {
    events: Receiver<Event>,
    owners: BTreeMap<TopicPartition, &'static str>,
    processed: BTreeSet<(u32, i64)>,
}

impl Group {
    fn next(&mut self) {
        match self.events.recv_timeout(LONG).expect("something happens") {
            Event::Assigned(name, partitions) => {
                println!("{name} gets      {partitions:?}");
                for partition in partitions {
                    let other = self.owners.insert(partition, name);
                    assert_eq!(other, None, "a partition has one owner at most");
                }
            }
            Event::Revoked(name, partitions) => {
                println!("{name} gives up  {partitions:?}");
                for partition in &partitions {
                    assert_eq!(self.owners.remove(partition), Some(name));
                }
            }
            Event::Processed(partition, offset) => {
                assert!(self.processed.insert((partition, offset)), "processed twice");
            }
        }
    }

    /// Waits until each of these members owns its fair share.
    fn settle(&mut self, members: &[&str]) {
        let share = PARTITIONS as usize / members.len();
        let has_share = |owners: &BTreeMap<_, &str>, member: &str| {
            owners.values().filter(|owner| **owner == member).count() == share
        };
        while !members.iter().all(|member| has_share(&self.owners, member)) {
            self.next();
        }
        println!("   -> {members:?} own {share} partition(s) each");
    }

    /// Sends a round of records and waits until all are processed.
    fn work(&mut self, producer: &Producer) -> Result<()> {
        let due = self.processed.len() + ROUND;
        for n in 0..ROUND {
            let value = format!("order {n}");
            let partition = n as u32 % PARTITIONS;
            producer.send(Record::to(TOPIC).partition(partition).value(&value))?;
        }
        while self.processed.len() < due {
            self.next();
        }
        Ok(())
    }
}

fn main() -> Result<()> {
    let broker = Broker::open_in_memory()?;
    broker.create_topic(TOPIC, TopicConfig::new().partitions(PARTITIONS))?;
    let producer = broker.producer()?;
    let (events, receiver) = channel();
    let mut group = Group { events: receiver, owners: BTreeMap::new(), processed: BTreeSet::new() };

    let anna = Member::join(&broker, "anna", &events)?;
    group.settle(&["anna"]);
    group.work(&producer)?;
    let ben = Member::join(&broker, "ben ", &events)?;
    group.settle(&["anna", "ben "]);
    group.work(&producer)?;
    let carl = Member::join(&broker, "carl", &events)?;
    group.settle(&["anna", "ben ", "carl"]);
    group.work(&producer)?;

    anna.leave()?;
    group.settle(&["ben ", "carl"]);
    group.work(&producer)?;
    ben.leave()?;
    group.settle(&["carl"]);
    group.work(&producer)?;
    carl.leave()?;
    while !group.owners.is_empty() {
        group.next();
    }

    assert_eq!(group.processed.len(), 5 * ROUND);
    let offsets = broker.describe_group(GROUP)?.offsets;
    assert_eq!(offsets.len(), PARTITIONS as usize);
    assert!(offsets.iter().all(|offset| offset.lag == 0), "{offsets:?}");
    println!("{} records, each processed exactly once", group.processed.len());
    broker.close()
}
