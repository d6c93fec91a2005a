//! Time and randomness. The engine gets both through the traits of this module, so tests can inject them.
//!
//! Imported by `storage`, `config`, `journal`, `log`, `dedup`, `engine`, `producer`, `consumer`, `broker` and `internal`.

use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::types::Timestamp;

/// The source of time for the engine.
///
/// The wall clock stamps records, whether it is right or wrong. Monotonic time drives every timeout and the
/// age of everything that expires. If the wall clock is set back or forward while a folder is open, no member
/// is evicted and nothing is deleted. Over a restart, it makes data older by a day at most; see
/// [`BrokerConfig::offsets_retention`](crate::BrokerConfig::offsets_retention).
pub trait Clock: Send + Sync + fmt::Debug {
    /// Returns the wall clock time.
    fn now(&self) -> Timestamp;

    /// Returns the time since some fixed moment. It never goes back.
    fn monotonic(&self) -> Duration;
}

/// The clock of the machine.
///
/// ```
/// use grouplog::time::{Clock, SystemClock};
/// let clock = SystemClock::new();
/// assert!(clock.now().as_millis() > 1_700_000_000_000);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// Creates a clock whose monotonic time starts now.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[cfg(unix)]
    #[inline]
    fn now(&self) -> Timestamp {
        // Every record is stamped. This is the clock of `SystemTime::now` at less cost.
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        let seconds = now.tv_sec.max(0).saturating_mul(1000);
        Timestamp::from_millis(seconds.saturating_add(now.tv_nsec / 1_000_000))
    }

    #[cfg(not(unix))]
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    fn now(&self) -> Timestamp {
        Timestamp::from(std::time::SystemTime::now())
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}

/// A clock that moves only when the program moves it, for tests.
///
/// ```
/// use std::time::Duration;
/// use grouplog::Timestamp;
/// use grouplog::time::{Clock, ManualClock};
///
/// let clock = ManualClock::at(Timestamp::from_millis(1_000));
/// clock.advance(Duration::from_secs(2));
/// assert_eq!(clock.now(), Timestamp::from_millis(3_000));
/// assert_eq!(clock.monotonic(), Duration::from_secs(2));
/// clock.set_wall(Timestamp::from_millis(5)); // an administrator sets the clock back
/// assert_eq!(clock.monotonic(), Duration::from_secs(2));
/// ```
#[derive(Debug)]
pub struct ManualClock {
    wall_ms: AtomicI64,
    monotonic_us: AtomicU64,
}

impl ManualClock {
    /// Creates a clock that shows `now`. Its monotonic time is 0.
    pub fn at(now: Timestamp) -> Self {
        Self { wall_ms: AtomicI64::new(now.as_millis()), monotonic_us: AtomicU64::new(0) }
    }

    /// Moves both times forward. Each stops at the largest value that it can show.
    pub fn advance(&self, by: Duration) {
        let millis = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        let micros = u64::try_from(by.as_micros()).unwrap_or(u64::MAX);
        let (order, read) = (Ordering::Relaxed, Ordering::Relaxed);
        // Both closures always return `Some`, so neither update fails.
        let wall = |now: i64| Some(now.saturating_add(millis));
        let _moved = self.wall_ms.fetch_update(order, read, wall);
        let monotonic = |now: u64| Some(now.saturating_add(micros));
        let _moved = self.monotonic_us.fetch_update(order, read, monotonic);
    }

    /// Sets the wall clock alone, as an administrator might.
    pub fn set_wall(&self, now: Timestamp) {
        self.wall_ms.store(now.as_millis(), Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.wall_ms.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_micros(self.monotonic_us.load(Ordering::Relaxed))
    }
}

/// The source of random numbers for the engine: topic ids, salts, sticky partitions.
pub trait Random: Send + Sync + fmt::Debug {
    /// Returns the next 64 random bits.
    fn next_u64(&self) -> u64;
}

/// Random numbers from a seed (SplitMix64). Good for salts and spreading, not for secrets.
///
/// ```
/// use grouplog::time::{Random, SeededRandom};
/// assert_eq!(SeededRandom::new(7).next_u64(), SeededRandom::new(7).next_u64());
/// assert_ne!(SeededRandom::new(7).next_u64(), SeededRandom::new(8).next_u64());
/// ```
#[derive(Debug)]
pub struct SeededRandom {
    state: AtomicU64,
}

impl SeededRandom {
    /// Creates the sequence that belongs to `seed`.
    pub fn new(seed: u64) -> Self {
        Self { state: AtomicU64::new(seed) }
    }

    /// Creates a sequence that the operating system seeds.
    pub fn from_os() -> Self {
        use std::hash::{BuildHasher, Hasher};
        // The standard library seeds its hasher from the operating system.
        Self::new(std::hash::RandomState::new().build_hasher().finish())
    }
}

impl Random for SeededRandom {
    fn next_u64(&self) -> u64 {
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
        let state = self.state.fetch_add(GOLDEN, Ordering::Relaxed).wrapping_add(GOLDEN);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
