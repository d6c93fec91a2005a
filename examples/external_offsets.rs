//! Exactly once into your own database: one SQLite transaction stores the results and the offsets
//! they come from. After a crash both exist or neither. This needs no group: the program assigns
//! the partitions itself and reads the positions from the database.
//!
//! The database also stores the topic's id, and the leader epoch of the record before each offset.
//! Power loss can take back records that were only `Written`. If other records then get their
//! offsets, `seek` fails with `LogTruncated` instead of continuing in the wrong place. If the topic
//! was deleted and created again, `seek` fails with `InconsistentTopicId`.
//!
//! ```text
//! cargo run --example external_offsets
//! ```
#![allow(clippy::print_stdout, reason = "it shows what it found")]

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use grouplog::{
    Broker, ConsumerConfig, ConsumerRecords, Position, Record, TopicConfig, TopicPartition,
};
use rusqlite::{Connection, OptionalExtension as _, params};

const TOPIC: &str = "payments";
const PARTITIONS: u32 = 3;
const PAYMENTS: i64 = 1_000;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS balances (account TEXT PRIMARY KEY, cents INTEGER NOT NULL);
    CREATE TABLE IF NOT EXISTS offsets (
        topic TEXT, partition INTEGER, next_offset INTEGER NOT NULL, leader_epoch INTEGER,
        topic_id TEXT,
        PRIMARY KEY (topic, partition)
    );";

fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let database = folder.path().join("balances.sqlite");
    let broker = Broker::open(folder.path().join("data"))?;
    broker.create_topic(TOPIC, TopicConfig::new().partitions(PARTITIONS))?;
    let producer = broker.producer()?;
    for n in 0..PAYMENTS {
        let (account, cents) = (format!("account {}", n % 7), format!("{n}"));
        producer.send(Record::to(TOPIC).key(&account).value(&cents))?;
    }
    producer.flush()?;

    // The program is interrupted repeatedly, each time in the middle of a transaction.
    let mut runs = 1;
    while run(&broker, &database, Some(runs * 40))? == Outcome::Interrupted {
        runs += 1;
    }
    println!("done in run {runs}");
    assert!(runs > 2);
    assert_eq!(run(&broker, &database, None)?, Outcome::Finished, "nothing is left");

    let connection = Connection::open(&database)?;
    let paid: i64 =
        connection.query_row("SELECT sum(cents) FROM balances", [], |row| row.get(0))?;
    assert_eq!(paid, (0..PAYMENTS).sum::<i64>(), "each payment counts exactly once");
    println!("{PAYMENTS} payments, {paid} cents, each exactly once");
    broker.close()?;
    Ok(())
}

#[derive(Debug, PartialEq)]
enum Outcome {
    Interrupted,
    Finished,
}

/// One life of the program. Continues where the database says until everything is read, or until it
/// is interrupted after `interrupt` records, in the middle of a transaction.
fn run(broker: &Broker, database: &Path, mut interrupt: Option<usize>) -> Result<Outcome> {
    let mut connection = Connection::open(database)?;
    connection.execute_batch(SCHEMA)?;
    let config = ConsumerConfig::new().max_poll_records(25);
    let mut consumer = broker.consumer_with(config)?;
    let partitions = (0..PARTITIONS).map(|partition| TopicPartition::new(TOPIC, partition));
    consumer.assign(partitions)?;
    for partition in consumer.assignment() {
        if let Some(position) = load(&connection, &partition)? {
            consumer.seek(&partition, position)?;
        }
    }
    loop {
        let records = consumer.poll(Duration::ZERO)?;
        if records.is_empty() {
            return Ok(Outcome::Finished);
        }
        let transaction = connection.transaction()?;
        apply(&transaction, &records)?;
        if let Some(left) = &mut interrupt {
            let Some(rest) = left.checked_sub(records.len()) else {
                return Ok(Outcome::Interrupted); // the transaction is dropped, as in a crash
            };
            *left = rest;
        }
        transaction.commit()?;
    }
}

/// Applies the results of some records and stores the positions after them.
fn apply(connection: &Connection, records: &ConsumerRecords) -> Result<()> {
    let mut pay = connection.prepare_cached(
        "INSERT INTO balances VALUES (?1, ?2)
         ON CONFLICT (account) DO UPDATE SET cents = cents + excluded.cents",
    )?;
    let mut store =
        connection.prepare_cached("INSERT OR REPLACE INTO offsets VALUES (?1, ?2, ?3, ?4, ?5)")?;
    for partition in records.partitions() {
        for record in records.records(partition) {
            let account = std::str::from_utf8(record.key().unwrap_or_default())?;
            let cents = std::str::from_utf8(record.value().unwrap_or_default())?;
            pay.execute(params![account, cents.parse::<i64>()?])?;
        }
        let Some(last) = records.records(partition).last() else { continue };
        let next = last.next_position();
        let (topic, number) = (partition.topic(), partition.partition());
        let id = next.topic_id().map(|id| id.to_string());
        store.execute(params![topic, number, next.offset(), next.leader_epoch(), id])?;
    }
    Ok(())
}

/// Returns the position that the database stores for a partition.
fn load(connection: &Connection, partition: &TopicPartition) -> Result<Option<Position>> {
    let row = connection.query_row(
        "SELECT next_offset, leader_epoch, topic_id FROM offsets WHERE topic = ?1 AND partition = ?2",
        params![partition.topic(), partition.partition()],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    );
    let row: Option<(i64, Option<i32>, Option<String>)> = row.optional()?;
    let Some((offset, epoch, id)) = row else { return Ok(None) };
    let mut position = Position::new(offset);
    if let Some(epoch) = epoch {
        position = position.with_leader_epoch(epoch);
    }
    if let Some(id) = id {
        position = position.with_topic_id(id.parse()?);
    }
    Ok(Some(position))
}
