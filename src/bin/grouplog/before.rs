//! The value of `--before`: the offset below which records are deleted.

use std::str::FromStr;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Before {
    Offset(i64),
    /// The log end.
    Latest,
}

impl FromStr for Before {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "latest" {
            return Ok(Self::Latest);
        }
        let offset = text.parse().ok().filter(|&offset: &i64| offset >= 0);
        offset.map(Self::Offset).ok_or_else(|| "expected an offset or latest".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn before_is_an_offset_or_latest() {
        assert_eq!("0".parse(), Ok(Before::Offset(0)));
        assert_eq!("latest".parse(), Ok(Before::Latest));
        for bad in ["", "-1", "earliest", "1.5"] {
            assert!(bad.parse::<Before>().is_err(), "{bad}");
        }
    }
}
