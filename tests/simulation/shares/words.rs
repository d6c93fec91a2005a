//! What members say of their jobs, and what must come of it.

use std::time::Duration;

use grouplog::time::Clock;
use grouplog::{Acks, Error, ShareRecord};

use super::fate::{Fate, Letter, Number, OUT_OF_TRIES};
use super::member::{Held, Session, Worth};
use super::world::World;
use crate::world::{Step, violation};

/// What a member says.
#[derive(Debug, Clone, Copy)]
enum Word {
    Accept,
    Release,
    ReleaseBecause,
    ReleaseAfter(Duration),
    Reject,
    Cancel,
    Snooze(Duration),
    /// Nothing: the record is dropped.
    Drop,
}

/// The reason of what is rejected.
const BAD: &str = "bad";

impl World {
    /// A member that holds something says what became of it. Late words are as likely as others.
    pub(super) fn say_something(&mut self, session: &mut Session) -> Step {
        let Some(at) = self.any_holding(session) else { return Ok(()) };
        let index = self.below(session.members[at].held.len());
        let word = self.any_word();
        self.say(session, at, index, word)
    }

    /// Returns the index of a member that holds something.
    pub(super) fn any_holding(&self, session: &Session) -> Option<usize> {
        let holds = |at: &usize| !session.members[*at].held.is_empty();
        let holding: Vec<usize> = (0..session.members.len()).filter(holds).collect();
        (!holding.is_empty()).then(|| holding[self.below(holding.len())])
    }

    fn any_word(&self) -> Word {
        let delay = Duration::from_millis([1, 300, 3000][self.below(3)]);
        match self.below(14) {
            0..=4 => Word::Accept,
            5 => Word::Release,
            6 => Word::ReleaseBecause,
            7 | 8 => Word::ReleaseAfter(delay),
            9 | 10 => Word::Reject,
            11 => Word::Cancel,
            12 => Word::Snooze(delay),
            _ => Word::Drop,
        }
    }

    pub(super) fn accept_or_drop(
        &mut self,
        session: &mut Session,
        at: usize,
        index: usize,
        accepts: bool,
    ) -> Step {
        let word = if accepts { Word::Accept } else { Word::Drop };
        self.say(session, at, index, word)
    }

    fn say(&mut self, session: &mut Session, at: usize, index: usize, word: Word) -> Step {
        let member = &mut session.members[at];
        let held = member.held.swap_remove(index);
        let (group, acks, number) = (member.group, member.acks, held.number);
        let worth = self.worth_of(&held);
        if worth == Worth::IsLate {
            member.late.push((number, held.count));
        }
        self.note(format!("{} says {word:?} of job {number}, {worth:?}", member.name));
        let mut letters = Vec::new();
        if worth == Worth::Counts {
            let (fate, letter) = self.said(group, &held, word);
            letters.extend(letter.map(|letter| (number, letter)));
            self.history.attempt(vec![(number, fate)]);
            self.loose.remove(&(group, number));
        }
        let said = speak(held.record, word);
        if let (Worth::Counts, Some(Err(error))) = (worth, &said) {
            self.has_failed(error);
        }
        self.alive()?;
        match (worth, said) {
            (Worth::Counts, Some(Ok(()))) if acks == Acks::Synced => self.history.synced(),
            (_, None) | (Worth::Counts | Worth::IsNothing, Some(Ok(()))) => {}
            (Worth::IsLate, Some(Err(Error::InvalidRecordState { .. })))
            | (Worth::HasNoTopic, Some(Err(Error::UnknownTopic { .. }))) => {
                self.tally.count(format!("refused: {worth:?}"));
            }
            (worth, said) => {
                return violation(format!("{word:?} of job {number}, {worth:?}: {said:?}"));
            }
        }
        self.history.written();
        self.expect_letters(session, letters)
    }

    /// Returns what a word makes of a job, and the dead letter.
    fn said(&self, group: usize, held: &Held, word: Word) -> (Fate, Option<Letter>) {
        let (number, count) = (held.number, held.count);
        let after = |delay: Duration| delay.as_millis() as i64;
        match word {
            Word::Accept | Word::Cancel => (self.history.fate(number).open_at(group, None), None),
            Word::Reject => self.given_up(group, number, count, BAD),
            Word::ReleaseAfter(delay) => self.released(group, number, count, after(delay)),
            Word::Release | Word::ReleaseBecause | Word::Drop => {
                self.released(group, number, count, self.options.groups[group].backoff)
            }
            Word::Snooze(delay) => {
                let due = self.wall() + after(delay);
                (self.history.fate(number).open_later(group, count - 1, due), None)
            }
        }
    }

    /// Returns the fate of a job whose attempt ends without success.
    pub(super) fn released(
        &self,
        group: usize,
        number: Number,
        count: u16,
        delay: i64,
    ) -> (Fate, Option<Letter>) {
        if count >= self.options.groups[group].limit {
            return self.given_up(group, number, count, OUT_OF_TRIES);
        }
        let due = if delay > 0 { self.wall() + delay } else { 0 };
        (self.history.fate(number).open_later(group, count, due), None)
    }

    /// Returns the fate of a job that becomes a dead letter, if its group has a topic for them.
    pub(super) fn given_up(
        &self,
        group: usize,
        number: Number,
        count: u16,
        message: &str,
    ) -> (Fate, Option<Letter>) {
        let letter = Letter { count, message: message.to_owned() };
        let letter = self.options.groups[group].has_letters.then_some(letter);
        let fate = self.history.fate(number).open_at(group, None);
        let fate = fate.with(group, |standing| standing.letters.extend(letter.clone()));
        (fate, letter)
    }

    pub(super) fn renew(&mut self, session: &mut Session) -> Step {
        let Some(at) = self.any_holding(session) else { return Ok(()) };
        let member = &mut session.members[at];
        let index = self.below(member.held.len());
        let worth = self.worth_of(&member.held[index]);
        let lock = self.options.groups[member.group].lock;
        let held = &mut member.held[index];
        self.note(format!("{} renews job {}, {worth:?}", member.name, held.number));
        match (worth, held.record.renew()) {
            (Worth::Counts, Ok(lasts)) if lasts == lock => {
                held.lock_end = self.clock.monotonic() + lock;
            }
            (Worth::IsLate, Err(Error::InvalidRecordState { .. }))
            | (Worth::HasNoTopic, Err(Error::UnknownTopic { .. }))
            | (Worth::IsNothing, _) => {}
            (worth, renewed) => return violation(format!("renewed, {worth:?}: {renewed:?}")),
        }
        self.alive()
    }
}

/// Returns `None` if nothing is said.
fn speak(record: ShareRecord, word: Word) -> Option<grouplog::Result<()>> {
    Some(match word {
        Word::Accept => record.accept(),
        Word::Release => record.release(),
        Word::ReleaseBecause => record.release_because("it failed"),
        Word::ReleaseAfter(delay) => record.release_after(delay),
        Word::Reject => record.reject(BAD),
        Word::Cancel => record.cancel(),
        Word::Snooze(delay) => record.snooze(delay),
        Word::Drop => {
            drop(record);
            return None;
        }
    })
}
