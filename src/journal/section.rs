//! Sections: what the payload of a Data frame is made of.
//!
//! ```text
//! offset size field     big-endian; sections follow each other without gaps
//!      0    1 kind      1 Append, 2 GroupOffsets, 3 Catalogue, 4 LogStart
//!      1    3 reserved  0
//!      4    4 length    of the body in bytes
//!      8    n body      belongs to the module that owns the kind
//! ```

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use crate::error::CorruptReason;

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
}

/// The header of a section whose body has `body_bytes` bytes.
#[inline]
pub(crate) fn section_header(kind: u8, body_bytes: u32) -> [u8; SECTION_HEADER] {
    let [a, b, c, d] = body_bytes.to_be_bytes();
    [kind, 0, 0, 0, a, b, c, d]
}

/// The sections of a payload. Stops after the first error.
pub(crate) fn sections(payload: &[u8]) -> impl Iterator<Item = Result<(u8, &[u8]), CorruptReason>> {
    let mut rest = payload;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let section = split(rest);
        rest = section.as_ref().map_or(&[], |(_, _, rest)| *rest);
        Some(section.map(|(kind, body, _)| (kind, body)))
    })
}

/// The first section and what follows it. An unknown kind is an error: skipping it would lose a change.
fn split(bytes: &[u8]) -> Result<(u8, &[u8], &[u8]), CorruptReason> {
    let (header, rest) =
        bytes.split_first_chunk::<SECTION_HEADER>().ok_or(CorruptReason::Length)?;
    let [kind @ SectionKind::APPEND..=SectionKind::LOG_START, 0, 0, 0, ..] = *header else {
        return Err(CorruptReason::Field);
    };
    let length = u32_at(header, 4).ok_or(CorruptReason::Length)?;
    let (body, rest) = rest.split_at_checked(length as usize).ok_or(CorruptReason::Length)?;
    Ok((kind, body, rest))
}

/// The bytes of a section's header.
pub(crate) const SECTION_HEADER: usize = 8;

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "small numbers of the test's own")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn sections_come_back_as_they_were(list: Vec<(u8, Vec<u8>)>) {
            let list: Vec<_> = list.into_iter().map(|(kind, body)| (kind % 4 + 1, body)).collect();
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
            assert_eq!(sections(bytes).next(), Some(Err(CorruptReason::Length)));
            assert_eq!(sections(bytes).count(), 1);
        }
    }

    #[test]
    fn an_unknown_kind_is_refused() {
        assert_eq!(sections(&section_header(5, 0)).next(), Some(Err(CorruptReason::Field)));
    }
}
