//! The account of reserved space, and when frames surely fit into files (J3).

use std::collections::VecDeque;

/// The outstanding credits, and the threads that wait for one.
#[derive(Debug, Default)]
pub(super) struct Credits {
    /// The bytes that are not used yet.
    pub(super) bytes: u64,
    count: usize,
    /// No outstanding credit is for a larger frame.
    pub(super) largest: u64,
    /// The number of threads that wait for space.
    pub(super) waiters: usize,
    /// The ordinary ones of them, in the order in which they came.
    pub(super) line: VecDeque<u64>,
    pub(super) next_ticket: u64,
    /// The room that one file needs to hold what the first thread in line waits for; 0 if ordinary files will
    /// do.
    pub(super) wanted: u32,
}

impl Credits {
    pub(super) fn give_out(&mut self, bytes: u64) {
        self.bytes += bytes;
        self.count += 1;
        self.largest = self.largest.max(bytes);
    }

    pub(super) fn give_back(&mut self, bytes: u64) {
        self.bytes -= bytes;
        self.count -= 1;
        if self.count == 0 {
            self.largest = 0;
        }
    }
}

/// Returns whether frames of `bytes` in total, none larger than `largest`, surely fit into files with these
/// rooms, in every order.
pub(super) fn surely_fit(rooms: impl Iterator<Item = u32>, bytes: u64, largest: u64) -> bool {
    let mut sum = 0;
    for room in rooms.map(u64::from) {
        sum += room.saturating_sub(largest);
        if room >= bytes || sum >= bytes {
            return true;
        }
    }
    bytes == 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Packs frames in order, as appends do. Returns whether all fit.
    fn fit(rooms: &[u32], frames: &[u32]) -> bool {
        let mut rooms = rooms.iter().copied();
        let mut left = rooms.next().unwrap_or(0);
        frames.iter().all(|frame| {
            while left < *frame {
                match rooms.next() {
                    Some(room) => left = room,
                    None => return false,
                }
            }
            left -= frame;
            true
        })
    }

    proptest! {
        #[test]
        fn what_surely_fits_fits(
            rooms in prop::collection::vec(0..200u32, 1..6),
            frames in prop::collection::vec(1..100u32, 0..12),
        ) {
            let bytes = frames.iter().map(|frame| u64::from(*frame)).sum();
            let largest = frames.iter().max().copied().unwrap_or_default();
            if surely_fit(rooms.iter().copied(), bytes, largest.into()) {
                prop_assert!(fit(&rooms, &frames), "{rooms:?} {frames:?}");
            }
        }
    }
}
