use std::fmt;

/// The identity of a topic: 16 random bytes, assigned at creation and never reused.
///
/// Its text form is Kafka's (`org.apache.kafka.common.Uuid`): URL-safe base64 without padding, 22
/// characters.
///
/// ```
/// use grouplog::TopicId;
/// let id = TopicId::from_bytes([7; 16]);
/// assert_eq!(id.to_string().len(), 22);
/// assert_eq!(id.to_string().parse(), Ok(id));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId([u8; 16]);

/// The error for text that is not a topic id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ParseTopicIdError;

impl TopicId {
    /// Creates the id with these bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes of the id.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    /// Returns the id as 32 lower-case hexadecimal digits, as in the name of a folder marked for
    /// deletion.
    pub(crate) fn to_hex(self) -> String {
        use fmt::Write as _;
        self.0.iter().fold(String::with_capacity(32), |mut s, b| {
            // Writing to a String cannot fail.
            let _ok = write!(s, "{b:02x}");
            s
        })
    }
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = u128::from_be_bytes(self.0);
        // 128 bits are 21 full groups of six bits and two more bits, left-aligned in the last
        // digit.
        for shift in (2..=122).rev().step_by(6) {
            f.write_str(digit((value >> shift) as u8 & 63))?;
        }
        f.write_str(digit((value as u8 & 3) << 4))
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for TopicId {
    type Err = ParseTopicIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() != 22 {
            return Err(ParseTopicIdError);
        }
        let mut value = 0u128;
        for (i, c) in text.bytes().enumerate() {
            let bits = ALPHABET.iter().position(|&a| a == c).ok_or(ParseTopicIdError)? as u128;
            if i < 21 {
                value = (value << 6) | bits;
            } else if bits.trailing_zeros() >= 4 {
                value = (value << 2) | (bits >> 4);
            } else {
                return Err(ParseTopicIdError);
            }
        }
        Ok(Self(value.to_be_bytes()))
    }
}

impl fmt::Display for ParseTopicIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a topic id is 22 characters of URL-safe base64")
    }
}

impl std::error::Error for ParseTopicIdError {}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fn digit(value: u8) -> &'static str {
    let at = usize::from(value & 63);
    std::str::from_utf8(&ALPHABET[at..=at]).unwrap_or("A")
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;

    #[test]
    fn text_form_is_url_safe_base64_without_padding() {
        for seed in 0..=255u8 {
            let id =
                TopicId(std::array::from_fn(|i| seed.wrapping_mul(31).wrapping_add(i as u8 * 17)));
            let text = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(id.0);
            assert_eq!(id.to_string(), text);
            assert_eq!(text.parse(), Ok(id));
        }
        assert_eq!("".parse::<TopicId>(), Err(ParseTopicIdError));
        assert_eq!("AAAAAAAAAAAAAAAAAAAAAB".parse::<TopicId>(), Err(ParseTopicIdError));
        assert_eq!("AAAAAAAAAAAAAAAAAAAA!A".parse::<TopicId>(), Err(ParseTopicIdError));
    }
}
