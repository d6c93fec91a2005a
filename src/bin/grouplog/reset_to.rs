//! The value of `--to`: where committed offsets are reset to.

use grouplog::ResetTo;

use crate::time::{duration, timestamp};

/// Parses the value of `--to`.
pub(crate) fn reset_to(text: &str) -> Result<ResetTo, String> {
    match text {
        "earliest" => return Ok(ResetTo::Earliest),
        "latest" => return Ok(ResetTo::Latest),
        "current" => return Ok(ResetTo::Current),
        _ => {}
    }
    if let Some(time) = text.strip_prefix('@') {
        return timestamp(time).map(ResetTo::Timestamp);
    }
    if let Some(ago) = text.strip_prefix("ago:") {
        let expected =
            || "expected ago: and a duration with d, h, m and s, such as ago:1d12h".to_owned();
        return duration(ago).map(ResetTo::Ago).ok_or_else(expected);
    }
    let expected = || {
        "expected earliest, latest, current, an offset, @TIME, ago:DURATION, +N or -N".to_owned()
    };
    let number: i64 = text.parse().map_err(|_| expected())?;
    Ok(if text.starts_with(['+', '-']) { ResetTo::Shift(number) } else { ResetTo::Offset(number) })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use grouplog::Timestamp;

    use super::*;

    #[test]
    fn every_place_can_be_parsed() {
        let time = Timestamp::from_millis(946_684_799_000);
        for (text, to) in [
            ("earliest", ResetTo::Earliest),
            ("latest", ResetTo::Latest),
            ("current", ResetTo::Current),
            ("17", ResetTo::Offset(17)),
            ("+5", ResetTo::Shift(5)),
            ("-5", ResetTo::Shift(-5)),
            ("@1999-12-31T23:59:59", ResetTo::Timestamp(time)),
            ("@946684799000", ResetTo::Timestamp(time)),
            ("ago:1h30m", ResetTo::Ago(Duration::from_mins(90))),
        ] {
            assert_eq!(reset_to(text), Ok(to), "{text}");
        }
        for bad in ["", "first", "@", "ago:", "ago:5", "--5", "1.5"] {
            assert!(reset_to(bad).is_err(), "{bad}");
        }
    }
}
