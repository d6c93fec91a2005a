//! Applies journal frames to state. Opening a folder and following a writer share this code.
//!
//! A frame is applied section by section, in order. [`Target`] finds the state that a section changes:
//! opening changes state in place, while following builds a new state beside one that readers still use.

use std::sync::Arc;

use crate::dedup::IdSection;
use crate::engine::catalogue::CatalogueChange;
use crate::engine::owners::{OwnerChange, Owners};
use crate::engine::shares::{ShareChange, ShareStates};
use crate::error::{CorruptReason, Result, Unreadable};
use crate::group::{OffsetCommit, OffsetStore};
use crate::journal::{Frame, SectionKind, sections};
use crate::log::{AppendSection, Log, LogStartSection, StoredSection};
use crate::types::PartitionNumber;

/// The state that frames change.
pub(super) trait Target {
    /// Returns the partition of this number for a change, or `None` if there is none.
    fn log(&mut self, number: PartitionNumber) -> Option<Arc<Log>>;

    /// Returns the committed offsets for a change.
    fn offsets(&mut self) -> &mut OffsetStore;

    /// Returns the named owners for a change.
    fn owners(&mut self) -> &mut Owners;

    /// Returns the share groups for a change.
    fn shares(&mut self) -> &mut ShareStates;

    /// Registers the ids of records.
    fn ids(&mut self, ids: IdSection);

    /// Applies a change of the catalogue.
    fn catalogue(&mut self, change: &CatalogueChange) -> Result<(), CorruptReason>;
}

/// Applies a frame and returns how many records it holds.
///
/// # Errors
/// - `Corrupt` if a section does not fit the state.
/// - `UnsupportedFormat` if a newer version wrote a section.
///
/// The sections in front of it are applied in either case.
pub(super) fn apply(target: &mut impl Target, frame: &Frame<'_>) -> Result<u64> {
    let mut records = 0_u64;
    for section in sections(frame.payload) {
        let applied = section.and_then(|(kind, body)| apply_section(target, frame, kind, body));
        let position = u64::from(frame.lsn.position());
        let applied = applied.map_err(|cause| cause.at(frame.path, position))?;
        records = records.saturating_add(applied);
    }
    Ok(records)
}

fn apply_section(
    target: &mut impl Target,
    frame: &Frame<'_>,
    kind: u8,
    body: &[u8],
) -> Result<u64, Unreadable> {
    match kind {
        SectionKind::APPEND => {
            let (section, records) = AppendSection::decode(body)?;
            let log = target.log(section.partition).ok_or(CorruptReason::Field)?;
            log.replay(&section, records, frame.epoch)?;
            return Ok(u64::from(section.count));
        }
        SectionKind::STORED => {
            let section = StoredSection::decode(body)?;
            let log = target.log(section.partition).ok_or(CorruptReason::Field)?;
            log.replay_stored(&section, frame.epoch, frame.lsn)?;
            return Ok(u64::from(section.count));
        }
        SectionKind::LOG_START => {
            let section = LogStartSection::decode(body)?;
            let log = target.log(section.partition).ok_or(CorruptReason::Field)?;
            log.replay_start(section.start_offset)?;
        }
        SectionKind::GROUP_OFFSETS => target.offsets().apply(&OffsetCommit::decode(body)?),
        SectionKind::OWNER => target.owners().apply(&OwnerChange::decode(body)?),
        SectionKind::SHARE => target.shares().apply(ShareChange::decode(body)?)?,
        SectionKind::IDS => target.ids(IdSection::decode(body)?),
        SectionKind::CATALOGUE => target.catalogue(&CatalogueChange::decode(body)?)?,
        _ => return Err(CorruptReason::Field.into()),
    }
    Ok(0)
}
