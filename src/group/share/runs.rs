//! Runs by offset. They split and merge freely.
//!
//! * **R1** Runs do not overlap. Two that touch differ in content.
//! * **R2** Each change costs O(log runs) for each run that it touches. Taking a run from its front, the usual order of
//!   work, changes it in place: runs are found by their last offset.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use super::run::{Content, Run, STATES, Span, State};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slot {
    first: i64,
    content: Content,
}

// A million of them are a few dozen megabytes.
const _: () = assert!(size_of::<Slot>() <= 32);

/// Runs by offset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Runs {
    /// By the last offset.
    by_last: BTreeMap<i64, Slot>,
    /// The last offsets of the runs that are Available.
    available: BTreeSet<i64>,
    /// The number of offsets in each state.
    records: [u64; STATES],
    /// The number of runs that are held.
    held: usize,
}

impl Runs {
    /// Creates runs from an ascending list without overlap.
    pub(super) fn from_ascending(runs: Vec<Run>) -> Self {
        let mut all = Self::default();
        let mut merged: Vec<(i64, Slot)> = Vec::with_capacity(runs.len());
        for Run { span, content } in runs {
            all.count(content.state, span.len());
            match merged.last_mut() {
                Some((last, slot))
                    if last.checked_add(1) == Some(span.first) && slot.content == content =>
                {
                    *last = span.last;
                }
                _ => merged.push((span.last, Slot { first: span.first, content })),
            }
        }
        let is_available = |(_, slot): &&(i64, Slot)| slot.content.state == State::Available;
        all.available = merged.iter().filter(is_available).map(|(last, _)| *last).collect();
        all.held = merged.iter().filter(|(_, slot)| slot.content.state.is_held()).count();
        all.by_last = merged.into_iter().collect();
        all
    }

    /// Returns the run that has this offset.
    #[inline]
    pub(super) fn find(&self, offset: i64) -> Option<Run> {
        self.at_or_after(offset).filter(|run| run.span.first <= offset)
    }

    /// Returns the first run that does not end below this offset.
    #[inline]
    pub(super) fn at_or_after(&self, offset: i64) -> Option<Run> {
        self.by_last.range(offset..).next().map(run)
    }

    /// Returns the runs that meet a span, whole.
    pub(super) fn over(&self, span: Span) -> impl Iterator<Item = Run> {
        let from = self.by_last.range(span.first..).map(run);
        from.take_while(move |run| run.span.first <= span.last)
    }

    /// Returns all runs.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = Run> {
        self.by_last.iter().map(run)
    }

    /// Returns the first run.
    #[inline]
    pub(super) fn first(&self) -> Option<Run> {
        self.by_last.first_key_value().map(run)
    }

    /// Returns the first Available run that does not end below this offset.
    #[inline]
    pub(super) fn available_from(&self, offset: i64) -> Option<Run> {
        let last = self.available.range(offset..).next()?;
        self.by_last.get_key_value(last).map(run)
    }

    /// Returns whether there are none.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.by_last.is_empty()
    }

    /// Returns the number of runs that are held.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Returns the number of offsets in a state.
    pub(super) fn records(&self, state: State) -> u64 {
        self.records.get(state as usize).copied().unwrap_or(0)
    }

    /// Sets the content of all offsets of a span, whatever they were before.
    pub(super) fn set(&mut self, span: Span, content: Content) {
        if self.by_last.get(&span.last).is_none_or(|slot| slot.first != span.first) {
            self.cut(span);
            return self.put(span, content);
        }
        // A whole run changes, as when a single record is acknowledged.
        let first = self.join_before(span.first, &content);
        let Some(slot) = self.by_last.get_mut(&span.last) else { return };
        let before = std::mem::replace(slot, Slot { first, content });
        self.forget(span.last, before.content.state);
        self.uncount(before.content.state, span.len());
        self.count(content.state, span.len());
        if let Some(next) = span.last.checked_add(1)
            && let Some((_, slot)) = self.by_last.range_mut(next..).next()
            && slot.first == next
            && slot.content == content
        {
            slot.first = first;
            self.by_last.remove(&span.last);
        } else {
            self.note(span.last, content.state);
        }
    }

    /// Removes all offsets of a span.
    pub(super) fn cut(&mut self, span: Span) {
        while let Some((&last, slot)) = self.by_last.range_mut(span.first..).next() {
            let whole = Run { span: Span { first: slot.first, last }, content: slot.content };
            let Some(gone) = whole.span.meet(span) else { break };
            let (left, right) = (whole.span.below(span.first), last > span.last);
            if right {
                // The rest keeps its place in the map.
                slot.first = gone.last.saturating_add(1);
            } else {
                self.remove(last);
            }
            if let Some(left) = left {
                self.insert(left.last, Slot { first: left.first, content: whole.content });
            }
            self.uncount(whole.content.state, gone.len());
            if right {
                break;
            }
        }
    }

    /// Removes the first run.
    #[inline]
    pub(super) fn pop_first(&mut self) -> Option<Run> {
        let whole = self.first()?;
        self.remove(whole.span.last);
        self.uncount(whole.content.state, whole.span.len());
        Some(whole)
    }

    /// Adds a span that no run meets.
    fn put(&mut self, span: Span, content: Content) {
        self.count(content.state, span.len());
        let first = self.join_before(span.first, &content);
        if let Some(next) = span.last.checked_add(1)
            && let Some((_, slot)) = self.by_last.range_mut(next..).next()
            && slot.first == next
            && slot.content == content
        {
            slot.first = first;
            return;
        }
        self.insert(span.last, Slot { first, content });
    }

    /// Removes the run before an offset if it touches and agrees. Returns where the joined run begins.
    fn join_before(&mut self, first: i64, content: &Content) -> i64 {
        let before = self.by_last.range(..first).next_back().map(run);
        match before.filter(|before| before.content == *content) {
            Some(Run { span, .. }) if span.last.checked_add(1) == Some(first) => {
                self.remove(span.last);
                span.first
            }
            _ => first,
        }
    }

    fn insert(&mut self, last: i64, slot: Slot) {
        self.note(last, slot.content.state);
        self.by_last.insert(last, slot);
    }

    fn remove(&mut self, last: i64) {
        if let Some(slot) = self.by_last.remove(&last) {
            self.forget(last, slot.content.state);
        }
    }

    /// Takes note of a run that is there now.
    fn note(&mut self, last: i64, state: State) {
        if state == State::Available {
            self.available.insert(last);
        }
        self.held = self.held.saturating_add(usize::from(state.is_held()));
    }

    /// Takes note of a run that is gone.
    fn forget(&mut self, last: i64, state: State) {
        if state == State::Available {
            self.available.remove(&last);
        }
        self.held = self.held.saturating_sub(usize::from(state.is_held()));
    }

    fn count(&mut self, state: State, by: u64) {
        if let Some(records) = self.records.get_mut(state as usize) {
            *records = records.saturating_add(by);
        }
    }

    fn uncount(&mut self, state: State, by: u64) {
        if let Some(records) = self.records.get_mut(state as usize) {
            *records = records.saturating_sub(by);
        }
    }
}

fn run((last, slot): (&i64, &Slot)) -> Run {
    Run { span: Span { first: slot.first, last: *last }, content: slot.content }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "tests may panic")]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::reason::Reason;
    use super::*;

    fn content(state: u8, count: u16) -> Content {
        let states = [State::Available, State::Reserved, State::Acknowledged];
        Content::free(states[usize::from(state)], count, Reason::NONE)
    }

    proptest! {
        #[test]
        fn runs_are_a_map_from_offsets_to_contents(
            changes in prop::collection::vec((0_i64..40, 0_i64..12, 0_u8..4, 0_u16..2), 1..40)
        ) {
            let mut runs = Runs::default();
            let mut model = BTreeMap::new();
            for (first, more, state, count) in changes {
                let span = Span { first, last: first + more };
                for offset in span.first..=span.last {
                    if state == 3 {
                        model.remove(&offset);
                    } else {
                        model.insert(offset, content(state, count));
                    }
                }
                if state == 3 { runs.cut(span) } else { runs.set(span, content(state, count)) }
                let flat: BTreeMap<i64, Content> = runs
                    .iter()
                    .flat_map(|run| (run.span.first..=run.span.last).map(move |o| (o, run.content)))
                    .collect();
                prop_assert_eq!(&flat, &model);
                for (a, b) in runs.iter().zip(runs.iter().skip(1)) {
                    prop_assert!(a.span.last < b.span.first);
                    prop_assert!(a.span.last + 1 < b.span.first || a.content != b.content, "R1");
                }
                prop_assert_eq!(&Runs::from_ascending(runs.iter().collect()), &runs);
                for offset in 0..52 {
                    prop_assert_eq!(runs.find(offset).map(|run| run.content), model.get(&offset).copied());
                    let next = model.range(offset..).find(|(_, c)| c.state == State::Available);
                    let found = runs.available_from(offset).map(|run| run.span.first.max(offset));
                    prop_assert_eq!(found, next.map(|(o, _)| *o));
                }
            }
        }
    }
}
