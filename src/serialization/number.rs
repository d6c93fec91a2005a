use std::marker::PhantomData;

use super::{BoxError, Deserializer, Serializer};

/// A number of fixed width, big-endian, as Kafka's serializers for `short`, `int`, `long`, `float`
/// and `double` write it. A wrong number of bytes is an error.
///
/// ```
/// use grouplog::serialization::{Deserializer, Number, Serializer};
///
/// let longs = Number::<i64>::default();
/// assert_eq!(longs.serialize(&258, &mut Vec::new())?, [0, 0, 0, 0, 0, 0, 1, 2]);
/// assert_eq!(longs.deserialize(&[255; 8])?, -1);
/// let error = longs.deserialize(&[1, 2]).unwrap_err();
/// assert_eq!(error.to_string(), "it has 2 bytes and not 8");
/// # Ok::<(), grouplog::serialization::BoxError>(())
/// ```
#[derive(Debug)]
pub struct Number<T>(PhantomData<fn() -> T>);

impl<T> Clone for Number<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Number<T> {}

impl<T> Default for Number<T> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

/// The number types of [`Number`]: `i16`, `i32`, `i64`, `f32`, `f64`. Sealed.
pub trait Numeric: sealed::BigEndian {}

mod sealed {
    use super::BoxError;

    pub trait BigEndian: Copy {
        fn put(self, buffer: &mut Vec<u8>);
        fn take(bytes: &[u8]) -> Result<Self, BoxError>;
    }
}

macro_rules! numeric {
    ($($number:ty),*) => {$(
        impl sealed::BigEndian for $number {
            #[inline]
            fn put(self, buffer: &mut Vec<u8>) {
                buffer.extend_from_slice(&self.to_be_bytes());
            }

            #[inline]
            fn take(bytes: &[u8]) -> Result<Self, BoxError> {
                let width = size_of::<Self>();
                let wrong = |_| format!("it has {} bytes and not {width}", bytes.len());
                Ok(Self::from_be_bytes(bytes.try_into().map_err(wrong)?))
            }
        }

        impl Numeric for $number {}
    )*};
}

numeric!(i16, i32, i64, f32, f64);

impl<T: Numeric> Serializer for Number<T> {
    type Value = T;

    #[inline]
    fn serialize<'a>(&self, value: &'a T, buffer: &'a mut Vec<u8>) -> Result<&'a [u8], BoxError> {
        value.put(buffer);
        Ok(buffer)
    }
}

impl<T: Numeric> Deserializer for Number<T> {
    type Value<'a> = T;

    #[inline]
    fn deserialize(&self, bytes: &[u8]) -> Result<T, BoxError> {
        T::take(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes that Kafka's serializers write for these numbers.
    #[test]
    fn numbers_have_kafkas_bytes() {
        fn check<T: Numeric + PartialEq + std::fmt::Debug>(value: T, bytes: &[u8]) {
            let mut buffer = Vec::new();
            let numbers = Number::<T>::default();
            assert_eq!(numbers.serialize(&value, &mut buffer).unwrap(), bytes);
            assert_eq!(numbers.deserialize(bytes).unwrap(), value);
            assert!(numbers.deserialize(&bytes[1..]).is_err());
            assert!(numbers.deserialize(&[bytes, &[0]].concat()).is_err());
        }
        check(-2_i16, &[0xff, 0xfe]);
        check(i32::MIN, &[0x80, 0, 0, 0]);
        check(1_700_000_000_000_i64, &[0, 0, 1, 0x8b, 0xcf, 0xe5, 0x68, 0]);
        check(1.5_f32, &[0x3f, 0xc0, 0, 0]);
        check(-0.1_f64, &[0xbf, 0xb9, 0x99, 0x99, 0x99, 0x99, 0x99, 0x9a]);
    }
}
