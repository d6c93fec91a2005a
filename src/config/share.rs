//! The settings of a share group.
//!
//! | key | default | range |
//! |---|---|---|
//! | `share.record.lock.duration.ms` | 30 s | 1 ms to 12 h |
//! | `share.delivery.count.limit` | 5 | 1 to 10,000 |
//! | `share.partition.max.record.locks` | 100,000 | 1 to 10,000,000 |
//! | `share.auto.offset.reset` | `earliest` | `earliest`, `latest`, `by_duration:PnDTnHnMn.nS` |
//! | `share.isolation.level` | `read_uncommitted` | `read_uncommitted`, `read_committed` |
//! | `share.renew.acknowledge.enable` | true | |
//! | `share.acquire.mode` | `record_limit` | `record_limit`, `batch_optimized` |
//! | `share.ordering` | `none` | `none`, `key` |
//! | `share.retry.backoff.ms` | 0: none | 0 to 10 years |
//! | `share.retry.backoff.max.ms` | 10 min | 1 ms to 10 years, not below `share.retry.backoff.ms` |
//! | `share.retry.backoff.factor` | 2 | 1 (fixed) to 100, two decimals |
//! | `share.retry.backoff.jitter` | 0.5 | 0 to 1, two decimals |
//! | `errors.deadletterqueue.topic.name` | empty: none | a topic that the group does not read, without `__` in front |
//! | `errors.deadletterqueue.copy.record.enable` | true | |
//!
//! Kafka's `share.auto.offset.reset` is `latest`, its window 2,000 records, its acquire mode `batch_optimized`, and it
//! does not copy dead letters. A group of an embedded queue must not miss what was sent before it existed, and has
//! memory for a larger window.

use std::time::Duration;

use super::{IsolationLevel, millis, number};
use crate::error::{Error, Result};
use crate::types::{AcquireMode, Backoff, OffsetReset, ShareOrdering};

const LOCK: &str = "share.record.lock.duration.ms";
const LIMIT: &str = "share.delivery.count.limit";
const MAX_LOCKS: &str = "share.partition.max.record.locks";
const RESET: &str = "share.auto.offset.reset";
const ISOLATION: &str = "share.isolation.level";
const RENEW: &str = "share.renew.acknowledge.enable";
const MODE: &str = "share.acquire.mode";
const ORDERING: &str = "share.ordering";
const BACKOFF: &str = "share.retry.backoff.ms";
const BACKOFF_MAX: &str = "share.retry.backoff.max.ms";
const BACKOFF_FACTOR: &str = "share.retry.backoff.factor";
const BACKOFF_JITTER: &str = "share.retry.backoff.jitter";
const DLQ: &str = "errors.deadletterqueue.topic.name";
const DLQ_COPY: &str = "errors.deadletterqueue.copy.record.enable";

const TEN_YEARS: Duration = Duration::from_hours(10 * 365 * 24);
const HOURS_12: Duration = Duration::from_hours(12);

/// The settings of a share group. The folder keeps them, and each member of the group follows them.
///
/// ```
/// use grouplog::{Backoff, ShareGroupConfig};
/// use std::time::Duration;
///
/// let config = ShareGroupConfig::new()
///     .delivery_count_limit(3)
///     .retry_backoff(Backoff::exponential(Duration::from_secs(1)))
///     .dead_letter_topic("emails.dead");
/// // The same by Kafka's names.
/// let same = ShareGroupConfig::new()
///     .set("share.delivery.count.limit", "3")?
///     .set("share.retry.backoff.ms", "1000")?
///     .set("errors.deadletterqueue.topic.name", "emails.dead")?;
/// assert_eq!(config, same);
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareGroupConfig {
    pub(crate) lock_duration: Duration,
    pub(crate) delivery_count_limit: u16,
    pub(crate) max_record_locks: u32,
    pub(crate) auto_offset_reset: OffsetReset,
    pub(crate) isolation_level: IsolationLevel,
    pub(crate) renew_enabled: bool,
    pub(crate) acquire_mode: AcquireMode,
    pub(crate) ordering: ShareOrdering,
    pub(crate) backoff: Backoff,
    /// Empty: none.
    pub(crate) dead_letter_topic: String,
    pub(crate) dead_letter_copy: bool,
}

impl Default for ShareGroupConfig {
    fn default() -> Self {
        Self {
            lock_duration: Duration::from_secs(30),
            delivery_count_limit: 5,
            max_record_locks: 100_000,
            auto_offset_reset: OffsetReset::Earliest,
            isolation_level: IsolationLevel::ReadUncommitted,
            renew_enabled: true,
            acquire_mode: AcquireMode::RecordLimit,
            ordering: ShareOrdering::None,
            backoff: Backoff::NONE,
            dead_letter_topic: String::new(),
            dead_letter_copy: true,
        }
    }
}

impl ShareGroupConfig {
    /// The keys of all settings.
    pub(crate) const KEYS: [&str; 14] = [
        LOCK,
        LIMIT,
        MAX_LOCKS,
        RESET,
        ISOLATION,
        RENEW,
        MODE,
        ORDERING,
        BACKOFF,
        BACKOFF_MAX,
        BACKOFF_FACTOR,
        BACKOFF_JITTER,
        DLQ,
        DLQ_COPY,
    ];

    /// Returns the defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how long a handler may keep a record without a word (`share.record.lock.duration.ms`): 1 ms to 12 hours,
    /// 30 seconds by default, in whole milliseconds. Then the record is delivered again.
    #[must_use]
    pub fn record_lock_duration(mut self, duration: Duration) -> Self {
        self.lock_duration = whole_millis(duration);
        self
    }

    /// Sets how often a record is delivered at most (`share.delivery.count.limit`): 1 to 10,000, 5 by default. It is
    /// looked at when an attempt ends.
    #[must_use]
    pub fn delivery_count_limit(mut self, limit: u16) -> Self {
        self.delivery_count_limit = limit;
        self
    }

    /// Sets how many records of a partition, from the first unfinished one on, may be under way
    /// (`share.partition.max.record.locks`): 1 to 10 million, 100,000 by default. Records that wait for a time do not
    /// count.
    #[must_use]
    pub fn max_record_locks(mut self, records: u32) -> Self {
        self.max_record_locks = records;
        self
    }

    /// Sets where a group begins that has read nothing of a partition (`share.auto.offset.reset`). `Earliest` by
    /// default, unlike Kafka: what was sent before the first member came is not lost. `None` is refused.
    #[must_use]
    pub fn auto_offset_reset(mut self, reset: OffsetReset) -> Self {
        self.auto_offset_reset = reset;
        self
    }

    /// Sets which records of Kafka's transactions are delivered (`share.isolation.level`). `ReadUncommitted` by default.
    #[must_use]
    pub fn isolation_level(mut self, level: IsolationLevel) -> Self {
        self.isolation_level = level;
        self
    }

    /// Sets whether handlers may renew their locks (`share.renew.acknowledge.enable`). True by default.
    #[must_use]
    pub fn renew_acknowledge_enable(mut self, enable: bool) -> Self {
        self.renew_enabled = enable;
        self
    }

    /// Sets whether the records of a key are delivered one after the other, in the order of the log
    /// (`share.ordering=key`). False by default. A key waits while its first unfinished record is under way or waits
    /// for its backoff.
    #[must_use]
    pub fn ordered_by_key(mut self, ordered: bool) -> Self {
        self.ordering = if ordered { ShareOrdering::Key } else { ShareOrdering::None };
        self
    }

    /// Sets how long a record waits after an attempt that failed (`share.retry.backoff.*`). By default it does not
    /// wait, as in Kafka.
    #[must_use]
    pub fn retry_backoff(mut self, backoff: Backoff) -> Self {
        let (base, max) = (whole_millis(backoff.base), whole_millis(backoff.max));
        self.backoff = Backoff { base, max, ..backoff };
        self
    }

    /// Sets the topic that gets the records which are rejected or have used up their deliveries
    /// (`errors.deadletterqueue.topic.name`). An empty name, the default, stands for none: such records are dropped.
    /// The topic is created with the first dead letter.
    #[must_use]
    pub fn dead_letter_topic(mut self, topic: impl Into<String>) -> Self {
        self.dead_letter_topic = topic.into();
        self
    }

    /// Sets whether dead letters have key, value and headers of the record
    /// (`errors.deadletterqueue.copy.record.enable`). True by default, unlike Kafka.
    #[must_use]
    pub fn dead_letter_copy(mut self, copy: bool) -> Self {
        self.dead_letter_copy = copy;
        self
    }

    /// Returns the settings that are not defaults, by their keys.
    pub(crate) fn entries(&self) -> Vec<(&'static str, String)> {
        let default = Self::default();
        let millis = |duration: Duration| duration.as_millis().to_string();
        let hundredths = |number: u32| format!("{}.{:02}", number / 100, number % 100);
        let all = |config: &Self| {
            let Self { backoff, .. } = config;
            [
                (LOCK, millis(config.lock_duration)),
                (LIMIT, config.delivery_count_limit.to_string()),
                (MAX_LOCKS, config.max_record_locks.to_string()),
                (RESET, reset_name(config.auto_offset_reset)),
                (ISOLATION, isolation_name(config.isolation_level).to_owned()),
                (RENEW, config.renew_enabled.to_string()),
                (MODE, mode_name(config.acquire_mode).to_owned()),
                (ORDERING, ordering_name(config.ordering).to_owned()),
                (BACKOFF, millis(backoff.base)),
                (BACKOFF_MAX, millis(backoff.max)),
                (BACKOFF_FACTOR, hundredths(backoff.factor_percent)),
                (BACKOFF_JITTER, hundredths(backoff.jitter_percent)),
                (DLQ, config.dead_letter_topic.clone()),
                (DLQ_COPY, config.dead_letter_copy.to_string()),
            ]
        };
        let pairs = all(self).into_iter().zip(all(&default));
        pairs.filter(|(is, default)| is != default).map(|(is, _)| is).collect()
    }

    /// Sets a setting by its key. Ranges, and what several settings must agree on, are checked when a group gets the settings.
    ///
    /// # Errors
    /// `InvalidConfig` with the key: it is not a setting of share groups, or its value is not of its type.
    pub fn set(mut self, key: &str, value: &str) -> Result<Self> {
        match key {
            LOCK => self.lock_duration = Duration::from_millis(millis(LOCK, value)?),
            LIMIT => self.delivery_count_limit = number(LIMIT, value, "a number")?,
            MAX_LOCKS => self.max_record_locks = number(MAX_LOCKS, value, "a number")?,
            RESET => self.auto_offset_reset = reset(value)?,
            ISOLATION => {
                let level = value.trim().parse::<IsolationLevel>();
                self.isolation_level = level
                    .map_err(|_| invalid(ISOLATION, value, "read_uncommitted or read_committed"))?;
            }
            RENEW => self.renew_enabled = truth(RENEW, value)?,
            MODE => {
                self.acquire_mode = choice(
                    MODE,
                    value,
                    "record_limit or batch_optimized",
                    &[
                        ("record_limit", AcquireMode::RecordLimit),
                        ("batch_optimized", AcquireMode::BatchOptimized),
                    ],
                )?;
            }
            ORDERING => {
                let all = [("none", ShareOrdering::None), ("key", ShareOrdering::Key)];
                self.ordering = choice(ORDERING, value, "none or key", &all)?;
            }
            BACKOFF => self.backoff.base = Duration::from_millis(millis(BACKOFF, value)?),
            BACKOFF_MAX => self.backoff.max = Duration::from_millis(millis(BACKOFF_MAX, value)?),
            BACKOFF_FACTOR => self.backoff.factor_percent = hundredths(BACKOFF_FACTOR, value)?,
            BACKOFF_JITTER => self.backoff.jitter_percent = hundredths(BACKOFF_JITTER, value)?,
            DLQ => value.trim().clone_into(&mut self.dead_letter_topic),
            DLQ_COPY => self.dead_letter_copy = truth(DLQ_COPY, value)?,
            _ => {
                return Err(invalid(
                    "share group setting",
                    key,
                    "a key of a share group's settings",
                ));
            }
        }
        Ok(self)
    }

    /// Checks all settings. `topics` are those that the group reads.
    ///
    /// # Errors
    /// `InvalidConfig` with the first key whose value is out of its range.
    pub(crate) fn validate<'a>(&self, topics: impl IntoIterator<Item = &'a str>) -> Result<()> {
        let millisecond = Duration::from_millis(1);
        let backoff = &self.backoff;
        in_range(
            LOCK,
            (millisecond..=HOURS_12).contains(&self.lock_duration),
            self.lock_duration.as_millis(),
            "1 ms to 12 hours",
        )?;
        in_range(
            LIMIT,
            (1..=10_000).contains(&self.delivery_count_limit),
            self.delivery_count_limit,
            "1 to 10000",
        )?;
        in_range(
            MAX_LOCKS,
            (1..=10_000_000).contains(&self.max_record_locks),
            self.max_record_locks,
            "1 to 10000000",
        )?;
        in_range(BACKOFF, backoff.base <= TEN_YEARS, backoff.base.as_millis(), "0 to 10 years")?;
        let max = (backoff.base.max(millisecond)..=TEN_YEARS).contains(&backoff.max);
        in_range(
            BACKOFF_MAX,
            max,
            backoff.max.as_millis(),
            "1 ms to 10 years, and not less than share.retry.backoff.ms",
        )?;
        in_range(
            BACKOFF_FACTOR,
            (100..=10_000).contains(&backoff.factor_percent),
            backoff.factor_percent,
            "1 to 100",
        )?;
        in_range(BACKOFF_JITTER, backoff.jitter_percent <= 100, backoff.jitter_percent, "0 to 1")?;
        if self.auto_offset_reset == OffsetReset::None {
            return Err(invalid(RESET, "none", RESETS));
        }
        let dlq = self.dead_letter_topic.as_str();
        in_range(DLQ, !dlq.starts_with("__"), dlq, "a name without __ in front")?;
        let own = !dlq.is_empty() && topics.into_iter().any(|topic| topic == dlq);
        in_range(DLQ, !own, dlq, "a topic that the group does not read itself")
    }
}

const RESETS: &str = "earliest, latest or by_duration:PnDTnHnMn.nS";

/// Cuts what is below a millisecond: the folder keeps milliseconds.
fn whole_millis(duration: Duration) -> Duration {
    duration.saturating_sub(Duration::from_nanos(u64::from(duration.subsec_nanos()) % 1_000_000))
}

fn reset_name(reset: OffsetReset) -> String {
    match reset {
        OffsetReset::Earliest => "earliest".to_owned(),
        OffsetReset::Latest => "latest".to_owned(),
        OffsetReset::None => "none".to_owned(),
        OffsetReset::ByDuration(age) => {
            format!("by_duration:PT{}.{:09}S", age.as_secs(), age.subsec_nanos())
        }
    }
}

fn isolation_name(level: IsolationLevel) -> &'static str {
    match level {
        IsolationLevel::ReadUncommitted => "read_uncommitted",
        IsolationLevel::ReadCommitted => "read_committed",
    }
}

fn mode_name(mode: AcquireMode) -> &'static str {
    match mode {
        AcquireMode::RecordLimit => "record_limit",
        AcquireMode::BatchOptimized => "batch_optimized",
    }
}

fn ordering_name(ordering: ShareOrdering) -> &'static str {
    match ordering {
        ShareOrdering::None => "none",
        ShareOrdering::Key => "key",
    }
}

fn invalid(key: &'static str, value: &str, expected: &'static str) -> Error {
    Error::InvalidConfig { key, value: value.to_owned(), expected }
}

fn in_range(
    key: &'static str,
    is: bool,
    value: impl std::fmt::Display,
    expected: &'static str,
) -> Result<()> {
    if is { Ok(()) } else { Err(invalid(key, &value.to_string(), expected)) }
}

fn truth(key: &'static str, value: &str) -> Result<bool> {
    choice(key, value, "true or false", &[("true", true), ("false", false)])
}

fn choice<T: Copy>(
    key: &'static str,
    value: &str,
    expected: &'static str,
    all: &[(&str, T)],
) -> Result<T> {
    let found = all.iter().find(|(name, _)| *name == value.trim());
    found.map(|(_, choice)| *choice).ok_or_else(|| invalid(key, value, expected))
}

/// Parses a number with up to two decimals.
fn hundredths(key: &'static str, value: &str) -> Result<u32> {
    let parsed = || {
        let (whole, part) = value.trim().split_once('.').unwrap_or((value.trim(), "0"));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(part) || part.len() > 2 {
            return None;
        }
        let scale = if part.len() == 1 { 10 } else { 1 };
        let part = part.parse::<u32>().ok()?.checked_mul(scale)?;
        whole.parse::<u32>().ok()?.checked_mul(100)?.checked_add(part)
    };
    parsed().ok_or_else(|| invalid(key, value, "a number with up to two decimals"))
}

fn reset(value: &str) -> Result<OffsetReset> {
    value.trim().parse().map_err(|_| invalid(RESET, value, RESETS))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(pairs: &[(&str, &str)]) -> Result<ShareGroupConfig> {
        let config = pairs
            .iter()
            .try_fold(ShareGroupConfig::default(), |config, (key, value)| config.set(key, value))?;
        config.validate(["orders", "jobs"]).map(|()| config)
    }

    #[test]
    fn every_key_sets_its_setting() {
        let all = [
            (LOCK, "60000"),
            (LIMIT, "7"),
            (MAX_LOCKS, "2000"),
            (RESET, "by_duration:PT2H"),
            (ISOLATION, "read_committed"),
            (RENEW, "false"),
            (MODE, "batch_optimized"),
            (ORDERING, "key"),
            (BACKOFF, "1000"),
            (BACKOFF_MAX, "90s"),
            (BACKOFF_FACTOR, "1.5"),
            (BACKOFF_JITTER, "0.25"),
            (DLQ, "dead"),
            (DLQ_COPY, "false"),
        ];
        let expected = ShareGroupConfig {
            lock_duration: Duration::from_mins(1),
            delivery_count_limit: 7,
            max_record_locks: 2000,
            auto_offset_reset: OffsetReset::ByDuration(Duration::from_hours(2)),
            isolation_level: IsolationLevel::ReadCommitted,
            renew_enabled: false,
            acquire_mode: AcquireMode::BatchOptimized,
            ordering: ShareOrdering::Key,
            backoff: Backoff {
                base: Duration::from_secs(1),
                factor_percent: 150,
                max: Duration::from_secs(90),
                jitter_percent: 25,
            },
            dead_letter_topic: "dead".to_owned(),
            dead_letter_copy: false,
        };
        assert_eq!(with(&all).unwrap(), expected);
        let entries = expected.entries();
        let again = entries.iter().map(|(key, value)| (*key, value.as_str())).collect::<Vec<_>>();
        assert_eq!(again.len(), all.len());
        assert_eq!(with(&again).unwrap(), expected);
        assert_eq!(ShareGroupConfig::new().entries(), []);
        assert_eq!(with(&[]).unwrap(), ShareGroupConfig::default());
    }

    #[test]
    fn what_is_out_of_range_is_refused_with_its_key() {
        for (key, value) in [
            (LOCK, "0"),
            (LOCK, "43200001"),
            (LOCK, "-1"),
            (LIMIT, "0"),
            (LIMIT, "10001"),
            (LIMIT, "many"),
            (MAX_LOCKS, "0"),
            (MAX_LOCKS, "10000001"),
            (RESET, "none"),
            (RESET, "by_duration:2h"),
            (ISOLATION, "serializable"),
            (RENEW, "yes"),
            (MODE, "all"),
            (ORDERING, "fifo"),
            (BACKOFF, "99999999999999"),
            (BACKOFF_MAX, "0"),
            (BACKOFF_FACTOR, "0.99"),
            (BACKOFF_FACTOR, "100.01"),
            (BACKOFF_FACTOR, "1.234"),
            (BACKOFF_FACTOR, "-1"),
            (BACKOFF_JITTER, "1.01"),
            (DLQ, "__dead"),
            (DLQ, "jobs"),
            (DLQ_COPY, ""),
        ] {
            let Err(Error::InvalidConfig { key: named, .. }) = with(&[(key, value)]) else {
                panic!("{key}={value} is accepted")
            };
            assert_eq!(named, key, "{value}");
        }
        assert!(with(&[(BACKOFF, "5000"), (BACKOFF_MAX, "4999")]).is_err());
        assert!(with(&[("share.unknown", "1")]).is_err());
        for (key, value) in [(LOCK, "1"), (LOCK, "43200000"), (LIMIT, "1"), (MAX_LOCKS, "10000000")]
        {
            assert!(with(&[(key, value)]).is_ok(), "{key}={value}");
        }
    }
}
