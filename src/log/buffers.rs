//! Reuses buffers of full size, and some larger ones for records that exceed it. A new buffer would cost page
//! faults and zeroing for every batch.

use crate::sync::Mutex;
/// The most buffers kept: 2 MiB with the default batch size.
const MAX_KEPT: usize = 32;

/// The most larger buffers kept, and the largest that is kept, in bytes.
const MAX_LARGE: usize = 2;
const LARGEST: usize = 1 << 20;

/// Buffers that no batch uses.
#[derive(Debug)]
pub(crate) struct Buffers {
    /// The size of the kept buffers in bytes.
    size: usize,
    free: Mutex<Vec<Box<[u8]>>>,
    /// Larger ones.
    large: Mutex<Vec<Box<[u8]>>>,
}

impl Buffers {
    pub(crate) fn new(size: usize) -> Self {
        Self { size, free: Mutex::default(), large: Mutex::default() }
    }

    /// Returns a buffer of `capacity` bytes with any content, or of some more if that is larger than a batch
    /// usually is.
    pub(super) fn take(&self, capacity: usize) -> Box<[u8]> {
        let kept = match capacity {
            _ if capacity == self.size => self.free.lock().pop(),
            _ if capacity > self.size && capacity <= LARGEST => self.take_large(capacity),
            _ => None,
        };
        kept.unwrap_or_else(|| vec![0; capacity].into_boxed_slice())
    }

    /// Returns a kept buffer of this capacity, or of at most twice as much.
    fn take_large(&self, capacity: usize) -> Option<Box<[u8]>> {
        let mut large = self.large.lock();
        let fits = capacity..=capacity.saturating_mul(2);
        let at = large.iter().position(|buffer| fits.contains(&buffer.len()))?;
        Some(large.swap_remove(at))
    }

    pub(super) fn give_back(&self, buffer: Box<[u8]>) {
        let mut free = self.free.lock();
        if buffer.len() == self.size && free.len() < MAX_KEPT {
            free.push(buffer);
        } else if buffer.len() > self.size && buffer.len() <= LARGEST {
            drop(free);
            let mut large = self.large.lock();
            large.truncate(MAX_LARGE - 1);
            large.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_of_the_right_size_come_back() {
        let buffers = Buffers::new(64);
        let mut buffer = buffers.take(64);
        buffer[0] = 7;
        buffers.give_back(buffer);
        assert_eq!((buffers.take(32).len(), buffers.take(128)[0]), (32, 0));
        assert_eq!(buffers.take(64)[0], 7);
        assert_eq!(buffers.take(64)[0], 0);
        buffers.give_back(vec![7; 32].into());
        assert!(buffers.free.lock().is_empty());
    }

    #[test]
    fn a_larger_buffer_serves_what_needs_at_least_half_of_it() {
        let buffers = Buffers::new(64);
        let mut buffer = buffers.take(100);
        buffer[0] = 7;
        buffers.give_back(buffer);
        assert_eq!(buffers.take(101)[0], 0);
        assert_eq!((buffers.take(90).len(), buffers.take(100)[0]), (100, 0));
        for capacity in [70, 80, 90, LARGEST + 1] {
            buffers.give_back(vec![7; capacity].into());
        }
        assert_eq!(buffers.large.lock().len(), MAX_LARGE);
    }

    #[test]
    fn no_more_are_kept_than_the_limit() {
        let buffers = Buffers::new(8);
        (0..=MAX_KEPT).for_each(|_| buffers.give_back(vec![1; 8].into()));
        assert_eq!(buffers.free.lock().len(), MAX_KEPT);
    }
}
