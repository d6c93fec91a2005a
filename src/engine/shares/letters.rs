//! Dead letters: records that a group gave up, as records of another topic (KIP-1191).
//!
//! The copy of a record has its key, value and headers, then the headers that say where it comes from. A copy that the
//! topic would not take, or that is too large for a frame of its own, has these headers alone; so has one whose record
//! cannot be read any more. In a compacted topic the key says where the record comes from, so that each letter stays;
//! a copy then has the key of the record as a header. [`origin`](super::origin) reads the headers.

use std::sync::Arc;

use super::copies::{CopiedRecord, copy_records};
use super::group::SharePart;
use super::look::gone;
use super::origin::{
    COPIED, COUNT, DELIVER_AT, GROUP, KEY, MESSAGE, OFFSET, PARTITION, REASON, TOPIC, TOPIC_ID,
    own_key,
};
use super::work::ShareWork;
use crate::config::{ShareGroupConfig, TopicConfig};
use crate::engine::frame::FrameRecords;
use crate::engine::state::Engine;
use crate::error::{Error, Result};
use crate::group::share::{DeadLetter, Span};
use crate::log::{Log, RecordData};
use crate::record::{DELIVER_AT_HEADER, Header};

/// The most bytes of dead letters in one frame, if the journal is large enough.
const LETTERS_MAX_BYTES: u64 = 4 << 20;

/// The dead letters of one frame.
pub(super) struct Letters {
    /// The partition that gets them.
    target: Arc<Log>,
    all: Vec<Letter>,
    /// How many bytes more the frame takes.
    room: usize,
    /// How many letters fit, if not all do and there may be another frame for the others.
    pub(super) fit: Option<u64>,
}

struct Letter {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    /// Names and values.
    headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Letter {
    fn bytes(&self) -> usize {
        let of = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
        let headers = self.headers.iter().map(|(name, value)| name.len().saturating_add(of(value)));
        let headers = headers.fold(0, usize::saturating_add);
        of(&self.key).saturating_add(of(&self.value)).saturating_add(headers)
    }
}

impl Letters {
    /// Reads the records that become dead letters. Creates the topic for them if there is none.
    pub(super) fn read(
        engine: &Engine,
        part: &SharePart,
        work: &ShareWork<'_>,
        letters: &[DeadLetter],
        config: &ShareGroupConfig,
    ) -> Result<Self> {
        let topic = config.dead_letter_topic.as_str();
        engine.ensure_topic(topic, TopicConfig::new())?;
        let source = part.log().partition();
        let logs = engine.registry.topic(topic)?.logs.clone();
        let at = source.partition().checked_rem(logs.len() as u32).unwrap_or(0) as usize;
        let target =
            logs.get(at).cloned().ok_or_else(|| Error::UnknownTopic { topic: topic.to_owned() })?;
        // A frame takes a quarter of the journal at most.
        let room = LETTERS_MAX_BYTES.min(engine.config.journal_max_bytes / 8) as usize;
        let mut out = Self { target, all: Vec::new(), room, fit: None };
        let before: Vec<_> = {
            let guard = part.lock()?;
            let reasons = guard.as_ref().ok_or_else(|| gone(part))?.reasons();
            letters.iter().map(|letter| reasons.text(letter.before).cloned()).collect()
        };
        for (letter, before) in letters.iter().zip(before) {
            out.add_span(part, work, (letter, before.as_deref()), config.dead_letter_copy);
        }
        Ok(out)
    }

    fn add_span(
        &mut self,
        part: &SharePart,
        work: &ShareWork<'_>,
        (letter, before): (&DeadLetter, Option<&str>),
        copy: bool,
    ) {
        let mut at = letter.span.first;
        while at <= letter.span.last && self.fit.is_none() {
            let mut found = if copy { read(part, at, letter.span, self.room) } else { Vec::new() };
            found.retain(|record| record.offset >= at && record.offset <= letter.span.last);
            let upto = found.last().map_or(at, |record| record.offset);
            let mut found = found.into_iter().peekable();
            for offset in at..=upto {
                let copied = found.next_if(|record| record.offset == offset);
                self.add(part, work, (letter, before, offset), copied);
            }
            at = upto.saturating_add(1);
        }
    }

    fn add(
        &mut self,
        part: &SharePart,
        work: &ShareWork<'_>,
        (letter, before, offset): (&DeadLetter, Option<&str>, i64),
        copied: Option<CopiedRecord>,
    ) {
        if self.fit.is_some() {
            return;
        }
        let source = part.log().partition();
        let message = work.reject_reason(offset).map_or(letter.cause.message(), shortened);
        let reason = work.release_reason(offset).or(before).map(shortened);
        let own = |copied: bool| {
            let text = |text: &str| Some(text.as_bytes().to_vec());
            let reason = reason.map(|reason| (REASON, text(reason)));
            let all = [
                (TOPIC, text(source.topic())),
                (PARTITION, text(&source.partition().to_string())),
                (OFFSET, text(&offset.to_string())),
                (GROUP, text(part.group())),
                (MESSAGE, text(message)),
                (COUNT, text(&letter.count.to_string())),
                (COPIED, text(if copied { "true" } else { "false" })),
            ];
            all.into_iter().chain(reason).map(|(name, value)| (name.to_owned(), value))
        };
        // A compacted topic takes no record without a key, and keeps one record of each.
        let compacts = self.target.config().cleanup_policy.compacts();
        let place = || compacts.then(|| own_key(part.group(), source, offset));
        let whole = copied.map(|record| {
            let is_time = |(name, _): &(String, _)| name == DELIVER_AT_HEADER;
            let (times, mut headers): (Vec<_>, Vec<_>) =
                record.headers.into_iter().partition(is_time);
            headers.extend(own(true));
            headers.extend(times.into_iter().map(|(_, at)| (DELIVER_AT.to_owned(), at)));
            let key = match place() {
                Some(place) => {
                    headers.push((KEY.to_owned(), record.key));
                    Some(place)
                }
                None => record.key,
            };
            Letter { key, value: record.value, headers }
        });
        let bare = || {
            // Only the source has the record, and another topic may have its name later.
            let id = part.log().topic_id().to_string().into_bytes();
            let own = own(false).chain([(TOPIC_ID.to_owned(), Some(id))]);
            Letter { key: place(), value: None, headers: own.collect() }
        };
        let letter = match whole.filter(|whole| self.takes(whole)) {
            // One that is alone in its frame has no other chance.
            Some(whole) if whole.bytes() > self.room && self.is_last_chance(work) => bare(),
            Some(whole) => whole,
            None => bare(),
        };
        if letter.bytes() > self.room && !self.is_last_chance(work) {
            self.fit = Some(self.all.len() as u64);
            return;
        }
        self.room = self.room.saturating_sub(letter.bytes());
        self.all.push(letter);
    }

    /// Returns whether what does not fit now fits into no other frame.
    fn is_last_chance(&self, work: &ShareWork<'_>) -> bool {
        self.all.is_empty() || !work.is_divisible()
    }

    fn takes(&self, letter: &Letter) -> bool {
        let headers = borrowed(letter);
        let bound = data(letter, &headers).bound() as u64;
        bound <= u64::from(self.target.config().max_message_bytes)
    }

    /// Returns the headers of all letters, for [`Letters::records`].
    pub(super) fn headers(&self) -> Vec<Vec<Header<'_>>> {
        self.all.iter().map(borrowed).collect()
    }

    /// Returns the records of the frame.
    pub(super) fn records<'a>(
        &'a self,
        headers: &'a [Vec<Header<'a>>],
    ) -> FrameRecords<RecordData<'a>> {
        let records: Vec<_> =
            self.all.iter().zip(headers).map(|(letter, of)| (0, data(letter, of))).collect();
        let size = records.iter().map(|(_, data)| data.bound()).fold(0, usize::saturating_add);
        FrameRecords { logs: vec![Arc::clone(&self.target)], records, sizes: vec![size], ids: 0 }
    }
}

/// The most bytes of a text that a handler gave.
const TEXT_MAX_BYTES: usize = 4096;

fn shortened(text: &str) -> &str {
    text.get(..text.floor_char_boundary(TEXT_MAX_BYTES)).unwrap_or_default()
}

fn borrowed(letter: &Letter) -> Vec<Header<'_>> {
    letter.headers.iter().map(|(name, value)| Header { name, value: value.as_deref() }).collect()
}

fn data<'a>(letter: &'a Letter, headers: &'a [Header<'a>]) -> RecordData<'a> {
    RecordData {
        key: letter.key.as_deref(),
        value: letter.value.as_deref(),
        headers,
        timestamp: None,
        id: None,
    }
}

/// Reads records from `first` on. What cannot be read is not copied.
fn read(part: &SharePart, first: i64, span: Span, bytes: usize) -> Vec<CopiedRecord> {
    let read = copy_records(part.log(), first, span.last.saturating_add(1), bytes);
    read.map(|(records, _)| records).unwrap_or_default()
}
