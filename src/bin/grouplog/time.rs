//! Points in time and durations on the command line.

use std::time::Duration;

use grouplog::Timestamp;

/// Parses a point in time: milliseconds since 1970, or UTC such as `2025-01-31T12:00:00`.
pub(crate) fn timestamp(text: &str) -> Result<Timestamp, String> {
    let millis = text.parse().ok().filter(|&millis: &i64| millis >= 0);
    let millis = millis.or_else(|| utc_millis(text)).ok_or_else(|| {
        "expected @ and milliseconds since 1970, or UTC such as @2025-01-31T12:00:00".to_owned()
    })?;
    Ok(Timestamp::from_millis(millis))
}

/// Parses a duration of whole days, hours, minutes and seconds, larger units first: `1d12h`, `90s`.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut seconds: u64 = 0;
    for (unit, factor) in [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)] {
        let Some((number, behind)) = rest.split_once(unit) else { continue };
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let number: u64 = number.parse().ok()?;
        seconds = number.checked_mul(factor)?.checked_add(seconds)?;
        rest = behind;
    }
    (rest.is_empty() && !text.is_empty()).then_some(Duration::from_secs(seconds))
}

/// Parses `2025-01-31`, `2025-01-31T12:00` or `2025-01-31T12:00:00`, optionally followed by `Z`. Returns
/// milliseconds since 1970.
fn utc_millis(text: &str) -> Option<i64> {
    let text = text.strip_suffix('Z').unwrap_or(text);
    let (date, time) = text.split_once(['T', ' ']).unwrap_or((text, "00:00"));
    let [year, month, day] = numbers(date, '-')?;
    let time = if time.matches(':').count() == 1 { format!("{time}:00") } else { time.to_owned() };
    let [hour, minute, second] = numbers(&time, ':')?;
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_before = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365];
    let at = usize::try_from(month).ok()?.checked_sub(1)?;
    let (before, after) = (*days_before.get(at)?, *days_before.get(at + 1)?);
    let days_of_month = after - before + i64::from(leap && month == 2);
    let valid = (1970..=9999).contains(&year)
        && (1..=days_of_month).contains(&day)
        && (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0..60).contains(&second);
    if !valid {
        return None;
    }
    let past = year - 1;
    // Leap days from 1970 to the end of the past year: 477 is their number before 1970.
    let leap_days = past / 4 - past / 100 + past / 400 - 477;
    let days = (year - 1970) * 365 + leap_days + before + i64::from(leap && month > 2) + day - 1;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1000)
}

/// Parses exactly three numbers that consist of digits only.
fn numbers(text: &str, separator: char) -> Option<[i64; 3]> {
    let number = |part: &str| {
        let digits = part.len() <= 4 && part.bytes().all(|byte| byte.is_ascii_digit());
        part.parse().ok().filter(|_| digits)
    };
    let parts: Vec<i64> = text.split(separator).map(number).collect::<Option<_>>()?;
    parts.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_milliseconds_or_utc() {
        let time = |text| timestamp(text).ok().map(Timestamp::as_millis);
        assert_eq!(time("0"), Some(0));
        assert_eq!(time("1700000000000"), Some(1_700_000_000_000));
        assert_eq!(time("1970-01-01"), Some(0));
        assert_eq!(time("1999-12-31T23:59:59Z"), Some(946_684_799_000));
        assert_eq!(time("2000-02-29"), Some(951_782_400_000));
        assert_eq!(time("2000-03-01T00:00"), Some(951_868_800_000));
        assert_eq!(time("2023-11-14 22:13:20"), Some(1_700_000_000_000));
        assert_eq!(time("2100-03-01"), Some(4_107_542_400_000));
        for bad in ["", "-1", "2023-02-29", "2023-13-01", "2023-1", "2023-01-01T24:00", "x-1-1"] {
            assert_eq!(time(bad), None, "{bad}");
        }
    }

    #[test]
    fn durations_are_numbers_with_units_from_large_to_small() {
        let seconds = |text| duration(text).map(|duration| duration.as_secs());
        assert_eq!(seconds("90s"), Some(90));
        assert_eq!(seconds("1d12h"), Some(129_600));
        assert_eq!(seconds("2h5m1s"), Some(7_501));
        assert_eq!(seconds("0s"), Some(0));
        let bad = ["", "5", "s", "-1s", "5s1m", "1.5h", "1h 5m", "5x", "99999999999999999999d"];
        for bad in bad {
            assert_eq!(seconds(bad), None, "{bad}");
        }
    }
}
