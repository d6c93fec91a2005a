//! The worked cases of `tests/vectors/transactions.json` that describe calls of an engine. Each names itself when it
//! fails.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use grouplog::record::Batch;
use grouplog::storage::{Crash, OpenMode, Storage};
use grouplog::{
    Acks, Broker, Consumer, ConsumerConfig, Error, GroupMetadata, Producer, ProducerConfig, Record,
    TopicConfig, TopicPartition, Transaction,
};
use serde_json::Value;

use crate::world::{World, after_crash, all};

/// The epoch that a member of a case has when the case begins, and in which it got its partitions.
const EPOCH: i64 = 3;

struct Case<'a> {
    name: &'a str,
    steps: &'a [Value],
    world: World,
    broker: Option<Broker>,
    producers: BTreeMap<String, Producer>,
    transactions: BTreeMap<String, Transaction>,
    /// The members, by group and name.
    members: BTreeMap<(String, String), (Consumer, GroupMetadata)>,
}

fn text<'a>(step: &'a Value, key: &str) -> &'a str {
    step[key].as_str().unwrap_or_else(|| panic!("{key} of {step}"))
}

fn partition(name: &str) -> TopicPartition {
    let (topic, number) = name.rsplit_once('-').unwrap();
    TopicPartition::new(topic, number.parse().unwrap())
}

/// The name that the cases have for an error.
fn error_name(error: &Error) -> &'static str {
    match error {
        Error::Fenced { reason, .. } if reason.contains("evicted") => "UnknownMember",
        Error::Fenced { reason, .. } if reason.contains("stale") => "StaleMemberEpoch",
        Error::Fenced { .. } => "NotOwner",
        Error::ProducerFenced { .. } => "ProducerFenced",
        Error::OutOfOrderSequence { .. } => "OutOfOrderSequence",
        Error::UnknownTopic { .. } | Error::UnknownPartition { .. } => "UnknownTopicOrPartition",
        Error::LimitExceeded { .. } => "TransactionTooLarge",
        Error::RecordTooLarge { .. } => "RecordTooLarge",
        Error::UnexpectedEnd { .. } => "UnexpectedEnd",
        _ => "another error",
    }
}

impl<'a> Case<'a> {
    fn new(case: &'a Value) -> Self {
        let steps = case["steps"].as_array().unwrap();
        let world = World::new();
        let broker = world.open();
        let mut case = Self {
            name: text(case, "name"),
            steps,
            world,
            broker: Some(broker),
            producers: BTreeMap::new(),
            transactions: BTreeMap::new(),
            members: BTreeMap::new(),
        };
        case.create_topics();
        case.join_members();
        case
    }

    fn broker(&self) -> &Broker {
        self.broker.as_ref().unwrap()
    }

    /// Creates the topics that the case names, each with as many partitions as it names.
    fn create_topics(&self) {
        let mut partitions: BTreeMap<String, u32> = BTreeMap::new();
        let mut named = |topic: &str, partition: u32| {
            let count = partitions.entry(topic.to_owned()).or_default();
            *count = (*count).max(partition + 1);
        };
        for step in self.steps {
            if let Some(topic) = step["topic"].as_str() {
                named(topic, step["partition"].as_u64().unwrap() as u32);
            }
            let offsets = step["offsets"].as_object();
            let offsets = offsets.into_iter().flat_map(|offsets| offsets.keys());
            for name in offsets
                .map(String::as_str)
                .chain(step["group"].as_str().and(step["partition"].as_str()))
            {
                let partition = partition(name);
                named(partition.topic(), partition.partition());
            }
        }
        for (topic, count) in partitions {
            self.broker().create_topic(&topic, TopicConfig::new().partitions(count)).unwrap();
        }
    }

    /// Lets the members that the case names join. Together they own all partitions whose offsets they send.
    fn join_members(&mut self) {
        let mut topics: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
        for step in self.steps.iter().filter(|step| step["member"].is_string()) {
            let member = (text(step, "group").to_owned(), text(step, "member").to_owned());
            let offsets =
                step["offsets"].as_object().into_iter().flat_map(|offsets| offsets.keys());
            let of = offsets.map(|name| partition(name).topic().to_owned());
            topics.entry(member).or_default().extend(of);
        }
        for ((group, name), topics) in topics {
            let config =
                ConsumerConfig::new().group(&group).client_id(&name).enable_auto_commit(false);
            let mut consumer = self.broker().consumer_with(config).unwrap();
            consumer.subscribe(topics).unwrap();
            consumer.poll(Duration::ZERO).unwrap();
            let metadata = consumer.group_metadata().unwrap();
            self.members.insert((group, name), (consumer, metadata));
        }
    }

    fn producer(&mut self, step: &Value) -> Producer {
        match step["producer"].as_str() {
            Some(name) => self.producers[name].clone(),
            None => self.broker().producer_with(ProducerConfig::new().acks(Acks::Written)).unwrap(),
        }
    }

    fn run(mut self) {
        for at in 0..self.steps.len() {
            let step = &self.steps[at];
            let context = format!("{:?}, step {at}: {step}", self.name);
            self.step(step, &context);
        }
    }

    fn step(&mut self, step: &Value, context: &str) {
        let outcome = match text(step, "op") {
            "init" => self.init(step),
            "begin" => self.begin(step),
            "send" => self.send(step, context),
            "sendOffsets" => self.send_offsets(step),
            "commit" => {
                let transaction = self.transactions.remove(text(step, "txn")).unwrap();
                transaction.commit().map(drop)
            }
            "abort" => {
                self.transactions.remove(text(step, "txn")).unwrap().abort();
                Ok(())
            }
            "drop" => {
                drop(self.transactions.remove(text(step, "txn")).unwrap());
                Ok(())
            }
            "evict" => {
                self.evict(text(step, "group"), text(step, "member"));
                Ok(())
            }
            "read" => return self.read(step, context),
            "committed" => return self.committed(step, context),
            "crash" => return self.crash(),
            "close" => return self.close(),
            "dump" => return self.dump(step, context),
            other => panic!("{context}: {other} is not known"),
        };
        let expected = step["expect"]["error"].as_str();
        assert_eq!(outcome.as_ref().err().map(error_name), expected, "{context}: {outcome:?}");
    }

    /// Lets time pass, in which all other members poll.
    fn evict(&mut self, group: &str, member: &str) {
        let gone = (group.to_owned(), member.to_owned());
        for _ in 0..36 {
            self.world.clock.advance(Duration::from_secs(10));
            for (_, (consumer, _)) in self.members.iter_mut().filter(|(name, _)| **name != gone) {
                consumer.poll(Duration::ZERO).unwrap();
            }
        }
        // The group notices it when somebody looks.
        let _described = self.broker().describe_group(group);
        let others = self.members.iter_mut().filter(|(name, _)| **name != gone && name.0 == group);
        for (_, (consumer, metadata)) in others {
            consumer.poll(Duration::ZERO).unwrap();
            *metadata = consumer.group_metadata().unwrap();
        }
    }

    fn init(&mut self, step: &Value) -> grouplog::Result<()> {
        let id = text(step, "transactionalId");
        let config = ProducerConfig::new().acks(Acks::Written).transactional_id(id);
        let producer = self.broker().producer_with(config)?;
        self.producers.insert(text(step, "producer").to_owned(), producer);
        Ok(())
    }

    fn begin(&mut self, step: &Value) -> grouplog::Result<()> {
        let transaction = self.producer(step).begin()?;
        self.transactions.insert(step["txn"].as_str().unwrap_or("unnamed").to_owned(), transaction);
        Ok(())
    }

    fn send(&mut self, step: &Value, context: &str) -> grouplog::Result<()> {
        let record = Record::to(text(step, "topic"))
            .partition(step["partition"].as_u64().unwrap() as u32)
            .value(text(step, "value"));
        let record = match step["id"].as_str() {
            Some(id) => record.id(id),
            None => record,
        };
        if let Some(transaction) = step["txn"].as_str() {
            return self.transactions.get_mut(transaction).unwrap().send(record);
        }
        let sent = self.producer(step).send(record)?;
        if let Some(offset) = step["expect"]["offset"].as_i64() {
            assert_eq!(sent.metadata().offset(), offset, "{context}");
        }
        Ok(())
    }

    fn send_offsets(&mut self, step: &Value) -> grouplog::Result<()> {
        let group = text(step, "group").to_owned();
        let metadata = match step["member"].as_str() {
            None => GroupMetadata::of_group(group),
            Some(member) => {
                let (_, metadata) = &self.members[&(group, member.to_owned())];
                let mut metadata = metadata.clone();
                metadata.member_epoch += (step["epoch"].as_i64().unwrap_or(EPOCH) - EPOCH) as i32;
                metadata
            }
        };
        let offsets = step["offsets"].as_object().unwrap().iter();
        let offsets = offsets.map(|(name, offset)| (partition(name), offset.as_i64().unwrap()));
        let transaction = self.transactions.get_mut(text(step, "txn")).unwrap();
        transaction.send_offsets(&metadata, offsets)
    }

    fn read(&self, step: &Value, context: &str) {
        let partition = step["partition"].as_u64().unwrap() as u32;
        let values: Vec<String> = all(self.broker(), text(step, "topic"))
            .into_iter()
            .filter(|record| record.partition == partition)
            .map(|record| String::from_utf8(record.value.unwrap()).unwrap())
            .collect();
        let expected: Vec<&str> = step["expect"]
            .as_array()
            .unwrap()
            .iter()
            .map(|value| value.as_str().unwrap())
            .collect();
        assert_eq!(values, expected, "{context}");
    }

    fn committed(&self, step: &Value, context: &str) {
        let partition = partition(text(step, "partition"));
        let described = self.broker().describe_group(text(step, "group"));
        let offsets = described.map(|group| group.offsets).unwrap_or_default();
        let committed = offsets.iter().find(|offset| offset.partition == partition);
        let committed = committed.and_then(|offset| offset.committed);
        assert_eq!(committed, step["expect"].as_i64(), "{context}");
    }

    /// A killed process. All that is in a frame is in the page cache, whatever the case calls the moment.
    fn crash(&mut self) {
        self.transactions.clear();
        self.producers.clear();
        self.members.clear();
        let (world, broker) = after_crash(&self.world, Crash::Kill);
        (self.world, self.broker) = (world, Some(broker));
        self.join_members();
    }

    fn close(&mut self) {
        self.members.clear();
        self.broker.take().unwrap().close().unwrap();
    }

    fn dump(&self, step: &Value, context: &str) {
        let folder = PathBuf::from(format!("{}-{}", text(step, "topic"), step["partition"]));
        let storage = &self.world.storage;
        let names: Vec<String> =
            storage.list(&folder).unwrap_or_default().into_iter().map(|entry| entry.name).collect();
        let has = |name: &str, end: &str| Path::new(name).extension().is_some_and(|e| e == end);
        let txnindex = names.iter().any(|name| has(name, "txnindex"));
        let mut logs: Vec<&String> = names.iter().filter(|name| has(name, "log")).collect();
        logs.sort();
        let (mut transactional, mut control, mut next) = (false, 0, 0);
        let mut producers = BTreeSet::new();
        for name in logs {
            let bytes = contents(storage, &folder.join(name));
            let mut at = 0;
            while at < bytes.len() {
                let batch = Batch::parse(&bytes[at..]).unwrap();
                transactional |= batch.header().attributes.is_transactional();
                control += i64::from(batch.header().attributes.is_control());
                producers.insert(batch.header().producer_id);
                next = batch.header().next_offset();
                at += batch.bytes().len();
            }
        }
        let expect = &step["expect"];
        assert_eq!(expect["transactional"].as_bool(), Some(transactional), "{context}");
        assert_eq!(expect["controlBatches"].as_i64(), Some(control), "{context}");
        assert_eq!(expect["txnindex"].as_bool(), Some(txnindex), "{context}");
        assert_eq!(expect["nextOffset"].as_i64(), Some(next), "{context}");
        assert_eq!(
            producers,
            expect["producerId"].as_i64().into_iter().filter(|_| next > 0).collect::<BTreeSet<_>>(),
            "{context}"
        );
    }
}

fn contents(storage: &dyn Storage, path: &Path) -> Vec<u8> {
    let file = storage.open(path, OpenMode::Read).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    let read = file.read_at(&mut bytes, 0).unwrap();
    bytes.truncate(read);
    bytes
}

#[test]
fn the_worked_cases_of_this_engine() {
    let given = include_str!("../vectors/transactions.json");
    let more = include_str!("../vectors/transactions_more.json");
    let all = [given, more].map(|text| serde_json::from_str::<Value>(text).unwrap());
    let cases = all.iter().flat_map(|all| all["cases"].as_array().unwrap());
    let cases: Vec<_> = cases.filter(|case| case["kind"] == "engine").collect();
    assert!(!cases.is_empty());
    for case in cases {
        Case::new(case).run();
    }
}
