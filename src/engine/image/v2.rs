//! Reads the body of a version 2 checkpoint. Versions up to 0.1.0 wrote it.
//!
//! ```text
//! size type
//!    8 u64  E, an LSN
//!    4 i32  epoch
//!    1 u8   offset file (0 none, 1 `offsets.a`, 2 `offsets.b`), + 4 if the writer closed the folder
//!    8 u64  generation of the offset file, or 0
//!    4 u32  its checksum, or 0
//!   ..      catalogue, with the log of each partition behind its topic; a partition that never had a record
//!           has a log of zeros
//! ```

use crate::engine::catalogue::Catalogue;
use crate::engine::codec::Decoder;
use crate::error::{CorruptReason, Unreadable};
use crate::log::LogImage;
use crate::types::Lsn;

use super::{CheckpointImage, ImageFile, log};

const CLOSED: u8 = 4;

/// Reads the body into `image`, which has the header already.
pub(super) fn decode(body: &[u8], image: &mut CheckpointImage) -> Result<(), Unreadable> {
    let mut input = Decoder::new(body);
    image.end = Lsn::from_u64(input.u64()?);
    image.epoch = input.i32()?;
    let flags = input.u8()?;
    let (generation, crc) = (input.u64()?, input.u32()?);
    image.closed = flags & CLOSED != 0;
    image.offsets = match flags & !CLOSED {
        0 if (generation, crc) == (0, 0) => None,
        file @ 1..=2 => Some(ImageFile { slot: file.saturating_sub(1), generation, crc }),
        _ => return Err(CorruptReason::Field.into()),
    };
    let logs = &mut image.logs;
    image.catalogue = Catalogue::decode(&mut input, |input, number| {
        let log = log::decode(input)?;
        if log != LogImage::default() {
            logs.insert(number, log);
        }
        Ok(())
    })?;
    input.finish()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{image, reseal};
    use super::super::{HEADER_BYTES, log};
    use std::sync::Arc;

    use super::*;
    use crate::engine::codec::Encoder;
    use crate::types::PartitionNumber;

    /// Encodes an image as version 2 did. Its catalogue must have one topic of two partitions and no
    /// deletion.
    fn encoded(image: &CheckpointImage) -> Vec<u8> {
        let mut out = Encoder::default();
        out.bytes(&image.encode().unwrap()[..HEADER_BYTES]);
        out.out[11] = 2;
        out.u64(image.end.to_u64());
        out.i32(image.epoch);
        let closed = if image.closed { CLOSED } else { 0 };
        out.u8(image.offsets.map_or(0, |file| 1 + file.slot) | closed);
        out.u64(image.offsets.map_or(0, |file| file.generation));
        out.u32(image.offsets.map_or(0, |file| file.crc));
        let mut catalogue = Encoder::default();
        image.catalogue.encode(&mut catalogue);
        let (topic, deletions) = catalogue.out.split_at(catalogue.out.len() - 4);
        out.bytes(topic);
        for number in [0, 1].map(PartitionNumber) {
            log::encode(&mut out, image.logs.get(&number).unwrap_or(&LogImage::default()));
        }
        out.bytes(deletions);
        reseal(&mut out.out);
        out.out
    }

    #[test]
    fn a_checkpoint_of_version_2_decodes_to_the_same_image() {
        let without = CheckpointImage { offsets: None, closed: false, ..image() };
        for image in [image(), without] {
            // Version 2 has no clock and no owners.
            let image = CheckpointImage { last_seen: None, owners: Arc::default(), ..image };
            assert_eq!(CheckpointImage::decode(&encoded(&image)), Ok(image));
        }
    }

    #[test]
    fn every_changed_byte_and_every_truncation_is_detected() {
        let bytes = encoded(&image());
        for at in 0..bytes.len() {
            assert!(CheckpointImage::decode(&bytes[..at]).is_err(), "cut at {at}");
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(CheckpointImage::decode(&changed).is_err(), "byte {at}");
        }
        // Values that no version wrote, with a correct checksum.
        let mut flags = bytes.clone();
        flags[HEADER_BYTES + 12] = 3;
        reseal(&mut flags);
        assert_eq!(CheckpointImage::decode(&flags), Err(CorruptReason::Field.into()));
        let mut none = bytes.clone();
        none[HEADER_BYTES + 12] = 0;
        reseal(&mut none);
        assert_eq!(CheckpointImage::decode(&none), Err(CorruptReason::Field.into()));
        for cut in HEADER_BYTES..bytes.len() {
            let mut short = bytes[..cut].to_vec();
            reseal(&mut short);
            assert!(CheckpointImage::decode(&short).is_err(), "cut at {cut}");
        }
    }
}
