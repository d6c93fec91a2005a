//! What members do.

use std::time::Duration;

use super::super::section::{Item, To};
use super::super::{AckType, Acknowledgement, Decision, MemberNumber, Refusal, Span, Why};
use super::member::{Handle, Member};
use super::truth::{Finish, Hold};
use super::world::World;
use crate::types::Backoff;

fn one(offset: i64) -> Span {
    Span { first: offset, last: offset }
}

impl World {
    pub(super) fn step(&mut self) {
        let member = self.dice.below(self.members.len() as u64) as usize;
        match self.dice.below(80) {
            0..=3 => self.append(),
            4..=9 => self.begin_fetch(member),
            10..=19 => {
                if self.pending.is_none() {
                    self.begin_fetch(member);
                }
                let max = 1 + self.dice.below(8) as u32;
                self.end_fetch(max);
            }
            20..=34 => self.start_any(),
            35..=53 => self.acknowledge_any(),
            54..=57 => self.say_again(member),
            58 => self.say_of_others(member),
            59 | 60 => self.renew(member),
            61..=65 => self.move_clocks(),
            66..=69 => {
                let works = !self.dice.one_in(5);
                self.expire(works);
            }
            70 => self.leave(member),
            71 => self.crash(),
            72 | 73 => self.checkpoint(),
            74 => self.give_up_reserved(member),
            75 => self.operate(),
            76 => self.change(),
            _ => self.acknowledge(member),
        }
    }

    /// A member that can start something does.
    fn start_any(&mut self) {
        let can = self.members.iter().position(|member| !member.reserved.is_empty());
        if let Some(member) = can {
            self.start(member);
        }
    }

    fn acknowledge_any(&mut self) {
        let can = self.members.iter().position(|member| !member.handles.is_empty());
        if let Some(member) = can {
            self.acknowledge(member);
        }
    }

    fn start(&mut self, member: usize) {
        self.members[member].reserved.sort_unstable();
        let many = 1 + self.dice.below(3) as usize;
        for _ in 0..many.min(self.members[member].reserved.len()) {
            let offset = self.members[member].reserved.remove(0);
            let number = self.members[member].number;
            let mut decision = Decision::default();
            let now = self.now();
            let outcome = self.partition.decide_start(number, one(offset), now, &mut decision);
            let truth = self.truth(offset).clone();
            let has =
                truth.reserved.filter(|(owner, end)| *owner == number && *end > now.monotonic);
            assert_eq!(outcome.is_ok(), has.is_some(), "start of {offset}: {outcome:?}, {truth:?}");
            if has.is_none() || self.dice.one_in(15) {
                // Refused, or the journal fails.
                continue;
            }
            assert_eq!(truth.hold, None, "rule 2: two locks on {offset}");
            assert_eq!(truth.finish, None, "rule 6: {offset} is started again");
            let lock_end = self.monotonic + self.settings.lock_duration;
            let limit = self.limit_max;
            let truth = self.truth(offset);
            truth.attempts += 1;
            (truth.reserved, truth.unstored) = (None, false);
            let most = limit + truth.by_hand;
            assert!(truth.attempts <= most, "rule 3: {} attempts of {offset}", truth.attempts);
            let delivery = truth.attempts;
            truth.hold = Some(Hold { member: number, delivery, lock_end });
            let started = Item::Set(one(offset), To::Started { count: delivery });
            assert_eq!(decision.section.items(), [started], "rule 8");
            self.commit(&decision);
            self.members[member].handles.push(Handle { offset, delivery });
        }
    }

    fn take_handle(&mut self, member: usize) -> Option<Handle> {
        let len = self.members[member].handles.len();
        (len > 0).then(|| {
            let at = self.dice.below(len as u64) as usize;
            self.members[member].handles.swap_remove(at)
        })
    }

    fn choose_type(&mut self) -> AckType<'static> {
        let delay = Duration::from_millis(self.dice.below(2_000));
        match self.dice.below(14) {
            0..=6 => AckType::Accept,
            7 => AckType::Release { delay: None, reason: None },
            8 => AckType::Release { delay: Some(delay), reason: Some("HTTP 503") },
            9 => AckType::Release { delay: Some(Duration::ZERO), reason: None },
            10 => AckType::Reject,
            11 => AckType::Snooze { delay },
            12 => AckType::Undelivered,
            _ => AckType::Cancel,
        }
    }

    fn acknowledge(&mut self, member: usize) {
        let many = 1 + self.dice.below(3);
        let mut handles = Vec::new();
        for _ in 0..many {
            handles.extend(self.take_handle(member));
        }
        let said: Vec<_> = handles.iter().map(|handle| (*handle, [self.choose_type()])).collect();
        let number = self.members[member].number;
        let before = self.stored();
        let mut decision = Decision::default();
        let outcome = self.say(number, &said, &mut decision);
        let now = self.monotonic;
        let has = |world: &mut Self, handle: &Handle| {
            let (log_start, truth) = (world.log_start, world.truth(handle.offset));
            let holds = truth.hold.is_some_and(|hold| {
                hold.member == number && hold.delivery == handle.delivery && hold.lock_end > now
            });
            holds || handle.offset < log_start
        };
        let all = said.iter().all(|(handle, _)| has(self, handle));
        assert_eq!(outcome.is_ok(), all, "{said:?}: {outcome:?}");
        if let Err(refusal) = outcome {
            assert!(decision.section.is_empty() && decision.letters.is_empty());
            let lost = said.iter().find(|(handle, _)| !has(self, handle)).unwrap().0;
            self.check_refusal(refusal, lost, false);
            assert_eq!(before, self.stored(), "a refused request changes nothing");
            // It tries again, one by one.
            let kept = said.iter().map(|(handle, _)| *handle).filter(|handle| has(self, handle));
            let kept: Vec<_> = kept.collect();
            self.members[member].handles.extend(kept);
            self.members[member].used.push(lost);
            return;
        }
        for (handle, [what]) in said {
            if handle.offset >= self.log_start {
                self.ends(handle, what, &decision);
            }
            self.members[member].used.push(handle);
        }
        self.commit(&decision);
    }

    pub(super) fn say(
        &mut self,
        number: MemberNumber,
        said: &[(Handle, [AckType<'_>; 1])],
        decision: &mut Decision,
    ) -> Result<(), Refusal> {
        let items: Vec<_> = said
            .iter()
            .map(|(handle, types)| Acknowledgement {
                span: one(handle.offset),
                delivery: Some(handle.delivery),
                types,
            })
            .collect();
        let now = self.now();
        let mut dice = self.dice.clone();
        let mut renewed = Vec::new();
        let random = &mut || dice.next();
        let outcome =
            self.partition.decide_acknowledge(number, &items, now, random, decision, &mut renewed);
        self.partition.renew_all(&renewed, now);
        outcome
    }

    /// Takes note of what a member has said.
    fn ends(&mut self, handle: Handle, what: AckType<'_>, decision: &Decision) {
        let offset = handle.offset;
        let items = decision.section.items().iter();
        let to = items.rev().find_map(|item| match item {
            Item::Set(span, to) if (span.first..=span.last).contains(&offset) => Some(*to),
            _ => None,
        });
        let due = match to {
            Some(To::Delayed { due, .. }) => due,
            _ => 0,
        };
        let (wall, backoff) = (self.wall, self.settings.backoff);
        let is_last = handle.delivery >= self.settings.delivery_count_limit;
        let truth = self.truth(offset);
        truth.hold = None;
        truth.due = due;
        match what {
            AckType::Accept => truth.finish(Finish::Accepted, offset),
            AckType::Cancel => truth.finish(Finish::Dropped, offset),
            AckType::Reject => truth.finish(Finish::Dead, offset),
            AckType::Release { .. } if is_last => truth.finish(Finish::Dead, offset),
            AckType::Release { delay: Some(delay), .. } if delay > Duration::ZERO => {
                let at = wall + delay.as_millis() as i64;
                assert_eq!(due, at, "delay of {offset}");
            }
            AckType::Release { delay: None, .. } if backoff != Backoff::NONE => {
                let longest = backoff.delay_ms(handle.delivery, 0) as i64;
                let shortest = backoff.delay_ms(handle.delivery, u64::MAX) as i64;
                assert!((shortest..=longest).contains(&(due - wall)), "backoff of {offset}");
            }
            AckType::Release { .. } => assert_eq!(due, 0),
            AckType::Snooze { .. } | AckType::Undelivered => truth.attempts -= 1,
            AckType::Gap | AckType::Renew => panic!("not said here"),
        }
    }

    /// A member says something again about a record that it is done with.
    fn say_again(&mut self, member: usize) {
        let len = self.members[member].used.len();
        if len == 0 {
            return;
        }
        let at = self.dice.below(len as u64) as usize;
        let Member { number, used, .. } = &self.members[member];
        // Best a delivery of a record that it has again.
        let has_again = |handle: &&Handle| {
            let hold = self.truths.get(&handle.offset).and_then(|truth| truth.hold);
            hold.is_some_and(|hold| hold.member == *number && hold.delivery != handle.delivery)
        };
        let (number, handle) = (*number, used.iter().find(has_again).copied().unwrap_or(used[at]));
        let hold = self.truth(handle.offset).hold;
        let is_again =
            hold.is_some_and(|hold| hold.member == number && hold.delivery == handle.delivery);
        if handle.offset < self.log_start || is_again {
            return;
        }
        let mut decision = Decision::default();
        let refusal = self.say(number, &[(handle, [AckType::Accept])], &mut decision).unwrap_err();
        self.check_refusal(refusal, handle, true);
        assert!(decision.section.is_empty());
    }

    /// A member says something about a record of another one.
    fn say_of_others(&mut self, member: usize) {
        let other = self.dice.below(self.members.len() as u64) as usize;
        let number = self.members[member].number;
        let Some(handle) = self.members[other].handles.first().copied() else { return };
        if other == member || handle.offset < self.log_start {
            return;
        }
        let mut decision = Decision::default();
        let refusal = self.say(number, &[(handle, [AckType::Accept])], &mut decision).unwrap_err();
        let holds = self.truth(handle.offset).hold.is_some_and(|hold| {
            hold.delivery == handle.delivery && hold.member != MemberNumber::NOBODY
        });
        assert!(!holds || refusal.why == Why::Anothers, "{refusal:?}");
        let nobodys = Handle { offset: self.log_end + 3, delivery: 1 };
        let refusal = self.say(number, &[(nobodys, [AckType::Accept])], &mut decision).unwrap_err();
        assert!(matches!(refusal.why, Why::BeyondEnd | Why::NeverDelivered), "{refusal:?}");
    }

    fn renew(&mut self, member: usize) {
        let Some(handle) = self.take_handle(member) else { return };
        let number = self.members[member].number;
        let now = self.now();
        let outcome = self.partition.renew(number, one(handle.offset), handle.delivery, now);
        let (log_start, lock) = (self.log_start, self.settings.lock_duration);
        let truth = self.truth(handle.offset);
        let holds = truth.hold.filter(|hold| {
            hold.member == number
                && hold.delivery == handle.delivery
                && hold.lock_end > now.monotonic
        });
        if let Some(hold) = holds {
            assert_eq!(outcome, Ok(()));
            truth.hold = Some(Hold { lock_end: now.monotonic + lock, ..hold });
            self.members[member].handles.push(handle);
        } else {
            assert!(outcome.is_err() || handle.offset < log_start);
        }
    }

    fn leave(&mut self, member: usize) {
        let number = self.members[member].number;
        let mut decision = Decision::default();
        let (now, works) = (self.now(), !self.dice.one_in(6));
        let any = self.partition.decide_session_end(number, now, &mut || 0, &mut decision);
        if any && works {
            self.ended(&decision.section, true, true);
            self.commit(&decision);
        } else if any {
            decision.keep_unstored();
            self.ended(&decision.section, true, false);
            self.partition.apply(&decision.section, self.monotonic);
        }
        self.members.remove(member);
        if self.pending.as_ref().is_some_and(|pending| pending.member == member) {
            self.partition.cancel_fetch(self.pending.take().unwrap().fetch);
        } else if let Some(pending) = &mut self.pending
            && pending.member > member
        {
            pending.member -= 1;
        }
        self.join();
    }

    fn give_up_reserved(&mut self, member: usize) {
        let Some(offset) = self.members[member].reserved.pop() else { return };
        self.drop_reservation(one(offset), member);
    }
}
