//! What must hold of the state at any time, for the simulation and the fuzz target.

use super::partition::SharePartition;
use super::run::State;

impl SharePartition {
    /// Checks H1, H2, and the indexes behind H9 and H10.
    ///
    /// # Panics
    /// If one of them does not hold.
    pub(crate) fn check_structure(&self) {
        let mut next = self.start;
        let mut before = None;
        for run in self.window.iter() {
            assert_eq!(run.span.first, next, "H1: a hole in the window");
            assert!(before != Some(run.content), "H1: neighbours agree");
            before = Some(run.content);
            next = run.span.last.saturating_add(1);
            for offset in self.parked.in_span(run.span).map(|(offset, _)| offset) {
                assert_eq!(run.content.state, State::Parked, "{offset} is parked without its run");
            }
            if run.content.state == State::Parked {
                let there = self.parked.in_span(run.span).count() as u64;
                assert_eq!(there, run.span.len(), "{:?} is not parked as a whole", run.span);
            }
            if run.content.state == State::Blocked {
                for offset in run.span.first..=run.span.last {
                    self.check_blocked(offset);
                }
            }
        }
        assert_eq!(next, self.end.saturating_add(1), "H1: the end of the window");
        let first = self.window.first();
        assert!(!first.is_some_and(|run| run.content.state.lets_pass()), "H2: the start may move");
        self.check_outside();
        self.check_delays();
    }

    fn check_outside(&self) {
        assert!(self.log_start <= self.start, "H2: the log start has passed the start");
        for run in self.outside.iter() {
            assert!(run.span.last < self.start, "H2: outside, but not below the start");
            assert!(run.content.state.is_held(), "H2: outside, but not under way");
            let parked = self.parked.in_span(run.span).count();
            assert_eq!(parked, 0, "H2: parked and under way");
        }
    }

    fn check_delays(&self) {
        let (mut first, mut waiting) = (None, 0);
        for (offset, delay) in self.parked.iter() {
            assert!(offset >= self.log_start, "H2: {offset} is parked, but gone");
            assert!(offset <= self.end, "H2: {offset} is parked, but nobody has read it");
            if delay.blocked {
                self.check_blocked(offset);
                continue;
            }
            let due = (delay.due, offset);
            first = Some(first.map_or(due, |first: (i64, i64)| first.min(due)));
            waiting = usize::saturating_add(waiting, 1);
        }
        assert_eq!(self.parked.first_due(), first, "H9: the first that is due");
        assert_eq!(self.parked.due(i64::MAX).count(), waiting, "H9: what becomes due");
    }

    /// Who is blocked waits for another record of its key, which is not finished and is not blocked itself (K2).
    fn check_blocked(&self, offset: i64) {
        let order = self.order.as_ref().expect("blocked without an order of keys");
        let key = order.key(offset).expect("blocked, but its key is not known");
        let head = order.head(key).expect("blocked, but its key has no head");
        assert_ne!(head, offset, "K2: the head is blocked");
        let is_open = match self.state(head) {
            None | Some(State::Blocked) => false,
            Some(State::Parked) => self.parked.get(head).is_some_and(|delay| !delay.blocked),
            Some(state) => !state.is_finished(),
        };
        assert!(is_open, "K2: {offset} waits for {head}, which is finished or waits itself");
    }

    /// Checks that whatever could be held is free again (H8), or waits for a journal that works.
    ///
    /// # Panics
    /// If a member holds something.
    #[cfg(feature = "__internal")]
    pub(crate) fn check_nothing_held(&self) {
        let all = super::run::Span { first: 0, last: i64::MAX };
        assert!(self.over(all).all(|run| !run.content.state.is_held()), "H4: a lock has no end");
    }
}
