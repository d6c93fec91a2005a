//! What happens seldom: settings, resets, operators, compaction. And the end.

use std::sync::Arc;
use std::time::Duration;

use super::super::section::{Item, Section, To};
use super::super::{ByHand, Decision, Span};
use super::truth::{Finish, Truth};
use super::world::World;
use crate::types::ShareOrdering;

impl World {
    pub(super) fn change(&mut self) {
        match self.dice.below(12) {
            0 | 1 => self.move_log_start(),
            2 => self.reset(),
            3..=5 => self.compact_some(),
            6 => self.settings.delivery_count_limit = 1 + self.dice.below(6) as u16,
            7 => self.settings.max_record_locks = 2 + self.dice.below(40) as u32,
            8 => self.settings.lock_duration = Duration::from_millis(100 + self.dice.below(2_000)),
            _ => self.append(),
        }
        self.limit_max = self.limit_max.max(self.settings.delivery_count_limit);
        self.partition.configure(Arc::new(self.settings.clone()));
    }

    fn compact_some(&mut self) {
        if self.log_start < self.log_end {
            self.compact();
        }
    }

    /// The group is empty, and its offsets are set.
    fn reset(&mut self) {
        let start =
            self.log_start + self.dice.below((self.log_end - self.log_start + 1) as u64) as i64;
        let mut section = Section::default();
        self.partition.decide_reset(start, &mut section);
        for (offset, truth) in &mut self.truths {
            let Truth { is_nothing, key, deliver_at, .. } = *truth;
            let gone = *offset < start;
            let finish = gone.then_some(Finish::Gone);
            *truth = Truth { is_nothing, key, deliver_at, finish, ..Truth::default() };
        }
        let epoch = self.partition.epoch();
        self.commit_section(&section);
        assert_eq!((self.partition.start(), self.partition.epoch()), (start, epoch + 1));
        self.lowest_start = start;
        self.members.clear();
        for _ in 0..3 {
            self.join();
        }
        // The result of a fetch that was reading is of no use.
        if self.pending.is_some() {
            self.pending.as_mut().unwrap().member = 0;
            assert!(self.end_fetch(5).is_empty());
        }
    }

    /// An operator finishes or releases a record.
    pub(super) fn operate(&mut self) {
        if self.log_start == self.log_end {
            return;
        }
        let offset =
            self.log_start + self.dice.below((self.log_end - self.log_start) as u64) as i64;
        let span = Span { first: offset, last: offset };
        let what = [ByHand::Finish, ByHand::Reject, ByHand::Release][self.dice.below(3) as usize];
        let mut decision = Decision::default();
        assert!(!self.partition.decide_by_hand(span, what, self.now(), &mut decision));
        let items = decision.section.items().to_vec();
        let truth = self.truth(offset);
        if truth.finish.is_some() {
            assert!(items.is_empty(), "rule 1: {offset} is finished");
            return;
        }
        match items.first() {
            Some(Item::Set(_, To::Acknowledged { .. })) => truth.finish(Finish::Accepted, offset),
            Some(Item::Set(_, To::Archived { .. })) => truth.finish(Finish::Dead, offset),
            Some(Item::Set(_, To::Available { .. })) => {
                (truth.hold, truth.reserved, truth.due) = (None, None, 0);
                truth.by_hand += 1;
                truth.unstored = false;
            }
            None => return,
            other => panic!("{other:?} by hand"),
        }
        self.commit(&decision);
    }

    /// In the end all members but an honest one are gone, and the clocks go on until nothing is left.
    pub(super) fn settle(&mut self) {
        if let Some(pending) = self.pending.take() {
            self.partition.cancel_fetch(pending.fetch);
        }
        for round in 0.. {
            assert!(round < 5_000, "rule 7: something is never delivered: {:?}", self.left());
            self.expire(true);
            self.begin_fetch(0);
            for offset in self.end_fetch(8) {
                self.accept_now(offset);
            }
            self.check();
            if self.left().is_empty() {
                break;
            }
            self.monotonic += Duration::from_millis(700);
            self.wall += 700;
            self.wall_max = self.wall_max.max(self.wall);
        }
        assert_eq!(self.partition.lag(self.log_end, self.wall).total, 0, "rule 10");
        assert_eq!(self.partition.start(), self.log_end);
        assert_eq!(self.partition.oldest_unfinished(), self.log_end);
        self.checkpoint();
    }

    fn left(&self) -> Vec<i64> {
        let open = self.truths.iter().filter(|(_, truth)| truth.finish.is_none());
        open.map(|(offset, _)| *offset).collect()
    }

    /// Starts a reserved record, and accepts it.
    fn accept_now(&mut self, offset: i64) {
        let number = self.members[0].number;
        let span = Span { first: offset, last: offset };
        let mut decision = Decision::default();
        let now = self.now();
        self.partition.decide_start(number, span, now, &mut decision).unwrap();
        self.commit(&decision);
        decision.clear();
        self.members[0].reserved.clear();
        let truth = self.truth(offset);
        truth.attempts += 1;
        truth.reserved = None;
        let handle = super::member::Handle { offset, delivery: truth.attempts };
        truth.finish(Finish::Accepted, offset);
        self.say(number, &[(handle, [super::super::AckType::Accept])], &mut decision).unwrap();
        self.commit(&decision);
    }

    /// One member, no failure, no delay: records come in the order of the log.
    pub(super) fn in_order(&mut self) {
        for _ in 0..10 {
            self.append();
        }
        for truth in self.truths.values_mut() {
            truth.deliver_at = None;
        }
        self.settings.ordering = ShareOrdering::None;
        self.partition.configure(Arc::new(self.settings.clone()));
        let mut last = -1;
        for _ in 0..200 {
            self.begin_fetch(0);
            let max = 1 + self.dice.below(9) as u32;
            for offset in self.end_fetch(max) {
                assert!(offset > last, "rule 11: {offset} comes after {last}");
                last = offset;
                self.accept_now(offset);
            }
            self.check();
        }
        assert!(self.left().is_empty());
    }
}
