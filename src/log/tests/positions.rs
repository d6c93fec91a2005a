//! Positions whose records may have been lost.

use super::*;

#[test]
fn a_position_of_a_lost_epoch_yields_the_offset_at_which_the_log_diverges() {
    let storage = Memory::new();
    let image = LogImage {
        start_offset: 4,
        end_offset: 40,
        epochs: vec![(2, 0), (3, 10), (6, 25)],
        segments: Vec::new(),
        first_dirty_offset: None,
    };
    let log = Log::restore(identity(), shared(&storage), &image);
    for (offset, epoch, expected) in [
        // The record before the position is the one that was read.
        (40, Some(6), None),
        (26, Some(6), None),
        (25, Some(3), None),
        (11, Some(3), None),
        // The record before the log start is deleted; then, no record was read.
        (4, Some(99), None),
        (20, None, None),
        // Without an epoch, it is unknown whether the last record read was lost.
        (50, None, None),
        (i64::MAX, None, None),
        (i64::MIN, Some(3), None),
        // Epoch 5 wrote 25 and 26, power loss took them, and epoch 6 wrote other records.
        (27, Some(5), Some(25)),
        // The end of the log was lost, and nothing has been appended since.
        (50, Some(6), Some(40)),
        (i64::MAX, Some(6), Some(40)),
        (41, Some(7), Some(40)),
        // Epoch 3 once reached further.
        (27, Some(3), Some(25)),
        // An older copy of the folder was restored.
        (12, Some(2), Some(10)),
        (12, Some(6), Some(12)),
        (12, Some(1), Some(4)),
    ] {
        assert_eq!(log.divergence(offset, epoch), expected, "{offset} {epoch:?}");
    }
}
