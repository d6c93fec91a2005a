//! How long a record waits after an attempt that failed.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use std::time::Duration;

/// How long a record waits after an attempt that failed: `base * factor^(attempts - 1)`, at most `max`; of that a random
/// part between `1 - jitter` and 1, so that records which failed together do not come back together.
///
/// ```
/// use grouplog::Backoff;
/// use std::time::Duration;
///
/// // 1 s, 2 s, 4 s ... up to 10 minutes; each a random part between half of it and the whole.
/// let backoff = Backoff::exponential(Duration::from_secs(1));
/// // The same, up to one minute and without a random part.
/// let exact = backoff.max(Duration::from_secs(60)).jitter_percent(0);
/// assert_ne!(backoff, exact);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The delay after the first attempt. Zero: none at all, as in Kafka.
    pub(crate) base: Duration,
    /// The growth from attempt to attempt, in hundredths. 100: the delay is fixed.
    pub(crate) factor_percent: u32,
    /// The longest delay.
    pub(crate) max: Duration,
    /// The random part, in hundredths.
    pub(crate) jitter_percent: u32,
}

impl Backoff {
    /// No delay.
    pub(crate) const NONE: Self = Self {
        base: Duration::ZERO,
        factor_percent: 200,
        max: Duration::from_mins(10),
        jitter_percent: 50,
    };

    /// Returns the backoff that is no delay at all.
    pub fn none() -> Self {
        Self::NONE
    }

    /// Returns a delay that is the same after each attempt.
    pub fn fixed(delay: Duration) -> Self {
        let max = delay.max(Self::NONE.max);
        Self { base: delay, factor_percent: 100, max, jitter_percent: 0 }
    }

    /// Returns a delay that begins with `base`, doubles with each attempt up to 10 minutes, and is random in its upper
    /// half.
    pub fn exponential(base: Duration) -> Self {
        Self { base, max: base.max(Self::NONE.max), ..Self::NONE }
    }

    /// Sets the longest delay: up to 10 years.
    #[must_use]
    pub fn max(mut self, max: Duration) -> Self {
        self.max = max;
        self
    }

    /// Sets the growth from attempt to attempt in hundredths: 100, which is none, to 10,000.
    #[must_use]
    pub fn factor_percent(mut self, percent: u32) -> Self {
        self.factor_percent = percent;
        self
    }

    /// Sets how much of a delay is random, in hundredths: 0 to 100.
    #[must_use]
    pub fn jitter_percent(mut self, percent: u32) -> Self {
        self.jitter_percent = percent;
        self
    }

    /// Returns the delay after `attempts`, in milliseconds. `random` is any 64 random bits.
    pub(crate) fn delay_ms(&self, attempts: u16, random: u64) -> u64 {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let (base, max) = (millis(self.base), millis(self.max));
        let mut delay = base.min(max);
        for _ in 1..attempts {
            let grown = u128::from(delay).saturating_mul(u128::from(self.factor_percent)) / 100;
            delay = u64::try_from(grown).unwrap_or(u64::MAX).min(max);
            if delay == max || delay == 0 {
                break;
            }
        }
        let jitter =
            u128::from(delay).saturating_mul(u128::from(self.jitter_percent.min(100))) / 100;
        // The upper half of the product is a number below `jitter + 1`, evenly spread.
        let part = u128::from(random).saturating_mul(jitter.saturating_add(1)) >> 64;
        u64::try_from(u128::from(delay).saturating_sub(part)).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_their_limit_and_spread() {
        let backoff = Backoff { base: Duration::from_secs(1), ..Backoff::NONE };
        for (attempts, delay) in
            [(1, 1_000), (2, 2_000), (4, 8_000), (10, 512_000), (11, 600_000), (99, 600_000)]
        {
            assert_eq!(backoff.delay_ms(attempts, 0), delay);
            assert_eq!(backoff.delay_ms(attempts, u64::MAX), delay / 2);
            assert!(
                (delay / 2..=delay).contains(&backoff.delay_ms(attempts, 0x1234_5678_9abc_def0))
            );
        }
        let fixed = Backoff { factor_percent: 100, jitter_percent: 0, ..backoff };
        assert_eq!(fixed.delay_ms(u16::MAX, 77), 1_000);
        assert_eq!(Backoff::NONE.delay_ms(5, 77), 0);
        let endless =
            Backoff { base: Duration::MAX, max: Duration::MAX, jitter_percent: 0, ..backoff };
        assert_eq!(endless.delay_ms(u16::MAX, 0), u64::MAX);
    }
}
