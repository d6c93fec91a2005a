//! Kafka's batches, and folders that hold them.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::{KafkaSegment, bring_in};
use crate::error::Result;
use crate::record::{BatchHeader, encode_record, seal};
use crate::segment::SegmentId;
use crate::storage::{Memory, Storage};
use crate::types::TopicPartition;
use crate::{Broker, BrokerConfig, Consumer, ConsumerConfig, IsolationLevel, TopicConfig};

const EPOCH: i32 = 7;

/// A batch to write.
#[derive(Debug, Clone, Default)]
pub(super) struct Batch {
    pub(super) base: i64,
    pub(super) last: i64,
    pub(super) records: Vec<i64>,
    pub(super) producer: Option<i64>,
    pub(super) is_transactional: bool,
    /// The type of a control record: 0 aborts, 1 commits.
    pub(super) control: Option<i16>,
}

impl Batch {
    /// Returns a batch of one plain record for each offset of a range.
    pub(super) fn plain(base: i64, last: i64) -> Self {
        Self { base, last, records: (base..=last).collect(), ..Self::default() }
    }

    /// Returns the same as part of a transaction.
    pub(super) fn of(producer: i64, base: i64, last: i64) -> Self {
        let plain = Self::plain(base, last);
        Self { producer: Some(producer), is_transactional: true, ..plain }
    }

    pub(super) fn abort(producer: i64, base: i64) -> Self {
        Self { records: Vec::new(), control: Some(0), ..Self::of(producer, base, base) }
    }

    pub(super) fn commit(producer: i64, base: i64) -> Self {
        Self { control: Some(1), ..Self::abort(producer, base) }
    }

    /// Returns the bytes. A record has its offset as its key, unless another key is given.
    pub(super) fn encode(&self, key: Option<&[u8]>) -> Vec<u8> {
        let attributes = BatchHeader::default().attributes;
        let mut payload = Vec::new();
        let mut put = |offset: i64, key: &[u8], value: &[u8]| {
            let mut raw = [0; 100];
            let delta = i32::try_from(offset - self.base).unwrap();
            let size = encode_record(&mut raw, 0, delta, Some(key), Some(value), &[]).unwrap();
            payload.extend_from_slice(&raw[..size]);
        };
        if let Some(kind) = self.control {
            let [high, low] = kind.to_be_bytes();
            put(self.base, &[0, 0, high, low], &[0, 0, 0, 0, 0, 3]);
        }
        for offset in &self.records {
            put(*offset, key.unwrap_or(&offset.to_be_bytes()), b"v");
        }
        let header = BatchHeader {
            base_offset: self.base,
            leader_epoch: EPOCH,
            attributes: attributes
                .with_transactional(self.is_transactional)
                .with_control(self.control.is_some()),
            last_offset_delta: i32::try_from(self.last - self.base).unwrap(),
            base_timestamp: 1000 + self.base,
            max_timestamp: 1000 + self.base,
            producer_id: self.producer.unwrap_or(-1),
            producer_epoch: self.producer.map_or(-1, |_| 0),
            base_sequence: if self.producer.is_some() && self.control.is_none() { 0 } else { -1 },
            count: i32::try_from(self.records.len()).unwrap() + i32::from(self.control.is_some()),
            ..BatchHeader::default()
        };
        [&seal(&header, &payload).unwrap()[..], &payload].concat()
    }
}

/// Returns the segments that begin with each of these batches. Where offsets are missing, they are segments that
/// compaction has written.
pub(super) fn segments(batches: &[Batch], starts: &[usize]) -> Vec<KafkaSegment> {
    let mut out: Vec<KafkaSegment> = Vec::new();
    let mut next = batches.first().map_or(0, |batch| batch.base);
    let has_gaps = batches.iter().any(|batch| {
        let gap = batch.base != next || batch.records.is_empty() && batch.control.is_none();
        next = batch.last + 1;
        gap || batch.records.len() as i64 != batch.last + 1 - batch.base && batch.control.is_none()
    });
    for (at, batch) in batches.iter().enumerate() {
        if at == 0 || starts.contains(&at) {
            let base_offset = out.last().map_or(batch.base, |_| batch.base);
            if let Some(before) = out.last_mut() {
                before.end_offset = base_offset;
            }
            let id = SegmentId { base_offset, generation: u32::from(has_gaps) };
            out.push(KafkaSegment { id, log: Vec::new(), end_offset: base_offset });
        }
        let segment = out.last_mut().unwrap();
        segment.log.extend_from_slice(&batch.encode(None));
        segment.end_offset = batch.last + 1;
    }
    out
}

pub(super) fn partition() -> TopicPartition {
    TopicPartition::new("t", 0)
}

/// Returns a closed folder whose only partition holds these segments.
pub(super) fn folder(segments: &[KafkaSegment], config: TopicConfig) -> Memory {
    let memory = Memory::new();
    let storage: Arc<dyn Storage> = Arc::new(memory.clone());
    let broker = Broker::open_storage(Arc::clone(&storage), settings()).unwrap();
    broker.create_topic("t", config).unwrap();
    broker.close().unwrap();
    bring_in(&*storage, &partition(), segments);
    memory
}

/// Settings without threads.
pub(super) fn settings() -> BrokerConfig {
    BrokerConfig::new().background(false)
}

pub(super) fn open(memory: &Memory) -> Broker {
    Broker::open_storage(Arc::new(memory.clone()), settings()).unwrap()
}

pub(super) const BOTH: [IsolationLevel; 2] =
    [IsolationLevel::ReadUncommitted, IsolationLevel::ReadCommitted];

pub(super) fn reader(broker: &Broker, level: IsolationLevel) -> Consumer {
    let config = ConsumerConfig::new().isolation_level(level);
    let mut consumer = broker.consumer_with(config).unwrap();
    consumer.assign([partition()]).unwrap();
    consumer
}

/// Reads from the consumer's position until nothing comes any more. Returns the offsets and the position.
pub(super) fn rest(consumer: &mut Consumer) -> Result<(Vec<i64>, i64)> {
    let mut offsets = Vec::new();
    loop {
        let before = consumer.position(&partition())?.offset();
        let records = consumer.poll(Duration::ZERO)?;
        offsets.extend(records.iter().map(|record| record.offset()));
        let after = consumer.position(&partition())?.offset();
        if records.is_empty() && after == before {
            return Ok((offsets, after));
        }
    }
}

/// Reads from an offset on.
pub(super) fn from(consumer: &mut Consumer, offset: i64) -> Result<(Vec<i64>, i64)> {
    consumer.seek(&partition(), offset)?;
    rest(consumer)
}
