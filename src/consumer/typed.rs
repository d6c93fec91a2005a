use std::ops::{Deref, DerefMut};
use std::time::Duration;

use super::records::Iter;
use super::{Consumer, ConsumerRecord, ConsumerRecords};
use crate::error::{BoxError, Error, RecordPart, Result, SerializationFailure, SerializationPlace};
use crate::serialization::Deserializer;

/// A consumer of keys and values of certain types; from [`Consumer::typed`]. It is a [`Consumer`] otherwise.
///
/// Each key and value is read when it is asked for. One that cannot be read (a poison record) is an
/// [`Error::Serialization`] with partition and offset, and the records behind it are there all the same:
/// skip it, set it aside by its bytes, or seek back to it later.
///
/// ```
/// use grouplog::serialization::{Number, Text};
/// use grouplog::{Broker, Record, TopicConfig, TypedRecord};
/// use std::time::Duration;
///
/// let broker = Broker::open_in_memory()?;
/// broker.create_topic("stock", TopicConfig::new())?;
/// let producer = broker.producer()?;
/// producer.send(Record::to("stock").key("figs").value("many"))?; // no number
/// producer.typed::<Text, Number<i64>>().send(TypedRecord::to("stock").key("pears").value(&12))?;
///
/// let mut stock = broker.consumer("shelf")?.typed::<Text, Number<i64>>();
/// stock.subscribe(["stock"])?;
/// let mut total = 0;
/// for record in &stock.poll(Duration::from_secs(1))? {
///     match record.value() {
///         Ok(count) => total += count.unwrap_or(0),
///         Err(poison) => assert_eq!(
///             poison.to_string(),
///             "cannot deserialize the value of stock-0 at offset 0: it has 4 bytes and not 8",
///         ),
///     }
/// }
/// assert_eq!(total, 12);
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Debug)]
pub struct TypedConsumer<K, V> {
    consumer: Consumer,
    key: K,
    value: V,
}

/// What one [`TypedConsumer::poll`] returned. It owns what its records lie in.
///
/// ```
/// use grouplog::serialization::Text;
/// use grouplog::{Broker, Record, TopicConfig};
/// use std::time::Duration;
///
/// let broker = Broker::open_in_memory()?;
/// broker.create_topic("orders", TopicConfig::new())?;
/// broker.producer()?.send(Record::to("orders").value("1 pear"))?;
/// let mut orders = broker.consumer("billing")?.typed::<Text, Text>();
/// orders.subscribe(["orders"])?;
/// let records = orders.poll(Duration::from_secs(1))?;
/// let values: Result<Vec<_>, _> = records.iter().map(|record| record.value()).collect();
/// assert_eq!(values?, [Some("1 pear")]);
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct TypedRecords<K, V> {
    records: ConsumerRecords,
    key: K,
    value: V,
}

/// A record with key and value of certain types; a [`ConsumerRecord`] otherwise.
///
/// ```
/// use grouplog::serialization::{Bytes, Text};
/// use grouplog::{Broker, Record, TopicConfig};
/// use std::time::Duration;
///
/// let broker = Broker::open_in_memory()?;
/// broker.create_topic("orders", TopicConfig::new())?;
/// broker.producer()?.send(Record::to("orders").key("alice"))?;
/// let mut orders = broker.consumer("billing")?.typed::<Text, Bytes>();
/// orders.subscribe(["orders"])?;
/// let records = orders.poll(Duration::from_secs(1))?;
/// let record = records.iter().next().unwrap();
/// assert_eq!((record.offset(), record.key()?, record.value()?), (0, Some("alice"), None));
/// assert_eq!(record.raw().key(), Some(&b"alice"[..]));
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Debug)]
pub struct TypedConsumerRecord<'a, K, V> {
    record: ConsumerRecord<'a>,
    key: &'a K,
    value: &'a V,
}

impl Consumer {
    /// This consumer, for keys and values of certain types.
    pub fn typed<K, V>(self) -> TypedConsumer<K, V>
    where
        K: Deserializer + Clone + Default,
        V: Deserializer + Clone + Default,
    {
        self.typed_with(K::default(), V::default())
    }

    /// As [`Consumer::typed`], by deserializers that hold something; they are cloned for each poll.
    pub fn typed_with<K, V>(self, key: K, value: V) -> TypedConsumer<K, V>
    where
        K: Deserializer + Clone,
        V: Deserializer + Clone,
    {
        TypedConsumer { consumer: self, key, value }
    }
}

impl<K: Deserializer + Clone, V: Deserializer + Clone> TypedConsumer<K, V> {
    /// As [`Consumer::poll`]. A record that cannot be read is no error here, but where its key or value is
    /// asked for.
    pub fn poll(&mut self, timeout: Duration) -> Result<TypedRecords<K, V>> {
        let records = self.consumer.poll(timeout)?;
        Ok(TypedRecords { records, key: self.key.clone(), value: self.value.clone() })
    }

    /// As [`Consumer::close`].
    pub fn close(self) -> Result<()> {
        self.consumer.close()
    }
}

impl<K, V> Deref for TypedConsumer<K, V> {
    type Target = Consumer;

    fn deref(&self) -> &Consumer {
        &self.consumer
    }
}

impl<K, V> DerefMut for TypedConsumer<K, V> {
    fn deref_mut(&mut self) -> &mut Consumer {
        &mut self.consumer
    }
}

impl<K, V> TypedRecords<K, V> {
    /// How many records there are.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there are none: the time was up.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The records, partition by partition, each in the order of its offsets.
    pub fn iter(&self) -> TypedIter<'_, K, V> {
        TypedIter { inner: self.records.iter(), key: &self.key, value: &self.value }
    }

    /// The records as bytes.
    pub fn raw(&self) -> &ConsumerRecords {
        &self.records
    }
}

impl<'a, K, V> IntoIterator for &'a TypedRecords<K, V> {
    type Item = TypedConsumerRecord<'a, K, V>;
    type IntoIter = TypedIter<'a, K, V>;

    fn into_iter(self) -> TypedIter<'a, K, V> {
        self.iter()
    }
}

/// The iterator of [`TypedRecords::iter`].
///
/// ```
/// use grouplog::TypedRecords;
/// use grouplog::serialization::Text;
/// assert_eq!(TypedRecords::<Text, Text>::default().iter().len(), 0);
/// ```
#[derive(Debug)]
pub struct TypedIter<'a, K, V> {
    inner: Iter<'a>,
    key: &'a K,
    value: &'a V,
}

impl<'a, K, V> Iterator for TypedIter<'a, K, V> {
    type Item = TypedConsumerRecord<'a, K, V>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let record = self.inner.next()?;
        Some(TypedConsumerRecord { record, key: self.key, value: self.value })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.inner.size_hint()
    }
}

impl<K, V> ExactSizeIterator for TypedIter<'_, K, V> {}

impl<'a, K: Deserializer, V: Deserializer> TypedConsumerRecord<'a, K, V> {
    /// The key; `None` if the record has none.
    ///
    /// # Errors
    /// `Serialization` if its bytes are no key.
    pub fn key(&self) -> Result<Option<K::Value<'a>>> {
        let key = self.record.key().map(|bytes| self.key.deserialize(bytes));
        key.transpose().map_err(|cause| self.failed(RecordPart::Key, cause))
    }

    /// The value; `None` for a tombstone.
    ///
    /// # Errors
    /// `Serialization` if its bytes are no value.
    pub fn value(&self) -> Result<Option<V::Value<'a>>> {
        let value = self.record.value().map(|bytes| self.value.deserialize(bytes));
        value.transpose().map_err(|cause| self.failed(RecordPart::Value, cause))
    }
}

impl<'a, K, V> TypedConsumerRecord<'a, K, V> {
    /// The record as bytes.
    pub fn raw(&self) -> ConsumerRecord<'a> {
        self.record
    }

    #[cold]
    fn failed(&self, part: RecordPart, cause: BoxError) -> Error {
        let partition = self.record.topic_partition().clone();
        let place = SerializationPlace::Read { partition, offset: self.record.offset() };
        let cause = cause.into();
        Error::Serialization(Box::new(SerializationFailure { part, place, cause }))
    }
}

impl<'a, K, V> Deref for TypedConsumerRecord<'a, K, V> {
    type Target = ConsumerRecord<'a>;

    fn deref(&self) -> &ConsumerRecord<'a> {
        &self.record
    }
}
