use std::time::Duration;

/// Measures how long a member has been silent.
///
/// Counts only the time during which the program has control. Time blocked inside the engine is not
/// silence: `poll` restarts the interval, and other calls pause it until they return.
///
/// There are two timers: `max.poll.interval.ms` since the last poll, and `session.timeout.ms`, if
/// the program set it, since the last call of any kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Silence {
    interval: Duration,
    /// The rest of the interval at `outside_since`.
    left: Duration,
    /// When the program got control. `None` while a call is inside the engine.
    outside_since: Option<Duration>,
    session: Option<Duration>,
    /// The time of the last call of any kind.
    heard: Duration,
    /// Until when the group keeps the place of a member that is away.
    away_until: Option<Duration>,
}

impl Silence {
    pub(super) fn new(interval: Duration, session: Option<Duration>, now: Duration) -> Self {
        Self {
            interval,
            left: interval,
            outside_since: Some(now),
            session,
            heard: now,
            away_until: None,
        }
    }

    /// Records a poll, which restarts the interval.
    pub(super) fn refresh(&mut self, now: Duration) {
        self.left = self.interval;
        // A time read before the lock was taken may arrive late. The clock never runs backwards
        // here.
        self.outside_since = self.outside_since.map(|since| since.max(now));
        self.heard(now);
    }

    /// Records a call that is not a poll.
    pub(super) fn heard(&mut self, now: Duration) {
        self.heard = self.heard.max(now);
    }

    /// Records that a call entered the engine.
    pub(super) fn enter(&mut self, now: Duration) {
        if let Some(since) = self.outside_since.take() {
            self.left = self.left.saturating_sub(now.saturating_sub(since));
        }
    }

    /// Records that the call returned to the program.
    pub(super) fn exit(&mut self, now: Duration) {
        self.outside_since = Some(self.outside_since.map_or(now, |since| since.max(now)));
        self.heard(now);
    }

    /// Records that the member went away, and that the group keeps its place.
    pub(super) fn go_away(&mut self, now: Duration, absence: Duration) {
        self.away_until = Some(now.saturating_add(absence));
    }

    /// Returns the earliest time at which the member can have been silent for too long. A member
    /// inside the engine may leave it at any moment.
    pub(super) fn earliest(&self, now: Duration) -> Duration {
        let shortest = self.session.map_or(self.interval, |session| session.min(self.interval));
        self.deadline().unwrap_or(now.saturating_add(shortest))
    }

    /// Returns when the member has been silent for too long, or `None` while it is inside the
    /// engine.
    pub(super) fn deadline(&self) -> Option<Duration> {
        if self.away_until.is_some() {
            return self.away_until;
        }
        let polled = self.outside_since?.saturating_add(self.left);
        let called = self.session.map(|session| self.heard.saturating_add(session));
        Some(called.map_or(polled, |called| called.min(polled)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn a_poll_restarts_the_interval_and_time_inside_it_does_not_count() {
        let mut timer = Silence::new(S(10), None, S(0));
        assert_eq!(timer.deadline(), Some(S(10)));
        timer.enter(S(9));
        timer.refresh(S(9));
        assert_eq!(timer.deadline(), None);
        timer.exit(S(1_000));
        assert_eq!(timer.deadline(), Some(S(1_010)));
    }

    #[test]
    fn a_commit_pauses_the_interval_without_restarting_it() {
        let mut timer = Silence::new(S(10), None, S(0));
        timer.enter(S(4));
        assert_eq!(timer.deadline(), None);
        timer.exit(S(100));
        assert_eq!(timer.deadline(), Some(S(106)));
    }

    #[test]
    fn late_readings_of_the_clock_do_not_shorten_the_interval() {
        let mut timer = Silence::new(S(10), None, S(50));
        timer.refresh(S(40));
        assert_eq!(timer.deadline(), Some(S(60)));
        timer.exit(S(45));
        assert_eq!(timer.deadline(), Some(S(60)));
        assert_eq!(Silence::new(Duration::MAX, None, S(50)).deadline(), Some(Duration::MAX));
    }

    #[test]
    fn a_session_ends_without_any_call_and_the_interval_without_a_poll() {
        let mut timer = Silence::new(S(10), Some(S(4)), S(0));
        assert_eq!(timer.deadline(), Some(S(4)));
        timer.heard(S(3));
        assert_eq!(timer.deadline(), Some(S(7)));
        timer.heard(S(6));
        timer.heard(S(9));
        assert_eq!(timer.deadline(), Some(S(10)), "calls are no polls");
        timer.refresh(S(9));
        assert_eq!(timer.deadline(), Some(S(13)));
        timer.enter(S(9));
        assert_eq!(timer.deadline(), None, "time inside the engine is not silence");
        assert_eq!(timer.earliest(S(20)), S(24));
        timer.exit(S(50));
        assert_eq!(timer.deadline(), Some(S(54)));
        assert_eq!(timer.earliest(S(52)), S(54));
    }

    #[test]
    fn an_absent_member_keeps_its_place_for_the_given_time() {
        let mut timer = Silence::new(S(10), Some(S(4)), S(0));
        timer.go_away(S(3), S(45));
        assert_eq!(timer.deadline(), Some(S(48)));
        timer.go_away(S(3), Duration::MAX);
        assert_eq!(timer.deadline(), Some(Duration::MAX));
    }
}
