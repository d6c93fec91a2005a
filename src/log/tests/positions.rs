//! Positions that may have been lost.

use super::*;

#[test]
fn a_position_whose_epoch_is_gone_is_told_where_the_log_parts_from_it() {
    let storage = Memory::new();
    let image = LogImage {
        start_offset: 4,
        end_offset: 40,
        epochs: vec![(2, 0), (3, 10), (6, 25)],
        segments: Vec::new(),
    };
    let log = Log::restore(identity(), shared(&storage), &image);
    for (offset, epoch, expected) in [
        // The record before is the one that was read.
        (40, Some(6), None),
        (26, Some(6), None),
        (25, Some(3), None),
        (11, Some(3), None),
        // Nothing before the log start can be told; nothing was read.
        (4, Some(99), None),
        (20, None, None),
        // Without an epoch nobody knows whether a record was read that is gone.
        (50, None, None),
        (i64::MAX, None, None),
        (i64::MIN, Some(3), None),
        // Epoch 5 wrote 25 and 26, power loss took them, epoch 6 wrote others.
        (27, Some(5), Some(25)),
        // The end of the log was lost, and nothing was appended since.
        (50, Some(6), Some(40)),
        (i64::MAX, Some(6), Some(40)),
        (41, Some(7), Some(40)),
        // Epoch 3 reached further once.
        (27, Some(3), Some(25)),
        // An older copy of the folder was put back.
        (12, Some(2), Some(10)),
        (12, Some(6), Some(12)),
        (12, Some(1), Some(4)),
    ] {
        assert_eq!(log.divergence(offset, epoch), expected, "{offset} {epoch:?}");
    }
}
