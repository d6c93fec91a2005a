use std::ops::{Deref, DerefMut};
use std::time::Duration;

use super::records::Iter;
use super::{Consumer, ConsumerRecord, ConsumerRecords};
use crate::error::{BoxError, Error, RecordPart, Result, SerializationFailure, SerializationPlace};
use crate::serialization::Deserializer;

/// A [`Consumer`] whose keys and values have types, from [`Consumer::typed`].
///
/// A record deserializes its key or value each time the program asks for it. If that fails (a poison record),
/// the call returns [`Error::Serialization`] with partition and offset. The records behind it are returned
/// all the same. The program can skip the record, store its bytes elsewhere, or seek back to it later.
///
/// ```
/// use grouplog::serialization::{Number, Text};
/// use grouplog::{Broker, Record, TopicConfig, TypedRecord};
/// use std::time::Duration;
///
/// let broker = Broker::open_in_memory()?;
/// broker.create_topic("stock", TopicConfig::new())?;
/// let producer = broker.producer()?;
/// producer.send(Record::to("stock").key("figs").value("many"))?; // not a number
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

/// The records that one [`TypedConsumer::poll`] returned. It owns the memory that its records point into.
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

/// A [`ConsumerRecord`] whose key and value have types.
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
    /// Makes this a consumer of typed keys and values.
    pub fn typed<K, V>(self) -> TypedConsumer<K, V>
    where
        K: Deserializer + Clone + Default,
        V: Deserializer + Clone + Default,
    {
        self.typed_with(K::default(), V::default())
    }

    /// Makes this a typed consumer with given deserializers. Each poll clones them.
    pub fn typed_with<K, V>(self, key: K, value: V) -> TypedConsumer<K, V>
    where
        K: Deserializer + Clone,
        V: Deserializer + Clone,
    {
        TypedConsumer { consumer: self, key, value }
    }
}

impl<K: Deserializer + Clone, V: Deserializer + Clone> TypedConsumer<K, V> {
    /// As [`Consumer::poll`]. A record that cannot be deserialized is an error of its `key` or `value`, not
    /// of `poll`.
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
    /// Returns the number of records.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Returns whether there are no records, because `timeout` passed.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Returns the records partition by partition, each in the order of its offsets.
    pub fn iter(&self) -> TypedIter<'_, K, V> {
        TypedIter { inner: self.records.iter(), key: &self.key, value: &self.value }
    }

    /// Returns the records as bytes.
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

/// An iterator over typed records, from [`TypedRecords::iter`].
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
    /// Deserializes the key. Returns `None` if the record has none.
    ///
    /// # Errors
    /// `Serialization` if the bytes cannot be deserialized.
    pub fn key(&self) -> Result<Option<K::Value<'a>>> {
        let key = self.record.key().map(|bytes| self.key.deserialize(bytes));
        key.transpose().map_err(|cause| self.failed(RecordPart::Key, cause))
    }

    /// Deserializes the value. Returns `None` for a tombstone.
    ///
    /// # Errors
    /// `Serialization` if the bytes cannot be deserialized.
    pub fn value(&self) -> Result<Option<V::Value<'a>>> {
        let value = self.record.value().map(|bytes| self.value.deserialize(bytes));
        value.transpose().map_err(|cause| self.failed(RecordPart::Value, cause))
    }
}

impl<'a, K, V> TypedConsumerRecord<'a, K, V> {
    /// Returns the record as bytes.
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
