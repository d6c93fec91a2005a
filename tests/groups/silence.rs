use std::sync::mpsc;
use std::time::{Duration, Instant};

use grouplog::{Broker, Consumer, ConsumerConfig, Record, TopicConfig};

/// A poll that nothing interrupts. Without auto-commit, which would wake it too.
const LONG: Duration = Duration::from_mins(1);
/// Generous, but far below [`LONG`].
const AT_ONCE: Duration = Duration::from_secs(30);

fn member(broker: &Broker) -> Consumer {
    let config = ConsumerConfig::new()
        .group("g")
        .enable_auto_commit(false)
        .max_poll_interval(Duration::from_millis(50));
    let mut member = broker.consumer_with(config).unwrap();
    member.subscribe(["t"]).unwrap();
    member
}

/// When the sleeper falls asleep, the other member is inside the engine as well. So the sleeper
/// cannot know that the other one will leave the engine and never call again.
#[test]
fn a_sleeper_wakes_up_to_evict_a_member_that_fell_silent_meanwhile() {
    let begin = Instant::now();
    let broker = Broker::open_in_memory().unwrap();
    broker.create_topic("t", TopicConfig::new().partitions(2)).unwrap();
    let (mut first, mut second) = (member(&broker), member(&broker));
    while broker.describe_group("g").unwrap().state != "Stable" {
        first.poll(Duration::ZERO).unwrap();
        second.poll(Duration::ZERO).unwrap();
    }
    let lost = second.assignment().remove(0);
    let producer = broker.producer().unwrap();
    let (forgotten, is_forgotten) = mpsc::channel();
    let partition = lost.partition();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            assert_eq!(first.poll(LONG).unwrap().len(), 1);
        });
        scope.spawn(move || {
            assert_eq!(second.poll(LONG).unwrap().len(), 1);
            std::mem::forget(second);
            forgotten.send(()).unwrap();
        });
        let asleep = Instant::now();
        while asleep.elapsed() < Duration::from_millis(20) {
            std::thread::yield_now();
        }
        // A record of its partition wakes the second member, which then never returns from
        // processing it.
        producer.send(Record::to("t").partition(partition).value("v")).unwrap();
        is_forgotten.recv().unwrap();
    });
    assert!(begin.elapsed() < AT_ONCE);
}
