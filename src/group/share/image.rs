//! The stored state of a share-partition, as a checkpoint holds it. The caller puts group and partition in front.
//!
//! Numbers are LEB128 unless a type is given.
//!
//! ```text
//! image    u8 version (1), epoch, log start, start of the window,
//!          number of texts, texts (length, UTF-8),
//!          number of runs, runs of the window: without a hole from its start on
//!          number of runs, runs outside, of at most 256 records: each with its distance in front
//!          number of parked records, parked records
//! run      u8: bits 0 to 2 state (0 available, 1 acquired, 2 acknowledged, 3 archived, 4 parked),
//!              bit 3 set: one offset, bits 4 to 7 count; 15 = it follows
//!          length - 1, unless bit 3 is set
//!          count, if bits 4 to 7 are 15
//!          u8 reason, if available or acquired
//! parked   u8: bit 0 set: a key follows; bits 4 to 7 count, as above
//!          distance from the record before - 1, [count], u8 reason,
//!          zigzag distance of the due time from that of the record before,
//!          [u64 little-endian: hash of the key]
//! ```
//!
//! Reserved and Blocked are Available in an image, and what follows the last record that anybody had is left out: it is
//! read again. Acquired means that the lock has ended (H8).
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use std::sync::Arc;

use super::bytes::{Reader, put, put_distance, put_reasons};
use super::parked::{Delay, Parked};
use super::partition::SharePartition;
use super::reason::{Reason, Reasons};
use super::run::{Content, MemberNumber, Run, Span, State};
use super::runs::Runs;
use super::settings::ShareSettings;
use crate::error::{CorruptReason, Unreadable};
use crate::types::planted;

const VERSION: u8 = 1;
const AVAILABLE: u8 = 0;
const ACQUIRED: u8 = 1;
const ACKNOWLEDGED: u8 = 2;
const ARCHIVED: u8 = 3;
const PARKED: u8 = 4;
const STATE_MASK: u8 = 7;
const ONE: u8 = 8;
const HAS_KEY: u8 = 1;
/// The count in the upper half of a byte; this one means that it follows.
const COUNT_FOLLOWS: u8 = 15;
const PARKED_MIN_BYTES: usize = 4;
/// The longest run outside of the window.
const OUTSIDE_MAX: u64 = 256;

impl SharePartition {
    /// Appends the stored state.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        put(out, u64::from(self.epoch));
        put(out, self.log_start as u64);
        put(out, self.start as u64);
        put_reasons(out, &self.reasons);
        let runs = self.stored_runs().count();
        put(out, runs as u64);
        for run in self.stored_runs() {
            put_run(out, &run);
        }
        let outside = || {
            let acquired = self.outside.iter().filter(|run| run.content.state == State::Acquired);
            let kept = merged(acquired.filter_map(|run| {
                Some(Run { span: run.span.from(self.log_start)?, content: stored(run.content) })
            }));
            kept.flat_map(pieces)
        };
        put(out, outside().count() as u64);
        let mut end = 0;
        for run in outside() {
            put(out, run.span.first.abs_diff(end));
            put_run(out, &run);
            end = run.span.last.saturating_add(1);
        }
        self.encode_parked(out);
    }

    /// Returns the runs of the window as they are stored: what only this process knows is left out.
    fn stored_runs(&self) -> impl Iterator<Item = Run> {
        let runs = self.window.iter().map(|run| Run { content: stored(run.content), ..run });
        let mut runs = merged(runs).peekable();
        std::iter::from_fn(move || {
            let run = runs.next()?;
            // The last ones were not touched by anybody.
            (runs.peek().is_some() || run.content != Content::fresh()).then_some(run)
        })
    }

    fn encode_parked(&self, out: &mut Vec<u8>) {
        let reserved = self.outside.iter().filter(|run| run.content.state == State::Reserved);
        let reserved: Vec<(i64, Delay)> = reserved
            .flat_map(|run| {
                let Content { count, reason, .. } = run.content;
                let delay = Delay { due: 0, count, reason, blocked: false };
                (run.span.first..=run.span.last).map(move |offset| (offset, delay))
            })
            .collect();
        put(out, self.parked.len().saturating_add(reserved.len()) as u64);
        let (mut end, mut due) = (0, 0);
        let mut reserved = reserved.into_iter().peekable();
        let mut put_one = |offset, delay: &Delay| {
            let order = || self.order.as_ref().and_then(|order| order.key(offset));
            let key = self.parked.key(offset).or_else(order);
            put_delay(out, offset, delay, key, (&mut end, &mut due));
        };
        for (offset, delay) in self.parked.iter() {
            while let Some((before, delay)) = reserved.next_if(|(before, _)| *before < offset) {
                put_one(before, &delay);
            }
            put_one(offset, delay);
        }
        for (offset, delay) in reserved {
            put_one(offset, &delay);
        }
    }

    /// Decodes a state that fills `bytes`. Replay sections on it, then call [`opened`](Self::opened).
    pub(crate) fn decode(bytes: &[u8], settings: Arc<ShareSettings>) -> Result<Self, Unreadable> {
        let mut reader = Reader::new(bytes);
        let version = reader.u8()?;
        if version != VERSION {
            return Err(Unreadable::unsupported("share state version", version, VERSION));
        }
        let epoch = reader.u32()?;
        let (log_start, start) = (reader.i64()?, reader.i64()?);
        if start < log_start {
            return Err(CorruptReason::Offsets.into());
        }
        let mut partition = Self::new(settings, start);
        (partition.epoch, partition.log_start) = (epoch, log_start);
        partition.reasons = reader.reasons()?;
        let window = read_window(&mut reader, start, &partition.reasons)?;
        partition.end =
            window.last().map_or(start, |run| run.span.last.saturating_add(1)).saturating_sub(1);
        let outside = read_outside(&mut reader, (log_start, start), &partition.reasons)?;
        partition.parked = read_parked(&mut reader, log_start, &partition.reasons)?;
        reader.finish()?;
        for run in window.iter().chain(&outside).filter(|run| run.content.state == State::Acquired)
        {
            partition.lock(0, run.span);
        }
        partition.window = Runs::from_ascending(window);
        partition.outside = Runs::from_ascending(outside);
        partition.check_parked()?;
        partition.advance();
        Ok(partition)
    }

    /// Checks that parked records are where the runs say.
    fn check_parked(&self) -> Result<(), CorruptReason> {
        let mut inside = 0_u64;
        for (offset, _) in self.parked.iter() {
            if offset < self.start {
                if self.outside.find(offset).is_some() {
                    return Err(CorruptReason::Offsets);
                }
                continue;
            }
            let run = self.window.find(offset).ok_or(CorruptReason::Offsets)?;
            if run.content.state != State::Parked {
                return Err(CorruptReason::Field);
            }
            inside = inside.saturating_add(1);
        }
        let all_there = inside == self.window.records(State::Parked);
        if all_there { Ok(()) } else { Err(CorruptReason::Count) }
    }
}

/// Joins runs that touch and agree.
fn merged(runs: impl Iterator<Item = Run>) -> impl Iterator<Item = Run> {
    let mut runs = runs.peekable();
    std::iter::from_fn(move || {
        let mut run = runs.next()?;
        while let Some(next) = runs.next_if(|next| {
            next.content == run.content && run.span.last.checked_add(1) == Some(next.span.first)
        }) {
            run.span.last = next.span.last;
        }
        Some(run)
    })
}

/// Splits a run outside of the window. Each of its records may become a parked one, so a few bytes must not stand for
/// many (H11).
fn pieces(run: Run) -> impl Iterator<Item = Run> {
    let mut rest = Some(run.span);
    std::iter::from_fn(move || {
        let span = rest?.prefix(OUTSIDE_MAX)?;
        rest = rest?.from(span.last.checked_add(1)?);
        Some(Run { span, ..run })
    })
}

/// Returns what is stored of the content of a run.
fn stored(content: Content) -> Content {
    let Content { state, count, reason, .. } = content;
    let state =
        if state.is_waiting() || state == State::Reserved { State::Available } else { state };
    Content::free(state, count, reason)
}

fn put_run(out: &mut Vec<u8>, run: &Run) {
    let Content { state, count, reason, .. } = run.content;
    let count = if planted("share_image_forgets_counts") { 0 } else { count };
    let (kind, has_reason) = match state {
        State::Available | State::Blocked | State::Reserved => (AVAILABLE, true),
        State::Acquired => (ACQUIRED, true),
        State::Acknowledged => (ACKNOWLEDGED, false),
        State::Archived => (ARCHIVED, false),
        State::Parked => (PARKED, false),
    };
    let one = if run.span.first == run.span.last { ONE } else { 0 };
    out.push(kind | one | short_count(count) << 4);
    if one == 0 {
        put(out, run.span.len().saturating_sub(1));
    }
    if short_count(count) == COUNT_FOLLOWS {
        put(out, u64::from(count));
    }
    if has_reason {
        out.push(reason.number());
    }
}

fn short_count(count: u16) -> u8 {
    u8::try_from(count).unwrap_or(COUNT_FOLLOWS).min(COUNT_FOLLOWS)
}

fn put_delay(
    out: &mut Vec<u8>,
    offset: i64,
    delay: &Delay,
    key: Option<u64>,
    (end, due): (&mut i64, &mut i64),
) {
    let has_key = if key.is_some() { HAS_KEY } else { 0 };
    out.push(has_key | short_count(delay.count) << 4);
    put(out, offset.abs_diff(*end));
    if short_count(delay.count) == COUNT_FOLLOWS {
        put(out, u64::from(delay.count));
    }
    out.push(delay.reason.number());
    put_distance(out, *due, delay.due);
    if let Some(key) = key {
        out.extend_from_slice(&key.to_le_bytes());
    }
    (*end, *due) = (offset.saturating_add(1), delay.due);
}

fn read_count(reader: &mut Reader<'_>, short: u8) -> Result<u16, CorruptReason> {
    if short < COUNT_FOLLOWS {
        return Ok(u16::from(short));
    }
    let count = reader.u16()?;
    if count < u16::from(COUNT_FOLLOWS) { Err(CorruptReason::Field) } else { Ok(count) }
}

fn read_reason(reader: &mut Reader<'_>, reasons: &Reasons) -> Result<Reason, CorruptReason> {
    reasons.number(reader.u8()?).ok_or(CorruptReason::Field)
}

fn read_run(reader: &mut Reader<'_>, first: i64, reasons: &Reasons) -> Result<Run, CorruptReason> {
    let tag = reader.u8()?;
    let span = if tag & ONE == 0 {
        let span = reader.span(first)?;
        if span.first == span.last {
            return Err(CorruptReason::Field);
        }
        span
    } else if first == i64::MAX {
        return Err(CorruptReason::Offsets);
    } else {
        Span { first, last: first }
    };
    let count = read_count(reader, tag >> 4)?;
    let state = match tag & STATE_MASK {
        AVAILABLE => State::Available,
        ACQUIRED => State::Acquired,
        ACKNOWLEDGED => State::Acknowledged,
        ARCHIVED => State::Archived,
        PARKED if count == 0 => State::Parked,
        _ => return Err(CorruptReason::Field),
    };
    let reason = match state {
        State::Available | State::Acquired => read_reason(reader, reasons)?,
        _ => Reason::NONE,
    };
    let content = Content { lock_end: 0, owner: MemberNumber::NOBODY, count, state, reason };
    Ok(Run { span, content })
}

fn read_window(
    reader: &mut Reader<'_>,
    start: i64,
    reasons: &Reasons,
) -> Result<Vec<Run>, CorruptReason> {
    let count = reader.count(1)?;
    let mut runs = Vec::with_capacity(count);
    let mut first = start;
    for _ in 0..count {
        let run = read_run(reader, first, reasons)?;
        first = run.span.last.saturating_add(1);
        runs.push(run);
    }
    Ok(runs)
}

fn read_outside(
    reader: &mut Reader<'_>,
    (log_start, start): (i64, i64),
    reasons: &Reasons,
) -> Result<Vec<Run>, CorruptReason> {
    let count = reader.count(2)?;
    let mut runs = Vec::with_capacity(count);
    let mut end = 0_i64;
    for _ in 0..count {
        let first = end.checked_add(reader.i64()?).ok_or(CorruptReason::Offsets)?;
        let run = read_run(reader, first, reasons)?;
        if run.span.first < log_start || run.span.last >= start {
            return Err(CorruptReason::Offsets);
        }
        if run.content.state != State::Acquired || run.span.len() > OUTSIDE_MAX {
            return Err(CorruptReason::Field);
        }
        end = run.span.last.saturating_add(1);
        runs.push(run);
    }
    Ok(runs)
}

fn read_parked(
    reader: &mut Reader<'_>,
    log_start: i64,
    reasons: &Reasons,
) -> Result<Parked, CorruptReason> {
    let count = reader.count(PARKED_MIN_BYTES)?;
    let mut delays = Vec::with_capacity(count);
    let mut keys = Vec::new();
    let (mut end, mut due) = (0_i64, 0);
    for _ in 0..count {
        let tag = reader.u8()?;
        if tag & !HAS_KEY & 0x0f != 0 {
            return Err(CorruptReason::Field);
        }
        let offset = end.checked_add(reader.i64()?).filter(|offset| *offset < i64::MAX);
        let offset = offset.filter(|offset| *offset >= log_start).ok_or(CorruptReason::Offsets)?;
        let count = read_count(reader, tag >> 4)?;
        let reason = read_reason(reader, reasons)?;
        due = reader.at_distance(due)?;
        if due < 0 {
            return Err(CorruptReason::Field);
        }
        if tag & HAS_KEY != 0 {
            keys.push((offset, reader.u64_fixed()?));
        }
        delays.push((offset, Delay { due, count, reason, blocked: false }));
        end = offset.saturating_add(1);
    }
    Ok(Parked::from_ascending(delays, keys))
}
