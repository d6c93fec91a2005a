//! Records of one share-partition that a member has.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::member::Member;
use crate::config::Acks;
use crate::engine::{Engine, Said, SharePart, ShareWork, TakenRecords, Word};
use crate::error::{Error, Result};
use crate::group::share::Span;
use crate::log::{Chunk, Fetched, FetchedRecord};
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::types::Lsn;

/// Records of one share-partition that a member has, with the bytes they are read from.
#[derive(Debug)]
pub(crate) struct ShareBatch {
    member: Arc<Member>,
    part: Arc<SharePart>,
    fetched: Fetched,
    items: Vec<Item>,
    acks: Acks,
    /// Whether the next poll accepts what nothing was said about.
    pub(super) implicit: bool,
}

const RELEASE: Said = Said::Release { delay: None, reason: None };

/// A record of the batch.
#[derive(Debug)]
struct Item {
    chunk: usize,
    record: usize,
    offset: i64,
    /// The delivery count.
    delivery: u16,
    reason: Option<Arc<str>>,
    /// Whether the program has said what became of it.
    said: AtomicBool,
}

impl ShareBatch {
    /// Returns what was reserved of a fetch; `None` if that is nothing.
    pub(crate) fn of(
        member: &Arc<Member>,
        part: &Arc<SharePart>,
        taken: TakenRecords,
        acks: Acks,
        implicit: bool,
    ) -> Option<Self> {
        let TakenRecords { fetched, deliveries, reasons, .. } = taken;
        let mut items = Vec::new();
        let mut deliveries = deliveries.iter().zip(&reasons).peekable();
        let mut first = 0;
        for (chunk_at, chunk) in fetched.chunks.iter().enumerate() {
            for record in first..chunk.end {
                let Some(raw) = fetched.records.get(record) else { continue };
                let offset = chunk.base_offset.saturating_add(i64::from(raw.offset_delta));
                while deliveries.next_if(|(of, _)| of.span.last < offset).is_some() {}
                let Some((delivery, reason)) = deliveries.peek() else { break };
                if offset < delivery.span.first {
                    continue;
                }
                items.push(Item {
                    chunk: chunk_at,
                    record,
                    offset,
                    delivery: delivery.count,
                    reason: (*reason).clone(),
                    said: AtomicBool::new(false),
                });
            }
            first = chunk.end;
        }
        let (member, part) = (Arc::clone(member), Arc::clone(part));
        let batch = Self { member, part, fetched, items, acks, implicit };
        (!batch.items.is_empty()).then_some(batch)
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    pub(crate) fn part(&self) -> &Arc<SharePart> {
        &self.part
    }

    pub(crate) fn member(&self) -> &Arc<Member> {
        &self.member
    }

    /// Returns the record at an index: its chunk, its place there, and its bytes.
    pub(super) fn get(&self, at: usize) -> Option<(&Chunk, &FetchedRecord, &[u8])> {
        let item = self.items.get(at)?;
        let chunk = self.fetched.chunks.get(item.chunk)?;
        Some((chunk, self.fetched.records.get(item.record)?, chunk.source.bytes()))
    }

    pub(super) fn offset(&self, at: usize) -> i64 {
        self.items.get(at).map_or(-1, |item| item.offset)
    }

    pub(super) fn delivery(&self, at: usize) -> u16 {
        self.items.get(at).map_or(0, |item| item.delivery)
    }

    pub(super) fn reason(&self, at: usize) -> Option<&str> {
        self.items.get(at)?.reason.as_deref()
    }

    /// Returns the records of a range as spans of one delivery count each.
    fn spans(&self, range: Range<usize>) -> Vec<(Span, u16)> {
        let mut spans: Vec<(Span, u16)> = Vec::new();
        for item in self.items.get(range).unwrap_or_default() {
            match spans.last_mut() {
                Some((span, delivery))
                    if *delivery == item.delivery
                        && span.last.checked_add(1) == Some(item.offset) =>
                {
                    span.last = item.offset;
                }
                _ => {
                    let span = Span { first: item.offset, last: item.offset };
                    spans.push((span, item.delivery));
                }
            }
        }
        spans
    }

    /// Begins all records: they count as delivered from here on.
    pub(crate) fn start(&self) -> Result<()> {
        let starts = self.spans(0..self.len()).into_iter().map(|(span, _)| span).collect();
        let member = self.member.number;
        let work = ShareWork::Words { member, words: Cow::default(), starts };
        self.member.engine.share_work(&self.part, &work).map(|_| ())
    }

    /// Gives back records that are reserved and will not be begun.
    pub(crate) fn unreserve(&self) {
        self.unreserve_some(0..self.len());
    }

    /// As [`ShareBatch::unreserve`], of the records of a range of indexes.
    pub(super) fn unreserve_some(&self, range: Range<usize>) {
        if self.member.engine.is_forked() {
            return;
        }
        let spans = self.spans(range).into_iter().map(|(span, _)| span);
        Engine::share_unreserve(&self.part, self.member.number, spans);
    }

    /// Returns the span of a record.
    pub(super) fn span(&self, at: usize) -> Span {
        let offset = self.offset(at);
        Span { first: offset, last: offset }
    }

    /// Returns what is said of a record.
    pub(super) fn word(&self, at: usize, said: Said) -> Word {
        Word { span: self.span(at), delivery: self.delivery(at), said }
    }

    /// Says what became of a record, once.
    pub(super) fn say(&self, at: usize, said: Said) -> Result<()> {
        let Some(item) = self.items.get(at) else { return Ok(()) };
        item.said.store(true, Ordering::Release);
        self.send(&[self.word(at, said)], &[])
    }

    /// Accepts all records about which nothing was said. If one of them is refused, accepts the others one by one.
    ///
    /// After an error that may pass, the same can be tried again.
    pub(super) fn accept_rest(&self) -> Result<()> {
        let unsaid = self.claim_rest(0);
        let refused = match self.send_all(&unsaid, &Said::Accept) {
            Err(refused @ Error::InvalidRecordState { .. }) => refused,
            other => return other,
        };
        let one = |at: &usize| self.send_all(&[*at], &Said::Accept);
        let failed = unsaid.iter().map(one).find_map(|done| match done {
            Err(Error::InvalidRecordState { .. }) | Ok(()) => None,
            Err(error) => Some(error),
        });
        Err(failed.unwrap_or(refused))
    }

    /// Releases the records from an index on about which nothing was said, without a wait. If that fails, their locks end
    /// by themselves.
    pub(super) fn release_rest(&self, from: usize) {
        let words = self.words(&self.claim_rest(from), &RELEASE);
        if !words.is_empty() {
            let _released_later = self.post(&words, &[]);
        }
    }

    /// Releases a record that was claimed, without a wait.
    pub(super) fn release_one(&self, at: usize) {
        let _released_later = self.post(&self.words(&[at], &RELEASE), &[]);
    }

    /// Lets a record that was claimed come again, without a wait. Its delivery does not count.
    pub(super) fn put_back_one(&self, at: usize) {
        let again = Said::Snooze { delay: Duration::ZERO };
        let _comes_again_later = self.post(self.words(&[at], &again).as_slice(), &[]);
    }

    /// Claims the records from an index on about which nothing was said.
    fn claim_rest(&self, from: usize) -> Vec<usize> {
        (from..self.items.len()).filter(|at| self.claim(*at)).collect()
    }

    /// Says the same of claimed records, in one frame. If nothing was written, they are claimed no more.
    fn send_all(&self, claimed: &[usize], said: &Said) -> Result<()> {
        let words = self.words(claimed, said);
        if words.is_empty() {
            return Ok(());
        }
        let sent = self.send(&words, &[]);
        let may_pass = |error: &Error| {
            !matches!(
                error,
                Error::Indeterminate { .. }
                    | Error::InvalidRecordState { .. }
                    | Error::UnknownTopic { .. }
            )
        };
        if sent.as_ref().is_err_and(may_pass) {
            for item in claimed.iter().filter_map(|at| self.items.get(*at)) {
                item.said.store(false, Ordering::Release);
            }
        }
        sent
    }

    /// Returns words of claimed records, one for each span of one delivery count.
    fn words(&self, claimed: &[usize], said: &Said) -> Vec<Word> {
        let mut words: Vec<Word> = Vec::new();
        for item in claimed.iter().filter_map(|at| self.items.get(*at)) {
            match words.last_mut() {
                Some(word)
                    if word.delivery == item.delivery
                        && word.span.last.checked_add(1) == Some(item.offset) =>
                {
                    word.span.last = item.offset;
                }
                _ => {
                    let span = Span { first: item.offset, last: item.offset };
                    words.push(Word { span, delivery: item.delivery, said: said.clone() });
                }
            }
        }
        words
    }

    /// Says what became of records, and begins others, in one frame. Waits until it has the ack level.
    pub(super) fn send(&self, words: &[Word], starts: &[Span]) -> Result<()> {
        let lsn = self.post(words, starts)?;
        self.wait(lsn)
    }

    /// As [`ShareBatch::send`], without a wait for the ack level. Returns the end of the frame.
    fn post(&self, words: &[Word], starts: &[Span]) -> Result<Lsn> {
        let (words, starts) = (Cow::Borrowed(words), Cow::Borrowed(starts));
        let work = ShareWork::Words { member: self.member.number, words, starts };
        Ok(self.member.engine.share_work(&self.part, &work)?.lsn)
    }

    /// Waits until a frame has the ack level.
    pub(super) fn wait(&self, lsn: Lsn) -> Result<()> {
        match self.acks {
            Acks::Written => Ok(()),
            Acks::Synced => {
                self.member.engine.journal.request_sync(lsn);
                self.member.engine.wait_synced(lsn)
            }
        }
    }

    /// Lets the lock of a record begin anew.
    pub(super) fn renew(&self, at: usize) -> Result<Duration> {
        let Some(item) = self.items.get(at) else { return Ok(Duration::ZERO) };
        let span = Span { first: item.offset, last: item.offset };
        self.member.engine.renew_share(
            &self.member.group,
            &self.part,
            self.member.number,
            span,
            item.delivery,
        )
    }

    /// Returns whether nothing was said about a record, and notes that something is now.
    pub(super) fn claim(&self, at: usize) -> bool {
        self.items.get(at).is_some_and(|item| !item.said.swap(true, Ordering::AcqRel))
    }
}
