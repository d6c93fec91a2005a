//! What must hold after each step.

use super::super::{Refusal, Span, State, Why};
use super::member::Handle;
use super::truth::Finish;
use super::world::World;
use crate::types::{AcquireMode, ShareOrdering};

impl World {
    /// A record was reserved.
    pub(super) fn check_reserved(&mut self, offset: i64, count: u16) {
        let now = self.monotonic;
        let truth = self.truth(offset).clone();
        assert!(!truth.is_nothing || truth.touched, "there is no record {offset}");
        assert_eq!(truth.finish, None, "rule 6: {offset} is delivered again");
        let is_held = truth.hold.is_some_and(|hold| hold.lock_end > now);
        let is_reserved = truth.reserved.is_some_and(|(_, end)| end > now);
        assert!(!is_held && !is_reserved, "rule 2: two locks on {offset}");
        assert_eq!(count, truth.attempts + 1, "rule 8: count of {offset}");
        // Once its time has come, a wall clock that goes back does not take that away.
        assert!(truth.due <= self.wall_max, "H9: {offset} comes before its time, {truth:?}");
        let is_later = truth.deliver_at.is_some_and(|due| due > self.wall_max);
        assert!(!is_later || truth.touched || truth.by_hand, "H9: {offset} comes before its time");
        if self.settings.ordering == ShareOrdering::Key
            && let Some(key) = truth.key
        {
            self.check_order(offset, key);
        }
    }

    /// Rule of keys (H10).
    fn check_order(&self, offset: i64, key: u64) {
        // A wall clock that goes back does not make a record wait again.
        let now = self.wall_max;
        for (other, truth) in &self.truths {
            if *other == offset || truth.key != Some(key) || truth.finish.is_some() {
                continue;
            }
            // Who has no attempt left is as good as dead, and waits only for a journal that works.
            let is_dying = truth.attempts >= self.settings.delivery_count_limit
                && truth.hold.is_some_and(|hold| hold.lock_end.is_zero());
            if is_dying {
                continue;
            }
            let is_held = truth.hold.is_some() || truth.reserved.is_some();
            assert!(!is_held, "H10: {offset} with {other} under way, {truth:?}");
            // Reserved when it was due, taken back by a crash, and then the wall clock went back.
            let again = truth.deliver_at == Some(truth.due);
            let waits = truth.due > now && truth.touched && !again;
            assert!(!waits, "H10: {offset} while {other} waits for its backoff, {truth:?}");
            // A scheduled record gets its place when it is due, perhaps behind one that was tried before.
            let is_scheduled = truth.deliver_at.is_some();
            assert!(
                *other > offset || is_scheduled || truth.is_nothing,
                "H10: {offset} before {other}, {truth:?}"
            );
        }
    }

    pub(super) fn check_amount(&self, max: u32, reserved: &[i64]) {
        if self.settings.acquire_mode == AcquireMode::RecordLimit {
            assert!(reserved.len() <= max as usize, "{} records, not {max}", reserved.len());
        }
        let limit = self.settings.delivery_count_limit;
        let last_try = |offset: &&i64| {
            self.truths.get(offset).is_some_and(|truth| limit > 2 && truth.attempts + 1 >= limit)
        };
        let alone = reserved.iter().filter(last_try).count();
        assert!(alone == 0 || reserved.len() == 1, "the last attempt of a record is not alone");
    }

    /// What is new in the window has room there. `end` is where it ended before.
    pub(super) fn check_room(&self, end: i64, reserved: &[i64]) {
        let bound = self.partition.start() + i64::from(self.settings.max_record_locks);
        assert!(self.partition.end() == end || end + 1 < bound, "the window is full at {bound}");
        if self.settings.acquire_mode == AcquireMode::RecordLimit {
            let beyond = reserved.iter().find(|offset| **offset > end && **offset >= bound);
            assert_eq!(beyond, None, "the window is full at {bound}");
        }
    }

    pub(super) fn check_refusal(&mut self, refusal: Refusal, handle: Handle, used: bool) {
        assert_eq!(refusal.offset, handle.offset);
        let truth = self.truth(handle.offset).clone();
        let again = truth.attempts > handle.delivery;
        let allowed: &[Why] = match truth.finish {
            // The memory of ended locks is short.
            Some(Finish::Accepted | Finish::Dead | Finish::Dropped) if used || again => {
                &[Why::Finished, Why::TooLate, Why::NeverDelivered]
            }
            Some(_) => &[Why::Finished, Why::TooLate, Why::NeverDelivered],
            None if used => &[Why::Finished, Why::TooLate, Why::NeverDelivered, Why::Anothers],
            None => &[Why::TooLate, Why::NeverDelivered, Why::Anothers, Why::Finished],
        };
        assert!(allowed.contains(&refusal.why), "{refusal:?} of {truth:?}");
        if truth.finish.is_none() && !used && again && truth.hold.is_some() {
            assert!(matches!(refusal.why, Why::TooLate), "{refusal:?} of {truth:?}");
        }
    }

    pub(super) fn check(&mut self) {
        self.check_structure();
        let start = self.partition.start();
        assert!(start >= self.lowest_start, "rule 4: the start falls to {start}");
        self.lowest_start = start;
        let (mut open, mut delayed) = (0, 0);
        for (offset, truth) in &self.truths {
            let letters = u32::from(truth.finish == Some(Finish::Dead));
            assert_eq!(truth.letters, letters, "rule 9: dead letters of {offset}, {truth:?}");
            if *offset < self.log_start {
                continue;
            }
            let state = self.partition.state(*offset);
            let run = self.partition.find(*offset);
            let is_finished = match state {
                None => *offset <= self.partition.end(),
                Some(state) => state.is_finished(),
            };
            assert_eq!(
                is_finished,
                truth.finish.is_some(),
                "rule 5: {offset} is {state:?}, {truth:?}"
            );
            if let Some(hold) = truth.hold {
                let run = run.unwrap_or_else(|| panic!("{offset} is lost, {truth:?}"));
                assert_eq!(run.content.state, State::Acquired, "rule 2: {offset}, {truth:?}");
                assert_eq!((run.content.owner, run.content.count), (hold.member, hold.delivery));
            } else {
                assert_ne!(state, Some(State::Acquired), "{offset} is held, {truth:?}");
            }
            open += u64::from(truth.finish.is_none());
            if state == Some(State::Parked) {
                let delay = self.partition.parked.get(*offset).unwrap();
                assert_eq!(delay.count, truth.attempts, "rule 8: {offset}");
                delayed += u64::from(delay.due > self.wall);
            }
        }
        let lag = self.partition.lag(self.log_end, self.wall);
        assert_eq!(lag.total, open, "rule 10");
        assert_eq!(lag.delayed, delayed, "lag");
        assert_eq!(lag.total, lag.not_started + lag.under_way + lag.delayed);
    }

    /// H1 and H2.
    fn check_structure(&self) {
        let partition = &self.partition;
        let mut next = partition.start();
        let mut before = None;
        let mut parked = 0;
        for run in partition.window.iter() {
            assert_eq!(run.span.first, next, "H1: a hole in the window");
            assert!(before != Some(run.content), "H1: neighbours agree");
            before = Some(run.content);
            next = run.span.last + 1;
            if run.content.state == State::Parked {
                for offset in run.span.first..=run.span.last {
                    assert!(partition.parked.get(offset).is_some(), "{offset} is not parked");
                    parked += 1;
                }
            }
        }
        assert_eq!(next, partition.end() + 1, "H1: the end of the window");
        let first = partition.window.first();
        let passed = first.is_some_and(|run| {
            run.content.state.is_finished() || run.content.state == State::Parked
        });
        assert!(!passed, "H2: the start may move on");
        let inside = Span::new(partition.start(), i64::MAX).unwrap();
        assert_eq!(partition.parked.in_span(inside).count(), parked, "parked outside of its run");
        for run in partition.outside.iter() {
            assert!(run.span.last < partition.start(), "H2");
            assert!(run.content.state.is_held(), "H2");
            let parked = partition.parked.in_span(run.span).count();
            assert_eq!(parked, 0, "H2: parked and under way");
        }
        assert!(partition.locks.len() <= 64.max(4 * self.truths.len()) + 64);
    }
}
