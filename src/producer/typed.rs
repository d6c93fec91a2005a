use std::cell::Cell;
use std::ops::{Deref, Range};
use std::time::Duration;

use super::{Deliveries, Delivery, Producer, Record};
use crate::engine::{FrameContents, FrameRecord as _};
use crate::error::{BoxError, Error, RecordPart, Result, SerializationFailure, SerializationPlace};
use crate::log::RecordData;
use crate::serialization::Serializer;
use crate::types::Timestamp;

/// A [`Producer`] of keys and values of certain types. Created by [`Producer::typed`].
///
/// ```
/// use grouplog::serialization::{Number, Text};
/// use grouplog::{Broker, TopicConfig, TypedRecord};
///
/// let broker = Broker::open_in_memory()?;
/// broker.create_topic("stock", TopicConfig::new())?;
/// let stock = broker.producer()?.typed::<Text, Number<i64>>();
/// stock.send(TypedRecord::to("stock").key("pears").value(&12))?;
/// stock.flush()?;
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct TypedProducer<K, V> {
    producer: Producer,
    key: K,
    value: V,
}

/// A [`Record`] with a key and a value of certain types.
///
/// ```
/// use grouplog::serialization::{Bytes, Number};
/// use grouplog::{Broker, TopicConfig, TypedRecord};
///
/// let broker = Broker::open_in_memory()?;
/// broker.create_topic("counts", TopicConfig::new().partitions(3))?;
/// let counts = broker.producer()?.typed::<Bytes, Number<i32>>();
/// let record = TypedRecord::to("counts").value(&7).header("source", "shop").partition(2);
/// assert_eq!(counts.send(record)?.metadata().partition(), 2);
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Debug)]
#[must_use]
pub struct TypedRecord<'a, K: ?Sized, V: ?Sized> {
    record: Record<'a>,
    key: Option<&'a K>,
    value: Option<&'a V>,
}

impl<'a, K: ?Sized, V: ?Sized> TypedRecord<'a, K, V> {
    /// Creates a record for `topic` without key, headers or value. A record without value is a
    /// tombstone.
    pub fn to(topic: &'a str) -> Self {
        Self { record: Record::to(topic), key: None, value: None }
    }

    /// Sets the key. Records whose keys have the same bytes go to one partition.
    pub fn key(mut self, key: &'a K) -> Self {
        self.key = Some(key);
        self
    }

    /// Sets the value.
    pub fn value(mut self, value: &'a V) -> Self {
        self.value = Some(value);
        self
    }

    /// Adds a header, as [`Record::header`].
    pub fn header<H: AsRef<[u8]> + ?Sized>(mut self, name: &'a str, value: &'a H) -> Self {
        self.record = self.record.header(name, value);
        self
    }

    /// Adds a header without a value, as [`Record::null_header`].
    pub fn null_header(mut self, name: &'a str) -> Self {
        self.record = self.record.null_header(name);
        self
    }

    /// Sets the partition, as [`Record::partition`].
    pub fn partition(mut self, partition: u32) -> Self {
        self.record = self.record.partition(partition);
        self
    }

    /// Sets the timestamp, as [`Record::timestamp`].
    pub fn timestamp(mut self, timestamp: Timestamp) -> Self {
        self.record = self.record.timestamp(timestamp);
        self
    }

    /// Sets when share groups deliver the record, as [`Record::deliver_at`].
    pub fn deliver_at(mut self, at: Timestamp) -> Self {
        self.record = self.record.deliver_at(at);
        self
    }

    /// Sets after what time share groups deliver the record, as [`Record::deliver_after`].
    pub fn deliver_after(mut self, delay: Duration) -> Self {
        self.record = self.record.deliver_after(delay);
        self
    }
}

impl Producer {
    /// Converts this producer into one of keys and values of certain types.
    pub fn typed<K: Serializer + Default, V: Serializer + Default>(self) -> TypedProducer<K, V> {
        self.typed_with(K::default(), V::default())
    }

    /// Converts this producer as [`Producer::typed`], with given serializers.
    pub fn typed_with<K: Serializer, V: Serializer>(self, key: K, value: V) -> TypedProducer<K, V> {
        TypedProducer { producer: self, key, value }
    }
}

impl<K: Serializer, V: Serializer> TypedProducer<K, V> {
    /// Appends one record, as [`Producer::send`].
    ///
    /// # Errors
    /// `Serialization` if the key or value cannot be serialized, and the errors of
    /// [`Producer::send`]. The record was not appended in any of these cases.
    pub fn send(&self, record: TypedRecord<'_, K::Value, V::Value>) -> Result<Delivery> {
        with_buffers(|key_buffer, value_buffer| {
            let TypedRecord { mut record, key, value } = record;
            if let Some(key) = key {
                let bytes = self.key.serialize(key, key_buffer);
                record.key = Some(bytes.map_err(failed(RecordPart::Key, record.topic))?);
            }
            if let Some(value) = value {
                let bytes = self.value.serialize(value, value_buffer);
                record.value = Some(bytes.map_err(failed(RecordPart::Value, record.topic))?);
            }
            self.producer.send(record)
        })
    }

    /// Appends many records as one unit, as [`Producer::send_all`].
    ///
    /// # Errors
    /// `Serialization` if a key or value cannot be serialized, and the errors of
    /// [`Producer::send_all`]. None of the records was appended then.
    pub fn send_all<'r>(
        &self,
        records: impl IntoIterator<Item = TypedRecord<'r, K::Value, V::Value>>,
    ) -> Result<Deliveries>
    where
        K::Value: 'r,
        V::Value: 'r,
    {
        let mut size = self.producer.inner.frame_size();
        let mut bytes = Vec::new();
        let mut placed = Vec::new();
        for TypedRecord { record, key, value } in records {
            let key = key.map(|key| gather(&self.key, key, &mut bytes)).transpose();
            let key = key.map_err(failed(RecordPart::Key, record.topic))?;
            let value = value.map(|value| gather(&self.value, value, &mut bytes)).transpose();
            let value = value.map_err(failed(RecordPart::Value, record.topic))?;
            let at =
                |range: &Option<Range<usize>>| range.clone().and_then(|range| bytes.get(range));
            let data = RecordData { key: at(&key), value: at(&value), ..record.data() };
            size.add(FrameContents::of_record(data.bound()))?;
            placed.push((record, key, value));
        }
        let at = |range: Option<Range<usize>>| range.and_then(|range| bytes.get(range));
        self.producer.send_all(placed.into_iter().map(|(mut record, key, value)| {
            (record.key, record.value) = (at(key), at(value));
            record
        }))
    }
}

impl<K, V> TypedProducer<K, V> {
    /// Returns the underlying producer of bytes.
    pub fn raw(&self) -> &Producer {
        &self.producer
    }
}

impl<K, V> Deref for TypedProducer<K, V> {
    type Target = Producer;

    fn deref(&self) -> &Producer {
        &self.producer
    }
}

/// Appends the bytes of a value. Returns where they are.
fn gather<S: Serializer>(
    serializer: &S,
    value: &S::Value,
    bytes: &mut Vec<u8>,
) -> Result<Range<usize>, BoxError> {
    let start = bytes.len();
    with_buffers(|buffer, _| {
        bytes.extend_from_slice(serializer.serialize(value, buffer)?);
        Ok(start..bytes.len())
    })
}

fn failed(part: RecordPart, topic: &str) -> impl FnOnce(BoxError) -> Error {
    move |cause| {
        let place = SerializationPlace::ToSend { topic: topic.to_owned() };
        let cause = cause.into();
        Error::Serialization(Box::new(SerializationFailure { part, place, cause }))
    }
}

thread_local! {
    /// Kept for their allocations. Empty between calls, and absent during one.
    static BUFFERS: Cell<(Vec<u8>, Vec<u8>)> = const { Cell::new((Vec::new(), Vec::new())) };
}

/// One large value must not hold its memory forever.
const KEPT_CAPACITY: usize = 64 << 10;

/// Runs `with` on two empty buffers. A serializer that itself sends gets others.
fn with_buffers<T>(with: impl FnOnce(&mut Vec<u8>, &mut Vec<u8>) -> T) -> T {
    // A thread that is ending keeps none.
    let (mut key, mut value) = BUFFERS.try_with(Cell::take).unwrap_or_default();
    let result = with(&mut key, &mut value);
    for buffer in [&mut key, &mut value] {
        buffer.clear();
        buffer.shrink_to(KEPT_CAPACITY);
    }
    let _thread_ends = BUFFERS.try_with(|kept| kept.set((key, value)));
    result
}
