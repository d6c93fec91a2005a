//! Workers: threads that run a function for each record of a share group.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use grouplog::{
    Backoff, Broker, Error, Job, JobError, Record, ShareConsumer, ShareGroupConfig, TopicConfig,
    WorkersHandle,
};

use crate::world::{AT_ONCE, LONG, World, all};

fn send<'v>(broker: &Broker, values: impl IntoIterator<Item = &'v str>) {
    let records = values.into_iter().map(|value| Record::to("jobs").value(value));
    broker.producer().unwrap().send_all(records).unwrap();
}

/// A broker with a topic of one partition and these jobs.
fn with_jobs<'v>(world: &World, values: impl IntoIterator<Item = &'v str>) -> Broker {
    let broker = world.open();
    broker.create_topic("jobs", TopicConfig::new()).unwrap();
    send(&broker, values);
    broker
}

fn text(job: &Job) -> String {
    String::from_utf8(job.value().unwrap().to_vec()).unwrap()
}

/// Waits for something that other threads are about to do.
fn until(what: impl Fn() -> bool) {
    while !what() {
        std::thread::yield_now();
    }
}

/// Lets the workers look at the clock.
fn wake(broker: &Broker) {
    broker.admin().pause_share_group("jobs", false).unwrap();
}

fn lag(broker: &Broker) -> u64 {
    broker.admin().describe_share_group("jobs").unwrap().lag()
}

fn other_member(broker: &Broker) -> ShareConsumer {
    let mut member = broker.share_consumer("jobs").unwrap();
    member.subscribe(["jobs"]).unwrap();
    member
}

#[test]
fn each_job_is_accepted_once() {
    const JOBS: usize = 10_000;
    let world = World::new();
    let broker = world.open();
    broker.create_topic("jobs", TopicConfig::new().partitions(3)).unwrap();
    let runs: Arc<Vec<AtomicU8>> = Arc::new((0..JOBS).map(|_| AtomicU8::new(0)).collect());
    let left = AtomicUsize::new(JOBS);
    let (done, is_done) = channel();
    let seen = Arc::clone(&runs);
    let workers = broker.workers("jobs").threads(8).run(move |job| {
        let number: usize = text(job).parse()?;
        seen[number].fetch_add(1, Ordering::Relaxed);
        if left.fetch_sub(1, Ordering::Relaxed) == 1 {
            done.send(())?;
        }
        Ok(())
    });
    let workers = workers.unwrap();
    let producer = broker.producer().unwrap();
    for number in 0..JOBS {
        producer.send(Record::to("jobs").value(&number.to_string())).unwrap();
    }
    is_done.recv_timeout(LONG).unwrap();
    let stats = workers.shutdown(LONG).unwrap();
    assert_eq!((stats.accepted, stats.released, stats.late), (JOBS as u64, 0, 0));
    assert_eq!((stats.errors, stats.abandoned), (0, 0));
    assert!(runs.iter().all(|runs| runs.load(Ordering::Relaxed) == 1));
    assert_eq!(lag(&broker), 0);
}

type Seen = (String, u16, Option<String>, i64);

/// Runs `handler` in two threads, and tells what each job was like.
fn run(
    world: &World,
    broker: &Broker,
    config: ShareGroupConfig,
    handler: impl Fn(&Job) -> Result<(), JobError> + Send + Sync + 'static,
) -> (WorkersHandle, Receiver<Seen>) {
    let (told, heard) = channel();
    let clock = Arc::clone(&world.clock);
    let workers = broker.workers("jobs").threads(2).config(config).run(move |job| {
        let now = grouplog::time::Clock::now(&*clock).as_millis() - 1_700_000_000_000;
        let reason = job.last_reason().map(str::to_owned);
        told.send((text(job), job.delivery_count(), reason, now))?;
        handler(job)
    });
    (workers.unwrap(), heard)
}

fn next(heard: &Receiver<Seen>) -> Seen {
    heard.recv_timeout(AT_ONCE).unwrap()
}

fn backoff(base: Duration) -> ShareGroupConfig {
    ShareGroupConfig::new().retry_backoff(Backoff::exponential(base).jitter_percent(0))
}

#[test]
fn an_error_brings_the_job_back_after_the_backoff() {
    let world = World::new();
    let broker = with_jobs(&world, ["x"]);
    let config = backoff(Duration::from_secs(1));
    let (workers, heard) = run(&world, &broker, config, |job| {
        if job.delivery_count() < 3 {
            text(job).parse::<u32>()?;
        }
        Ok(())
    });
    let reason = Some("invalid digit found in string".to_owned());
    assert_eq!(next(&heard), ("x".to_owned(), 1, None, 0));
    until(|| workers.stats().released == 1);
    world.clock.advance(Duration::from_secs(1));
    wake(&broker);
    assert_eq!(next(&heard), ("x".to_owned(), 2, reason.clone(), 1000));
    until(|| workers.stats().released == 2);
    world.clock.advance(Duration::from_secs(2));
    wake(&broker);
    assert_eq!(next(&heard), ("x".to_owned(), 3, reason, 3000));
    let stats = workers.shutdown(LONG).unwrap();
    assert_eq!((stats.accepted, stats.released), (1, 2));
    assert_eq!(lag(&broker), 0);
}

#[test]
fn a_panic_releases_its_job_and_the_others_go_on() {
    let world = World::new();
    let broker = with_jobs(&world, ["a", "bad", "c", "d"]);
    let (workers, heard) = run(&world, &broker, ShareGroupConfig::new(), |job| {
        assert!(text(job) != "bad" || job.delivery_count() > 1, "no {}", text(job));
        Ok(())
    });
    let mut seen: Vec<_> =
        (0..5).map(|_| next(&heard)).map(|(job, n, why, _)| (job, n, why)).collect();
    seen.sort();
    let once = |job: &str| (job.to_owned(), 1, None);
    let again = ("bad".to_owned(), 2, Some("panicked: no bad".to_owned()));
    assert_eq!(seen, [once("a"), once("bad"), again, once("c"), once("d")]);
    let stats = workers.shutdown(LONG).unwrap();
    assert_eq!((stats.accepted, stats.panicked, stats.released), (4, 1, 0));
    assert_eq!(lag(&broker), 0);
}

#[test]
fn a_handler_may_reject_cancel_snooze_and_choose_the_delay() {
    let world = World::new();
    let broker = with_jobs(&world, ["reject", "cancel", "snooze", "later"]);
    let config = backoff(Duration::from_hours(1)).dead_letter_topic("dead");
    let (delay, put_off) = (Duration::from_secs(10), AtomicBool::new(false));
    let (workers, heard) = run(&world, &broker, config, move |job| match &*text(job) {
        "reject" => Err(JobError::reject("no address")),
        "cancel" => Err(JobError::cancel()),
        "snooze" if !put_off.swap(true, Ordering::Relaxed) => Err(JobError::snooze(delay)),
        "later" if job.delivery_count() == 1 => Err(JobError::retry_after(delay).because("busy")),
        _ => Ok(()),
    });
    let mut seen: Vec<_> = (0..4).map(|_| next(&heard).0).collect();
    seen.sort();
    assert_eq!(seen, ["cancel", "later", "reject", "snooze"]);
    until(|| {
        let stats = workers.stats();
        [stats.rejected, stats.cancelled, stats.snoozed, stats.released] == [1; 4]
    });
    world.clock.advance(delay);
    wake(&broker);
    let mut seen = [next(&heard), next(&heard)];
    seen.sort();
    assert_eq!(seen[0], ("later".to_owned(), 2, Some("busy".to_owned()), 10_000));
    let (job, count, _, now) = &seen[1];
    assert_eq!((&**job, *count, *now), ("snooze", 1, 10_000));
    workers.shutdown(LONG).unwrap();
    let dead = all(&broker, "dead");
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].value.as_deref(), Some(&b"reject"[..]));
    let is_reason = |value: &Option<Vec<u8>>| value.as_deref() == Some(b"no address");
    assert!(dead[0].headers.iter().any(|(_, value)| is_reason(value)), "{:?}", dead[0].headers);
}

#[test]
fn the_order_of_each_key_holds() {
    let world = World::new();
    let broker = world.open();
    broker.create_topic("jobs", TopicConfig::new()).unwrap();
    let keys = ["a", "b", "c", "d", "e"];
    let numbers: Vec<_> = (0..60).map(|number: usize| number.to_string()).collect();
    let records =
        numbers.iter().flat_map(|number| keys.map(|key| Record::to("jobs").key(key).value(number)));
    broker.producer().unwrap().send_all(records).unwrap();
    let running: [AtomicBool; 5] = Default::default();
    let done: Arc<Mutex<BTreeMap<u8, Vec<usize>>>> = Arc::default();
    let (told, heard) = channel();
    let by_key = Arc::clone(&done);
    let config = ShareGroupConfig::new().ordered_by_key(true);
    let workers = broker.workers("jobs").threads(4).config(config).run(move |job| {
        let (key, number) = (job.key().unwrap()[0], text(job).parse::<usize>()?);
        let slot = &running[usize::from(key - b'a')];
        assert!(!slot.swap(true, Ordering::AcqRel), "two of one key");
        let fails = number % 7 == 3 && job.delivery_count() == 1;
        if !fails {
            by_key.lock().unwrap().entry(key).or_default().push(number);
        }
        slot.store(false, Ordering::Release);
        told.send(())?;
        if fails { Err(JobError::retry("again")) } else { Ok(()) }
    });
    let workers = workers.unwrap();
    let failing = (0..60).filter(|number| number % 7 == 3).count();
    for _ in 0..keys.len() * (60 + failing) {
        heard.recv_timeout(AT_ONCE).unwrap();
    }
    let stats = workers.shutdown(LONG).unwrap();
    assert_eq!((stats.accepted, stats.panicked), (300, 0));
    let done = done.lock().unwrap();
    assert_eq!(done.len(), 5);
    assert!(done.values().all(|numbers| numbers.iter().copied().eq(0..60)), "{done:?}");
}

/// Workers of one thread whose handler says that it has begun, and waits for a word.
fn blocked(broker: &Broker) -> (WorkersHandle, Receiver<()>, std::sync::mpsc::Sender<()>) {
    let (begun, has_begun) = channel();
    let (go_on, word) = channel();
    let word = Mutex::new(word);
    let workers = broker.workers("jobs").threads(1).run(move |_| {
        begun.send(())?;
        word.lock().unwrap().recv()?;
        Ok(())
    });
    (workers.unwrap(), has_begun, go_on)
}

#[test]
fn a_shutdown_waits_for_what_runs() {
    let world = World::new();
    let broker = with_jobs(&world, ["a"]);
    let (workers, has_begun, go_on) = blocked(&broker);
    has_begun.recv_timeout(AT_ONCE).unwrap();
    let stats = std::thread::scope(|scope| {
        let ends = scope.spawn(|| workers.shutdown(LONG).unwrap());
        go_on.send(()).unwrap();
        ends.join().unwrap()
    });
    assert_eq!((stats.accepted, stats.abandoned), (1, 0));
    assert_eq!(lag(&broker), 0);
}

#[test]
fn a_shutdown_releases_what_runs_on_and_counts_only_what_has_begun() {
    let world = World::new();
    let broker = with_jobs(&world, ["a", "b", "c"]);
    let (workers, has_begun, go_on) = blocked(&broker);
    has_begun.recv_timeout(AT_ONCE).unwrap();
    let stats = workers.shutdown(Duration::ZERO).unwrap();
    assert_eq!((stats.accepted, stats.abandoned), (0, 1));
    let mut other = other_member(&broker);
    let records: Vec<_> = other.poll(Duration::ZERO).unwrap().collect();
    let counts: Vec<_> = records.iter().map(|job| (job.offset(), job.delivery_count())).collect();
    assert_eq!(counts, [(0, 2), (1, 1), (2, 1)]);
    // What the handler returns counts no more.
    go_on.send(()).unwrap();
    for record in records {
        record.accept().unwrap();
    }
    assert_eq!(lag(&broker), 0);
}

#[test]
fn a_drop_ends_the_workers() {
    let world = World::new();
    let broker = with_jobs(&world, ["a"]);
    let (workers, has_begun, go_on) = blocked(&broker);
    has_begun.recv_timeout(AT_ONCE).unwrap();
    go_on.send(()).unwrap();
    drop(workers);
    assert_eq!(lag(&broker), 0);
    assert_eq!(broker.admin().describe_share_group("jobs").unwrap().members, Some(0));
}

#[test]
fn a_long_job_keeps_its_lock() {
    let world = World::new();
    let broker = with_jobs(&world, ["long"]);
    let (half, lock) = (Duration::from_millis(20), Duration::from_millis(40));
    let config = ShareGroupConfig::new().record_lock_duration(lock);
    broker.admin().alter_share_group("jobs", config).unwrap();
    let (workers, has_begun, go_on) = blocked(&broker);
    has_begun.recv_timeout(AT_ONCE).unwrap();
    let mut other = other_member(&broker);
    let left = || {
        let summary = broker.admin().describe_share_group("jobs").unwrap();
        summary.partitions[0].records[0].lock_left.unwrap()
    };
    for _ in 0..10 {
        world.clock.advance(half);
        until(|| left() == lock);
    }
    assert!(other.poll(Duration::ZERO).unwrap().is_empty());
    go_on.send(()).unwrap();
    let stats = workers.shutdown(LONG).unwrap();
    assert_eq!((stats.accepted, stats.late), (1, 0));
}

#[test]
fn a_job_that_runs_longer_than_allowed_is_delivered_again() {
    let world = World::new();
    let broker = with_jobs(&world, ["long"]);
    let lock = Duration::from_millis(40);
    let config = ShareGroupConfig::new().record_lock_duration(lock);
    broker.admin().alter_share_group("jobs", config).unwrap();
    let (begun, has_begun) = channel();
    let (go_on, word) = channel::<()>();
    let word = Mutex::new(word);
    let workers = broker.workers("jobs").threads(1).renew_for(Duration::ZERO).run(move |job| {
        begun.send(job.delivery_count())?;
        word.lock().unwrap().recv()?;
        Ok(())
    });
    let workers = workers.unwrap();
    assert_eq!(has_begun.recv_timeout(AT_ONCE).unwrap(), 1);
    world.clock.advance(lock);
    let mut other = other_member(&broker);
    let again = other.poll(LONG).unwrap().next().unwrap();
    assert_eq!((again.delivery_count(), again.last_reason()), (2, Some("the lock ended")));
    go_on.send(()).unwrap();
    until(|| workers.stats().late == 1);
    again.accept().unwrap();
    assert_eq!(workers.shutdown(LONG).unwrap().accepted, 0);
}

#[test]
fn a_topic_may_come_later_and_gets_more_partitions() {
    let world = World::new();
    let broker = world.open();
    let (workers, heard) = run(&world, &broker, ShareGroupConfig::new(), |_| Ok(()));
    broker.create_topic("jobs", TopicConfig::new()).unwrap();
    send(&broker, ["a"]);
    assert_eq!(next(&heard).0, "a");
    broker.admin().add_partitions("jobs", 2).unwrap();
    broker.producer().unwrap().send(Record::to("jobs").value("b").partition(1)).unwrap();
    assert_eq!(next(&heard).0, "b");
    workers.shutdown(LONG).unwrap();
}

#[test]
fn the_end_of_the_folder_ends_the_workers() {
    let world = World::new();
    let broker = with_jobs(&world, ["a"]);
    let (workers, heard) = run(&world, &broker, ShareGroupConfig::new(), |_| Ok(()));
    next(&heard);
    until(|| workers.stats().accepted == 1);
    broker.close().unwrap();
    assert!(matches!(workers.join(), Err(Error::Closed)));
}

#[test]
fn a_group_that_exists_keeps_its_settings_and_what_is_wrong_is_refused() {
    let world = World::new();
    let broker = with_jobs(&world, []);
    let config = || broker.admin().describe_share_group("jobs").unwrap().config;
    let run = |workers: grouplog::Workers| workers.run(|_| Ok(()));
    drop(run(broker.workers("jobs")).unwrap());
    assert_eq!(config(), [("share.retry.backoff.ms", "1000".to_owned())]);
    let own = ShareGroupConfig::new().delivery_count_limit(3);
    broker.admin().alter_share_group("jobs", own).unwrap();
    drop(run(broker.workers("jobs")).unwrap());
    assert_eq!(config(), [("share.delivery.count.limit", "3".to_owned())]);
    for threads in [0, 1025] {
        let refused = run(broker.workers("jobs").threads(threads));
        assert!(matches!(refused, Err(Error::InvalidConfig { key: "threads", .. })));
    }
    let refused = run(broker.workers("jobs").topics(["no/name"]));
    assert!(matches!(refused, Err(Error::InvalidName { .. })), "{refused:?}");
    let own = ShareGroupConfig::new().dead_letter_topic("jobs");
    let refused = run(broker.workers("jobs").config(own));
    assert!(matches!(refused, Err(Error::InvalidConfig { .. })), "{refused:?}");
    assert_eq!(config(), [("share.delivery.count.limit", "3".to_owned())]);
    assert_eq!(broker.admin().describe_share_group("jobs").unwrap().members, Some(0));
}

/// What was reserved before a pause is not begun, and waits for its end.
#[test]
fn a_pause_holds_what_was_fetched_but_not_begun() {
    let world = World::new();
    let broker = with_jobs(&world, ["a", "b", "c", "d"]);
    let (begin, begun) = channel();
    let (go_on, wait) = channel();
    let wait = Mutex::new(wait);
    let workers = broker
        .workers("jobs")
        .threads(1)
        .run(move |job| {
            begin.send(text(job)).unwrap();
            wait.lock().unwrap().recv_timeout(LONG).unwrap();
            Ok(())
        })
        .unwrap();
    assert_eq!(begun.recv_timeout(LONG).unwrap(), "a");
    broker.admin().pause_share_group("jobs", true).unwrap();
    (0..4).for_each(|_| go_on.send(()).unwrap());
    until(|| broker.admin().describe_share_group("jobs").unwrap().partitions[0].under_way == 0);
    assert_eq!((lag(&broker), begun.try_recv().ok()), (3, None));
    broker.admin().pause_share_group("jobs", false).unwrap();
    let rest: Vec<_> = (0..3).map(|_| begun.recv_timeout(LONG).unwrap()).collect();
    assert_eq!(rest, ["b", "c", "d"]);
    assert_eq!(workers.shutdown(LONG).unwrap().accepted, 4);
}
