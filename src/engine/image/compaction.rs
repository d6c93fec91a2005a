//! What compaction has done to the logs of a checkpoint.
//!
//! ```text
//! size type
//!    4 u32  number of partitions with something of this, then of each by ascending number:
//!    4 u32    number of the partition
//!    8 i64    first dirty offset: where the last pass ended; -1 if no pass has ended yet
//!    4 u32    number of cleaned segments, then of each by ascending base offset:
//!    8 i64      base offset
//!    4 u32      generation, 1 or more
//! ```
//!
//! A folder without compacted topics lacks the section, so earlier builds open it. They refuse a folder that has it,
//! because they do not know the names of cleaned segments, nor that offsets may be missing in them.

use std::collections::BTreeMap;

use crate::engine::codec::{Decoder, Encoder};
use crate::error::CorruptReason;
use crate::log::{LogImage, SegmentImage};
use crate::types::PartitionNumber;

/// The first dirty offset where no pass has ended.
const NONE: i64 = -1;

type Logs = BTreeMap<PartitionNumber, LogImage>;

/// Appends the contents. Returns whether there are any.
pub(super) fn encode(logs: &Logs, out: &mut Encoder) -> bool {
    // A pass that was interrupted has cleaned segments, and covered nothing.
    let is_cleaned = |segment: &SegmentImage| segment.generation > 0;
    let covered = || {
        logs.iter().filter(|(_, log)| {
            log.first_dirty_offset.is_some() || log.segments.iter().any(is_cleaned)
        })
    };
    let count = covered().count();
    out.count(count);
    for (number, log) in covered() {
        let cleaned = || log.segments.iter().filter(|segment| is_cleaned(segment));
        out.u32(number.0);
        out.i64(log.first_dirty_offset.unwrap_or(NONE));
        out.count(cleaned().count());
        for segment in cleaned() {
            out.i64(segment.base_offset);
            out.u32(segment.generation);
        }
    }
    count > 0
}

/// Reads what [`encode`] wrote into the logs. That nothing else means the same is checked by the caller, who
/// encodes the result again.
pub(super) fn decode(input: &mut Decoder<'_>, logs: &mut Logs) -> Result<(), CorruptReason> {
    for _ in 0..input.count(16)? {
        let log = logs.get_mut(&PartitionNumber(input.u32()?)).ok_or(CorruptReason::Field)?;
        let first_dirty_offset = input.i64()?;
        if !(NONE..=log.end_offset).contains(&first_dirty_offset) {
            return Err(CorruptReason::Offsets);
        }
        log.first_dirty_offset = (first_dirty_offset != NONE).then_some(first_dirty_offset);
        for _ in 0..input.count(12)? {
            let (base_offset, generation) = (input.i64()?, input.u32()?);
            let mut segments = log.segments.iter_mut();
            let segment = segments.find(|segment| segment.base_offset == base_offset);
            segment.ok_or(CorruptReason::Offsets)?.generation = generation;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::CheckpointImage;
    use super::super::tests::{image, reseal};
    use std::sync::Arc;

    use super::*;
    use crate::error::Unreadable;

    /// The last log of the image has cleaned its first segment.
    fn compacted() -> CheckpointImage {
        let mut image = image();
        let log = image.logs.values_mut().last().unwrap();
        log.first_dirty_offset = Some(30);
        log.segments[0].generation = 3;
        image
    }

    /// As `compacted`, with the section of compaction as the last one.
    fn compacted_last() -> CheckpointImage {
        CheckpointImage { owners: Arc::default(), ..compacted() }
    }

    #[test]
    fn a_checkpoint_keeps_what_compaction_has_done() {
        let bytes = compacted().encode().unwrap();
        assert_eq!(CheckpointImage::decode(&bytes).unwrap(), compacted());
        // A pass was interrupted after it had replaced the segment.
        let mut begun = compacted();
        begun.logs.values_mut().for_each(|log| log.first_dirty_offset = None);
        assert_eq!(CheckpointImage::decode(&begun.encode().unwrap()).unwrap(), begun);
        // Without it, the bytes are those of a build that knows no compaction.
        assert_eq!(bytes.len(), image().encode().unwrap().len() + 8 + 4 + 16 + 12);
    }

    #[test]
    fn an_impossible_state_is_damage() {
        let bytes = compacted_last().encode().unwrap();
        let fields = bytes.len() - 28;
        // The number of the partition, the first dirty offset, the base offset, and the generation.
        for (at, reason) in [
            (fields + 3, CorruptReason::Field),
            (fields + 10, CorruptReason::Offsets),
            (fields + 23, CorruptReason::Offsets),
        ] {
            let mut bytes = bytes.clone();
            bytes[at] ^= 4;
            reseal(&mut bytes);
            let refused = CheckpointImage::decode(&bytes);
            assert_eq!(refused, Err(Unreadable::Corrupt(reason)), "byte {at}");
        }
        // A cleaned segment of generation 0 is one that was not cleaned, which has another form.
        let mut bytes = bytes;
        *bytes.last_mut().unwrap() = 0;
        reseal(&mut bytes);
        let refused = CheckpointImage::decode(&bytes);
        assert_eq!(refused, Err(Unreadable::Corrupt(CorruptReason::Field)));
    }
}
