//! Measures the ages that expiry depends on.
//!
//! Everything that is deleted by age goes by the count of this clock, not by the wall clock, because a jump
//! of the wall clock is not elapsed time. The count is in milliseconds since 1970, like the wall clock, and
//! runs beside it.
//!
//! * In a new folder the count starts at the wall clock.
//! * While the folder is open, the count follows the monotonic clock, whatever the wall clock does.
//! * Opening adds the time for which the folder was closed, as the wall clock shows it, but a day at most: a
//!   machine may start with a wrong clock. A later opening adds what exceeds the day, if it comes an hour or
//!   more after that one and finds that the wall clock has continued from there.
//! * If the wall clock is set back while the folder is open, the clock subtracts what this opening added.
//!
//! So a wrong clock makes data older by a day at most, however far it jumps. Data that this count makes too
//! young is deleted later, never earlier. The count is exact for programs that stay open and for programs
//! that start at least once a day. For a program that starts less often, the count lags by one run. Time that
//! the machine sleeps counts from the next opening on. The clock trusts a wrong wall clock if two openings,
//! an hour or more apart, both see it.
//!
//! An age is the difference of two times of this clock: [`AgeClock::stamp`] at a use, and [`AgeClock::now`]
//! later. The first is never below the wall clock and the second is never above it, so setting the wall clock
//! back makes nothing older.

use std::time::Duration;

use crate::time::Clock;
use crate::types::Timestamp;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// The readings of the clocks that a checkpoint keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LastSeen {
    /// The count.
    pub(crate) count: Timestamp,
    /// The wall clock.
    pub(crate) wall: Timestamp,
}

/// The count of an open folder.
#[derive(Debug)]
pub(crate) struct AgeClock {
    /// The count at the time when the monotonic clock showed `since`.
    base: i64,
    since: Duration,
    /// The part of `base` that this opening has added.
    added: i64,
    /// The last reading of the wall clock.
    wall: i64,
    monotonic: Duration,
}

impl AgeClock {
    /// Creates the clock of a folder that is being opened.
    pub(crate) fn resume(last_seen: Option<LastSeen>, clock: &dyn Clock) -> Self {
        Self::at(last_seen, clock.now(), clock.monotonic())
    }

    fn at(last_seen: Option<LastSeen>, wall: Timestamp, monotonic: Duration) -> Self {
        let wall = wall.as_millis();
        let (base, added) = last_seen.map_or((wall, 0), |last| opened(last, wall));
        Self { base, since: monotonic, added, wall, monotonic }
    }

    /// Returns the time at which ages end.
    pub(crate) fn now(&mut self, wall: Timestamp, monotonic: Duration) -> Timestamp {
        self.look(wall, monotonic);
        Timestamp::from_millis(self.count().min(self.wall))
    }

    /// Returns the time to record for something that is used now.
    pub(crate) fn stamp(&mut self, wall: Timestamp, monotonic: Duration) -> Timestamp {
        self.look(wall, monotonic);
        // The formats have no time before 1970.
        Timestamp::from_millis(self.count().max(self.wall).max(0))
    }

    /// Returns the readings for the next opening.
    pub(crate) fn last_seen(&mut self, wall: Timestamp, monotonic: Duration) -> LastSeen {
        self.look(wall, monotonic);
        LastSeen {
            count: Timestamp::from_millis(self.count()),
            wall: Timestamp::from_millis(self.wall),
        }
    }

    fn count(&self) -> i64 {
        let open = self.monotonic.saturating_sub(self.since).as_millis();
        self.base.saturating_add(i64::try_from(open).unwrap_or(i64::MAX))
    }

    fn look(&mut self, wall: Timestamp, monotonic: Duration) {
        let wall = wall.as_millis();
        if wall < self.wall.saturating_sub(MINUTE) {
            self.base = self.base.saturating_sub(std::mem::take(&mut self.added));
        }
        self.wall = wall;
        self.monotonic = self.monotonic.max(monotonic);
        let ahead = self.count().saturating_sub(wall);
        if (1..=MINUTE).contains(&ahead) {
            // The wall clock is right, and is being slowed down a little.
            self.base = self.base.saturating_sub(ahead);
        }
    }
}

/// Returns the count at an opening, and the part of it that the opening adds.
fn opened(last: LastSeen, wall: i64) -> (i64, i64) {
    let (count, before) = (last.count.as_millis(), last.wall.as_millis());
    let closed = wall.saturating_sub(before);
    if closed < 0 {
        return (count, 0);
    }
    if closed < HOUR {
        return (count.saturating_add(closed), closed);
    }
    // The wall clock has continued from its last reading, so that reading was right, as far as can be known.
    let held = count.max(before);
    let count = held.saturating_add(closed.min(DAY)).min(wall);
    (count, count.saturating_sub(held).max(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::ManualClock;

    /// Far from 1970 and from the end of time.
    const START: i64 = 20_000 * DAY;
    const WEEK: i64 = 7 * DAY;
    const YEARS: i64 = 3_650 * DAY;

    fn days(count: u64) -> Duration {
        Duration::from_hours(24 * count)
    }

    /// A machine with a folder that is opened from time to time.
    struct Machine {
        clock: ManualClock,
        ages: AgeClock,
    }

    impl Machine {
        fn new() -> Self {
            let clock = ManualClock::at(Timestamp::from_millis(START));
            let ages = AgeClock::resume(None, &clock);
            Self { clock, ages }
        }

        /// Returns the stamp of something that is used now.
        fn used(&mut self) -> i64 {
            self.ages.stamp(self.clock.now(), self.clock.monotonic()).as_millis()
        }

        fn age(&mut self, used: i64) -> i64 {
            self.ages.now(self.clock.now(), self.clock.monotonic()).as_millis() - used
        }

        /// Sets the wall clock forward, or back if `by` is negative.
        fn set_by(&mut self, by: i64) {
            self.clock.set_wall(Timestamp::from_millis(self.clock.now().as_millis() + by));
        }

        fn closed_for(&mut self, time: Duration, set_by: i64) {
            let last = self.ages.last_seen(self.clock.now(), self.clock.monotonic());
            self.clock.advance(time);
            self.set_by(set_by);
            let clock = ManualClock::at(self.clock.now());
            self.ages = AgeClock::resume(Some(last), &clock);
            self.clock = clock;
        }
    }

    #[test]
    fn ages_grow_with_the_time_that_passes() {
        let mut machine = Machine::new();
        let used = machine.used();
        assert_eq!((used, machine.age(used)), (START, 0));
        for _ in 0..700 {
            machine.clock.advance(days(1) / 100);
        }
        assert_eq!(machine.age(used), WEEK);
    }

    /// Readings that are less than a millisecond apart add up.
    #[test]
    fn no_time_is_lost_between_readings() {
        let mut machine = Machine::new();
        let used = machine.used();
        let mut monotonic = Duration::ZERO;
        for _ in 0..10_000 {
            monotonic += Duration::from_micros(500);
            machine.ages.now(Timestamp::from_millis(START + YEARS), monotonic);
        }
        machine.set_by(YEARS);
        let now = machine.ages.now(machine.clock.now(), monotonic);
        assert_eq!(now.as_millis() - used, 5_000);
    }

    #[test]
    fn a_forward_jump_and_its_correction_age_nothing() {
        let mut machine = Machine::new();
        let used = machine.used();
        machine.clock.advance(days(1));
        machine.set_by(YEARS);
        assert_eq!(machine.age(used), DAY);
        machine.clock.advance(days(1));
        assert_eq!(machine.age(used), 2 * DAY);
        let ahead = machine.used();
        machine.set_by(-YEARS);
        assert_eq!(machine.age(used), 2 * DAY);
        assert!(machine.age(ahead) < 0);
        // The count continues.
        machine.clock.advance(days(5));
        assert_eq!(machine.age(used), WEEK);
    }

    #[test]
    fn a_backward_jump_and_its_correction_make_nothing_older() {
        let mut machine = Machine::new();
        let used = machine.used();
        machine.set_by(-START);
        assert!(machine.age(used) < 0);
        // The wall clock shows 1970, but the stamp does not.
        let later = machine.used();
        assert_eq!(later, START);
        machine.clock.advance(days(1));
        machine.set_by(START);
        assert_eq!((machine.age(used), machine.age(later)), (DAY, DAY));
    }

    #[test]
    fn short_daily_runs_age_by_a_day_each() {
        let mut machine = Machine::new();
        let used = machine.used();
        for day in 1..=7 {
            machine.closed_for(days(1), 0);
            assert_eq!(machine.age(used), day * DAY);
        }
    }

    #[test]
    fn time_beyond_a_day_counts_once_a_later_opening_confirms_it() {
        let mut machine = Machine::new();
        let used = machine.used();
        machine.closed_for(days(30), 0);
        assert_eq!(machine.age(used), DAY);
        // An opening right after it confirms nothing.
        machine.closed_for(Duration::from_secs(10), 0);
        assert_eq!(machine.age(used), DAY + 10_000);
        machine.closed_for(days(30), 0);
        assert_eq!(machine.age(used), 31 * DAY + 10_000);
        machine.closed_for(Duration::from_hours(1), 0);
        assert_eq!(machine.age(used), 60 * DAY + 10_000 + HOUR);
    }

    #[test]
    fn a_jump_over_a_restart_ages_by_a_day_at_most() {
        let mut machine = Machine::new();
        let used = machine.used();
        machine.closed_for(Duration::from_mins(1), YEARS);
        assert_eq!(machine.age(used), DAY);
        // A program that restarts again and again meanwhile.
        for _ in 0..100 {
            machine.closed_for(Duration::from_secs(1), 0);
        }
        assert_eq!(machine.age(used), DAY + 100_000);
        machine.set_by(-YEARS);
        assert!(machine.age(used) < DAY);
    }

    /// The clock is wrong at each start, until the network sets it.
    #[test]
    fn wrong_starts_do_not_add_up() {
        for wrong in [YEARS, -START] {
            let mut machine = Machine::new();
            let used = machine.used();
            let mut passed = 0;
            for _ in 0..50 {
                machine.closed_for(Duration::from_mins(10), wrong);
                passed += 10 * MINUTE;
                assert!(machine.age(used) <= DAY + passed, "{wrong}");
                machine.set_by(-wrong);
                assert!(machine.age(used) <= passed, "{wrong}");
                machine.clock.advance(Duration::from_secs(1));
                passed += 1_000;
            }
            // Days while the folder is open count as always.
            machine.clock.advance(days(7));
            assert!((WEEK..=WEEK + passed).contains(&machine.age(used)), "{wrong}");
        }
    }

    /// A folder that was created while the clock was ahead does not stay unprotected for ever.
    #[test]
    fn a_count_that_is_ahead_returns_to_a_correct_clock() {
        let mut machine = Machine::new();
        machine.set_by(YEARS);
        machine.ages = AgeClock::resume(None, &machine.clock);
        machine.closed_for(days(1), -YEARS);
        machine.closed_for(days(1), 0);
        let used = machine.used();
        assert_eq!(used, machine.clock.now().as_millis());
        machine.set_by(YEARS);
        assert_eq!(machine.age(used), 0);
    }

    #[test]
    fn the_count_follows_a_slightly_slowed_clock() {
        let mut machine = Machine::new();
        for _ in 0..100 {
            machine.clock.advance(Duration::from_hours(1));
            machine.set_by(-2_000);
            assert_eq!(machine.used(), machine.clock.now().as_millis());
        }
    }

    #[test]
    fn times_at_both_ends_do_not_overflow() {
        for last in [i64::MIN, -1, 0, i64::MAX] {
            for wall in [i64::MIN, -1, 0, i64::MAX] {
                let [last, wall] = [last, wall].map(Timestamp::from_millis);
                let last = LastSeen { count: last, wall: last };
                let mut ages = AgeClock::at(Some(last), wall, Duration::MAX);
                for wall in [i64::MAX, i64::MIN, 0].map(Timestamp::from_millis) {
                    assert!(ages.now(wall, Duration::MAX) <= wall);
                    assert!(ages.stamp(wall, Duration::ZERO) >= wall);
                }
            }
        }
    }
}
