//! Reading an event log again: from a point in time, from the start, and only new records.
//! Meanwhile the group that does the daily work keeps its place.
//!
//! ```text
//! cargo run --example replay
//! ```
#![allow(clippy::print_stdout, reason = "it shows what it found")]

use std::time::Duration;

use grouplog::{
    Broker, Consumer, ConsumerConfig, OffsetReset, Record, Result, Timestamp, TopicConfig,
    TopicPartition,
};

const TOPIC: &str = "temperatures";
/// One reading a minute.
const MINUTE: i64 = 60_000;
const READINGS: i64 = 24 * 60;

fn main() -> Result<()> {
    let broker = Broker::open_in_memory()?;
    broker.create_topic(TOPIC, TopicConfig::new())?;
    let midnight = Timestamp::from(std::time::UNIX_EPOCH + Duration::from_hours(24 * 20_000));
    let at = |minutes: i64| Timestamp::from_millis(midnight.as_millis() + minutes * MINUTE);
    let producer = broker.producer()?;
    for minute in 0..READINGS {
        let value = format!("{minute}");
        producer.send(Record::to(TOPIC).value(&value).timestamp(at(minute)))?;
    }
    let partition = TopicPartition::new(TOPIC, 0);

    // The daily work: a group that has read everything.
    let mut daily = broker.consumer("daily")?;
    daily.subscribe([TOPIC])?;
    assert_eq!(read(&mut daily)?, (0..READINGS).collect::<Vec<_>>());
    daily.commit()?;

    // Once more from 18:00 on. That needs no group: a consumer with assigned partitions commits
    // nothing and disturbs no other consumer.
    let mut again = broker.consumer_with(ConsumerConfig::new())?;
    again.assign([partition.clone()])?;
    again.seek_to_timestamp(&partition, at(18 * 60))?;
    let evening = read(&mut again)?;
    assert_eq!(evening, (18 * 60..READINGS).collect::<Vec<_>>());
    println!("from 18:00 on   {:>5} readings", evening.len());

    // A range in the middle: look up where it begins and ends, without moving any position.
    let bounds = |minutes| again.offsets_for_times([(partition.clone(), at(minutes))]);
    let (from, to) = (bounds(6 * 60)?[&partition], bounds(7 * 60)?[&partition]);
    let (from, to) = (from.expect("a reading").offset, to.expect("a reading").offset);
    again.seek(&partition, from)?;
    let mut hour = read(&mut again)?;
    hour.truncate((to - from) as usize);
    assert_eq!(hour, (6 * 60..7 * 60).collect::<Vec<_>>());
    println!("06:00 to 07:00  {:>5} readings", hour.len());

    // Everything, and then only new records.
    again.seek_to_beginning(&partition)?;
    assert_eq!(read(&mut again)?.len(), READINGS as usize);
    again.seek_to_end(&partition)?;
    assert!(read(&mut again)?.is_empty());

    // A new group that begins with records of the last 12 hours. The readings are far older than
    // that by now, so it begins at the end.
    let reset = OffsetReset::ByDuration(Duration::from_hours(12));
    let config = ConsumerConfig::new().group("alarm").auto_offset_reset(reset);
    let mut alarm = broker.consumer_with(config)?;
    alarm.subscribe([TOPIC])?;
    assert!(read(&mut alarm)?.is_empty());
    producer.send(Record::to(TOPIC).value("1440"))?;
    assert_eq!(read(&mut alarm)?, [READINGS]);

    // None of this affected the daily group: it continues after what it had read.
    assert_eq!(read(&mut daily)?, [READINGS]);
    println!("the daily group goes on where it was");
    daily.close()?;
    broker.close()
}

/// Reads everything from the position to the end.
fn read(consumer: &mut Consumer) -> Result<Vec<i64>> {
    let mut readings = Vec::new();
    loop {
        let records = consumer.poll(Duration::ZERO)?;
        if records.is_empty() {
            return Ok(readings);
        }
        let values = records.iter().map(|record| {
            let text = std::str::from_utf8(record.value().expect("a value")).expect("text");
            text.parse::<i64>().expect("a number")
        });
        readings.extend(values);
    }
}
