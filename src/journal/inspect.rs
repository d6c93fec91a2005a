//! Decodes the content of a journal file for display.

use crate::error::Unreadable;
use crate::types::{Epoch, Lsn};

use super::frame::{FRAME_HEADER, FrameHeader, Kind, frame_bytes, payload_crc};
use super::header::{Decoded, FIRST_FRAME, FileHeader};
use super::scan::unsupported;

/// The header of a journal file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InspectedHeader {
    pub(crate) size: u32,
    pub(crate) sequence: u32,
    pub(crate) epoch: Epoch,
    pub(crate) directory_id: [u8; 16],
    pub(crate) continues_from: Lsn,
    pub(crate) known_synced: Lsn,
}

/// A valid frame.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InspectedFrame<'a> {
    pub(crate) position: u64,
    pub(crate) kind: &'static str,
    pub(crate) known_synced: Lsn,
    pub(crate) payload: &'a [u8],
    /// Whether the payload is a list of sections.
    pub(crate) is_data: bool,
}

/// Decodes the header of a journal file. Returns `None` if the file has no valid header.
pub(crate) fn inspect_header(bytes: &[u8]) -> Result<Option<InspectedHeader>, Unreadable> {
    match FileHeader::decode(bytes) {
        Decoded::Valid(header) => Ok(Some(InspectedHeader {
            size: header.size,
            sequence: header.sequence,
            epoch: header.epoch,
            directory_id: header.directory_id,
            continues_from: header.continues_from,
            known_synced: header.known_synced,
        })),
        Decoded::Unsupported(found) => Err(unsupported(found)),
        Decoded::Invalid => Ok(None),
    }
}

/// Returns the frames of a journal file, up to the first invalid one.
pub(crate) fn inspect_frames(
    bytes: &[u8],
) -> impl Iterator<Item = Result<InspectedFrame<'_>, (u64, Unreadable)>> {
    let header = match FileHeader::decode(bytes) {
        Decoded::Valid(header) => Some(header),
        Decoded::Unsupported(_) | Decoded::Invalid => None,
    };
    let mut position = FIRST_FRAME;
    std::iter::from_fn(move || {
        let header = header?;
        let rest = bytes.get(position as usize..)?;
        let lsn = Lsn::new(header.sequence, position);
        let at = u64::from(position);
        let frame = match FrameHeader::decode(rest, lsn, header.frame_salt()) {
            Ok(frame) => frame?,
            Err(reason) => return Some(Err((at, reason))),
        };
        let payload = rest.get(FRAME_HEADER..)?.get(..frame.payload_bytes as usize)?;
        if payload_crc(&[payload]) != frame.payload_crc {
            return None;
        }
        let length = frame_bytes(u64::from(frame.payload_bytes))?;
        position = position.checked_add(u32::try_from(length).ok()?)?;
        let kind = match frame.kind {
            Kind::Data => "data",
            Kind::Next => "next",
            Kind::SyncMark => "sync_mark",
        };
        let is_data = frame.kind == Kind::Data;
        let known_synced = frame.known_synced;
        Some(Ok(InspectedFrame { position: at, kind, known_synced, payload, is_data }))
    })
}
