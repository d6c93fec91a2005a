//! What one transaction takes: each call refuses what could not be committed.

use std::collections::BTreeMap;
use std::time::Duration;

use grouplog::time::{Random, SeededRandom};
use grouplog::{
    Acks, Broker, Consumer, ConsumerConfig, Error, GroupMetadata, OffsetAndMetadata, Producer,
    ProducerConfig, Record, ShareConsumer, ShareGroupConfig, ShareRecord, TopicConfig, Transaction,
};

use crate::world::{World, tp};

/// Returns a folder whose frames have at most 64 KiB.
fn small() -> (World, Broker) {
    let mut world = World::new();
    world.config = world.config.journal_max_bytes(256 << 10);
    let broker = world.open();
    for topic in ["in", "out", "jobs"] {
        broker.create_topic(topic, TopicConfig::new()).unwrap();
    }
    (world, broker)
}

fn producer(broker: &Broker) -> Producer {
    broker.producer_with(ProducerConfig::new().acks(Acks::Written)).unwrap()
}

fn consumer(broker: &Broker) -> Consumer {
    let config = ConsumerConfig::new().group("g").enable_auto_commit(false);
    let mut consumer = broker.consumer_with(config.max_poll_records(10_000)).unwrap();
    consumer.subscribe(["in"]).unwrap();
    consumer
}

fn member(broker: &Broker, group: &str, delivery_count_limit: u16) -> ShareConsumer {
    let config = ShareGroupConfig::new().delivery_count_limit(delivery_count_limit);
    broker.admin().alter_share_group(group, config.max_record_locks(10_000)).unwrap();
    let mut member = broker.share_consumer(group).unwrap();
    member.subscribe(["jobs"]).unwrap();
    member
}

/// Sends the largest record that the frame takes. It leaves no room for anything else.
fn send_largest(transaction: &mut Transaction) {
    let value = vec![7; 65_536];
    let fits = |bytes: &usize| {
        let value = value.get(..*bytes).unwrap();
        transaction.send(Record::to("out").value(value)).is_ok()
    };
    let bytes = (0..65_536).rev().find(fits);
    assert!(bytes.is_some_and(|bytes| bytes > 65_000), "{bytes:?}");
}

fn is_full<T>(done: grouplog::Result<T>) {
    let error = done.err().unwrap();
    let Error::LimitExceeded { found, max: 65_536, .. } = error else { panic!("{error}") };
    assert!((65_537..=200_000).contains(&found), "{found}");
}

fn committed(broker: &Broker) -> Option<i64> {
    let group = broker.describe_group("g").ok()?;
    group.offsets.iter().find(|offset| offset.partition == tp("in", 0))?.committed
}

fn long(offset: i64) -> OffsetAndMetadata {
    OffsetAndMetadata::new(offset).with_metadata("m".repeat(4096))
}

#[test]
fn a_full_transaction_refuses_each_further_thing_and_can_be_committed() {
    let (_world, broker) = small();
    let producer = producer(&broker);
    producer.send_all((0..3).map(|_| Record::to("in").value("in"))).unwrap();
    producer.send(Record::to("jobs").value("job")).unwrap();
    let (mut consumer, mut jobs) = (consumer(&broker), member(&broker, "workers", 1));
    let records = consumer.poll(Duration::ZERO).unwrap();
    let last = records.iter().last().unwrap();
    let mut transaction = producer.begin().unwrap();
    send_largest(&mut transaction);
    is_full(transaction.send(Record::to("out").value("")));
    is_full(transaction.commit_offsets(&mut consumer));
    assert!(matches!(transaction.commit_through(&mut consumer, &last), Err(Error::Misuse(_))));
    is_full(transaction.send_offsets(&GroupMetadata::of_group("h"), [(tp("in", 0), 1)]));
    is_full(transaction.accept(jobs.poll(Duration::ZERO).unwrap().next().unwrap()));
    is_full(transaction.expect_end(&tp("in", 0), 3));
    assert_eq!(transaction.commit().unwrap().len(), 1);
    assert!(broker.describe_group("h").is_err());

    // The records come again, and so does the job: it was its only delivery, which does not count.
    producer.send(Record::to("in").value("in")).unwrap();
    assert_eq!(consumer.poll(Duration::ZERO).unwrap().len(), 4);
    let mut transaction = producer.begin().unwrap();
    transaction.commit_offsets(&mut consumer).unwrap();
    let job = jobs.poll(Duration::ZERO).unwrap().next().unwrap();
    assert_eq!(job.delivery_count(), 1);
    transaction.accept(job).unwrap();
    transaction.commit().unwrap();
    assert_eq!(committed(&broker), Some(4));
    assert_eq!(broker.admin().describe_share_group("workers").unwrap().lag(), 0);
}

/// Records leave room for the offsets of what they were made of, and for the ends of jobs.
#[test]
fn a_transaction_that_is_full_of_records_takes_their_offsets_and_jobs() {
    for bytes in (0..600).step_by(23) {
        let (_world, broker) = small();
        let producer = producer(&broker);
        let value = vec![7; bytes];
        let count = 65_536 / (bytes + 5);
        for topic in ["in", "jobs"] {
            let copies = (0..count).map(|_| Record::to(topic).value(&value));
            copies.for_each(|record| drop(producer.send(record).unwrap()));
        }
        let mut consumer = consumer(&broker);
        let mut transaction = producer.begin().unwrap();
        let records = consumer.poll(Duration::ZERO).unwrap();
        let fits = |value: &[u8]| transaction.send(Record::to("out").value(value)).is_ok();
        let mut fits = fits;
        let done = records.iter().take_while(|it| fits(it.value().unwrap())).last().unwrap();
        transaction.expect_end(&tp("in", 0), count as i64).unwrap();
        transaction.commit_through(&mut consumer, &done).unwrap();
        transaction.commit().unwrap();
        assert_eq!(committed(&broker), Some(done.offset() + 1), "{bytes}");

        let mut jobs = member(&broker, "workers", 5);
        let mut transaction = producer.begin().unwrap();
        let mut taken = 0;
        'full: while let records = jobs.poll(Duration::ZERO).unwrap()
            && !records.is_empty()
        {
            for job in records {
                if transaction.send(Record::to("out").value(job.value().unwrap())).is_err() {
                    break 'full;
                }
                transaction.accept(job).unwrap();
                taken += 1;
            }
        }
        assert_eq!(transaction.commit().unwrap().len(), taken, "{bytes}");
    }
}

#[test]
fn offsets_that_are_replaced_take_no_room() {
    let (_world, broker) = small();
    broker.create_topic("many", TopicConfig::new().partitions(10)).unwrap();
    let producer = producer(&broker);
    let group = GroupMetadata::of_group("g");
    // In one call, and in several.
    let mut transaction = producer.begin().unwrap();
    transaction.send_offsets(&group, (0..20).map(|at| (tp("in", 0), long(at)))).unwrap();
    for at in 20..100 {
        let position = if at % 2 == 0 { long(at) } else { OffsetAndMetadata::new(at) };
        transaction.send_offsets(&group, [(tp("in", 0), position)]).unwrap();
    }
    transaction.commit().unwrap();
    assert_eq!(committed(&broker), Some(99));
    // Those of other partitions still do.
    let mut transaction = producer.begin().unwrap();
    transaction.send_offsets(&group, (0..10).map(|at| (tp("many", at), long(1)))).unwrap();
    transaction.send_offsets(&group, (0..10).map(|at| (tp("many", 0), at))).unwrap();
    is_full(transaction.send(Record::to("out").value(&vec![7; 60_000])));
    transaction.commit().unwrap();
}

#[test]
fn jobs_that_follow_each_other_take_the_room_of_one() {
    let (_world, broker) = small();
    let producer = producer(&broker);
    for _ in 0..10 {
        producer.send_all((0..500).map(|_| Record::to("jobs").value("job"))).unwrap();
    }
    let mut member = member(&broker, "workers", 5);
    let mut transaction = producer.begin().unwrap();
    for _ in 0..10 {
        member.poll(Duration::ZERO).unwrap().for_each(|job| transaction.accept(job).unwrap());
    }
    transaction.commit().unwrap();
    assert_eq!(broker.admin().describe_share_group("workers").unwrap().lag(), 0);
}

#[test]
fn the_limit_of_the_records_is_about_records() {
    let (_world, broker) = small();
    let config = ProducerConfig::new().acks(Acks::Written).transaction_max_bytes(1);
    let producer = broker.producer_with(config).unwrap();
    let mut transaction = producer.begin().unwrap();
    transaction.send_offsets(&GroupMetadata::of_group("g"), [(tp("in", 0), 0)]).unwrap();
    transaction.expect_end(&tp("in", 0), 0).unwrap();
    let refused = transaction.send(Record::to("out").value("")).unwrap_err();
    assert!(matches!(refused, Error::LimitExceeded { max: 1, .. }), "{refused}");
    transaction.commit().unwrap();
    assert_eq!(committed(&broker), Some(0));
}

/// The bound counts what the frame may have: more than that, and a debug assertion fails at the commit.
#[test]
fn whatever_a_transaction_has_taken_is_committed() {
    for batch_size in [1024, 4096, 1 << 20] {
        let mut world = World::new();
        world.config = world.config.journal_max_bytes(256 << 10).batch_size(batch_size);
        let mut life = Life::new(world.open(), batch_size.into());
        for round in 0..30 {
            life.round(round);
        }
        assert!(life.refused > 100, "{}", life.refused);
    }
}

/// Fills transactions at random.
struct Life {
    broker: Broker,
    random: SeededRandom,
    producers: [Producer; 2],
    members: Vec<ShareConsumer>,
    jobs: Vec<Vec<ShareRecord>>,
    sequence: i64,
    ids: u64,
    /// How many records the partitions have.
    ends: BTreeMap<(u64, u32), i64>,
    refused: usize,
}

impl Life {
    fn new(broker: Broker, seed: u64) -> Self {
        for topic in 0..5 {
            let name = format!("t{topic}");
            broker.create_topic(&name, TopicConfig::new().partitions(60)).unwrap();
        }
        broker.create_topic("jobs", TopicConfig::new().partitions(20)).unwrap();
        let long = "\u{e9}".repeat(124);
        let config = ProducerConfig::new().acks(Acks::Written).transactional_id(format!("{long}x"));
        let producers = [producer(&broker), broker.producer_with(config).unwrap()];
        let groups = ["workers", &"w".repeat(249), &long];
        let members = groups.iter().map(|group| member(&broker, group, 1000)).collect();
        let (random, jobs) = (SeededRandom::new(seed), vec![Vec::new(), Vec::new(), Vec::new()]);
        let (sequence, ids, ends, refused) = (0, 0, BTreeMap::new(), 0);
        Self { broker, random, producers, members, jobs, sequence, ids, ends, refused }
    }

    fn below(&self, end: u64) -> u64 {
        self.random.next_u64() % end
    }

    /// One transaction, filled until it has refused five things.
    fn round(&mut self, round: i64) {
        let jobs = (0..200).map(|at| Record::to("jobs").partition(at % 20).value("j"));
        self.producers[0].send_all(jobs).unwrap();
        for (member, jobs) in self.members.iter_mut().zip(&mut self.jobs) {
            jobs.extend(member.poll(Duration::ZERO).unwrap());
        }
        let is_named = round % 2 == 0;
        let mut transaction = self.producers[usize::from(is_named)].begin().unwrap();
        let weights: Vec<u64> = (0..5).map(|_| self.below(10)).collect();
        let value_bytes = [3, 50, 1100, 40_000][self.below(4) as usize];
        let mut sent = BTreeMap::new();
        let (mut refused, mut steps) = (0, 0);
        while refused < 5 && steps < 3000 {
            steps += 1;
            if steps == 700 {
                for partition in 0..20 {
                    self.broker.admin().delete_records(&tp("jobs", partition), round * 5).unwrap();
                }
            }
            let place = (self.below(5), self.below(60) as u32);
            let done = match self.any(&weights) {
                0 => {
                    let done = self.send(&mut transaction, place, value_bytes, is_named);
                    *sent.entry(place).or_insert(0) += i64::from(done.is_ok());
                    done
                }
                1 => self.accept(&mut transaction),
                2 => self.send_offsets(&mut transaction, place),
                3 => {
                    let end = self.ends.get(&place).copied().unwrap_or(0);
                    transaction.expect_end(&tp(&format!("t{}", place.0), place.1), end)
                }
                _ => transaction.expect_committed("none", &tp("t0", place.1), None),
            };
            match done {
                Ok(()) => {}
                Err(Error::LimitExceeded { .. }) => refused += 1,
                Err(error) => panic!("{error}"),
            }
        }
        self.refused += refused;
        transaction.commit().unwrap_or_else(|error| panic!("round {round}: {error}"));
        for (place, count) in sent {
            *self.ends.entry(place).or_insert(0) += count;
        }
    }

    /// Chooses a number by its weight; 0 if all are 0.
    fn any(&self, weights: &[u64]) -> usize {
        let mut pick = self.below(weights.iter().sum::<u64>() + 1);
        let passes = |weight: &u64| {
            let is_it = pick < *weight;
            pick = pick.saturating_sub(*weight);
            is_it
        };
        weights.iter().position(passes).unwrap_or(0)
    }

    fn send(
        &mut self,
        transaction: &mut Transaction,
        (topic, partition): (u64, u32),
        value_bytes: u64,
        is_named: bool,
    ) -> grouplog::Result<()> {
        let value = vec![1; self.below(value_bytes) as usize];
        let (topic, id) = (format!("t{topic}"), self.ids.to_string());
        let mut record = Record::to(&topic).partition(partition).value(&value);
        if self.below(3) == 0 {
            self.ids += 1;
            record = record.id(&id);
        }
        if is_named && self.below(2) == 0 {
            self.sequence += 1;
            return transaction.send_sequenced(self.sequence, record).map(|is_new| assert!(is_new));
        }
        transaction.send(record)
    }

    fn accept(&mut self, transaction: &mut Transaction) -> grouplog::Result<()> {
        let group = self.below(3) as usize;
        let count = self.jobs[group].len() as u64;
        if count == 0 {
            return Ok(());
        }
        let at = if self.below(2) == 0 { 0 } else { self.below(count) as usize };
        transaction.accept(self.jobs[group].remove(at))
    }

    fn send_offsets(
        &self,
        transaction: &mut Transaction,
        (topic, partition): (u64, u32),
    ) -> grouplog::Result<()> {
        let group = match self.below(4) {
            0 => "\u{fc}".repeat(124),
            1 => "n".repeat(249),
            number => format!("g{number}{}", self.below(50)),
        };
        let offset = OffsetAndMetadata::new(self.below(1 << 50) as i64);
        let mut offset = offset.with_leader_epoch(self.below(1000) as i32);
        if self.below(10) == 0 {
            offset = offset.with_metadata("\u{e9}".repeat(self.below(2049) as usize));
        }
        let place = tp(&format!("t{topic}"), partition);
        transaction.send_offsets(&GroupMetadata::of_group(&group), [(place, offset)])
    }
}
