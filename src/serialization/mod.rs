//! Serializers and deserializers of typed keys and values.
//!
//! A serializer is a value, usually of size zero, for one type: [`Bytes`], [`Text`], [`Number`],
//! and with the feature `json` [`Json`]. It writes the same bytes as Kafka's serializers, so other
//! programs can read them. [`Producer::typed`](crate::Producer::typed) and
//! [`Consumer::typed`](crate::Consumer::typed) use them.
//!
//! | here | Kafka | bytes |
//! |---|---|---|
//! | [`Bytes`] | `ByteArraySerializer` | as they are, not copied |
//! | [`Text`] | `StringSerializer` | UTF-8, not copied |
//! | [`Number`]`<i16>`, `<i32>`, `<i64>` | `ShortSerializer`, `IntegerSerializer`, `LongSerializer` | big-endian, 2, 4, 8 |
//! | [`Number`]`<f32>`, `<f64>` | `FloatSerializer`, `DoubleSerializer` | IEEE 754, big-endian, 4, 8 |
//! | [`Json`]`<T>` | JSON serializers of many programs | JSON by serde |
//!
//! An absent key or value (`None`) never reaches a serializer. An absent value is a tombstone.
//!
//! Other formats take a few lines:
//!
//! ```
//! use grouplog::serialization::{BoxError, Deserializer, Serializer};
//!
//! /// Colours as three bytes.
//! #[derive(Debug, Clone, Default)]
//! struct Colour;
//!
//! impl Serializer for Colour {
//!     type Value = [u8; 3];
//!
//!     fn serialize<'a>(&self, value: &'a [u8; 3], _: &'a mut Vec<u8>) -> Result<&'a [u8], BoxError> {
//!         Ok(value)
//!     }
//! }
//!
//! impl Deserializer for Colour {
//!     type Value<'a> = [u8; 3];
//!
//!     fn deserialize<'a>(&self, bytes: &'a [u8]) -> Result<[u8; 3], BoxError> {
//!         Ok(bytes.try_into()?)
//!     }
//! }
//!
//! let broker = grouplog::Broker::open_in_memory()?;
//! let colours = broker.producer()?.typed::<Colour, Colour>();
//! # Ok::<(), grouplog::Error>(())
//! ```
//!
//! Imported by `producer` and `consumer`.

#[cfg(feature = "json")]
mod json;
mod number;

#[cfg(feature = "json")]
pub use json::Json;
pub use number::{Number, Numeric};

pub use crate::error::BoxError;

/// Converts values of one type to bytes.
pub trait Serializer {
    /// The type of the values.
    type Value: ?Sized;

    /// Returns the bytes of a value.
    ///
    /// These are a part of the value itself where it consists of bytes. Otherwise they are what the
    /// method wrote into `buffer`. The buffer is empty at the call and keeps its capacity from one
    /// record to the next.
    ///
    /// # Errors
    ///
    /// Any error if the value cannot be serialized. The record is not sent then.
    fn serialize<'a>(
        &self,
        value: &'a Self::Value,
        buffer: &'a mut Vec<u8>,
    ) -> Result<&'a [u8], BoxError>;
}

/// Converts bytes to values of one type.
pub trait Deserializer {
    /// The type of the values, which may borrow from the bytes.
    type Value<'a>;

    /// Returns the value of `bytes`.
    ///
    /// # Errors
    ///
    /// Any error if `bytes` do not encode a value.
    fn deserialize<'a>(&self, bytes: &'a [u8]) -> Result<Self::Value<'a>, BoxError>;
}

/// Bytes as they are: `[u8]` when sent, `&[u8]` when read. Neither copies them.
///
/// ```
/// use grouplog::serialization::{Bytes, Deserializer};
/// assert_eq!(Bytes.deserialize(&[1, 2])?, [1, 2]);
/// # Ok::<(), grouplog::serialization::BoxError>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bytes;

impl Serializer for Bytes {
    type Value = [u8];

    #[inline]
    fn serialize<'a>(&self, value: &'a [u8], _: &'a mut Vec<u8>) -> Result<&'a [u8], BoxError> {
        Ok(value)
    }
}

impl Deserializer for Bytes {
    type Value<'a> = &'a [u8];

    #[inline]
    fn deserialize<'a>(&self, bytes: &'a [u8]) -> Result<&'a [u8], BoxError> {
        Ok(bytes)
    }
}

/// Text in UTF-8: `str` when sent, `&str` when read. Neither copies it.
///
/// Bytes that are not UTF-8 are an error. Kafka's `StringDeserializer` inserts replacement
/// characters instead.
///
/// ```
/// use grouplog::serialization::{Deserializer, Text};
/// assert_eq!(Text.deserialize(b"pear")?, "pear");
/// assert!(Text.deserialize(&[0xff]).is_err());
/// # Ok::<(), grouplog::serialization::BoxError>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Text;

impl Serializer for Text {
    type Value = str;

    #[inline]
    fn serialize<'a>(&self, value: &'a str, _: &'a mut Vec<u8>) -> Result<&'a [u8], BoxError> {
        Ok(value.as_bytes())
    }
}

impl Deserializer for Text {
    type Value<'a> = &'a str;

    #[inline]
    fn deserialize<'a>(&self, bytes: &'a [u8]) -> Result<&'a str, BoxError> {
        Ok(std::str::from_utf8(bytes)?)
    }
}
