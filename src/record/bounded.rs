//! Decompression up to a limit, whatever size the compressed bytes claim.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use std::io::{self, Read};

use super::DecodeError;
use crate::error::CorruptReason;

/// The error for every payload that a codec rejects. Codecs do not report the position.
pub(super) const DAMAGED: DecodeError = DecodeError::corrupt(CorruptReason::Compression, 0);

/// Reads `reader` to its end and appends at most `limit` bytes to `out`.
///
/// The first buffer size is a multiple of `input`, the size of the compressed bytes. Then the
/// buffer doubles, but never beyond the limit.
pub(super) fn read_bounded(
    mut reader: impl Read,
    input: usize,
    limit: usize,
    out: &mut Vec<u8>,
) -> Result<(), DecodeError> {
    const SMALLEST: usize = 4096;
    let start = out.len();
    loop {
        let produced = out.len().saturating_sub(start);
        // One byte of room beyond the limit distinguishes "exactly the limit" from "more".
        let room = limit.saturating_sub(produced).saturating_add(1);
        let wanted = if produced == 0 { input.saturating_mul(4) } else { produced };
        let step = wanted.max(SMALLEST).min(room);
        out.try_reserve_exact(step).map_err(|_| DecodeError::LimitExceeded { max: limit })?;
        let from = out.len();
        let to = from.saturating_add(step);
        out.resize(to, 0);
        let mut at = from;
        while at < to {
            let tail = out.get_mut(at..).unwrap_or_default();
            match reader.read(tail) {
                Ok(0) => {
                    out.truncate(at);
                    return Ok(());
                }
                Ok(read) => at = at.saturating_add(read).min(to),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(DAMAGED),
            }
        }
        if at.saturating_sub(start) > limit {
            return Err(DecodeError::LimitExceeded { max: limit });
        }
    }
}
