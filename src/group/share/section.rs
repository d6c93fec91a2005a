//! The journal's section: what changes in one share-partition. The caller puts group and partition in front.
//!
//! A section sets spans of offsets to states, whatever they were before. So applying it cannot fail, and applying the
//! last one again changes nothing.
//!
//! Numbers are LEB128 unless a type is given.
//!
//! ```text
//! section   u8 version (1), number of texts, texts (length, UTF-8), number of items, items
//! item      u8 kind, then
//!   0 log start     offset
//!   1 reset         new start, epoch
//!   2 started       span, count
//!   3 available     span, count, u8 reason
//!   4 acknowledged  span, count
//!   5 archived      span, count
//!   6 delayed       span, count, u8 reason, due (ms since 1970)
//!   7 delayed       as 6, then u64 little-endian: hash of the key
//! span      zigzag distance from the end of the span before to the first offset, length - 1
//! ```
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use super::bytes::{Reader, put, put_distance, put_reasons};
use super::reason::{Reason, Reasons};
use super::run::Span;
use crate::error::{CorruptReason, Unreadable};

const VERSION: u8 = 1;
const LOG_START: u8 = 0;
const RESET: u8 = 1;
const STARTED: u8 = 2;
const AVAILABLE: u8 = 3;
const ACKNOWLEDGED: u8 = 4;
const ARCHIVED: u8 = 5;
const DELAYED: u8 = 6;
const DELAYED_KEY: u8 = 7;
/// The most records that one section delays: each of them is tracked alone.
const DELAYED_MAX: u64 = 1 << 20;
/// The smallest item: the log start at 0.
const ITEM_MIN_BYTES: usize = 2;

/// The state that a span gets. `count` is the number of attempts from then on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum To {
    /// A handler has it: Acquired.
    Started { count: u16 },
    /// Available, at once.
    Available { count: u16, reason: Reason },
    /// Accepted.
    Acknowledged { count: u16 },
    /// Given up, or nothing to deliver.
    Archived { count: u16 },
    /// Parked until `due`, in milliseconds since 1970. `key` is the hash of the record's key, where the order of keys
    /// must outlive this process.
    Delayed { count: u16, due: i64, reason: Reason, key: Option<u64> },
}

impl To {
    /// Returns whether it is final.
    pub(super) const fn is_final(self) -> bool {
        matches!(self, Self::Acknowledged { .. } | Self::Archived { .. })
    }
}

/// A change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Item {
    /// Nothing is left below this offset.
    LogStart(i64),
    /// All state is dropped, and the window begins here.
    Reset { start: i64, epoch: u32 },
    /// A span gets a state.
    Set(Span, To),
}

/// What changes in one share-partition. Keep it and use it again: cleared, it needs no new memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Section {
    items: Vec<Item>,
    pub(super) reasons: Reasons,
}

impl Section {
    /// The most delayed records of one section. Readers refuse more.
    pub(crate) const DELAYED_MAX: u64 = DELAYED_MAX;

    /// Returns how many records it delays.
    pub(crate) fn delayed(&self) -> u64 {
        let of = |item: &Item| match item {
            Item::Set(span, To::Delayed { .. }) => span.len(),
            _ => 0,
        };
        self.items.iter().map(of).fold(0, u64::saturating_add)
    }

    /// Returns the section for a log start that the journal holds elsewhere.
    pub(crate) fn log_start(offset: i64) -> Self {
        Self { items: vec![Item::LogStart(offset)], reasons: Reasons::default() }
    }

    /// Returns the changes in order.
    pub(crate) fn items(&self) -> &[Item] {
        &self.items
    }

    /// Returns whether nothing changes.
    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Empties it.
    pub(crate) fn clear(&mut self) {
        self.items.clear();
        self.reasons.clear();
    }

    /// Adds a change, to the one before if they touch and agree.
    #[inline]
    pub(super) fn push(&mut self, item: Item) {
        if let (Some(Item::Set(before, to)), Item::Set(span, new)) = (self.items.last_mut(), &item)
            && to == new
            && before.last.checked_add(1) == Some(span.first)
        {
            before.last = span.last;
            return;
        }
        self.items.push(item);
    }

    /// Forgets the changes behind the first `len`.
    pub(super) fn truncate(&mut self, len: usize) {
        self.items.truncate(len);
    }

    pub(super) fn retain_mut(&mut self, keep: impl FnMut(&mut Item) -> bool) {
        self.items.retain_mut(keep);
    }

    /// Appends the section's bytes.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        put_reasons(out, &self.reasons);
        put(out, self.items.len() as u64);
        let mut end = 0;
        for item in &self.items {
            put_item(out, item, &mut end);
        }
    }

    /// Decodes a section that fills `bytes`.
    ///
    /// The frame's checksum is right, so an unknown version or kind comes from a newer version of grouplog.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        let mut reader = Reader::new(bytes);
        let version = reader.u8()?;
        if version != VERSION {
            return Err(Unreadable::unsupported("share section version", version, VERSION));
        }
        let reasons = reader.reasons()?;
        let count = reader.count(ITEM_MIN_BYTES)?;
        // Only as much as the bytes warrant: an item in memory is larger than the smallest one in the journal.
        let mut items = Vec::new();
        let mut end = 0;
        let mut delayed = 0_u64;
        for _ in 0..count {
            let item = read_item(&mut reader, &reasons, &mut end)?;
            if let Item::Set(span, To::Delayed { .. }) = item {
                delayed = delayed.saturating_add(span.len());
                if delayed > DELAYED_MAX {
                    return Err(CorruptReason::Count.into());
                }
            }
            items.push(item);
        }
        reader.finish()?;
        Ok(Self { items, reasons })
    }
}

fn put_item(out: &mut Vec<u8>, item: &Item, end: &mut i64) {
    let (span, to) = match *item {
        Item::LogStart(offset) => {
            out.push(LOG_START);
            return put(out, offset as u64);
        }
        Item::Reset { start, epoch } => {
            out.push(RESET);
            put(out, start as u64);
            return put(out, u64::from(epoch));
        }
        Item::Set(span, to) => (span, to),
    };
    let (kind, count) = match to {
        To::Started { count } => (STARTED, count),
        To::Available { count, .. } => (AVAILABLE, count),
        To::Acknowledged { count } => (ACKNOWLEDGED, count),
        To::Archived { count } => (ARCHIVED, count),
        To::Delayed { count, key: None, .. } => (DELAYED, count),
        To::Delayed { count, key: Some(_), .. } => (DELAYED_KEY, count),
    };
    out.push(kind);
    put_distance(out, *end, span.first);
    put(out, span.len().saturating_sub(1));
    put(out, u64::from(count));
    *end = span.last.saturating_add(1);
    match to {
        To::Available { reason, .. } => out.push(reason.number()),
        To::Delayed { due, reason, key, .. } => {
            out.push(reason.number());
            put(out, due as u64);
            if let Some(key) = key {
                out.extend_from_slice(&key.to_le_bytes());
            }
        }
        _ => {}
    }
}

fn read_item(
    reader: &mut Reader<'_>,
    reasons: &Reasons,
    end: &mut i64,
) -> Result<Item, Unreadable> {
    let kind = reader.u8()?;
    match kind {
        LOG_START => return Ok(Item::LogStart(reader.i64()?)),
        RESET => return Ok(Item::Reset { start: reader.i64()?, epoch: reader.u32()? }),
        STARTED..=DELAYED_KEY => {}
        _ => return Err(Unreadable::unsupported("share section kind", kind, DELAYED_KEY)),
    }
    let first = reader.at_distance(*end)?;
    let span = reader.span(first)?;
    *end = span.last.saturating_add(1);
    let count = reader.u16()?;
    let mut reason =
        || reader.u8().map(|number| reasons.number(number).ok_or(CorruptReason::Field));
    let to = match kind {
        STARTED => To::Started { count },
        ACKNOWLEDGED => To::Acknowledged { count },
        ARCHIVED => To::Archived { count },
        AVAILABLE => To::Available { count, reason: reason()?? },
        _ => {
            let (reason, due) = (reason()??, reader.i64()?);
            let key = if kind == DELAYED_KEY { Some(reader.u64_fixed()?) } else { None };
            To::Delayed { count, due, reason, key }
        }
    };
    Ok(Item::Set(span, to))
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "tests may panic")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn item() -> impl Strategy<Value = Item> {
        let span = (0..i64::MAX / 2, 0..1_000_000_i64)
            .prop_map(|(first, more)| Span { first, last: first + more });
        let key = prop::option::of(any::<u64>());
        prop_oneof![
            (0..i64::MAX).prop_map(Item::LogStart),
            (0..i64::MAX, any::<u32>()).prop_map(|(start, epoch)| Item::Reset { start, epoch }),
            (span, 0..5_u8, any::<u16>(), 0..i64::MAX, 0..19_u8, key).prop_map(
                |(span, kind, count, due, reason, key)| {
                    let mut reasons = Reasons::default();
                    let texts = ["a", "b", "c"].map(|text| reasons.of_text(text));
                    let reason = reasons.number(reason).unwrap_or(texts[0]);
                    let to = match kind {
                        0 => To::Started { count },
                        1 => To::Available { count, reason },
                        2 => To::Acknowledged { count },
                        3 => To::Archived { count },
                        _ => To::Delayed { count, due, reason, key },
                    };
                    let short = Span { last: span.first + (span.last - span.first) % 1000, ..span };
                    Item::Set(if kind > 3 { short } else { span }, to)
                }
            )
        ]
    }

    fn section() -> impl Strategy<Value = Section> {
        prop::collection::vec(item(), 0..20).prop_map(|items| {
            let mut section = Section::default();
            for text in ["a", "b", "c"] {
                section.reasons.of_text(text);
            }
            for item in items {
                section.push(item);
            }
            section
        })
    }

    #[test]
    fn the_bytes_are_those_of_the_diagram() {
        let mut section = Section::default();
        let reason = section.reasons.of_text("503");
        section.push(Item::Set(Span { first: 300, last: 300 }, To::Started { count: 1 }));
        section.push(Item::Set(Span { first: 301, last: 399 }, To::Started { count: 1 }));
        section.push(Item::Set(Span { first: 10, last: 10 }, To::Available { count: 2, reason }));
        let mut bytes = Vec::new();
        section.encode(&mut bytes);
        let distance = [0x8b, 0x06]; // zigzag of 10 - 400
        let expected =
            [&[1, 1, 3, b'5', b'0', b'3', 2, 2, 0xd8, 0x04, 99, 1, 3][..], &distance, &[0, 2, 16]];
        assert_eq!(bytes, expected.concat());
        assert_eq!(Section::decode(&bytes), Ok(section));
        bytes[0] = 2;
        assert!(matches!(Section::decode(&bytes), Err(Unreadable::Unsupported(..))));
        bytes[0] = 1;
        bytes[7] = 8;
        assert!(matches!(Section::decode(&bytes), Err(Unreadable::Unsupported(..))));
    }

    #[test]
    fn a_false_count_allocates_nothing() {
        let bytes = [1, 0, 0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0];
        assert_eq!(Section::decode(&bytes), Err(CorruptReason::Count.into()));
    }

    proptest! {
        #[test]
        fn a_section_decodes_to_what_was_encoded(section in section()) {
            let mut bytes = Vec::new();
            section.encode(&mut bytes);
            prop_assert_eq!(&Section::decode(&bytes).unwrap(), &section);
            for cut in 0..bytes.len() {
                prop_assert!(Section::decode(&bytes[..cut]).is_err());
            }
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _either = Section::decode(&bytes);
            if let Some(first) = bytes.first_mut() {
                *first = 1;
            }
            if let Ok(section) = Section::decode(&bytes) {
                let mut again = Vec::new();
                section.encode(&mut again);
                prop_assert_eq!(again, bytes);
            }
        }
    }
}
