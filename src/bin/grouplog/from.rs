//! The value of `--from`: where reading begins.

use std::str::FromStr;

use grouplog::Timestamp;

use crate::time::timestamp;

/// The place at which reading a partition begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    Earliest,
    Latest,
    /// An offset, or the nearest offset in the log.
    Offset(i64),
    /// The first record with this timestamp or a later one.
    Time(Timestamp),
}

impl FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || "expected earliest, latest, an offset or @TIME".to_owned();
        match text {
            "earliest" => return Ok(Self::Earliest),
            "latest" => return Ok(Self::Latest),
            _ => {}
        }
        if let Some(time) = text.strip_prefix('@') {
            return timestamp(time).map(Self::Time);
        }
        let offset = text.parse().map_err(|_| expected())?;
        if offset < 0 { Err(expected()) } else { Ok(Self::Offset(offset)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_not_negative() {
        assert_eq!("7".parse(), Ok(From::Offset(7)));
        assert!("-1".parse::<From>().is_err());
        assert!("first".parse::<From>().is_err());
    }
}
