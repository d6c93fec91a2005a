//! Where the window of a share-partition without stored state begins.

use crate::types::OffsetReset;

/// Returns where the window begins. What was stored wins over the setting, but not over the log start.
///
/// `offset_at` returns the first offset whose record has at least this timestamp, in milliseconds since 1970.
pub(crate) fn initial_start(
    reset: OffsetReset,
    stored: Option<i64>,
    (log_start, log_end): (i64, i64),
    now: i64,
    offset_at: impl FnOnce(i64) -> Option<i64>,
) -> i64 {
    let wanted = stored.unwrap_or_else(|| match reset {
        OffsetReset::Earliest | OffsetReset::None => log_start,
        OffsetReset::Latest => log_end,
        OffsetReset::ByDuration(age) => {
            let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
            offset_at(now.saturating_sub(age)).unwrap_or(log_end)
        }
    });
    wanted.max(log_start)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn no_record_young_enough_means_the_end() {
        let reset = OffsetReset::ByDuration(Duration::from_secs(1));
        let at = |time| (time <= 500).then_some(7);
        assert_eq!(initial_start(reset, None, (0, 9), 1500, at), 7);
        assert_eq!(initial_start(reset, None, (0, 9), 1501, at), 9);
        assert_eq!(initial_start(reset, None, (8, 9), 0, at), 8);
        let ever = OffsetReset::ByDuration(Duration::MAX);
        assert_eq!(initial_start(ever, None, (0, 9), 1501, at), 7);
    }
}
