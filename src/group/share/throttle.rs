//! The throttle against bad records: one that kills its consumer would take its whole batch to the limit with it. So the
//! nearer a record is to the limit, the fewer records are handed out together with it.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

/// Returns from how many attempts on a record is handed out with care; `None` if the limit leaves no room for that.
pub(super) fn threshold(limit: u16) -> Option<u16> {
    (limit > 2).then(|| limit.div_ceil(2).max(2))
}

/// Returns how many records of a batch of `size` may be handed out together, where the first of those that wait and need
/// care has had `count` attempts; `None` if there is no reason for care.
pub(super) fn cap(limit: u16, count: u16, size: u64) -> Option<u64> {
    let threshold = threshold(limit)?;
    if count < threshold {
        return None;
    }
    let halvings = u32::from(count.saturating_sub(threshold)).saturating_add(1);
    Some(size.checked_shr(halvings).unwrap_or(0).max(1))
}

/// Returns whether the next attempt is the last one, so that the record goes alone.
pub(super) fn goes_alone(limit: u16, count: u16) -> bool {
    limit > 2 && count.saturating_add(1) >= limit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_halve_until_records_go_one_by_one() {
        let caps: Vec<_> = (0..6).map(|count| cap(6, count, 500)).collect();
        assert_eq!(caps, [None, None, None, Some(250), Some(125), Some(62)]);
        assert_eq!([3, 4, 5].map(|count| goes_alone(6, count)), [false, false, true]);
        assert_eq!(cap(2, 9, 500), None);
        assert!(!goes_alone(2, 1));
        assert_eq!(cap(3, 2, 1), Some(1));
        assert_eq!(cap(10_000, u16::MAX, 500), Some(1));
    }
}
