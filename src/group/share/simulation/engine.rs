//! The process: it reads, crashes, checkpoints, and its clocks move.

use std::sync::Arc;
use std::time::Duration;

use super::super::section::{Item, Section, To};
use super::super::{
    Contents, Decision, MemberNumber, Read, ReadBatch, ReadRecord, Reservation, SharePartition,
    Span, State, Take,
};
use super::truth::{Finish, Hold, Truth};
use super::world::{BatchRead, Pending, World};
use crate::types::ShareOrdering;

impl World {
    pub(super) fn append(&mut self) {
        let len = 1 + self.dice.below(7) as i64;
        let (base, last) = (self.log_end, self.log_end + len - 1);
        let is_marker = self.dice.one_in(12);
        for offset in base..=last {
            let is_nothing = is_marker || self.dice.one_in(25);
            let key = (!self.dice.one_in(6)).then(|| self.dice.below(4));
            let later = 1 + self.dice.below(4_000) as i64;
            let deliver_at = self.dice.one_in(12).then_some(self.wall + later);
            self.truths.insert(offset, Truth { is_nothing, key, deliver_at, ..Truth::default() });
        }
        self.bounds.push((base, last));
        self.log_end = last + 1;
    }

    /// Reads whole batches, now and then only some of those that are wanted.
    fn read(&mut self, from: i64, to: i64) -> (Vec<BatchRead>, i64) {
        let mut batches = Vec::new();
        let mut end = from;
        for &(base, last) in &self.bounds {
            if last < from || base > to || last < self.log_start {
                continue;
            }
            if batches.len() > 2 && self.dice.one_in(3) {
                return (batches, end);
            }
            let there = self.truths.range(base..=last).filter(|(_, truth)| !truth.is_nothing);
            let records = there
                .map(|(offset, truth)| ReadRecord {
                    offset: *offset,
                    key: truth.key.filter(|_| self.settings.ordering == ShareOrdering::Key),
                    deliver_at: truth.deliver_at,
                })
                .collect();
            batches.push(BatchRead { base, last, records });
            end = last + 1;
        }
        (batches, end)
    }

    pub(super) fn begin_fetch(&mut self, member: usize) {
        if let Some(pending) = &self.pending {
            assert_eq!(self.partition.begin_fetch(self.now()), None);
            if self.dice.one_in(5) {
                self.partition.cancel_fetch(pending.fetch);
                self.pending = None;
            }
            return;
        }
        let now = self.now();
        let Some(fetch) = self.partition.begin_fetch(now) else { return };
        let (batches, end) = self.read(fetch.from, fetch.to);
        self.pending = Some(Pending { fetch, member, batches, end });
    }

    /// Ends the fetch. Returns the offsets that were reserved.
    pub(super) fn end_fetch(&mut self, max: u32) -> Vec<i64> {
        let Some(Pending { fetch, member, batches, end }) = self.pending.take() else {
            return Vec::new();
        };
        let is_plain = self.settings.ordering == ShareOrdering::None;
        let read: Vec<ReadBatch<'_>> = batches
            .iter()
            .map(|BatchRead { base, last, records }| {
                let is_dense = records.len() as i64 == last - base + 1
                    && records.iter().all(|record| record.deliver_at.is_none());
                let contents = match records.len() {
                    0 => Contents::Nothing,
                    _ if is_dense && is_plain => Contents::Dense,
                    _ => Contents::Records(records),
                };
                ReadBatch { base: *base, last: *last, contents }
            })
            .collect();
        let now = self.now();
        let number = self.members[member].number;
        let mut got = Reservation::default();
        let window_end = self.partition.end();
        let take = Take { member: number, max, changes: 1 + max as usize / 2, now };
        if !self.partition.reserve(fetch, &Read { batches: &read, end }, &take, &mut got) {
            return Vec::new();
        }
        let mut reserved = Vec::new();
        for record in batches.iter().flat_map(|batch| &batch.records) {
            let is_due = record.deliver_at.is_some_and(|due| due <= now.wall);
            let is_in = record.offset <= self.partition.end();
            self.truth(record.offset).has_come |= is_due && is_in;
        }
        for delivery in &got.deliveries {
            for offset in delivery.span.first..=delivery.span.last {
                self.check_reserved(offset, delivery.count);
                let lock_end = self.monotonic + self.settings.lock_duration;
                let truth = self.truth(offset);
                truth.reserved = Some((number, lock_end));
                // Its time has come, whatever the wall clock shows from now on.
                (truth.due, truth.touched) = (0, true);
                self.members[member].reserved.push(offset);
                reserved.push(offset);
            }
        }
        self.check_amount(max, &reserved);
        // If the journal fails, the same is noticed again.
        if got.noticed.is_empty() || !self.dice.one_in(10) {
            if !got.noticed.is_empty() {
                self.notice(&got.noticed);
            }
            self.check_room(window_end, &reserved);
        }
        reserved
    }

    fn notice(&mut self, noticed: &Section) {
        for item in noticed.items() {
            let Item::Set(span, to) = *item else { panic!("{item:?} was noticed") };
            for offset in span.first..=span.last {
                let truth = self.truth(offset);
                match to {
                    To::Archived { .. } => {
                        assert!(truth.is_nothing, "record {offset} exists");
                        truth.finish(Finish::Dropped, offset);
                    }
                    To::Delayed { due, .. } => {
                        assert_eq!(truth.deliver_at, Some(due));
                        truth.due = due;
                    }
                    other => panic!("{other:?} was noticed"),
                }
            }
        }
        self.commit_section(noticed);
    }

    /// Ends the locks whose time has come, sometimes without a journal.
    pub(super) fn expire(&mut self, journal_works: bool) {
        let mut decision = Decision::default();
        loop {
            let mut dice = self.dice.clone();
            self.dice.next();
            let now = self.now();
            let any = self.partition.decide_lock_ends(now, &mut || dice.next(), &mut decision);
            if !any {
                break;
            }
            if !journal_works {
                decision.keep_unstored();
                self.ended(&decision.section, false, false);
                self.partition.apply(&decision.section, self.monotonic);
                return;
            }
            self.ended(&decision.section, false, true);
            self.commit(&decision);
            decision.clear();
        }
        for (offset, truth) in &self.truths {
            let is_late = |end: Duration| end <= self.monotonic;
            assert!(
                !truth.hold.is_some_and(|hold| is_late(hold.lock_end)),
                "lock of {offset} has ended"
            );
            assert!(
                !truth.reserved.is_some_and(|(_, end)| is_late(end)),
                "lock of {offset} has ended"
            );
        }
    }

    /// Takes note of attempts that ended without a word of their owners.
    pub(super) fn ended(&mut self, section: &Section, at_once: bool, is_stored: bool) {
        let (limit, wall, backoff) =
            (self.settings.delivery_count_limit, self.wall, self.settings.backoff);
        let log_start = self.log_start;
        for item in section.items() {
            let Item::Set(span, to) = *item else { panic!("{item:?} at the end of a lock") };
            for offset in span.first.max(log_start)..=span.last {
                let truth = self.truth(offset);
                let was_started = truth.hold.take().is_some();
                truth.reserved = None;
                truth.unstored = (truth.unstored || was_started) && !is_stored;
                match to {
                    To::Archived { count } => {
                        assert!(was_started && count >= limit, "{offset} has attempts left");
                        truth.finish(Finish::Dead, offset);
                    }
                    To::Available { count, .. } => {
                        assert_eq!(count, truth.attempts, "rule 8: count of {offset}");
                        assert!(!was_started || count < limit, "rule 3: count of {offset}");
                        truth.due = 0;
                    }
                    To::Delayed { count, due, .. } => {
                        assert!(was_started && count < limit && !at_once);
                        assert_eq!(count, truth.attempts, "rule 8: count of {offset}");
                        let delay = wall + backoff.delay_ms(count, 0) as i64;
                        let shortest = wall + backoff.delay_ms(count, u64::MAX) as i64;
                        assert!((shortest..=delay).contains(&due), "backoff of {offset}");
                        truth.due = due;
                    }
                    other => panic!("{other:?} at the end of a lock"),
                }
            }
        }
    }

    pub(super) fn checkpoint(&mut self) {
        self.image = self.stored();
        self.journal.clear();
        for truth in self.truths.values_mut() {
            truth.unstored = false;
        }
        let again = SharePartition::decode(&self.image, Arc::new(self.settings.clone())).unwrap();
        let mut bytes = Vec::new();
        again.encode(&mut bytes);
        assert_eq!(bytes, self.image, "an image decodes to what was encoded");
    }

    /// The process dies and opens again: nothing is lost that was journaled, and nothing else is kept.
    pub(super) fn crash(&mut self) {
        let settings = Arc::new(self.settings.clone());
        let mut replayed = SharePartition::decode(&self.image, settings).unwrap();
        for bytes in &self.journal {
            replayed.apply(&Section::decode(bytes).unwrap(), Duration::ZERO);
        }
        replayed.opened();
        self.check_same(&replayed);
        self.partition = replayed;
        for truth in self.truths.values_mut() {
            truth.reserved = None;
            if truth.hold.is_some() || (truth.unstored && truth.finish.is_none()) {
                let (member, delivery) = (MemberNumber::NOBODY, truth.attempts);
                truth.hold = Some(Hold { member, delivery, lock_end: Duration::ZERO });
            }
            truth.unstored = false;
        }
        self.members.clear();
        self.pending = None;
        let works = !self.dice.one_in(6);
        self.expire(works);
        for _ in 0..3 {
            self.join();
        }
    }

    /// What was replayed is what the process knew, apart from what needs no frame (H8).
    fn check_same(&self, replayed: &SharePartition) {
        let now = self.wall;
        let look = |partition: &SharePartition, offset: i64| {
            let run = partition.find(offset).filter(|run| run.content.state != State::Parked);
            let parked = partition.parked.get(offset);
            match (run, parked) {
                (Some(run), _) if run.content.state.is_finished() => None,
                (Some(run), _) => Some((run.content.count, 0)),
                (None, Some(delay)) if delay.due > now => Some((delay.count, delay.due)),
                (None, Some(delay)) => Some((delay.count, 0)),
                (None, None) if offset > partition.end => Some((0, 0)),
                (None, None) => None,
            }
        };
        for offset in self.log_start..self.log_end {
            let (live, again) = (look(&self.partition, offset), look(replayed, offset));
            let is_same = match (live, again) {
                // It was due, reserved and given back, and then the wall clock went back.
                (Some((live, 0)), Some((again, due))) => live == again && due <= self.wall_max,
                _ => live == again,
            };
            assert!(is_same, "{offset} was {live:?} and is {again:?}");
        }
    }

    pub(super) fn move_clocks(&mut self) {
        let far = if self.dice.one_in(6) { 4_000 } else { 150 };
        let step = self.dice.below(far);
        self.monotonic += Duration::from_millis(step);
        self.wall += step as i64;
        self.wall_max = self.wall_max.max(self.wall);
        if self.dice.one_in(10) {
            // Somebody sets the wall clock.
            self.wall += self.dice.below(4_000) as i64 - 2_000;
        }
        self.wall_max = self.wall_max.max(self.wall);
    }

    pub(super) fn move_log_start(&mut self) {
        let to =
            self.log_start + self.dice.below((self.log_end - self.log_start + 1) as u64) as i64;
        self.log_start = to;
        for (offset, truth) in self.truths.range_mut(..to) {
            if truth.finish.is_none() {
                truth.hold = None;
                truth.finish(Finish::Gone, *offset);
            }
        }
        self.commit_section(&Section::log_start(to));
    }

    /// Compaction takes a record.
    pub(super) fn compact(&mut self) {
        let offset =
            self.log_start + self.dice.below((self.log_end - self.log_start) as u64) as i64;
        if self.log_start < self.log_end && self.pending.is_none() {
            self.truth(offset).is_nothing = true;
        }
    }

    pub(super) fn drop_reservation(&mut self, span: Span, member: usize) {
        let number = self.members[member].number;
        self.partition.unreserve(number, span);
        for (_, truth) in self.truths.range_mut(span.first..=span.last) {
            if truth.reserved.take_if(|(owner, _)| *owner == number).is_some() {
                truth.due = 0;
            }
        }
    }
}
