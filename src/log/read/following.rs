//! Mapping the bytes that a sequential reader needs next, while it decodes a batch.

use std::hint::black_box;

use crate::segment::BLOCK_BYTES;
use crate::storage::ReadMap;

/// The number of blocks that are touched ahead of a reader. More gains nothing, and would read more from the disk
/// in vain if the reader stops.
const BLOCKS: u64 = 3;

/// Touches the blocks behind the one with the byte at `next`, as far as they are written: one byte of each.
///
/// The kernel maps 64 KiB at the first touch of any of their pages. If the checksum of a block is what touches it,
/// each checksum waits for the kernel in its first step. To touch some blocks in a row, before the batch that is at
/// hand is decoded, takes a tenth of the time off reading through a fresh map. `MADV_POPULATE_READ` gains no more than
/// that, since it maps the same pieces. Asking the processor to load the bytes too makes reading slower.
pub(super) fn touch(map: &ReadMap, next: u64) {
    for block in 1..=BLOCKS {
        let at = next.saturating_add(block.saturating_mul(BLOCK_BYTES));
        black_box(map.slice(at..at.saturating_add(1)).and_then(|bytes| bytes.first().copied()));
    }
}
