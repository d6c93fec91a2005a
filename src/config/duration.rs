//! Durations as Kafka writes them in settings: ISO 8601, as Java's `Duration.parse` accepts it.

use std::time::Duration;

/// Parses `PnDTnHnMn.nS`. Any part may be absent, but not all of them. A day is 24 hours. Returns
/// `None` for anything else, including a sign.
pub(super) fn parse_iso(text: &str) -> Option<Duration> {
    let text = text.strip_prefix(['P', 'p'])?;
    let (days, time) = match text.split_once(['T', 't']) {
        Some((_, "")) => return None,
        Some((days, time)) => (days, time),
        None => (text, ""),
    };
    if days.is_empty() && time.is_empty() {
        return None;
    }
    let mut total = Duration::ZERO;
    if !days.is_empty() {
        total = whole(days.strip_suffix(['D', 'd'])?, 24 * 60 * 60)?;
    }
    let mut rest = time;
    for (unit, seconds) in [(['H', 'h'], 60 * 60), (['M', 'm'], 60)] {
        if let Some((count, behind)) = rest.split_once(unit) {
            total = total.checked_add(whole(count, seconds)?)?;
            rest = behind;
        }
    }
    if !rest.is_empty() {
        total = total.checked_add(fraction(rest.strip_suffix(['S', 's'])?)?)?;
    }
    Some(total)
}

fn whole(count: &str, seconds: u64) -> Option<Duration> {
    Some(Duration::from_secs(digits(count)?.checked_mul(seconds)?))
}

/// Parses seconds with up to nine digits after the point.
fn fraction(count: &str) -> Option<Duration> {
    let Some((seconds, behind)) = count.split_once('.') else { return whole(count, 1) };
    let places = u32::try_from(behind.len()).ok().filter(|places| *places <= 9)?;
    let nanos = digits(behind)?.checked_mul(10_u64.pow(9_u32.saturating_sub(places)))?;
    Some(Duration::new(digits(seconds)?, u32::try_from(nanos).ok()?))
}

/// Parses a number without a sign, which `str::parse` would accept.
fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_java_reads_them() {
        for (text, expected) in [
            ("PT0S", Duration::ZERO),
            ("P2D", Duration::from_hours(48)),
            ("PT3H", Duration::from_hours(3)),
            ("pt5m", Duration::from_mins(5)),
            ("PT20.345S", Duration::from_millis(20_345)),
            ("P1DT2H3M4.000000005S", Duration::new(((24 + 2) * 60 + 3) * 60 + 4, 5)),
            ("PT1H30S", Duration::from_secs(3_630)),
        ] {
            assert_eq!(parse_iso(text), Some(expected), "{text}");
        }
        for text in [
            "",
            "P",
            "PT",
            "P1DT",
            "1D",
            "P1",
            "P-1D",
            "-P1D",
            "PT+1S",
            "PT1M1H",
            "PT1.S",
            "PT.5S",
            "PT1.0000000001S",
            "P1H",
            "PT1D",
            "P1.5D",
            "PT18446744073709551615H",
            "PT5S5S",
        ] {
            assert_eq!(parse_iso(text), None, "{text}");
        }
    }
}
