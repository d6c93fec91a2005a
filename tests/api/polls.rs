//! Endless polls, wakeups, and the work that a long poll does meanwhile.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use grouplog::time::{Clock, SystemClock};
use grouplog::{Broker, ConsumerConfig, Error, Record, TopicConfig};

use crate::world::{AT_ONCE, LONG, World, committed_offset, owned, reader, refused, tp, values};

fn send(broker: &Broker, partition: u32, value: &str) {
    broker.producer().unwrap().send(Record::to("t").partition(partition).value(value)).unwrap();
}

#[test]
fn polls_continue_until_a_wakeup() {
    let clock = SystemClock::new();
    let broker = Broker::open_in_memory().unwrap();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    let mut consumer = broker.consumer("g").unwrap();
    consumer.subscribe(["t"]).unwrap();
    let handle = consumer.wakeup_handle();
    let (told, hear) = channel();
    let thread = std::thread::spawn(move || {
        let mut polls = consumer.polls();
        while let Some(records) = polls.next() {
            for record in owned(&records.unwrap()) {
                told.send(record.offset).unwrap();
            }
            polls.consumer().commit().unwrap();
        }
        // A second iterator continues where the first one ended.
        told.send(-1).unwrap();
        let records = consumer.polls().next().unwrap().unwrap();
        (values(&owned(&records)), committed_offset(&consumer, &tp("t", 0)))
    });
    for n in 0..100 {
        send(&broker, 0, "v");
        assert_eq!(hear.recv().unwrap(), n);
    }
    handle.wakeup();
    assert_eq!(hear.recv().unwrap(), -1);
    send(&broker, 0, "again");
    assert_eq!(thread.join().unwrap(), (vec!["again".to_owned()], Some(100)));
    handle.wakeup(); // the consumer is gone
    assert!(clock.monotonic() < AT_ONCE);
}

#[test]
fn polls_end_with_the_records_of_a_folder_that_is_read_only_and_fail_when_the_broker_closes() {
    let world = World::new();
    let broker = world.open();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    send(&broker, 0, "a");
    let mut consumer = reader(&broker, "t", 1);
    assert_eq!(consumer.polls().next().unwrap().unwrap().len(), 1);
    broker.close().unwrap();
    assert!(matches!(refused(consumer.polls().next().unwrap()), Error::Closed));

    let beside = Broker::open_storage_read_only(Arc::new(world.storage.clone())).unwrap();
    let mut consumer = beside.consumer().unwrap();
    consumer.assign([tp("t", 0)]).unwrap();
    let records: Vec<_> = consumer.polls().map(|records| records.unwrap().len()).collect();
    assert_eq!(records, [1]);
}

#[test]
fn any_number_of_wakeups_before_a_poll_is_one() {
    let broker = World::new().open();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    send(&broker, 0, "a");
    let mut consumer = reader(&broker, "t", 1);
    let handle = consumer.wakeup_handle();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| handle.wakeup());
        }
    });
    assert!(matches!(refused(consumer.poll(LONG)), Error::Wakeup));
    assert_eq!(consumer.poll(Duration::ZERO).unwrap().len(), 1, "a wakeup loses no record");
}

#[test]
fn a_poll_that_sleeps_commits_when_the_interval_is_over() {
    let world = World::new();
    let broker = world.open();
    broker.create_topic("t", TopicConfig::new()).unwrap();
    let mut consumer = broker.consumer_with(ConsumerConfig::new().group("g")).unwrap();
    consumer.subscribe(["t"]).unwrap();
    send(&broker, 0, "a");
    assert_eq!(consumer.poll(LONG).unwrap().len(), 1);
    let (told, hear) = channel();
    let thread = std::thread::spawn(move || {
        told.send(()).unwrap();
        let records = consumer.poll(LONG).unwrap();
        (values(&owned(&records)), committed_offset(&consumer, &tp("t", 0)))
    });
    hear.recv().unwrap();
    world.clock.advance(Duration::from_secs(5));
    send(&broker, 0, "b");
    assert_eq!(thread.join().unwrap(), (vec!["b".to_owned()], Some(1)), "not what it returned");
}
