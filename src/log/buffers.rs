//! Reuses buffers of full size. A new buffer would cost page faults and zeroing for every batch.

use crate::sync::Mutex;
/// The most buffers kept: 2 MiB with the default batch size.
const MAX_KEPT: usize = 32;

/// Buffers that no batch uses.
#[derive(Debug)]
pub(crate) struct Buffers {
    /// The size of the kept buffers in bytes.
    size: usize,
    free: Mutex<Vec<Box<[u8]>>>,
}

impl Buffers {
    pub(crate) fn new(size: usize) -> Self {
        Self { size, free: Mutex::default() }
    }

    /// Returns a buffer of `capacity` bytes with any content.
    pub(super) fn take(&self, capacity: usize) -> Box<[u8]> {
        let kept = if capacity == self.size { self.free.lock().pop() } else { None };
        kept.unwrap_or_else(|| vec![0; capacity].into_boxed_slice())
    }

    pub(super) fn give_back(&self, buffer: Box<[u8]>) {
        let mut free = self.free.lock();
        if buffer.len() == self.size && free.len() < MAX_KEPT {
            free.push(buffer);
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
    fn no_more_are_kept_than_the_limit() {
        let buffers = Buffers::new(8);
        (0..=MAX_KEPT).for_each(|_| buffers.give_back(vec![1; 8].into()));
        assert_eq!(buffers.free.lock().len(), MAX_KEPT);
    }
}
