//! The journal's section for committed offsets, and the form of an entry, which the offset file shares.
//!
//! All numbers are big-endian. A section:
//!
//! | offset | size | type | field |
//! |---|---|---|---|
//! | 0 | 1 | u8 | version: 1 |
//! | 1 | 1 | u8 | kind: 0 = entries follow, 1 = the group is removed, 2 = it had members, 3 = entries of a named owner |
//! | 2 | 2 | u16 | length of the group's name, n, from 1 |
//! | 4 | n | UTF-8 | the group's name |
//! | 4 + n | 4 | u32 | kind 0: number of entries |
//! | 8 + n | ... | | kind 0: the entries, to the end of the section |
//! | 4 + n | 8 | i64 | kind 2: when it had members, milliseconds since 1970, not negative |
//! | 4 + n | 2 | u16 | kind 3: length of the owner's name (`transactional.id`), o, from 1 |
//! | 6 + n | o | UTF-8 | kind 3: the owner's name |
//! | 6 + n + o | 4 | i32 | kind 3: the owner's epoch, not negative; then number of entries and entries, as kind 0 |
//!
//! An entry:
//!
//! | offset | size | type | field |
//! |---|---|---|---|
//! | 0 | 4 | u32 | partition number |
//! | 4 | 8 | i64 | committed offset; -1 = the offset is removed, and the entry ends here (sections only) |
//! | 12 | 4 | i32 | leader epoch; -1 = not known |
//! | 16 | 8 | i64 | commit timestamp, milliseconds since 1970 |
//! | 24 | 2 | u16 | length of the metadata, m, at most 4096 |
//! | 26 | m | UTF-8 | metadata |
//!
//! The section has no checksum. The journal frame or the header of the offset file covers it.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use std::sync::Arc;

use super::offsets::{
    CommitOwner, CommittedOffset, METADATA_MAX_BYTES, OffsetChange, OffsetCommit,
};
use crate::error::{CorruptReason, Unreadable};
use crate::types::{PartitionNumber, Timestamp};

const VERSION: u8 = 1;
const KIND_SET: u8 = 0;
const KIND_REMOVE_GROUP: u8 = 1;
const KIND_ACTIVE: u8 = 2;
const KIND_SET_OWNED: u8 = 3;
const REMOVED: i64 = -1;
const UNKNOWN_EPOCH: i32 = -1;

/// The smallest size of an entry in a section: one that removes.
const ENTRY_MIN_BYTES: usize = 4 + 8;

impl OffsetCommit {
    /// Returns the size of the section without metadata, since most commits have none.
    pub(crate) fn bytes_hint(&self) -> usize {
        let OffsetChange::Set(entries) = &self.change else {
            return self.group.len().saturating_add(16);
        };
        let owner = owner_of(entries).map(|owner| &*owner.id);
        let entries = entries.len().saturating_mul(Self::entry_bound(""));
        Self::bound(&self.group, owner).saturating_add(entries)
    }

    /// Returns the most bytes of a section of a group that sets offsets, without its entries.
    pub(crate) fn bound(group: &str, owner: Option<&str>) -> usize {
        let owner = owner.map_or(0, |id| id.len().saturating_add(6));
        group.len().saturating_add(owner).saturating_add(8)
    }

    /// Returns the most bytes of an entry.
    pub(crate) fn entry_bound(metadata: &str) -> usize {
        metadata.len().saturating_add(26)
    }

    /// Appends the section. `check` has made sure that names and metadata are within their limits.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        match &self.change {
            OffsetChange::Set(entries) => {
                let owner = owner_of(entries);
                out.push(if owner.is_some() { KIND_SET_OWNED } else { KIND_SET });
                put_text(out, &self.group);
                if let Some(owner) = owner {
                    put_text(out, &owner.id);
                    out.extend_from_slice(&owner.epoch.to_be_bytes());
                }
                out.extend_from_slice(&(entries.len() as u32).to_be_bytes());
                for (partition, offset) in entries {
                    put_entry(out, *partition, offset.as_ref());
                }
            }
            OffsetChange::RemoveGroup => {
                out.push(KIND_REMOVE_GROUP);
                put_text(out, &self.group);
            }
            OffsetChange::Active(at) => {
                out.push(KIND_ACTIVE);
                put_text(out, &self.group);
                out.extend_from_slice(&at.as_millis().to_be_bytes());
            }
        }
    }

    /// Decodes a section that fills `bytes`.
    ///
    /// The frame's checksum is right, so an unknown version or kind comes from a newer version of grouplog.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        let mut reader = Reader::new(bytes);
        let version = reader.u8()?;
        if version != VERSION {
            return Err(Unreadable::unsupported("offset section version", version, VERSION));
        }
        let kind = reader.u8()?;
        let group = reader.name()?;
        let change = match kind {
            KIND_SET => OffsetChange::Set(reader.entries()?),
            KIND_SET_OWNED => {
                let owner = Arc::new(reader.owner()?);
                let mut entries = reader.entries()?;
                // A commit by nobody has one form.
                if entries.iter().all(|(_, offset)| offset.is_none()) {
                    return Err(CorruptReason::Field.into());
                }
                for offset in entries.iter_mut().filter_map(|(_, offset)| offset.as_mut()) {
                    offset.owner = Some(Arc::clone(&owner));
                }
                OffsetChange::Set(entries)
            }
            KIND_REMOVE_GROUP => OffsetChange::RemoveGroup,
            KIND_ACTIVE => OffsetChange::Active(reader.time()?),
            kind => {
                return Err(Unreadable::unsupported("offset section kind", kind, KIND_SET_OWNED));
            }
        };
        if !reader.rest.is_empty() {
            return Err(CorruptReason::Length.into());
        }
        Ok(Self { group, change })
    }
}

/// Returns the named owner of a commit's entries, which have the same or none.
fn owner_of(entries: &[(PartitionNumber, Option<CommittedOffset>)]) -> Option<&Arc<CommitOwner>> {
    let mut offsets = entries.iter().filter_map(|(_, offset)| offset.as_ref());
    let owner = offsets.next()?.owner.as_ref();
    debug_assert!(offsets.all(|offset| offset.owner.as_ref() == owner), "one owner commits");
    owner
}

/// Appends the length of a text and the text, which has at most 65,535 bytes.
pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    debug_assert!(u16::try_from(text.len()).is_ok(), "callers bound names and metadata");
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

pub(super) fn put_entry(
    out: &mut Vec<u8>,
    partition: PartitionNumber,
    offset: Option<&CommittedOffset>,
) {
    out.extend_from_slice(&partition.0.to_be_bytes());
    let Some(committed) = offset else {
        out.extend_from_slice(&REMOVED.to_be_bytes());
        return;
    };
    debug_assert!(committed.check().is_ok(), "callers check offsets before they journal them");
    out.extend_from_slice(&committed.offset.to_be_bytes());
    out.extend_from_slice(&committed.leader_epoch.unwrap_or(UNKNOWN_EPOCH).to_be_bytes());
    out.extend_from_slice(&committed.commit_timestamp.as_millis().to_be_bytes());
    put_text(out, &committed.metadata);
}

/// Decodes fields from the front of untrusted bytes.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    pub(super) rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn bytes(&mut self, length: usize) -> Result<&'a [u8], CorruptReason> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(CorruptReason::Length)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], CorruptReason> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(CorruptReason::Length)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, CorruptReason> {
        self.array().map(u8::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, CorruptReason> {
        self.array().map(u32::from_be_bytes)
    }

    fn text(&mut self) -> Result<&'a str, CorruptReason> {
        let length = self.array().map(u16::from_be_bytes)?;
        std::str::from_utf8(self.bytes(usize::from(length))?).map_err(|_| CorruptReason::Utf8)
    }

    pub(super) fn name(&mut self) -> Result<Arc<str>, CorruptReason> {
        match self.text()? {
            "" => Err(CorruptReason::Length),
            name => Ok(name.into()),
        }
    }

    /// Decodes a time that is not negative.
    pub(super) fn time(&mut self) -> Result<Timestamp, CorruptReason> {
        match self.array().map(i64::from_be_bytes)? {
            millis if millis < 0 => Err(CorruptReason::Field),
            millis => Ok(Timestamp::from_millis(millis)),
        }
    }

    /// Decodes a number of items of at least `min_bytes` each. The rest must have room for them.
    pub(super) fn count(&mut self, min_bytes: usize) -> Result<usize, CorruptReason> {
        let count = usize::try_from(self.u32()?).map_err(|_| CorruptReason::Count)?;
        match count.checked_mul(min_bytes) {
            Some(needed) if needed <= self.rest.len() => Ok(count),
            _ => Err(CorruptReason::Count),
        }
    }

    /// Decodes a named owner, or an empty name if there is none.
    pub(super) fn optional_owner(&mut self) -> Result<Option<CommitOwner>, CorruptReason> {
        if let [0, 0, rest @ ..] = self.rest {
            self.rest = rest;
            return Ok(None);
        }
        self.owner().map(Some)
    }

    fn entries(
        &mut self,
    ) -> Result<Vec<(PartitionNumber, Option<CommittedOffset>)>, CorruptReason> {
        let count = self.count(ENTRY_MIN_BYTES)?;
        let mut entries = Vec::with_capacity(count);
        for _ in 0..count {
            entries.push(self.entry()?);
        }
        Ok(entries)
    }

    /// Decodes a named owner: its name and its epoch.
    pub(super) fn owner(&mut self) -> Result<CommitOwner, CorruptReason> {
        let id = self.name()?;
        match self.array().map(i32::from_be_bytes)? {
            epoch if epoch < 0 => Err(CorruptReason::Field),
            epoch => Ok(CommitOwner { id, epoch }),
        }
    }

    pub(super) fn entry(
        &mut self,
    ) -> Result<(PartitionNumber, Option<CommittedOffset>), CorruptReason> {
        let partition = PartitionNumber(self.u32()?);
        let offset = match self.array().map(i64::from_be_bytes)? {
            REMOVED => return Ok((partition, None)),
            offset if offset < 0 => return Err(CorruptReason::Field),
            offset => offset,
        };
        let leader_epoch = match self.array().map(i32::from_be_bytes)? {
            UNKNOWN_EPOCH => None,
            epoch if epoch < 0 => return Err(CorruptReason::Field),
            epoch => Some(epoch),
        };
        let commit_timestamp = Timestamp::from_millis(self.array().map(i64::from_be_bytes)?);
        let metadata = match self.text()? {
            // By far the most common case. The default is shared and needs no allocation.
            "" => Arc::default(),
            text if text.len() > METADATA_MAX_BYTES => return Err(CorruptReason::Length),
            text => text.into(),
        };
        let owner = None;
        let committed = CommittedOffset { offset, leader_epoch, metadata, commit_timestamp, owner };
        Ok((partition, Some(committed)))
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "tests may panic")]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(in super::super) fn committed() -> impl Strategy<Value = CommittedOffset> {
        (0..=i64::MAX, prop::option::of(0..=i32::MAX), "\\PC{0,20}", any::<i64>()).prop_map(
            |(offset, leader_epoch, metadata, timestamp)| CommittedOffset {
                offset,
                leader_epoch,
                metadata: metadata.into(),
                commit_timestamp: Timestamp::from_millis(timestamp),
                owner: None,
            },
        )
    }

    pub(in super::super) fn owner() -> impl Strategy<Value = Option<Arc<CommitOwner>>> {
        let owner = ("\\PC{1,12}", 0..=i32::MAX)
            .prop_map(|(id, epoch)| Arc::new(CommitOwner { id: id.into(), epoch }));
        prop::option::of(owner)
    }

    fn commit() -> impl Strategy<Value = OffsetCommit> {
        let entry = (any::<u32>().prop_map(PartitionNumber), prop::option::of(committed()));
        let change = prop_oneof![
            4 => (prop::collection::vec(entry, 0..8), owner()).prop_map(|(mut entries, owner)| {
                for offset in entries.iter_mut().filter_map(|(_, offset)| offset.as_mut()) {
                    offset.owner.clone_from(&owner);
                }
                OffsetChange::Set(entries)
            }),
            1 => Just(OffsetChange::RemoveGroup),
            1 => (0..=i64::MAX).prop_map(|at| OffsetChange::Active(Timestamp::from_millis(at))),
        ];
        ("\\PC{1,30}", change)
            .prop_map(|(group, change)| OffsetCommit { group: group.into(), change })
    }

    fn encoded(commit: &OffsetCommit) -> Vec<u8> {
        let mut out = Vec::new();
        commit.encode(&mut out);
        out
    }

    #[test]
    fn the_bytes_are_those_of_the_diagram() {
        let offset = CommittedOffset {
            offset: 0x0102,
            leader_epoch: Some(3),
            metadata: "x".into(),
            commit_timestamp: Timestamp::from_millis(4),
            owner: None,
        };
        let owner = Some(Arc::new(CommitOwner { id: "o".into(), epoch: 9 }));
        let owned = CommittedOffset { owner, ..offset.clone() };
        let set =
            OffsetChange::Set(vec![(PartitionNumber(7), Some(offset)), (PartitionNumber(8), None)]);
        let set_owned = OffsetChange::Set(vec![(PartitionNumber(7), Some(owned))]);
        #[rustfmt::skip]
        let expected = [
            1, 0, 0, 1, b'g', 0, 0, 0, 2,
            0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, b'x',
            0, 0, 0, 8, 255, 255, 255, 255, 255, 255, 255, 255,
        ];
        assert_eq!(encoded(&OffsetCommit { group: "g".into(), change: set }), expected);
        #[rustfmt::skip]
        let expected = [
            1, 3, 0, 1, b'g', 0, 1, b'o', 0, 0, 0, 9, 0, 0, 0, 1,
            0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, b'x',
        ];
        assert_eq!(encoded(&OffsetCommit { group: "g".into(), change: set_owned }), expected);
        let removed = OffsetCommit { group: "g".into(), change: OffsetChange::RemoveGroup };
        assert_eq!(encoded(&removed), [1, 1, 0, 1, b'g']);
    }

    #[test]
    fn fields_out_of_their_range_are_told_apart() {
        let decode = OffsetCommit::decode;
        assert_eq!(decode(&[]), Err(CorruptReason::Length.into()));
        let version = Unreadable::unsupported("offset section version", 2_u32, 1_u32);
        assert_eq!(decode(&[2, 0, 0, 1, b'g']), Err(version));
        let kind = Unreadable::unsupported("offset section kind", 4_u32, 3_u32);
        assert_eq!(decode(&[1, 4, 0, 1, b'g']), Err(kind));
        let owned = |rest: &[u8]| decode(&[&[1, 3, 0, 1, b'g'], rest].concat());
        assert_eq!(owned(&[0, 0]), Err(CorruptReason::Length.into()));
        let negative = [0, 1, b'o', 255, 255, 255, 255, 0, 0, 0, 0];
        assert_eq!(owned(&negative), Err(CorruptReason::Field.into()));
        assert_eq!(owned(&[0, 1, b'o', 0, 0, 0, 1, 0, 0, 0, 0]), Err(CorruptReason::Field.into()));
        let active = |at: i64| decode(&[&[1, 2, 0, 1, b'g'], &at.to_be_bytes()[..]].concat());
        assert_eq!(active(-1), Err(CorruptReason::Field.into()));
        let change = OffsetChange::Active(Timestamp::from_millis(7));
        assert_eq!(active(7), Ok(OffsetCommit { group: "g".into(), change }));
        assert_eq!(decode(&[1, 1, 0, 0]), Err(CorruptReason::Length.into()));
        assert_eq!(decode(&[1, 1, 0, 1, 0xff]), Err(CorruptReason::Utf8.into()));
        assert_eq!(decode(&[1, 1, 0, 1, b'g', 0]), Err(CorruptReason::Length.into()));
        assert_eq!(
            decode(&[1, 0, 0, 1, b'g', 255, 255, 255, 255]),
            Err(CorruptReason::Count.into())
        );
        let mut negative = vec![1, 0, 0, 1, b'g', 0, 0, 0, 1, 0, 0, 0, 7];
        negative.extend((-2_i64).to_be_bytes());
        assert_eq!(decode(&negative), Err(CorruptReason::Field.into()));
    }

    #[test]
    fn metadata_is_as_long_as_a_commit_may_make_it_and_no_longer() {
        let offset = CommittedOffset {
            offset: 1,
            leader_epoch: None,
            metadata: "x".repeat(METADATA_MAX_BYTES).into(),
            commit_timestamp: Timestamp::from_millis(4),
            owner: None,
        };
        let change = OffsetChange::Set(vec![(PartitionNumber(7), Some(offset))]);
        let commit = OffsetCommit { group: "g".into(), change };
        let mut bytes = encoded(&commit);
        let length = bytes.len() - METADATA_MAX_BYTES - 2;
        assert_eq!(OffsetCommit::decode(&bytes), Ok(commit));
        bytes[length..length + 2].copy_from_slice(&(METADATA_MAX_BYTES as u16 + 1).to_be_bytes());
        bytes.push(b'x');
        assert_eq!(OffsetCommit::decode(&bytes), Err(CorruptReason::Length.into()));
    }

    proptest! {
        #[test]
        fn a_section_comes_back_as_it_was(commit in commit()) {
            prop_assert_eq!(OffsetCommit::decode(&encoded(&commit)), Ok(commit));
        }

        #[test]
        fn a_section_cut_short_is_refused(commit in commit(), cut in any::<prop::sample::Index>()) {
            let bytes = encoded(&commit);
            prop_assert!(OffsetCommit::decode(&bytes[..cut.index(bytes.len())]).is_err());
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(commit) = OffsetCommit::decode(&bytes) {
                prop_assert_eq!(encoded(&commit), bytes);
            }
        }

        #[test]
        fn a_changed_byte_never_panics(
            commit in commit(), at in any::<prop::sample::Index>(), byte in any::<u8>()
        ) {
            let mut bytes = encoded(&commit);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _either = OffsetCommit::decode(&bytes);
        }
    }
}
