//! Makes folders with the current build. It uses only the public interface, so it also builds with earlier
//! versions.

use std::sync::Arc;
use std::time::Duration;

use grouplog::record::Compression;
use grouplog::storage::{Crash, Memory};
use grouplog::time::{ManualClock, SeededRandom};
use grouplog::{
    Acks, Backoff, Broker, BrokerConfig, CleanupPolicy, GroupMetadata, OffsetAndMetadata,
    ProducerConfig, Record, Result, ShareConsumer, ShareConsumerConfig, ShareGroupConfig,
    ShareRecord, Timestamp, TopicConfig, TopicPartition,
};

use crate::{container, listing};

/// The life of a program in one folder.
pub(crate) struct Life {
    pub(crate) storage: Memory,
    pub(crate) clock: Arc<ManualClock>,
    random: Arc<SeededRandom>,
}

impl Life {
    pub(crate) fn new(storage: Memory) -> Self {
        let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_700_000_000_000)));
        Self { storage, clock, random: Arc::new(SeededRandom::new(11)) }
    }

    pub(crate) fn config(&self) -> BrokerConfig {
        BrokerConfig::new()
            .background(false)
            .journal_file_bytes(64 << 10)
            .journal_max_bytes(256 << 10)
            .batch_size(1024)
            .clock(Arc::clone(&self.clock) as _)
            .random(Arc::clone(&self.random) as _)
    }

    pub(crate) fn open(&self) -> Broker {
        Broker::open_storage(Arc::new(self.storage.clone()), self.config()).unwrap()
    }
}

fn small() -> TopicConfig {
    TopicConfig::new().segment_bytes(2048).index_interval_bytes(256)
}

fn topics(broker: &Broker) {
    broker.create_topic("plain", small().partitions(2)).unwrap();
    broker.create_topic("packed", small().compression(Compression::Zstd)).unwrap();
    let stamped = TopicConfig::new().set("message.timestamp.type", "LogAppendTime").unwrap();
    broker.create_topic("stamped", stamped).unwrap();
    broker.create_topic("empty", TopicConfig::new()).unwrap();
    broker.create_topic("gone", small()).unwrap();
}

fn work(life: &Life, broker: &Broker, rounds: std::ops::Range<u32>) {
    let producer = broker.producer().unwrap();
    let mut group = broker.consumer("readers").unwrap();
    for round in rounds {
        life.clock.advance(Duration::from_millis(250));
        let value = format!("{round} {}", "abcdefgh".repeat(30));
        let places = [("plain", 0), ("plain", 1), ("packed", 0), ("packed", 0), ("stamped", 0)];
        for (topic, partition) in places {
            let key = format!("key {round}");
            let record = Record::to(topic).partition(partition).key(&key).value(&value);
            producer.send(record.header("round", "x")).unwrap();
        }
        producer.send(Record::to("plain").partition(1).key("tombstone")).unwrap();
        let offset = OffsetAndMetadata::from(i64::from(round)).with_metadata("as far as this");
        group.commit_offsets([(TopicPartition::new("plain", 0), offset)]).unwrap();
    }
    let mut other = broker.consumer("others").unwrap();
    other.commit_offsets([(TopicPartition::new("packed", 0), 3)]).unwrap();
}

fn first_life(life: &Life) -> Broker {
    let broker = life.open();
    topics(&broker);
    work(life, &broker, 0..12);
    let producer = broker.producer().unwrap();
    producer.send(Record::to("gone").value("not for long")).unwrap();
    broker.delete_topic("gone").unwrap();
    broker
}

fn second_life(life: &Life) -> Broker {
    let broker = life.open();
    let admin = broker.admin();
    assert_eq!(admin.delete_records(&TopicPartition::new("plain", 0), 7).unwrap(), 7);
    admin.add_partitions("empty", 3).unwrap();
    work(life, &broker, 12..20);
    broker
}

/// Appends that are in the segments as soon as they are journaled, with small ones between.
fn large_appends(broker: &Broker) {
    broker.ensure_topic("large", TopicConfig::new()).unwrap();
    let acks = ProducerConfig::new().acks(Acks::Written);
    let producer = broker.producer_with(acks).unwrap();
    for round in 0..4_u8 {
        let value = vec![b'a' + round; 20_000];
        producer.send(Record::to("large").key("large").value(&value)).unwrap();
        producer.send(Record::to("large").key("small").value("x")).unwrap();
        let some = [&value[..9_000], b"plain"];
        let topics = [("large", some[0]), ("plain", some[1])];
        let records = topics.map(|(topic, value)| Record::to(topic).partition(0).value(value));
        producer.send_all(records).unwrap();
    }
}

/// Deletes by retention what the checkpoint lists, stored appends among it, and goes on.
fn deletes_by_retention(life: &Life, broker: &Broker) {
    let mut config = small();
    let limits = [
        ("retention.ms", "3600000"),
        ("retention.bytes", "100000"),
        ("retention.consumed", "readers,others"),
        ("message.timestamp.after.max.ms", "60000"),
    ];
    for (key, value) in limits {
        config = config.set(key, value).unwrap();
    }
    broker.create_topic("short", config).unwrap();
    let acks = ProducerConfig::new().acks(Acks::Written);
    let producer = broker.producer_with(acks).unwrap();
    let send = |count: usize, bytes: usize| {
        for _ in 0..count {
            producer.send(Record::to("short").value(&vec![b'x'; bytes])).unwrap();
        }
    };
    send(9, 500);
    broker.checkpoint().unwrap();
    send(3, 500);
    send(2, 9_000);
    life.clock.advance(Duration::from_hours(2));
    broker.maintain().unwrap();
    send(2, 9_000);
    send(3, 500);
}

/// Compacts a topic twice, with a key that is deleted, and goes on.
fn compacts(broker: &Broker) {
    let config = small().cleanup_policy(CleanupPolicy::Compact);
    broker.create_topic("table", config).unwrap();
    let acks = ProducerConfig::new().acks(Acks::Written);
    let producer = broker.producer_with(acks).unwrap();
    let send = |rounds: std::ops::Range<u32>| {
        for round in rounds {
            for key in ["a", "b", "c", "d"] {
                let value = format!("{round} {}", "x".repeat(150));
                producer.send(Record::to("table").key(key).value(&value)).unwrap();
            }
        }
    };
    send(0..10);
    broker.admin().compact("table").unwrap();
    producer.send(Record::to("table").key("b")).unwrap();
    send(10..12);
    producer.send(Record::to("table").key("c")).unwrap();
    broker.admin().compact("table").unwrap();
    send(12..14);
}

/// Sends records with ids and sequences by named producers, in transactions and alone. A checkpoint holds what the
/// first round does, and the journal what the second one does.
fn transacts(life: &Life, broker: &Broker, round: i64) {
    let named = |name: &str| {
        let config = ProducerConfig::new().acks(Acks::Written).transactional_id(name);
        broker.producer_with(config).unwrap()
    };
    named("importer").send_sequenced(10 * round, Record::to("in").value("line")).unwrap();
    let importer = named("importer");
    importer.send_sequenced(10 * round + 1, Record::to("in").value("line")).unwrap();
    named(if round == 0 { "of a checkpoint" } else { "of the journal" });
    if round == 0 {
        drop(named("gone"));
    } else {
        broker.admin().delete_owner("gone").unwrap();
    }
    life.clock.advance(Duration::from_secs(1));

    let ids: Vec<String> = (0..6).map(|number| format!("{round}-{number}")).collect();
    let record = |number: usize| {
        let id = &ids[number];
        Record::to("out").partition(number as u32 % 2).value(id).id(id)
    };
    importer.send(record(0)).unwrap();
    importer.send_all([record(1), record(2), record(1)]).unwrap();
    let mut aborted = importer.begin().unwrap();
    aborted.send(Record::to("out").partition(0).value("aborted").id("aborted")).unwrap();
    aborted.abort();
    let mut transaction = importer.begin().unwrap();
    for number in [3, 4, 2] {
        transaction.send(record(number)).unwrap();
    }
    transaction.send_sequenced(10 * round + 5, record(5)).unwrap();
    let group = GroupMetadata::of_group("movers");
    let offset = OffsetAndMetadata::from(2 * round + 1).with_metadata("moved");
    transaction.send_offsets(&group, [(TopicPartition::new("in", 0), offset)]).unwrap();
    transaction.commit().unwrap();
}

fn transactions(life: &Life) -> Broker {
    let broker = life.open();
    broker.create_topic("in", small()).unwrap();
    let window = small().partitions(2).dedup_window(Duration::from_hours(1));
    broker.create_topic("out", window).unwrap();
    transacts(life, &broker, 0);
    broker.close().unwrap();
    let broker = life.open();
    transacts(life, &broker, 1);
    broker
}

const HOUR: Duration = Duration::from_hours(1);

/// Runs the jobs of two rounds in share groups. Both files of share groups are written, the last one by the checkpoint
/// that ends the first round. The journal holds the second round.
fn queues(life: &Life) -> Broker {
    let broker = life.open();
    broker.create_topic("jobs", small().partitions(2)).unwrap();
    let admin = broker.admin();
    let mailers = ShareGroupConfig::new()
        .delivery_count_limit(2)
        .retry_backoff(Backoff::exponential(Duration::from_secs(1)).jitter_percent(0))
        .dead_letter_topic("dead");
    admin.alter_share_group("mailers", mailers.clone()).unwrap();
    let ordered = ShareGroupConfig::new().ordered_by_key(true).retry_backoff(Backoff::fixed(HOUR));
    admin.alter_share_group("ordered", ordered).unwrap();
    admin.alter_share_group("gone", ShareGroupConfig::new()).unwrap();
    let member = |group: &str, records: u32| {
        let config = ShareConsumerConfig::new().max_poll_records(records);
        let mut member = broker.share_consumer_with(group, config).unwrap();
        member.subscribe(["jobs"]).unwrap();
        member
    };
    let mut members = [member("mailers", 100), member("ordered", 100), member("paused", 3)];
    broker.checkpoint().unwrap();
    round_of_jobs(life, &broker, &mut members);
    admin.pause_share_group("paused", true).unwrap();
    broker.checkpoint().unwrap();
    admin.pause_share_group("paused", false).unwrap();
    round_of_jobs(life, &broker, &mut members);
    admin.pause_share_group("paused", true).unwrap();
    admin.delete_share_group("gone").unwrap();
    admin.alter_share_group("mailers", mailers.record_lock_duration(HOUR)).unwrap();
    // They leave no group, and keep what they have.
    members.into_iter().for_each(std::mem::forget);
    broker
}

fn round_of_jobs(life: &Life, broker: &Broker, members: &mut [ShareConsumer; 3]) {
    let producer = broker.producer().unwrap();
    for number in 0..12_u32 {
        let (key, value) = (format!("key {}", number % 4), format!("job {number}"));
        let job = Record::to("jobs").partition(number / 9).key(&key).value(&value);
        producer.send(if number == 8 { job.deliver_after(HOUR) } else { job }).unwrap();
    }
    let [mailers, ordered, paused] = members;
    say(mailers, 11, |at, job| match at {
        2 => job.reject("no such customer"),
        3 => job.cancel(),
        4 => job.release_because("503"),
        5 => job.snooze(2 * HOUR),
        6 => job.release_after(HOUR),
        7 => keep(job),
        _ => job.accept(),
    });
    life.clock.advance(Duration::from_secs(2));
    // The one that has failed fails again, for the last time.
    say(mailers, 1, |_, job| job.release());
    say(ordered, 4, |at, job| match at {
        0 => job.release_because("no answer"),
        1 => keep(job),
        _ => job.accept(),
    });
    say(paused, 3, |at, job| if at == 0 { job.accept() } else { keep(job) });
}

/// Takes up to `most` jobs, and says something of each.
fn say(member: &mut ShareConsumer, most: usize, word: impl Fn(usize, ShareRecord) -> Result<()>) {
    let mut taken = 0;
    while taken < most {
        let jobs = member.poll(Duration::ZERO).unwrap();
        if jobs.is_empty() {
            return;
        }
        for job in jobs {
            word(taken, job).unwrap();
            taken += 1;
        }
    }
}

/// Leaves a job under way.
#[expect(clippy::unnecessary_wraps, reason = "it is one of several words")]
fn keep(job: ShareRecord) -> Result<()> {
    std::mem::forget(job);
    Ok(())
}

fn kill(life: Life) -> Life {
    let storage = life.storage.crash(Crash::Kill, &SeededRandom::new(0));
    Life { storage, ..life }
}

/// Makes all folders, by name.
pub(crate) fn all() -> Vec<(&'static str, Life)> {
    let new = || Life::new(Memory::crash_simulating(3));
    let fresh = new();
    fresh.open().close().unwrap();

    let closed = new();
    first_life(&closed).close().unwrap();
    second_life(&closed).close().unwrap();

    let journal_only = new();
    let broker = first_life(&journal_only);
    let journal_only = kill(journal_only);
    drop(broker);

    let killed = new();
    first_life(&killed).close().unwrap();
    let broker = second_life(&killed);
    broker.checkpoint().unwrap();
    work(&killed, &broker, 20..24);
    broker.delete_topic("stamped").unwrap();
    broker.create_topic("stamped", small()).unwrap();
    let killed = kill(killed);
    drop(broker);

    let stored = new();
    let broker = first_life(&stored);
    large_appends(&broker);
    broker.checkpoint().unwrap();
    large_appends(&broker);
    let stored = kill(stored);
    drop(broker);

    let retention = new();
    let broker = first_life(&retention);
    deletes_by_retention(&retention, &broker);
    let retention = kill(retention);
    drop(broker);

    let compaction = new();
    let broker = first_life(&compaction);
    compacts(&broker);
    let compaction = kill(compaction);
    drop(broker);

    let transacted = new();
    let broker = transactions(&transacted);
    let transacted = kill(transacted);
    drop(broker);

    let shares = new();
    let broker = queues(&shares);
    let shares = kill(shares);
    drop(broker);
    vec![
        ("fresh", fresh),
        ("closed", closed),
        ("journal-only", journal_only),
        ("killed", killed),
        ("stored", stored),
        ("retention", retention),
        ("compaction", compaction),
        ("transactions", transacted),
        ("shares", shares),
    ]
}

/// Writes the folders, and the contents of each beside it, to the folder that `GROUPLOG_MAKE_FOLDERS` names.
#[test]
fn make() {
    let Some(to) = std::env::var_os("GROUPLOG_MAKE_FOLDERS") else { return };
    let to = std::path::PathBuf::from(to);
    std::fs::create_dir_all(&to).unwrap();
    for (name, life) in all() {
        let packed = container::pack(&container::files_of(&life.storage));
        std::fs::write(to.join(format!("{name}.folder.zst")), packed).unwrap();
        let reader = Broker::open_storage_read_only(Arc::new(life.storage.clone())).unwrap();
        std::fs::write(to.join(format!("{name}.txt")), listing::of(&reader)).unwrap();
    }
}
