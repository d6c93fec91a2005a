//! What must hold after each step.

use std::cmp::Ordering;

use super::super::{Refusal, State, Why};
use super::member::Handle;
use super::truth::Finish;
use super::world::World;
use crate::types::{AcquireMode, ShareOrdering};

impl World {
    /// A record was reserved.
    pub(super) fn check_reserved(&mut self, offset: i64, count: u16) {
        let now = self.monotonic;
        let truth = self.truth(offset).clone();
        assert!(!truth.is_nothing, "there is no record {offset}");
        assert_eq!(truth.finish, None, "rule 6: {offset} is delivered again");
        let is_held = truth.hold.is_some_and(|hold| hold.lock_end > now);
        let is_reserved = truth.reserved.is_some_and(|(_, end)| end > now);
        assert!(!is_held && !is_reserved, "rule 2: two locks on {offset}");
        assert_eq!(count, truth.attempts + 1, "rule 8: count of {offset}");
        assert!(truth.due <= self.wall, "H9: {offset} comes before its time, {truth:?}");
        // Once its time has come, a wall clock that goes back does not take that away.
        let is_later = truth.deliver_at.is_some_and(|due| due > self.wall);
        let has_come = truth.has_come || truth.by_hand > 0;
        assert!(!is_later || has_come, "H9: {offset} comes before its time, {truth:?}");
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
            let is_held = truth.hold.is_some() || truth.reserved.is_some();
            assert!(!is_held, "H10: {offset} with {other} under way, {truth:?}");
            let waits = truth.due > now && truth.touched;
            assert!(!waits, "H10: {offset} while {other} waits for its backoff, {truth:?}");
            // A scheduled record gets its place when it is due, perhaps behind one that was tried before.
            let is_scheduled = truth.deliver_at.is_some();
            assert!(
                *other > offset || is_scheduled || truth.is_nothing,
                "H10: {offset} before {other}, {truth:?}"
            );
        }
    }

    /// The batch that has this offset.
    fn batch_of(&self, offset: i64) -> (i64, i64) {
        let at = self.bounds.partition_point(|(_, last)| *last < offset);
        self.bounds[at]
    }

    pub(super) fn check_amount(&self, max: u32, reserved: &[i64]) {
        match self.settings.acquire_mode {
            AcquireMode::RecordLimit => {
                assert!(reserved.len() <= max as usize, "{} records, not {max}", reserved.len());
            }
            AcquireMode::BatchOptimized => {
                let last = reserved.iter().max().map(|last| self.batch_of(*last).0);
                let before = reserved.iter().filter(|offset| Some(**offset) < last).count();
                assert!(before < max as usize, "{before} records, and one more batch, not {max}");
            }
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
        if self.partition.end() > end {
            // Only the rest of a batch may pass the bound.
            let entered = self.batch_of(self.partition.end()).0.max(end + 1);
            assert!(entered < bound, "the window is full at {bound}, {entered} has entered");
        }
        if self.settings.acquire_mode == AcquireMode::RecordLimit {
            let beyond = reserved.iter().find(|offset| **offset > end && **offset >= bound);
            assert_eq!(beyond, None, "the window is full at {bound}");
        }
    }

    pub(super) fn check_refusal(&mut self, refusal: Refusal, handle: Handle, used: bool) {
        assert_eq!(refusal.offset, handle.offset);
        let truth = self.truth(handle.offset).clone();
        let is_finished = truth.finish.is_some();
        let allowed: &[Why] = match truth.attempts.cmp(&handle.delivery) {
            // The attempt did not count, and may be forgotten.
            Ordering::Less => &[Why::Finished, Why::NeverDelivered],
            // Below the start only the memory of ended locks tells a late word from a repeated one, and it is short.
            _ if is_finished => &[Why::Finished, Why::TooLate],
            // The same number again: the attempt before did not count.
            Ordering::Equal if used && truth.hold.is_some() => &[Why::Anothers, Why::TooLate],
            Ordering::Equal if used => &[Why::Finished, Why::TooLate],
            Ordering::Equal | Ordering::Greater => &[Why::TooLate],
        };
        assert!(allowed.contains(&refusal.why), "{refusal:?} of {handle:?}, {used}, {truth:?}");
    }

    pub(super) fn check(&mut self) {
        self.partition.check_structure();
        assert!(self.partition.locks.len() <= 64.max(4 * self.truths.len()) + 64);
        let start = self.partition.start();
        assert!(start >= self.lowest_start, "rule 4: the start falls to {start}");
        self.lowest_start = start;
        let (mut open, mut delayed, mut under_way) = (0, 0, 0);
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
            if let Some((owner, _)) = truth.reserved {
                let run = run.unwrap_or_else(|| panic!("{offset} is lost, {truth:?}"));
                assert_eq!(run.content.state, State::Reserved, "rule 2: {offset}, {truth:?}");
                assert_eq!(run.content.owner, owner);
            } else {
                assert_ne!(state, Some(State::Reserved), "{offset} is reserved, {truth:?}");
            }
            if let Some(run) = run.filter(|run| run.content.state != State::Parked)
                && truth.finish.is_none()
            {
                assert_eq!(run.content.count, truth.attempts, "rule 8: {offset}");
            }
            open += u64::from(truth.finish.is_none());
            under_way += u64::from(truth.hold.is_some() || truth.reserved.is_some());
            if state == Some(State::Parked) {
                let delay = self.partition.parked.get(*offset).unwrap();
                assert_eq!(delay.count, truth.attempts, "rule 8: {offset}");
                delayed += u64::from(delay.due > self.wall);
            }
        }
        let lag = self.partition.lag(self.log_end, self.wall);
        assert_eq!(lag.total, open, "rule 10");
        assert_eq!((lag.delayed, lag.under_way), (delayed, under_way), "lag");
        assert_eq!(lag.total, lag.not_started + lag.under_way + lag.delayed);
    }
}
