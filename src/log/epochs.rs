//! The history of a partition: which writer's epoch its offsets belong to (KIP-101, KIP-320).
//!
//! A list of (epoch, first offset), both rising. It begins with the first append ever, and an epoch enters
//! it with its first append; so every offset below the log end belongs to exactly one.
//!
//! As the log start moves, the epochs in front of it go: what is left begins with the one that the oldest batch
//! on disk belongs to. So the list does not grow with each opening for ever. Kafka moves the start of that first
//! epoch up to the log start; here it stays, since the batch that the log start lies in may begin before it.

use crate::types::{Epoch, planted};

/// The epoch of the record at `offset`, or the newest one for the log end.
pub(super) fn epoch_at(history: &[(Epoch, i64)], offset: i64) -> Option<Epoch> {
    let later = history.partition_point(|&(_, start)| start <= offset);
    later.checked_sub(1).and_then(|at| history.get(at)).map(|&(epoch, _)| epoch)
}

/// Kafka's answer to OffsetsForLeaderEpoch: the largest known epoch that is not larger than `epoch`, and the
/// offset where it ends, which is where the next one begins or the log end. `None` if all are larger.
pub(super) fn end_of_epoch(
    history: &[(Epoch, i64)],
    epoch: Epoch,
    log_end: i64,
) -> Option<(Epoch, i64)> {
    let larger = history.partition_point(|&(known, _)| known <= epoch);
    let (known, _) = *history.get(larger.checked_sub(1)?)?;
    Some((known, history.get(larger).map_or(log_end, |&(_, start)| start)))
}

/// The history of the offsets from `first` on: the epochs that end before it are gone.
pub(crate) fn history_from(history: &[(Epoch, i64)], first: i64) -> &[(Epoch, i64)] {
    let later = history.partition_point(|&(_, start)| start <= first);
    let ended = if planted("epoch_ends_early") { later } else { later.saturating_sub(1) };
    let ended = if planted("epochs_stay") { 0 } else { ended };
    history.get(ended..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_that_end_before_the_first_offset_are_gone() {
        for (first, left) in [(-1, 0), (0, 0), (9, 0), (10, 1), (24, 1), (25, 2), (100, 2)] {
            assert_eq!(history_from(&HISTORY, first), &HISTORY[left..], "{first}");
            // The epochs of what is left are those they were.
            for offset in first.max(0)..50 {
                assert_eq!(
                    epoch_at(history_from(&HISTORY, first), offset),
                    epoch_at(&HISTORY, offset)
                );
            }
        }
        assert_eq!(history_from(&[], 5), &[]);
    }

    const HISTORY: [(Epoch, i64); 3] = [(2, 0), (3, 10), (6, 25)];

    #[test]
    fn every_offset_has_the_epoch_that_began_last() {
        for (offset, epoch) in [(0, 2), (9, 2), (10, 3), (24, 3), (25, 6), (100, 6)] {
            assert_eq!(epoch_at(&HISTORY, offset), Some(epoch), "{offset}");
        }
        assert_eq!(epoch_at(&HISTORY[1..], 9), None);
        assert_eq!(epoch_at(&[], 0), None);
    }

    #[test]
    fn an_epoch_ends_where_the_next_one_begins() {
        for (epoch, end) in [
            (1, None),
            (2, Some((2, 10))),
            (3, Some((3, 25))),
            (5, Some((3, 25))),
            (6, Some((6, 40))),
            (99, Some((6, 40))),
        ] {
            assert_eq!(end_of_epoch(&HISTORY, epoch, 40), end, "{epoch}");
        }
        assert_eq!(end_of_epoch(&[], 1, 0), None);
    }
}
