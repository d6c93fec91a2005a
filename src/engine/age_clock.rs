//! The time that ages are measured by.
//!
//! Whatever is deleted by age goes by this count, not by the wall clock: a jump of the wall clock is not elapsed
//! time. The count is in milliseconds since 1970, as the wall clock is, and runs beside it.
//!
//! * In a new folder it begins with the wall clock.
//! * While the folder is open it goes on with the monotonic clock, whatever the wall clock does.
//! * At opening it goes on by the time for which the folder was closed, as the wall clock tells it, but by a day
//!   at most: a machine may begin with a wrong clock. What is beyond the day is added when a later opening, an
//!   hour or more after that one, finds that the wall clock has gone on from there.
//! * If the wall clock is set back while the folder is open, what this opening added is taken off again.
//!
//! So an error makes data older by a day at most, however far the clock jumps; and what is too young by this
//! count is deleted later, never earlier. The count is exact for programs that stay open, and for those that
//! are started at least once a day. A program that runs less often is a run behind. Sleep of the machine counts
//! from the next opening on. A wall clock that is wrong at two openings, an hour or more apart, is believed.
//!
//! An age is the difference of two times of this clock: [`AgeClock::stamp`] when something is used, and
//! [`AgeClock::now`] later. The first is never below the wall clock and the second never above it, so a clock
//! that was set back makes nothing older either.

use std::time::Duration;

use crate::time::Clock;
use crate::types::Timestamp;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// What a checkpoint keeps of the clock.
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
    /// The count when the monotonic clock showed `since`.
    base: i64,
    since: Duration,
    /// How much of `base` this opening has added.
    added: i64,
    /// The last time that the wall clock was looked at.
    wall: i64,
    monotonic: Duration,
}

impl AgeClock {
    /// The clock of a folder that is opened now.
    pub(crate) fn resume(last_seen: Option<LastSeen>, clock: &dyn Clock) -> Self {
        Self::at(last_seen, clock.now(), clock.monotonic())
    }

    fn at(last_seen: Option<LastSeen>, wall: Timestamp, monotonic: Duration) -> Self {
        let wall = wall.as_millis();
        let (base, added) = last_seen.map_or((wall, 0), |last| opened(last, wall));
        Self { base, since: monotonic, added, wall, monotonic }
    }

    /// The time at which ages end.
    pub(crate) fn now(&mut self, wall: Timestamp, monotonic: Duration) -> Timestamp {
        self.look(wall, monotonic);
        Timestamp::from_millis(self.count().min(self.wall))
    }

    /// The time that is noted for what is used now.
    pub(crate) fn stamp(&mut self, wall: Timestamp, monotonic: Duration) -> Timestamp {
        self.look(wall, monotonic);
        // The formats have no time before 1970.
        Timestamp::from_millis(self.count().max(self.wall).max(0))
    }

    /// What the next opening has to know.
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
            // A wall clock that is slowed down a little, and right.
            self.base = self.base.saturating_sub(ahead);
        }
    }
}

/// The count at an opening, and how much of it the opening has added.
fn opened(last: LastSeen, wall: i64) -> (i64, i64) {
    let (count, before) = (last.count.as_millis(), last.wall.as_millis());
    let closed = wall.saturating_sub(before);
    if closed < 0 {
        return (count, 0);
    }
    if closed < HOUR {
        return (count.saturating_add(closed), closed);
    }
    // The wall clock has gone on from where it was: it was right then, as far as can be told.
    let held = count.max(before);
    let count = held.saturating_add(closed.min(DAY)).min(wall);
    (count, count.saturating_sub(held).max(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::ManualClock;

    /// Far from 1970, and from the end of time.
    const START: i64 = 20_000 * DAY;
    const WEEK: i64 = 7 * DAY;
    const YEARS: i64 = 3_650 * DAY;

    fn days(count: u64) -> Duration {
        Duration::from_hours(24 * count)
    }

    /// A machine with a folder that is opened now and then.
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

        /// What is used now.
        fn used(&mut self) -> i64 {
            self.ages.stamp(self.clock.now(), self.clock.monotonic()).as_millis()
        }

        fn age(&mut self, used: i64) -> i64 {
            self.ages.now(self.clock.now(), self.clock.monotonic()).as_millis() - used
        }

        /// Somebody sets the wall clock.
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

    /// Looks that are less than a millisecond apart add up.
    #[test]
    fn no_time_is_lost_between_looks() {
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
    fn a_jump_forward_ages_nothing_and_neither_does_the_way_back() {
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
        // Time goes on being counted.
        machine.clock.advance(days(5));
        assert_eq!(machine.age(used), WEEK);
    }

    #[test]
    fn a_jump_back_makes_nothing_older_not_even_after_it_is_mended() {
        let mut machine = Machine::new();
        let used = machine.used();
        machine.set_by(-START);
        assert!(machine.age(used) < 0);
        // Used while the clock stands in 1970, and not in 1970.
        let later = machine.used();
        assert_eq!(later, START);
        machine.clock.advance(days(1));
        machine.set_by(START);
        assert_eq!((machine.age(used), machine.age(later)), (DAY, DAY));
    }

    #[test]
    fn runs_of_a_moment_once_a_day_age_by_the_day() {
        let mut machine = Machine::new();
        let used = machine.used();
        for day in 1..=7 {
            machine.closed_for(days(1), 0);
            assert_eq!(machine.age(used), day * DAY);
        }
    }

    #[test]
    fn what_is_beyond_a_day_counts_when_the_next_opening_confirms_it() {
        let mut machine = Machine::new();
        let used = machine.used();
        machine.closed_for(days(30), 0);
        assert_eq!(machine.age(used), DAY);
        // At once is too early.
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
        // One that is restarted again and again meanwhile.
        for _ in 0..100 {
            machine.closed_for(Duration::from_secs(1), 0);
        }
        assert_eq!(machine.age(used), DAY + 100_000);
        machine.set_by(-YEARS);
        assert!(machine.age(used) < DAY);
    }

    /// A clock that is wrong at each start, until the network sets it.
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
            // Days while it is open count as ever.
            machine.clock.advance(days(7));
            assert!((WEEK..=WEEK + passed).contains(&machine.age(used)), "{wrong}");
        }
    }

    /// A folder that was made while the clock was ahead is not without protection for ever.
    #[test]
    fn a_count_that_is_ahead_comes_back_to_a_clock_that_is_right() {
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
    fn a_clock_that_is_slowed_down_a_little_is_followed() {
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
