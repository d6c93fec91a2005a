use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use grouplog::{AssignmentStrategy, Broker, Consumer, ConsumerConfig, Error, TopicConfig};

use crate::stage::{LONG, MEMBERS, Random, Stage, duration};

/// How long a member may be silent here, and a static member away.
const INTERVAL: Duration = Duration::from_millis(100);

/// Panics without the message on stderr.
fn panic_quietly() -> ! {
    resume_unwind(Box::new("as planned"))
}

/// Polls and commits. Returns false if the member cannot continue.
fn work(stage: &Stage, consumer: &mut Consumer) -> bool {
    match consumer.poll(LONG) {
        Ok(records) => stage.ledger.process(&records),
        Err(Error::Wakeup | Error::FencedInstanceId { .. }) => return false,
        Err(error) => panic!("{error}"),
    }
    match consumer.commit() {
        // Evicted meanwhile: another member processes it again.
        Ok(()) | Err(Error::Fenced { .. }) => true,
        Err(Error::FencedInstanceId { .. }) => false,
        Err(error) => panic!("{error}"),
    }
}

fn member(stage: &Stage, random: &mut Random) -> Option<(u64, Consumer)> {
    let number = stage.number();
    let mut config = ConsumerConfig::new()
        .group("g")
        .enable_auto_commit(random.below(2) == 0)
        .auto_commit_interval(Duration::from_millis(5))
        .max_poll_interval(INTERVAL)
        .session_timeout(INTERVAL)
        .assignment_strategies([
            if random.below(2) == 0 {
                AssignmentStrategy::Sticky
            } else {
                AssignmentStrategy::Uniform
            },
            AssignmentStrategy::RoundRobin,
        ]);
    // Fewer names than threads, so several members use the same instance id.
    if random.below(3) == 0 {
        config = config.group_instance_id(format!("static-{}", random.below(3)));
    }
    let mut consumer = stage.broker.consumer_with(config).unwrap();
    let subscribed = if random.below(2) == 0 {
        consumer.subscribe(["t"])
    } else {
        consumer.subscribe_pattern("t|extra-.*")
    };
    match subscribed {
        Ok(()) => {}
        // Another member with the same id came later.
        Err(Error::FencedInstanceId { .. }) => return None,
        Err(error) => panic!("{error}"),
    }
    stage.register(number, consumer.wakeup_handle());
    Some((number, consumer))
}

fn members(stage: &Stage, thread: u64) {
    let mut random = Random(thread);
    while !stage.is_over() {
        let Some((number, mut consumer)) = member(stage, &mut random) else { continue };
        let alive = (0..random.below(40)).all(|_| work(stage, &mut consumer));
        stage.unregister(number);
        match random.below(6) {
            0 => drop(consumer),
            1 => std::mem::forget(consumer),
            2 => {
                let panicked = catch_unwind(AssertUnwindSafe(|| {
                    let _unwound = consumer;
                    panic_quietly()
                }));
                assert!(panicked.is_err());
            }
            3 if alive => {
                stage.stall(2 * INTERVAL);
                stage.register(number, consumer.wakeup_handle());
                work(stage, &mut consumer);
                stage.unregister(number);
            }
            _ => match consumer.close() {
                Ok(()) | Err(Error::Fenced { .. } | Error::FencedInstanceId { .. }) => {}
                Err(error) => panic!("{error}"),
            },
        }
    }
}

/// Creates and deletes topics that the patterns match.
fn topics(stage: &Stage, broker: &Broker) {
    while !stage.is_over() {
        let name = format!("extra-{}", stage.number());
        broker.create_topic(&name, TopicConfig::new().partitions(3)).unwrap();
        stage.stall(Duration::from_millis(20));
        broker.delete_topic(&name).unwrap();
    }
}

#[test]
fn each_record_is_processed_whatever_happens_to_members() {
    let stage = Arc::new(Stage::new());
    std::thread::scope(|scope| {
        for thread in 0..MEMBERS {
            let stage = Arc::clone(&stage);
            scope.spawn(move || members(&stage, thread));
        }
        scope.spawn(|| topics(&stage, &stage.broker));
        stage.direct(duration());
    });
    let (repeated, total) = (stage.ledger.repeated(), stage.ledger.total());
    assert!(total > 0);
    println!("{total} records, {repeated} more than once, {} members and topics", stage.number());
}
