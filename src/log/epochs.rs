//! The epoch history of a partition: the writer's epoch of each offset (KIP-101, KIP-320).
//!
//! The history is a list of (epoch, first offset), both rising. It begins with the first append ever, and the
//! first append in an epoch adds that epoch. So every offset below the log end belongs to exactly one epoch.
//!
//! When the log start moves, the epochs before it are removed. The list then begins with the epoch of the
//! oldest batch on disk. So it does not grow without limit over many openings. Kafka moves the start of that
//! first epoch up to the log start. Here it stays, because the batch that holds the log start may begin
//! before it.

use crate::types::{Epoch, planted};

/// Returns the epoch of the record at `offset`, or the newest epoch for the log end.
pub(super) fn epoch_at(history: &[(Epoch, i64)], offset: i64) -> Option<Epoch> {
    let later = history.partition_point(|&(_, start)| start <= offset);
    later.checked_sub(1).and_then(|at| history.get(at)).map(|&(epoch, _)| epoch)
}

/// Returns the largest known epoch that is not larger than `epoch`, and the offset where it ends. Returns
/// `None` if all are larger.
///
/// An epoch ends where the next one begins, or at the log end. This is Kafka's answer to
/// OffsetsForLeaderEpoch.
pub(super) fn end_of_epoch(
    history: &[(Epoch, i64)],
    epoch: Epoch,
    log_end: i64,
) -> Option<(Epoch, i64)> {
    let larger = history.partition_point(|&(known, _)| known <= epoch);
    let (known, _) = *history.get(larger.checked_sub(1)?)?;
    Some((known, history.get(larger).map_or(log_end, |&(_, start)| start)))
}

/// Returns the history of the offsets from `first` on, without the epochs that end before it.
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
            // The remaining offsets keep their epochs.
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
