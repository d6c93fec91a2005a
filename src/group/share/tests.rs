//! Each rule by itself.
#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "tests may panic")]

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::decision::Cause;
use super::*;
use crate::types::{Backoff, ShareOrdering};

const A: MemberNumber = MemberNumber(1);
const B: MemberNumber = MemberNumber(2);
const SECOND: u64 = 1_000;

/// A share-partition over a dense log of batches of ten records; record `n` has the key `n % 3`.
struct Queue {
    partition: SharePartition,
    at: u64,
    letters: Vec<DeadLetter>,
    log_end: i64,
}

fn span(first: i64, last: i64) -> Span {
    Span { first, last }
}

fn release(delay_ms: u64) -> AckType<'static> {
    AckType::Release { delay: Some(Duration::from_millis(delay_ms)), reason: None }
}

impl Queue {
    fn new(settings: ShareSettings) -> Self {
        let partition = SharePartition::new(Arc::new(settings), 0);
        Self { partition, at: 0, letters: Vec::new(), log_end: 100 }
    }

    fn now(&self) -> Now {
        Now { monotonic: Duration::from_millis(self.at), wall: self.at as i64 }
    }

    fn commit(&mut self, decision: &Decision) {
        self.letters.extend(&decision.letters);
        self.partition.apply(&decision.section, self.now().monotonic);
    }

    fn reserve(&mut self, member: MemberNumber, max: u32) -> Vec<(i64, i64, u16)> {
        let Some(fetch) = self.partition.begin_fetch(self.now()) else { return Vec::new() };
        let from = fetch.from - fetch.from % 10;
        let to = self.log_end.min(fetch.to.saturating_add(10));
        let records: Vec<Vec<ReadRecord>> = (from / 10..(to + 9) / 10)
            .map(|batch| {
                let record = |offset: i64| {
                    let key = Some(offset as u64 % 3);
                    ReadRecord { offset, key, deliver_at: None }
                };
                (batch * 10..batch * 10 + 10).map(record).collect()
            })
            .collect();
        let batches: Vec<_> = records
            .iter()
            .map(|records| ReadBatch {
                base: records[0].offset,
                last: records[9].offset,
                contents: Contents::Records(records),
            })
            .collect();
        let mut got = Reservation::default();
        let take = Take { member, max, changes: usize::MAX, now: self.now() };
        assert!(self.partition.reserve(
            fetch,
            &Read { batches: &batches, end: to },
            &take,
            &mut got
        ));
        assert!(got.noticed.is_empty());
        got.deliveries.iter().map(|one| (one.span.first, one.span.last, one.count)).collect()
    }

    fn start(&mut self, member: MemberNumber, first: i64, last: i64) -> Result<(), Refusal> {
        let mut decision = Decision::default();
        self.partition.decide_start(member, span(first, last), self.now(), &mut decision)?;
        self.commit(&decision);
        Ok(())
    }

    /// Reserves and starts.
    fn take(&mut self, member: MemberNumber, max: u32) -> Vec<(i64, i64, u16)> {
        let got = self.reserve(member, max);
        for (first, last, _) in &got {
            self.start(member, *first, *last).unwrap();
        }
        got
    }

    fn say(
        &mut self,
        member: MemberNumber,
        first: i64,
        last: i64,
        delivery: u16,
        what: AckType<'_>,
    ) -> Result<(), Why> {
        let item =
            Acknowledgement { span: span(first, last), delivery: Some(delivery), types: &[what] };
        let (mut decision, mut renewed) = (Decision::default(), Vec::new());
        let now = self.now();
        let outcome = self.partition.decide_acknowledge(
            member,
            &[item],
            now,
            &mut || 0,
            &mut decision,
            &mut renewed,
        );
        self.partition.renew_all(&renewed, now);
        outcome.map_err(|refusal| refusal.why)?;
        self.commit(&decision);
        Ok(())
    }

    fn expire(&mut self) {
        let mut decision = Decision::default();
        while self.partition.decide_lock_ends(self.now(), &mut || 0, &mut decision) {
            self.commit(&decision);
            decision.clear();
        }
    }

    fn reopen(&mut self) {
        let mut image = Vec::new();
        self.partition.encode(&mut image);
        let settings = Arc::clone(&self.partition.settings);
        self.partition = SharePartition::decode(&image, settings).unwrap();
        self.partition.opened();
        self.expire();
    }

    fn lag(&self) -> (u64, u64, u64) {
        let lag = self.partition.lag(self.log_end, self.at as i64);
        (lag.not_started, lag.under_way, lag.delayed)
    }
}

#[test]
fn only_a_start_counts() {
    let mut queue = Queue::new(ShareSettings::default());
    assert_eq!(queue.reserve(A, 3), [(0, 2, 1)]);
    queue.start(A, 0, 0).unwrap();
    assert_eq!(queue.start(B, 1, 1).unwrap_err().why, Why::Anothers);
    assert_eq!(queue.start(A, 0, 1).unwrap_err().why, Why::NeverDelivered);
    queue.reopen();
    assert_eq!(queue.reserve(B, 3), [(0, 0, 2), (1, 2, 1)]);
    queue.partition.unreserve(B, span(0, 9));
    assert_eq!(queue.reserve(A, 3), [(0, 0, 2), (1, 2, 1)]);
    queue.at += 30 * SECOND;
    assert_eq!(queue.start(A, 0, 0).unwrap_err().why, Why::TooLate);
    queue.expire();
    assert_eq!(queue.reserve(A, 1), [(0, 0, 2)]);
}

#[test]
fn a_refused_word_says_why() {
    let mut queue = Queue::new(ShareSettings::default());
    queue.take(A, 4);
    assert_eq!(queue.say(A, 1, 1, 1, AckType::Accept), Ok(()));
    assert_eq!(queue.say(A, 1, 1, 1, AckType::Accept), Err(Why::Finished), "acknowledged twice");
    assert_eq!(queue.say(B, 2, 2, 1, AckType::Accept), Err(Why::Anothers));
    assert_eq!(queue.say(A, 2, 2, 2, AckType::Accept), Err(Why::NeverDelivered));
    assert_eq!(queue.say(A, 7, 7, 1, AckType::Accept), Err(Why::NeverDelivered));
    assert_eq!(queue.say(A, 77, 77, 1, AckType::Accept), Err(Why::BeyondEnd), "unknown offset");
    assert_eq!(queue.say(A, 3, 3, 1, release(0)), Ok(()));
    assert_eq!(queue.say(A, 3, 3, 1, AckType::Accept), Err(Why::Finished), "released already");
    queue.at += 30 * SECOND;
    assert_eq!(
        queue.say(A, 0, 0, 1, AckType::Accept),
        Err(Why::TooLate),
        "H4: without a look at locks"
    );
    queue.expire();
    assert_eq!(queue.say(A, 0, 0, 1, AckType::Accept), Err(Why::TooLate));
    assert_eq!(queue.take(A, 4), [(0, 0, 2), (2, 2, 2), (3, 3, 2), (4, 4, 1)]);
    assert_eq!(
        queue.say(A, 0, 0, 1, AckType::Accept),
        Err(Why::TooLate),
        "a delivery of the same member"
    );
    assert_eq!(queue.say(A, 0, 0, 2, AckType::Accept), Ok(()));
    assert_eq!(queue.partition.start(), 2);
    assert_eq!(
        queue.say(A, 0, 0, 1, AckType::Accept),
        Err(Why::TooLate),
        "still known below the start"
    );
    assert_eq!(queue.say(A, 0, 0, 2, AckType::Accept), Err(Why::Finished));
    assert_eq!(queue.say(A, 2, 2, 1, AckType::Renew), Err(Why::TooLate));
    let twice = [(2, 3), (3, 3)].map(|(first, last)| Acknowledgement {
        span: span(first, last),
        delivery: Some(2),
        types: &[AckType::Accept],
    });
    let (mut decision, mut renewed) = (Decision::default(), Vec::new());
    let now = queue.now();
    let partition = &queue.partition;
    let outcome =
        partition.decide_acknowledge(A, &twice, now, &mut || 0, &mut decision, &mut renewed);
    assert_eq!(outcome, Err(Refusal { offset: 3, why: Why::Finished }));
    assert!(decision.section.is_empty());
}

#[test]
fn delayed_records_leave_the_window_and_come_back() {
    let mut queue = Queue::new(ShareSettings { max_record_locks: 10, ..ShareSettings::default() });
    assert_eq!(queue.take(A, 50), [(0, 9, 1)]);
    assert_eq!(queue.partition.window_full(), Some(0));
    queue.say(A, 0, 4, 1, release(5 * SECOND)).unwrap();
    assert_eq!((queue.partition.start(), queue.lag()), (5, (90, 5, 5)), "the window goes on");
    assert_eq!(queue.partition.oldest_unfinished(), 0);
    assert_eq!(queue.partition.next_deadline(), (Some(Duration::from_secs(30)), Some(5_000)));
    assert_eq!(queue.take(A, 50), [(10, 14, 1)]);
    assert_eq!(queue.take(A, 50), [(15, 19, 1)], "the rest of a batch has come in with it");
    queue.at += 5 * SECOND - 1;
    assert_eq!(queue.take(A, 50), []);
    assert_eq!(queue.say(A, 0, 0, 1, AckType::Accept), Err(Why::Finished), "released already");
    queue.at += 1;
    assert_eq!(queue.lag(), (85, 15, 0));
    queue.reopen();
    assert_eq!(queue.take(B, 2), [(0, 1, 2)], "below the start");
    assert_eq!(queue.lag(), (98, 2, 0));
    queue.say(B, 0, 0, 2, AckType::Accept).unwrap();
    queue.say(B, 1, 1, 2, AckType::Snooze { delay: Duration::from_mins(1) }).unwrap();
    assert_eq!(queue.take(B, 3), [(2, 4, 2)]);
    queue.at += 60 * SECOND;
    queue.expire();
    assert_eq!(queue.take(B, 4), [(1, 1, 2), (2, 4, 3)], "a snooze does not count");
}

#[test]
fn the_backoff_grows_and_a_session_end_has_none() {
    let mut queue = Queue::new(ShareSettings {
        backoff: Backoff { base: Duration::from_secs(1), ..Backoff::NONE },
        delivery_count_limit: 3,
        ..ShareSettings::default()
    });
    queue.take(A, 2);
    queue.say(A, 0, 0, 1, AckType::Release { delay: None, reason: Some("HTTP 503") }).unwrap();
    assert_eq!(queue.take(B, 1), [(2, 2, 1)]);
    queue.at += SECOND;
    assert_eq!(queue.take(B, 1), [(0, 0, 2)]);
    let reason = queue.partition.under_way(0).next().unwrap().reason;
    assert_eq!(queue.partition.reasons().text(reason).map(|text| &**text), Some("HTTP 503"));
    queue.at += 30 * SECOND;
    queue.expire();
    assert_eq!(
        queue.partition.delayed(0).next().map(|(offset, due, ..)| (offset, due)),
        Some((0, 33_000))
    );
    queue.at += 2 * SECOND;
    assert_eq!(queue.take(A, 1), [(0, 0, 3)]);
    let mut decision = Decision::default();
    assert!(queue.partition.decide_session_end(A, queue.now(), &mut || 0, &mut decision));
    queue.commit(&decision);
    let letters: Vec<_> =
        queue.letters.iter().map(|letter| (letter.span.first, letter.cause)).collect();
    assert_eq!(letters, [(0, Cause::Limit)]);
}

#[test]
fn a_key_has_one_record_under_way() {
    let mut queue = Queue::new(ShareSettings {
        ordering: ShareOrdering::Key,
        backoff: Backoff { base: Duration::from_secs(1), ..Backoff::NONE },
        ..ShareSettings::default()
    });
    assert_eq!(queue.take(A, 50), [(0, 2, 1)], "three keys");
    assert_eq!(queue.take(B, 50), []);
    queue.say(A, 1, 1, 1, AckType::Accept).unwrap();
    assert_eq!(queue.take(B, 50), [(4, 4, 1)]);
    queue.say(A, 0, 0, 1, AckType::Release { delay: None, reason: None }).unwrap();
    assert_eq!(queue.take(B, 50), [], "its key waits with it");
    queue.reopen();
    assert_eq!(queue.take(B, 50), [(2, 2, 2), (4, 4, 2)], "and after a restart, too");
    queue.at += SECOND;
    assert_eq!(queue.take(B, 50), [(0, 0, 2)]);
    queue.say(B, 0, 0, 2, AckType::Reject).unwrap();
    assert_eq!(queue.take(B, 50), [(3, 3, 1)], "a dead letter frees its key");
}

#[test]
fn what_the_log_start_passes_is_gone_without_a_letter() {
    let mut queue =
        Queue::new(ShareSettings { delivery_count_limit: 1, ..ShareSettings::default() });
    queue.take(A, 8);
    queue.say(A, 6, 6, 1, AckType::Snooze { delay: Duration::from_secs(9) }).unwrap();
    queue.partition.apply(&Section::log_start(7), Duration::ZERO);
    assert_eq!((queue.partition.start(), queue.lag()), (7, (92, 1, 0)));
    assert_eq!(queue.partition.under_way(0).count(), 2, "the owner keeps what he has");
    assert_eq!(queue.say(A, 0, 2, 1, AckType::Reject), Ok(()));
    assert_eq!(queue.say(B, 3, 3, 1, AckType::Accept), Ok(()), "ignored");
    queue.at += 30 * SECOND;
    queue.expire();
    let letters: Vec<_> = queue.letters.iter().map(|letter| letter.span).collect();
    assert_eq!(letters, [span(7, 7)]);
    assert_eq!(queue.partition.under_way(0).count(), 0);
}

#[test]
fn without_a_journal_only_what_is_not_final_goes_on() {
    let mut queue =
        Queue::new(ShareSettings { delivery_count_limit: 1, ..ShareSettings::default() });
    queue.take(A, 2);
    queue.reserve(A, 2);
    queue.at += 30 * SECOND;
    let mut decision = Decision::default();
    assert!(queue.partition.decide_lock_ends(queue.now(), &mut || 0, &mut decision));
    assert_eq!(decision.letters.len(), 1);
    decision.keep_unstored();
    queue.commit(&decision);
    assert_eq!(queue.take(B, 2), [(2, 3, 1)], "what no attempt is left for waits");
    queue.expire();
    assert_eq!(queue.letters.len(), 1);
}

#[test]
fn a_reset_starts_anew_and_a_fetch_from_before_is_refused() {
    let mut queue = Queue::new(ShareSettings::default());
    queue.take(A, 5);
    let fetch = queue.partition.begin_fetch(queue.now()).unwrap();
    let mut section = Section::default();
    queue.partition.decide_reset(3, &mut section);
    queue.partition.apply(&section, Duration::ZERO);
    assert_eq!((queue.partition.start(), queue.partition.epoch()), (3, 1));
    let (read, take) =
        (Read { batches: &[], end: 9 }, Take { member: A, max: 1, changes: 1, now: queue.now() });
    assert!(!queue.partition.reserve(fetch, &read, &take, &mut Reservation::default()));
    assert_eq!(queue.say(A, 3, 3, 1, AckType::Accept), Err(Why::NeverDelivered));
    assert_eq!(queue.take(B, 2), [(3, 4, 1)]);
}

#[test]
fn an_operator_finishes_and_releases_by_hand() {
    let mut queue = Queue::new(ShareSettings::default());
    queue.take(A, 4);
    queue.say(A, 3, 3, 1, release(SECOND)).unwrap();
    for (at, what) in
        [(0, ByHand::Finish), (1, ByHand::Release), (3, ByHand::Release), (2, ByHand::Reject)]
    {
        let mut decision = Decision::default();
        let more = queue.partition.decide_by_hand(span(at, at), what, queue.now(), &mut decision);
        assert!(!more);
        queue.commit(&decision);
    }
    assert_eq!(queue.letters.len(), 1);
    assert_eq!(queue.say(A, 1, 1, 1, AckType::Accept), Err(Why::TooLate));
    assert_eq!(queue.take(B, 2), [(1, 1, 2), (3, 3, 2)]);
}

#[test]
fn a_long_run_is_delayed_in_parts_and_a_few_bytes_never_stand_for_many_parked_records() {
    const ALL: i64 = 20_000;
    let settings = Arc::new(ShareSettings {
        backoff: Backoff { base: Duration::from_secs(1), ..Backoff::NONE },
        ..ShareSettings::default()
    });
    let mut partition = SharePartition::new(Arc::clone(&settings), 0);
    let mut started = Section::default();
    started.push(Item::Set(span(0, ALL - 1), To::Started { count: 1 }));
    partition.apply(&started, Duration::ZERO);
    partition.opened();
    let now = Now { monotonic: Duration::ZERO, wall: 0 };
    let mut decision = Decision::default();
    while partition.decide_lock_ends(now, &mut || 0, &mut decision) {
        let delayed = decision.section.items().iter().map(|item| match item {
            Item::Set(span, To::Delayed { .. }) => span.len(),
            other => panic!("{other:?}"),
        });
        assert!(delayed.sum::<u64>() <= ends::ENDS_MAX);
        partition.apply(&decision.section, now.monotonic);
        decision.clear();
    }
    assert_eq!(partition.delayed(0).count(), ALL as usize);
    assert_eq!(partition.start(), ALL);
    // They are under way again, below the start. Whoever opens may have to park each.
    started.clear();
    started.push(Item::Set(span(0, ALL - 1), To::Started { count: 2 }));
    partition.apply(&started, Duration::ZERO);
    let mut image = Vec::new();
    partition.encode(&mut image);
    assert!((ALL / 256..ALL / 16).contains(&(image.len() as i64)), "{} bytes", image.len());
    let again = SharePartition::decode(&image, settings).unwrap();
    assert_eq!(again.lag(ALL, 0).under_way, ALL as u64);
}

/// Any image that decodes bears any section, and what an image says is what the state is.
fn survive(image: &[u8], sections: &[Vec<u8>]) {
    let Ok(mut partition) = SharePartition::decode(image, Arc::default()) else { return };
    for section in sections.iter().filter_map(|bytes| Section::decode(bytes).ok()) {
        // A few bytes may name a million records, which the fuzzer need not park.
        let is_small =
            |item: &Item| !matches!(item, Item::Set(span, To::Delayed { .. }) if span.len() > 100);
        if section.items().iter().all(is_small) {
            partition.apply(&section, Duration::ZERO);
        }
    }
    partition.opened();
    let now = Now { monotonic: Duration::ZERO, wall: 5 };
    let mut decision = Decision::default();
    partition.decide_lock_ends(now, &mut || 7, &mut decision);
    partition.apply(&decision.section, Duration::ZERO);
    let mut again = Vec::new();
    partition.encode(&mut again);
    let decoded = SharePartition::decode(&again, Arc::default()).unwrap();
    assert_eq!(decoded.lag(1_000, 5).total, partition.lag(1_000, 5).total);
}

proptest! {
    #[test]
    fn any_image_and_any_section_is_borne(
        body in prop::collection::vec(prop_oneof![0_u8..20, any::<u8>()], 0..40),
        sections in prop::collection::vec(prop::collection::vec(prop_oneof![0_u8..9, any::<u8>()], 0..30), 0..4)
    ) {
        let image = [&[1, 0][..], &body].concat();
        let sections: Vec<_> = sections.iter().map(|tail| [&[1, 0][..], tail].concat()).collect();
        survive(&image, &sections);
        survive(&[1, 0, 0, 0, 0, 0, 0, 0], &sections);
    }

    #[test]
    fn a_damaged_image_is_refused_or_borne(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut queue = Queue::new(ShareSettings { ordering: ShareOrdering::Key, ..ShareSettings::default() });
        queue.take(A, 50);
        queue.say(A, 1, 1, 1, release(900)).unwrap();
        queue.say(A, 2, 2, 1, AckType::Accept).unwrap();
        queue.take(A, 5);
        let mut image = Vec::new();
        queue.partition.encode(&mut image);
        survive(&image, &[]);
        let at = at.index(image.len());
        image[at] = byte;
        survive(&image, &[]);
        survive(&image[..at], &[]);
    }
}
