use std::sync::Arc;
use std::time::Duration;

use super::{CleanupPolicy, bytes, in_range, limit, millis, number};
use crate::error::{Error, Result};
use crate::record::Compression;
use crate::types::{TimestampType, check_group_name};

const RETENTION_MS: &str = "retention.ms";
const RETENTION_BYTES: &str = "retention.bytes";
const RETENTION_CONSUMED: &str = "retention.consumed";
const BEFORE_MAX_MS: &str = "message.timestamp.before.max.ms";
const AFTER_MAX_MS: &str = "message.timestamp.after.max.ms";
const DISK_BUDGET_POLICY: &str = "disk.budget.policy";

/// What happens to an append for which [`BrokerConfig::disk_budget`](crate::BrokerConfig::disk_budget) has no
/// room. `disk.budget.policy` of a topic.
///
/// ```
/// use grouplog::{DiskBudgetPolicy, TopicConfig};
/// let config = TopicConfig::new().set("disk.budget.policy", "drop-oldest")?;
/// assert_eq!(config, TopicConfig::new().disk_budget_policy(DiskBudgetPolicy::DropOldest));
/// assert_eq!(DiskBudgetPolicy::default(), DiskBudgetPolicy::Refuse);
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum DiskBudgetPolicy {
    /// It fails at once with [`Error::DiskBudget`].
    #[default]
    Refuse,
    /// It waits for room up to [`max.block.ms`](crate::ProducerConfig::max_block), then fails with
    /// [`Error::DiskBudget`]. Deletions, retention and deleted topics make room.
    Block,
    /// The oldest segments of topics with this policy are deleted, as by retention. It begins in the background
    /// when nine tenths of the budget are taken. An append that finds no room nevertheless waits for it.
    DropOldest,
}

impl DiskBudgetPolicy {
    fn name(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Block => "block",
            Self::DropOldest => "drop-oldest",
        }
    }

    fn parse(value: &str) -> Result<Self> {
        let all = [Self::Refuse, Self::Block, Self::DropOldest];
        let named = all.into_iter().find(|policy| policy.name() == value);
        named.ok_or_else(|| Error::InvalidConfig {
            key: DISK_BUDGET_POLICY,
            value: value.to_owned(),
            expected: "refuse, block or drop-oldest",
        })
    }
}
const CLEANUP_POLICY: &str = "cleanup.policy";
const DELETE_RETENTION_MS: &str = "delete.retention.ms";
const MIN_LAG_MS: &str = "min.compaction.lag.ms";
const MAX_LAG_MS: &str = "max.compaction.lag.ms";
const MIN_DIRTY_RATIO: &str = "min.cleanable.dirty.ratio";
const DEDUP_WINDOW_MS: &str = "dedup.window.ms";
const DEDUP_MAX_IDS: &str = "dedup.max.ids";

/// A share of 1 in the unit of [`TopicConfig::min_dirty_millionths`].
const MILLION: u32 = 1_000_000;

/// The settings of a topic.
///
/// ```
/// use grouplog::{Broker, TopicConfig};
///
/// let broker = Broker::open_in_memory()?;
/// broker.create_topic("orders", TopicConfig::new().partitions(4).segment_bytes(64 << 20))?;
/// assert_eq!(broker.describe_topic("orders")?.partitions.len(), 4);
/// assert!(broker.create_topic("none", TopicConfig::new().partitions(0)).is_err());
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct TopicConfig {
    pub(crate) partitions: u32,
    pub(crate) segment_bytes: u32,
    pub(crate) segment_ms: u64,
    pub(crate) index_interval_bytes: u32,
    pub(crate) max_message_bytes: u32,
    pub(crate) compression: Compression,
    pub(crate) timestamp_type: TimestampType,
    pub(crate) retention_ms: Option<u64>,
    pub(crate) retention_bytes: Option<u64>,
    pub(crate) retention_consumed: Vec<Arc<str>>,
    pub(crate) timestamp_before_max_ms: Option<u64>,
    pub(crate) timestamp_after_max_ms: Option<u64>,
    pub(crate) disk_budget_policy: DiskBudgetPolicy,
    pub(crate) cleanup_policy: CleanupPolicy,
    pub(crate) delete_retention_ms: u64,
    pub(crate) min_compaction_lag_ms: u64,
    pub(crate) max_compaction_lag_ms: Option<u64>,
    min_dirty_millionths: u32,
    pub(crate) dedup_window_ms: u64,
    pub(crate) dedup_max_ids: u32,
}

impl Default for TopicConfig {
    fn default() -> Self {
        Self {
            partitions: 1,
            segment_bytes: 64 << 20,
            segment_ms: 7 * 24 * 3600 * 1000,
            index_interval_bytes: 4096,
            max_message_bytes: 1_048_588,
            compression: Compression::None,
            timestamp_type: TimestampType::CreateTime,
            retention_ms: None,
            retention_bytes: None,
            retention_consumed: Vec::new(),
            timestamp_before_max_ms: None,
            timestamp_after_max_ms: None,
            disk_budget_policy: DiskBudgetPolicy::Refuse,
            cleanup_policy: CleanupPolicy::Delete,
            delete_retention_ms: 24 * 3600 * 1000,
            min_compaction_lag_ms: 0,
            max_compaction_lag_ms: None,
            min_dirty_millionths: MILLION / 2,
            dedup_window_ms: 2 * 60 * 1000,
            dedup_max_ids: 1_000_000,
        }
    }
}

impl TopicConfig {
    /// Creates the default settings.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the number of partitions. Default 1.
    pub fn partitions(mut self, partitions: u32) -> Self {
        self.partitions = partitions;
        self
    }

    /// Sets the size in bytes at which the log starts the next segment file: 1 KiB to 2 GiB - 1.
    /// Default 64 MiB. Deleting records frees space in whole segments.
    pub fn segment_bytes(mut self, bytes: u32) -> Self {
        self.segment_bytes = bytes;
        self
    }

    /// Sets how much record time a segment may cover before the log rolls. Default 7 days.
    pub fn segment_ms(mut self, time: Duration) -> Self {
        self.segment_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self
    }

    /// Sets how many bytes of batches lie between two entries of the offset index. Default 4096.
    pub fn index_interval_bytes(mut self, bytes: u32) -> Self {
        self.index_interval_bytes = bytes;
        self
    }

    /// Sets the largest batch, in bytes before compression, that one record may make.
    pub fn max_message_bytes(mut self, bytes: u32) -> Self {
        self.max_message_bytes = bytes;
        self
    }

    /// Sets the codec that compresses batches when they are sealed. Default none.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// Sets the source of timestamps. Default [`TimestampType::CreateTime`].
    pub fn timestamp_type(mut self, timestamp_type: TimestampType) -> Self {
        self.timestamp_type = timestamp_type;
        self
    }

    /// Sets how long records are kept, at least a millisecond. Default: for ever. Kafka's default is 7 days.
    ///
    /// The engine deletes the oldest segment once all its records are older than this. The age of a record is
    /// that of its timestamp, but never more than a future timestamp allows: such a record ages from the time
    /// at which the engine notices it. Segments roll often enough that no record stays longer than
    /// `retention.ms` and a quarter of it, or two seconds more if that is longer. A record may go before its
    /// time only if its timestamp was in the past when it was sent.
    pub fn retention(mut self, time: Duration) -> Self {
        self.retention_ms = Some(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// Sets how many bytes of records each partition keeps, at least 1 KiB. Default: no limit.
    ///
    /// The engine deletes the oldest segment once the others hold that many bytes. It checks after each batch that
    /// it writes out. Segments are at most an eighth of this limit, or 1 MiB if that is more. So a partition
    /// takes up to this many bytes, one segment, and one batch or large append.
    pub fn retention_bytes(mut self, bytes: u64) -> Self {
        self.retention_bytes = Some(bytes);
        self
    }

    /// Sets groups whose progress deletes records: a segment is deleted once each of them has committed an
    /// offset beyond it. A share group instead must have finished every record of it: accepted, rejected or given up.
    /// Default: none. Not in Kafka.
    ///
    /// A group that has committed nothing in a partition, or a share group without a member there so far, keeps all its
    /// records. A group that commits an offset beyond the log end takes later records for read, up to that offset. The
    /// other limits apply as well: with [`retention`](Self::retention), old records go even if a group has not read
    /// them.
    pub fn retention_consumed<G: Into<Arc<str>>>(
        mut self,
        groups: impl IntoIterator<Item = G>,
    ) -> Self {
        self.retention_consumed = groups.into_iter().map(Into::into).collect();
        self
    }

    /// Sets how far the timestamp of a record may lie before the time at which it is sent. Default: no limit. An
    /// older record is refused with [`Error::InvalidTimestamp`].
    pub fn timestamp_before_max(mut self, time: Duration) -> Self {
        self.timestamp_before_max_ms = Some(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// Sets how far the timestamp of a record may lie after the time at which it is sent. Default: no limit, where
    /// Kafka allows an hour. A later record is refused with [`Error::InvalidTimestamp`].
    pub fn timestamp_after_max(mut self, time: Duration) -> Self {
        self.timestamp_after_max_ms = Some(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// Sets what happens to an append for which the [disk budget](crate::BrokerConfig::disk_budget) has no room.
    /// Default: it is refused. Not in Kafka. Without a budget the setting has no effect.
    ///
    /// With [`DiskBudgetPolicy::DropOldest`], segments are at most a 32nd of the budget, or 64 KiB if that is
    /// more. The oldest data goes first, by its timestamps and over all partitions of all topics with that
    /// policy. A `send_all` for several topics is refused if one of them refuses.
    pub fn disk_budget_policy(mut self, policy: DiskBudgetPolicy) -> Self {
        self.disk_budget_policy = policy;
        self
    }

    /// Sets how data ends. Default [`CleanupPolicy::Delete`].
    ///
    /// With [`CleanupPolicy::Compact`], the engine keeps at least the newest record of each key, and removes older
    /// ones some time after they are replaced. Offsets never change; some are then missing. Every record needs a
    /// key, otherwise `send` fails with [`Error::NullKey`]. If an existing topic with records without keys becomes a
    /// compacted one, compaction removes those records.
    pub fn cleanup_policy(mut self, policy: CleanupPolicy) -> Self {
        self.cleanup_policy = policy;
        self
    }

    /// Sets how long compaction keeps a record without a value, which deletes its key. Default 24 hours. A reader
    /// that needs less time than this from the start of the log to its end sees every deletion.
    pub fn delete_retention(mut self, time: Duration) -> Self {
        self.delete_retention_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self
    }

    /// Sets how long every record stays at least, even if a newer one replaces it. Default 0. Not above
    /// [`max_compaction_lag`](Self::max_compaction_lag) nor, if the topic also deletes by time,
    /// [`retention`](Self::retention).
    pub fn min_compaction_lag(mut self, time: Duration) -> Self {
        self.min_compaction_lag_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self
    }

    /// Sets how long a replaced record may stay at most, at least a millisecond. Default: no limit, so the share of
    /// replaced records alone decides. The engine also ends the active segment when it is this old.
    pub fn max_compaction_lag(mut self, time: Duration) -> Self {
        self.max_compaction_lag_ms = Some(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        self
    }

    /// Sets the share of the log, 0 to 1, that must be new since the last compaction before the engine compacts
    /// again. Default 0.5. It counts the bytes of complete segments, in steps of a millionth.
    pub fn min_cleanable_dirty_ratio(mut self, ratio: f64) -> Self {
        self.min_dirty_millionths = millionths(ratio).unwrap_or(u32::MAX);
        self
    }

    /// Sets how long the topic remembers the idempotency id of a record. Default 2 minutes; 0 means that ids are
    /// ignored. Not in Kafka.
    ///
    /// The window runs from the first send of an id. A record whose id was sent less than this ago is a duplicate:
    /// it is not stored, and does not make the window longer. A restart keeps the window. Deleting the first record,
    /// as retention does, does not free its id.
    pub fn dedup_window(mut self, time: Duration) -> Self {
        self.dedup_window_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self
    }

    /// Sets how many idempotency ids the topic remembers at most, over all its partitions: 1 to 100,000,000.
    /// Default 1,000,000. Not in Kafka.
    ///
    /// Beyond that, the oldest id is forgotten before its window ends. Each id takes about 50 bytes of memory, and
    /// 36 bytes on disk.
    pub fn dedup_max_ids(mut self, ids: u32) -> Self {
        self.dedup_max_ids = ids;
        self
    }

    /// Returns `min.cleanable.dirty.ratio`.
    pub(crate) fn min_dirty_ratio(&self) -> f64 {
        f64::from(self.min_dirty_millionths) / f64::from(MILLION)
    }

    /// Returns the limits of retention that apply: `retention.ms`.
    pub(crate) fn kept_ms(&self) -> Option<u64> {
        self.retention_ms.filter(|_| self.cleanup_policy.deletes())
    }

    /// Returns the limits of retention that apply: `retention.bytes`.
    pub(crate) fn kept_bytes(&self) -> Option<u64> {
        self.retention_bytes.filter(|_| self.cleanup_policy.deletes())
    }

    /// Returns the limits of retention that apply: the groups of `retention.consumed`.
    pub(crate) fn kept_for(&self) -> &[Arc<str>] {
        if self.cleanup_policy.deletes() { &self.retention_consumed } else { &[] }
    }

    /// Returns the size in bytes at which a segment ends: retention deletes whole segments, so they must be
    /// small beside its limit.
    pub(crate) fn roll_bytes(&self) -> u64 {
        let followed = self.kept_bytes().map_or(u64::MAX, |limit| (limit / 8).max(1 << 20));
        followed.min(u64::from(self.segment_bytes))
    }

    /// Returns how much record time a segment may cover, in milliseconds.
    pub(crate) fn roll_ms(&self) -> u64 {
        let followed = self.kept_ms().map_or(u64::MAX, |limit| (limit / 8).max(1_000));
        let lag = self.max_compaction_lag_ms.filter(|_| self.cleanup_policy.compacts());
        followed.min(self.segment_ms).min(lag.unwrap_or(u64::MAX))
    }

    /// Returns how far timestamps may lie before and after the time of sending, in milliseconds. `None` if any
    /// may, as where the engine sets the timestamp itself.
    pub(crate) fn timestamp_limits(&self) -> Option<(u64, u64)> {
        let (before, after) = (self.timestamp_before_max_ms, self.timestamp_after_max_ms);
        let limited = before.is_some() || after.is_some();
        let applies = limited && self.timestamp_type == TimestampType::CreateTime;
        applies.then(|| (before.unwrap_or(u64::MAX), after.unwrap_or(u64::MAX)))
    }

    /// Returns whether whole segments are deleted by themselves.
    pub(crate) fn has_retention(&self) -> bool {
        let limited = self.retention_ms.is_some()
            || self.retention_bytes.is_some()
            || !self.retention_consumed.is_empty();
        limited && self.cleanup_policy.deletes()
    }

    /// Sets a value by its Kafka key. A number of bytes or milliseconds may have a unit.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] if the key is unknown or the value cannot be parsed.
    ///
    /// ```
    /// let config = grouplog::TopicConfig::new().set("segment.bytes", "1048576")?;
    /// assert_eq!(config, grouplog::TopicConfig::new().segment_bytes(1 << 20));
    /// assert_eq!(config, grouplog::TopicConfig::new().set("segment.bytes", "1MiB")?);
    /// assert!(grouplog::TopicConfig::new().set("colour", "red").is_err());
    /// # Ok::<(), grouplog::Error>(())
    /// ```
    pub fn set(mut self, key: &str, value: &str) -> Result<Self> {
        match key {
            "partitions" => self.partitions = number("partitions", value, "a number")?,
            "segment.bytes" => self.segment_bytes = bytes("segment.bytes", value)?,
            "segment.ms" => self.segment_ms = millis("segment.ms", value)?,
            "index.interval.bytes" => {
                self.index_interval_bytes = bytes("index.interval.bytes", value)?;
            }
            "max.message.bytes" => self.max_message_bytes = bytes("max.message.bytes", value)?,
            RETENTION_MS => self.retention_ms = limit(RETENTION_MS, value, millis)?,
            RETENTION_BYTES => self.retention_bytes = limit(RETENTION_BYTES, value, bytes)?,
            RETENTION_CONSUMED => {
                let names = value.split(',').map(str::trim).filter(|name| !name.is_empty());
                self.retention_consumed = names.map(Arc::from).collect();
            }
            BEFORE_MAX_MS => self.timestamp_before_max_ms = limit(BEFORE_MAX_MS, value, millis)?,
            AFTER_MAX_MS => self.timestamp_after_max_ms = limit(AFTER_MAX_MS, value, millis)?,
            DISK_BUDGET_POLICY => self.disk_budget_policy = DiskBudgetPolicy::parse(value)?,
            CLEANUP_POLICY => self.cleanup_policy = value.parse()?,
            DELETE_RETENTION_MS => self.delete_retention_ms = millis(DELETE_RETENTION_MS, value)?,
            MIN_LAG_MS => self.min_compaction_lag_ms = millis(MIN_LAG_MS, value)?,
            MAX_LAG_MS => self.max_compaction_lag_ms = limit(MAX_LAG_MS, value, millis)?,
            MIN_DIRTY_RATIO => {
                let ratio = value.trim().parse().ok().and_then(millionths);
                self.min_dirty_millionths = ratio.ok_or_else(|| not_a_ratio(value))?;
            }
            DEDUP_WINDOW_MS => self.dedup_window_ms = millis(DEDUP_WINDOW_MS, value)?,
            DEDUP_MAX_IDS => self.dedup_max_ids = number(DEDUP_MAX_IDS, value, "a number")?,
            "compression.type" => {
                self.compression = value.parse().map_err(|_| Error::InvalidConfig {
                    key: "compression.type",
                    value: value.to_owned(),
                    expected: "none, gzip, snappy, lz4 or zstd",
                })?;
            }
            "message.timestamp.type" => {
                self.timestamp_type = match value {
                    "CreateTime" => TimestampType::CreateTime,
                    "LogAppendTime" => TimestampType::LogAppendTime,
                    _ => {
                        return Err(Error::InvalidConfig {
                            key: "message.timestamp.type",
                            value: value.to_owned(),
                            expected: "CreateTime or LogAppendTime",
                        });
                    }
                }
            }
            _ => {
                return Err(Error::InvalidConfig {
                    key: "topic configuration",
                    value: key.to_owned(),
                    expected: "a key of the table in the documentation of grouplog::config",
                });
            }
        }
        Ok(self)
    }

    /// Returns all values except the number of partitions, by their Kafka keys, in the order of the
    /// table.
    pub fn entries(&self) -> Vec<(&'static str, String)> {
        let timestamp_type = match self.timestamp_type {
            TimestampType::CreateTime => "CreateTime",
            TimestampType::LogAppendTime => "LogAppendTime",
        };
        let limit = |limit: Option<u64>| limit.map_or("-1".to_owned(), |limit| limit.to_string());
        vec![
            ("segment.bytes", self.segment_bytes.to_string()),
            ("segment.ms", self.segment_ms.to_string()),
            ("index.interval.bytes", self.index_interval_bytes.to_string()),
            ("max.message.bytes", self.max_message_bytes.to_string()),
            ("compression.type", self.compression.to_string()),
            ("message.timestamp.type", timestamp_type.to_owned()),
            (RETENTION_MS, limit(self.retention_ms)),
            (RETENTION_BYTES, limit(self.retention_bytes)),
            (RETENTION_CONSUMED, self.retention_consumed.join(",")),
            (BEFORE_MAX_MS, limit(self.timestamp_before_max_ms)),
            (AFTER_MAX_MS, limit(self.timestamp_after_max_ms)),
            (DISK_BUDGET_POLICY, self.disk_budget_policy.name().to_owned()),
            (CLEANUP_POLICY, self.cleanup_policy.to_string()),
            (DELETE_RETENTION_MS, self.delete_retention_ms.to_string()),
            (MIN_LAG_MS, self.min_compaction_lag_ms.to_string()),
            (MAX_LAG_MS, limit(self.max_compaction_lag_ms)),
            (MIN_DIRTY_RATIO, self.min_dirty_ratio().to_string()),
            (DEDUP_WINDOW_MS, self.dedup_window_ms.to_string()),
            (DEDUP_MAX_IDS, self.dedup_max_ids.to_string()),
        ]
    }

    pub(crate) fn validate(&self) -> Result<()> {
        in_range("partitions", self.partitions, 1..=100_000, "1 to 100000")?;
        in_range(
            "segment.bytes",
            self.segment_bytes,
            1024..=i32::MAX as u32,
            "1024 to 2147483647 bytes",
        )?;
        in_range("segment.ms", self.segment_ms, 1.., "1 or more milliseconds")?;
        in_range(
            "index.interval.bytes",
            self.index_interval_bytes,
            0..=i32::MAX as u32,
            "0 to 2147483647 bytes",
        )?;
        in_range(
            "max.message.bytes",
            self.max_message_bytes,
            1024..=16 << 20,
            "1024 to 16777216 bytes",
        )?;
        if let Some(time) = self.retention_ms {
            in_range(RETENTION_MS, time, 1.., "-1, or 1 or more milliseconds")?;
        }
        if let Some(bytes) = self.retention_bytes {
            in_range(RETENTION_BYTES, bytes, 1024.., "-1, or 1024 or more bytes")?;
        }
        for (at, group) in self.retention_consumed.iter().enumerate() {
            let twice = self.retention_consumed.iter().take(at).any(|other| other == group);
            // The stored form parts names by commas and drops the spaces around them.
            let changes = group.contains(',') || group.trim() != &**group;
            if twice || changes || check_group_name(group).is_err() {
                return Err(Error::InvalidConfig {
                    key: RETENTION_CONSUMED,
                    value: self.retention_consumed.join(","),
                    expected: "names of groups, parted by commas, each once",
                });
            }
        }
        in_range(DEDUP_MAX_IDS, self.dedup_max_ids, 1..=100_000_000, "1 to 100000000")?;
        self.validate_compaction()?;
        if !self.compression.is_built_in() {
            return Err(Error::UnsupportedCodec { codec: self.compression.name() });
        }
        Ok(())
    }

    fn validate_compaction(&self) -> Result<()> {
        let drops = self.disk_budget_policy == DiskBudgetPolicy::DropOldest;
        if drops && self.cleanup_policy == CleanupPolicy::Compact {
            return Err(Error::InvalidConfig {
                key: DISK_BUDGET_POLICY,
                value: self.disk_budget_policy.name().to_owned(),
                expected: "refuse or block, because cleanup.policy=compact keeps every key",
            });
        }
        if self.min_dirty_millionths > MILLION {
            return Err(not_a_ratio("a number below 0 or above 1"));
        }
        if let Some(time) = self.max_compaction_lag_ms {
            in_range(MAX_LAG_MS, time, 1.., "-1, or 1 or more milliseconds")?;
            let expected = "at most max.compaction.lag.ms";
            in_range(MIN_LAG_MS, self.min_compaction_lag_ms, ..=time, expected)?;
        }
        if let Some(time) = self.kept_ms().filter(|_| self.cleanup_policy.compacts()) {
            let expected = "at most retention.ms, which deletes the records before";
            in_range(MIN_LAG_MS, self.min_compaction_lag_ms, ..=time, expected)?;
        }
        Ok(())
    }
}

/// Converts a share to millionths. Returns `None` if it is not a number from 0 to 1.
fn millionths(ratio: f64) -> Option<u32> {
    let in_range = (0.0..=1.0).contains(&ratio);
    in_range.then(|| (ratio * f64::from(MILLION)).round() as u32)
}

fn not_a_ratio(value: &str) -> Error {
    Error::InvalidConfig {
        key: MIN_DIRTY_RATIO,
        value: value.to_owned(),
        expected: "a number from 0 to 1",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_of_ids_are_read_by_name_and_have_bounds() {
        let config = TopicConfig::new();
        assert_eq!((config.dedup_window_ms, config.dedup_max_ids), (120_000, 1_000_000));
        let set = |key, value| TopicConfig::new().set(key, value);
        let hour = TopicConfig::new().dedup_window(Duration::from_hours(1));
        assert_eq!(set(DEDUP_WINDOW_MS, "1h").unwrap(), hour);
        assert_eq!(set(DEDUP_WINDOW_MS, "3600000").unwrap(), hour);
        assert_eq!(set(DEDUP_MAX_IDS, "7").unwrap(), TopicConfig::new().dedup_max_ids(7));
        assert!(set(DEDUP_WINDOW_MS, "-1").is_err());
        for (ids, is_valid) in [(0, false), (1, true), (100_000_000, true), (100_000_001, false)] {
            assert_eq!(TopicConfig::new().dedup_max_ids(ids).validate().is_ok(), is_valid, "{ids}");
        }
        assert!(TopicConfig::new().dedup_window(Duration::ZERO).validate().is_ok());
    }

    #[test]
    fn settings_come_back_from_their_text_form() {
        let config = TopicConfig::new().dedup_window(Duration::ZERO).dedup_max_ids(9);
        let read = config
            .entries()
            .into_iter()
            .fold(TopicConfig::new(), |read, (key, value)| read.set(key, &value).unwrap());
        assert_eq!(read, config);
    }
}
