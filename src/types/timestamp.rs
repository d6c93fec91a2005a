use std::fmt;
use std::time::{Duration, SystemTime};

/// A point in time as Kafka stores it: milliseconds since 1970-01-01 UTC.
///
/// -1 means "no timestamp".
///
/// ```
/// use grouplog::Timestamp;
/// use std::time::Duration;
///
/// let t = Timestamp::from_millis(1_700_000_000_000);
/// assert_eq!(t.as_millis(), 1_700_000_000_000);
/// assert_eq!(t.checked_add(Duration::from_secs(1)).map(Timestamp::as_millis), Some(1_700_000_001_000));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// No timestamp.
    pub const NONE: Self = Self(-1);

    /// Creates the timestamp `millis` milliseconds after the Unix epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Returns the milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Returns the timestamp `duration` later, or `None` if that exceeds the range of an `i64`.
    pub fn checked_add(self, duration: Duration) -> Option<Self> {
        i64::try_from(duration.as_millis()).ok().and_then(|d| self.0.checked_add(d)).map(Self)
    }

    /// Returns the timestamp `duration` earlier, but not before 1970.
    pub(crate) fn saturating_sub(self, duration: Duration) -> Self {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self(self.0.saturating_sub(millis).max(0))
    }
}

impl From<SystemTime> for Timestamp {
    /// Converts times before 1970 to 0, as Kafka's record builder demands.
    fn from(time: SystemTime) -> Self {
        // Not `as_millis`: a 128-bit division is slow, and every record gets a timestamp.
        time.duration_since(SystemTime::UNIX_EPOCH).map_or(Self(0), |since| {
            let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
            Self(seconds.saturating_mul(1000).saturating_add(i64::from(since.subsec_millis())))
        })
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The source of the timestamps of a topic's records: Kafka's `message.timestamp.type`.
///
/// ```
/// assert_eq!(grouplog::TimestampType::default(), grouplog::TimestampType::CreateTime);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TimestampType {
    /// The producer sets the timestamp, or `send` reads the wall clock.
    #[default]
    CreateTime,
    /// The engine sets the timestamp when it appends the record. A timestamp in the record is
    /// ignored.
    LogAppendTime,
}
