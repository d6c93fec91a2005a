//! The log of a partition in a checkpoint. Versions 2 and 3 have the same form.
//!
//! ```text
//! size type
//!    8 i64  log start offset
//!    8 i64  log end offset
//!    4 u32  number of epochs, then of each: epoch (i32), its first offset (i64)
//!    4 u32  number of segments, then of each: base offset (i64), end offset (i64), length in bytes (u64),
//!           checksum (u32), first and largest timestamp (i64, i64)
//! ```

use crate::engine::codec::{Decoder, Encoder};
use crate::error::CorruptReason;
use crate::log::{LogImage, SegmentImage};

/// Appends the state of a log.
pub(super) fn encode(out: &mut Encoder, log: &LogImage) {
    out.i64(log.start_offset);
    out.i64(log.end_offset);
    out.count(log.epochs.len());
    for &(epoch, start) in &log.epochs {
        out.i32(epoch);
        out.i64(start);
    }
    out.count(log.segments.len());
    for segment in &log.segments {
        out.i64(segment.base_offset);
        out.i64(segment.end_offset);
        out.u64(segment.len);
        out.u32(segment.checksum);
        out.i64(segment.first_timestamp);
        out.i64(segment.max_timestamp);
    }
}

/// Reads and validates what [`encode`] wrote.
pub(super) fn decode(input: &mut Decoder<'_>) -> Result<LogImage, CorruptReason> {
    let (start_offset, end_offset) = (input.i64()?, input.i64()?);
    let mut log = LogImage { start_offset, end_offset, ..LogImage::default() };
    for _ in 0..input.count(12)? {
        log.epochs.push((input.i32()?, input.i64()?));
    }
    for _ in 0..input.count(44)? {
        log.segments.push(SegmentImage {
            base_offset: input.i64()?,
            generation: 0,
            end_offset: input.i64()?,
            len: input.u64()?,
            checksum: input.u32()?,
            first_timestamp: input.i64()?,
            max_timestamp: input.i64()?,
        });
    }
    check(&log)?;
    Ok(log)
}

/// Checks that offsets are in order, and that the segments lie end to end up to the log end.
fn check(log: &LogImage) -> Result<(), CorruptReason> {
    let ordered = 0 <= log.start_offset && log.start_offset <= log.end_offset;
    let epochs = log.epochs.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1);
    let chained = log.segments.is_sorted_by(|a, b| a.end_offset == b.base_offset);
    let sane = log.segments.iter().all(|segment| {
        0 <= segment.base_offset
            && segment.base_offset <= segment.end_offset
            && i32::try_from(segment.len).is_ok()
    });
    let ends = log.segments.last().map_or(log.start_offset, |segment| segment.end_offset);
    if ordered && epochs && chained && sane && ends == log.end_offset {
        Ok(())
    } else {
        Err(CorruptReason::Offsets)
    }
}
