//! Sections: the parts of the payload of a Data frame.
//!
//! ```text
//! offset size field     big-endian; sections follow each other without gaps
//!      0    1 kind      1 Append, 2 GroupOffsets, 3 Catalogue, 4 LogStart, 5 Stored,
//!                     6 Owner, 7 Ids, 8 Share
//!      1    3 reserved  0
//!      4    4 length    of the body in bytes
//!      8    n body      belongs to the module that owns the kind
//! ```
//!
//! Kind and length keep their places in every version. The kind decides how a reader treats a section that
//! a newer version wrote:
//!
//! - **1 to 127: must be understood.** Skipping the section would lose a change. If a reader does not know
//!   the kind, or finds a reserved byte that is not 0, it returns `UnsupportedFormat`.
//! - **128 to 255: may be skipped.** A reader that does not know the kind skips the section. State that a
//!   reader relies on never depends on such a section. No version has written one so far.
//! - **0** is not a kind. The frame is damaged.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use crate::error::{CorruptReason, Unreadable};

use crate::types::planted;

use super::field::u32_at;

/// The kinds of sections.
#[derive(Debug)]
pub(crate) struct SectionKind;

impl SectionKind {
    /// Records appended to a partition.
    pub(crate) const APPEND: u8 = 1;
    /// Offsets committed by a group.
    pub(crate) const GROUP_OFFSETS: u8 = 2;
    /// A change of the catalogue: topics, partitions, configs.
    pub(crate) const CATALOGUE: u8 = 3;
    /// The log start of a partition moved.
    pub(crate) const LOG_START: u8 = 4;
    /// Records appended to a partition that are in its segments already.
    pub(crate) const STORED: u8 = 5;
    /// A change of a named owner.
    pub(crate) const OWNER: u8 = 6;
    /// Idempotency ids of records in the same frame.
    pub(crate) const IDS: u8 = 7;
    /// A change of a share group.
    pub(crate) const SHARE: u8 = 8;
    /// The last kind that this version knows.
    const LAST: u8 = Self::SHARE;
    /// The first kind that a reader may skip if it does not know it.
    const SKIPPABLE: u8 = 128;
}

/// Encodes the header of a section with a body of `body_bytes` bytes.
#[inline]
pub(crate) fn section_header(kind: u8, body_bytes: u32) -> [u8; SECTION_HEADER] {
    let [a, b, c, d] = body_bytes.to_be_bytes();
    [kind, 0, 0, 0, a, b, c, d]
}

/// Returns the sections of a payload as kind and body. Skips unknown sections that may be skipped, and stops
/// after the first error.
pub(crate) fn sections(payload: &[u8]) -> impl Iterator<Item = Result<(u8, &[u8]), Unreadable>> {
    let mut rest = payload;
    std::iter::from_fn(move || {
        loop {
            if rest.is_empty() {
                return None;
            }
            match split(rest) {
                Ok((kind, body, left)) => {
                    rest = left;
                    if kind < SectionKind::SKIPPABLE {
                        return Some(Ok((kind, body)));
                    }
                }
                Err(error) => {
                    rest = &[];
                    return Some(Err(error));
                }
            }
        }
    })
}

/// Splits the first section off. Returns its kind, its body and the bytes after it.
fn split(bytes: &[u8]) -> Result<(u8, &[u8], &[u8]), Unreadable> {
    let (header, rest) =
        bytes.split_first_chunk::<SECTION_HEADER>().ok_or(CorruptReason::Length)?;
    let [kind, reserved @ .., _, _, _, _] = *header;
    let forgotten = kind > SectionKind::LAST && planted("skip_newer_sections");
    let kind = if forgotten { SectionKind::SKIPPABLE } else { kind };
    match kind {
        0 => return Err(CorruptReason::Field.into()),
        SectionKind::SKIPPABLE.. => {}
        SectionKind::APPEND..=SectionKind::LAST if reserved == [0; 3] => {}
        SectionKind::APPEND..=SectionKind::LAST => {
            let [a, b, c] = reserved;
            let found = u32::from_be_bytes([0, a, b, c]);
            return Err(Unreadable::unsupported("journal section flags", found, 0_u32));
        }
        _ => {
            let max = SectionKind::LAST;
            return Err(Unreadable::unsupported("journal section kind", kind, max));
        }
    }
    let length = u32_at(header, 4).ok_or(CorruptReason::Length)?;
    let (body, rest) = rest.split_at_checked(length as usize).ok_or(CorruptReason::Length)?;
    Ok((kind, body, rest))
}

/// The size of a section header in bytes.
pub(crate) const SECTION_HEADER: usize = 8;

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "the test uses small numbers")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn sections_come_back_as_they_were(list: Vec<(u8, Vec<u8>)>) {
            let list: Vec<_> = list.into_iter().map(|(kind, body)| (kind % SectionKind::LAST + 1, body)).collect();
            let mut payload = Vec::new();
            for (kind, body) in &list {
                payload.extend(section_header(*kind, body.len() as u32));
                payload.extend(body);
            }
            let found: Result<Vec<_>, _> = sections(&payload).collect();
            let expected: Vec<_> = list.iter().map(|(kind, body)| (*kind, body.as_slice())).collect();
            prop_assert_eq!(found, Ok(expected));
        }

        #[test]
        fn any_bytes_are_walked_without_a_panic(bytes: Vec<u8>) {
            prop_assert!(sections(&bytes).count() <= bytes.len() / SECTION_HEADER + 1);
        }
    }

    #[test]
    fn a_section_beyond_the_payload_is_refused() {
        for bytes in [&section_header(1, u32::MAX)[..], &[1, 0]] {
            assert_eq!(sections(bytes).next(), Some(Err(CorruptReason::Length.into())));
            assert_eq!(sections(bytes).count(), 1);
        }
    }

    #[test]
    fn an_unknown_kind_that_must_be_understood_is_a_newer_version_s() {
        for kind in [9, 127] {
            let newer = Unreadable::unsupported("journal section kind", kind, 8_u32);
            assert_eq!(sections(&section_header(kind, 0)).next(), Some(Err(newer)));
        }
        let newer = Unreadable::unsupported("journal section flags", 0x0001_0000_u32, 0_u32);
        assert_eq!(sections(&[1, 1, 0, 0, 0, 0, 0, 0]).next(), Some(Err(newer)));
        let none = section_header(0, 0);
        assert_eq!(sections(&none).next(), Some(Err(CorruptReason::Field.into())));
    }

    #[test]
    fn an_unknown_kind_that_may_be_skipped_is_passed_over() {
        let skipped = [128, 7, 0, 9, 0, 0, 0, 2, 1, 1];
        let known = section_header(4, 0);
        let last = [255, 0, 0, 0, 0, 0, 0, 0];
        let payload = [&skipped[..], &known, &last].concat();
        assert_eq!(sections(&payload).collect::<Vec<_>>(), [Ok((4, &[][..]))]);
        // The length of a skipped section must still be valid.
        let torn = sections(&skipped[..9]).next();
        assert_eq!(torn, Some(Err(CorruptReason::Length.into())));
    }
}
