use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{BoxError, Deserializer, Serializer};

/// Any serde type, encoded as JSON. Anything but white space after the value is an error.
///
/// ```
/// use grouplog::serialization::{Deserializer, Json, Serializer};
///
/// let pairs = Json::<(String, u32)>::default();
/// let (pears, mut buffer) = (("pears".to_owned(), 3), Vec::new());
/// let bytes = pairs.serialize(&pears, &mut buffer)?;
/// assert_eq!(bytes, br#"["pears",3]"#);
/// assert_eq!(pairs.deserialize(bytes)?.1, 3);
/// # Ok::<(), grouplog::serialization::BoxError>(())
/// ```
#[derive(Debug)]
pub struct Json<T>(PhantomData<fn() -> T>);

impl<T> Clone for Json<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Json<T> {}

impl<T> Default for Json<T> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T: Serialize> Serializer for Json<T> {
    type Value = T;

    fn serialize<'a>(&self, value: &'a T, buffer: &'a mut Vec<u8>) -> Result<&'a [u8], BoxError> {
        serde_json::to_writer(&mut *buffer, value)?;
        Ok(buffer)
    }
}

impl<T: DeserializeOwned> Deserializer for Json<T> {
    type Value<'a> = T;

    fn deserialize(&self, bytes: &[u8]) -> Result<T, BoxError> {
        Ok(serde_json::from_slice(bytes)?)
    }
}
