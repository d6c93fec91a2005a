//! Typed settings. Each has a Kafka key, a default and a range. Opening, creating and subscribing
//! validate them, and the error names the invalid key.
//!
//! [`TopicConfig::set`] and the command line also take units: `retention.ms=7d`, `segment.bytes=16MiB`.
//!
//! | key | setting | default | range |
//! |---|---|---|---|
//! | `partitions` | [`TopicConfig::partitions`] | 1 | 1 to 100,000 |
//! | `segment.bytes` | [`TopicConfig::segment_bytes`] | 64 MiB | 1 KiB to 2 GiB - 1 |
//! | `segment.ms` | [`TopicConfig::segment_ms`] | 7 days | 1 ms and more |
//! | `index.interval.bytes` | [`TopicConfig::index_interval_bytes`] | 4096 | 0 to 2 GiB - 1 |
//! | `max.message.bytes` | [`TopicConfig::max_message_bytes`] | 1048588 | 1 KiB to 16 MiB |
//! | `compression.type` | [`TopicConfig::compression`] | `none` | `none`, `zstd`, and `gzip`, `snappy`, `lz4` where built in |
//! | `message.timestamp.type` | [`TopicConfig::timestamp_type`] | `CreateTime` | `CreateTime`, `LogAppendTime` |
//! | `retention.ms` | [`TopicConfig::retention`] | `-1`: no limit | 1 ms and more |
//! | `retention.bytes` | [`TopicConfig::retention_bytes`] | `-1`: no limit | 1 KiB and more |
//! | `retention.consumed` | [`TopicConfig::retention_consumed`] | none | names of groups, parted by commas |
//! | `message.timestamp.before.max.ms` | [`TopicConfig::timestamp_before_max`] | `-1`: no limit | 0 and more |
//! | `message.timestamp.after.max.ms` | [`TopicConfig::timestamp_after_max`] | `-1`: no limit | 0 and more |
//! | `disk.budget.policy` | [`TopicConfig::disk_budget_policy`] | `refuse` | `refuse`, `block`, `drop-oldest` |
//! | `cleanup.policy` | [`TopicConfig::cleanup_policy`] | `delete` | `delete`, `compact`, `compact,delete`, or empty |
//! | `delete.retention.ms` | [`TopicConfig::delete_retention`] | 24 hours | 0 and more |
//! | `min.compaction.lag.ms` | [`TopicConfig::min_compaction_lag`] | 0 | 0 to `max.compaction.lag.ms` |
//! | `max.compaction.lag.ms` | [`TopicConfig::max_compaction_lag`] | `-1`: no limit | 1 ms and more |
//! | `min.cleanable.dirty.ratio` | [`TopicConfig::min_cleanable_dirty_ratio`] | 0.5 | 0 to 1 |
//! | `dedup.window.ms` | [`TopicConfig::dedup_window`] | 2 min | 0 (off) and more |
//! | `dedup.max.ids` | [`TopicConfig::dedup_max_ids`] | 1,000,000 | 1 to 100,000,000 |
//! | `acks` | [`ProducerConfig::acks`] | `all` (synced) | `written`, `synced` (`0` and `1`, `all` and `-1`) |
//! | `max.block.ms` | [`ProducerConfig::max_block`] | 60 s | |
//! | `transactional.id` | [`ProducerConfig::transactional_id`] | none | 1 to 249 bytes |
//! | `transaction.max.bytes` | [`ProducerConfig::transaction_max_bytes`] | 16 MiB | 1 and more; a quarter of the journal is a limit as well |
//! | `client.id` | [`ConsumerConfig::client_id`] | `consumer` | |
//! | `group.id` | [`ConsumerConfig::group`] | none | 1 to 249 bytes |
//! | `auto.offset.reset` | [`ConsumerConfig::auto_offset_reset`] | `earliest` | `earliest`, `latest`, `none`, `by_duration:PnDTnHnMn.nS` |
//! | `isolation.level` | [`ConsumerConfig::isolation_level`] | `read_uncommitted` | `read_uncommitted`, `read_committed` |
//! | `read.durability` | [`ConsumerConfig::read_durability`] | `written` | `written`, `synced` |
//! | `enable.auto.commit` | [`ConsumerConfig::enable_auto_commit`] | true with a group | |
//! | `auto.commit.interval.ms` | [`ConsumerConfig::auto_commit_interval`] | 5 s | |
//! | (not Kafka's) | [`ConsumerConfig::commit_acks`] | `written` | `written`, `synced` |
//! | `max.poll.records` | [`ConsumerConfig::max_poll_records`] | 500 | 1 and more |
//! | `fetch.max.bytes` | [`ConsumerConfig::fetch_max_bytes`] | 50 MiB | 1 and more |
//! | `max.partition.fetch.bytes` | [`ConsumerConfig::max_partition_fetch_bytes`] | 1 MiB | 1 and more |
//! | `max.poll.interval.ms` | [`ConsumerConfig::max_poll_interval`] | 5 min | 1 ms and more |
//! | `session.timeout.ms` | [`ConsumerConfig::session_timeout`] | 45 s | 1 ms and more |
//! | `group.instance.id` | [`ConsumerConfig::group_instance_id`] | | a legal name, as of a topic |
//! | `partition.assignment.strategy` | [`ConsumerConfig::assignment_strategies`] | `range`, `cooperative-sticky` | `range`, `roundrobin`, `sticky`, `cooperative-sticky`, `uniform`, or the program's own |
//! | `group.max.size` | [`BrokerConfig::group_max_size`] | 2147483647 | 1 to 2147483647 |
//! | `read.mode` | [`BrokerConfig::read_mode`] | `map` | `map`, `pread` |
//! | `max.open.files` | [`BrokerConfig::max_open_files`] | 512 | 64 and more |
//! | `journal.mode` | [`BrokerConfig::journal_mode`] | `auto` | `auto`, `map`, `write` |
//! | `journal.file.bytes` | [`BrokerConfig::journal_file_bytes`] | 4 MiB | 64 KiB to 256 MiB |
//! | `journal.max.bytes` | [`BrokerConfig::journal_max_bytes`] | 256 MiB | 4 journal files to 4 GiB |
//! | `log.retention.check.interval.ms` | [`BrokerConfig::retention_check_interval`] | 5 min | 1 ms and more |
//! | `disk.budget` | [`BrokerConfig::disk_budget`] | no limit | 2 MiB and more |
//! | `log.cleaner.dedupe.buffer.size` | [`BrokerConfig::cleaner_memory`] | 32 MiB | 64 KiB and more |
//! | `log.cleaner.io.max.bytes.per.second` | [`BrokerConfig::cleaner_rate`] | 64 MiB, or twice what producers write | 1 and more |
//! | `log.cleaner.backoff.ms` | [`BrokerConfig::cleaner_interval`] | 15 s | 1 ms and more |
//! | `offsets.retention.minutes` | [`BrokerConfig::offsets_retention`] | 7 days | 1 minute and more |
//! | `offsets.retention.check.interval.ms` | [`BrokerConfig::offsets_retention_check_interval`] | 10 min | 1 ms and more |
//! | `batch.size` | [`BrokerConfig::batch_size`] | 64 KiB | 1 KiB to 1 MiB |
//! | `stored.append.bytes` | [`BrokerConfig::stored_append_bytes`] | 8 KiB | 1 byte and more |
//! | `open.batches.max.bytes` | [`BrokerConfig::open_batches_max_bytes`] | 64 MiB | 1 MiB and more |
//!
//! Imported by `log`, `engine`, `producer`, `consumer`, `share`, `redrive`, `broker` and `internal`.

mod assignment;
mod broker;
mod cleanup;
mod consumer;
mod duration;
mod producer;
mod share;
mod share_consumer;
mod topic;

pub use assignment::AssignmentStrategy;
pub use broker::{BrokerConfig, JournalMode, ReadMode};
pub use cleanup::CleanupPolicy;
pub use consumer::{ConsumerConfig, IsolationLevel};
pub use producer::{Acks, ProducerConfig};
pub use share::ShareGroupConfig;
pub use share_consumer::ShareConsumerConfig;
pub use topic::{DiskBudgetPolicy, TopicConfig};

pub use crate::types::OffsetReset;

use crate::error::{Error, Result};

/// Rejects a value outside `range` with an error that names its key.
fn in_range<T>(
    key: &'static str,
    value: T,
    range: impl std::ops::RangeBounds<T>,
    expected: &'static str,
) -> Result<()>
where
    T: Copy + PartialOrd + std::fmt::Display,
{
    if range.contains(&value) {
        Ok(())
    } else {
        Err(Error::InvalidConfig { key, value: value.to_string(), expected })
    }
}

/// Parses a number of bytes: plain, or with a unit such as `KiB`, `MB` or `GiB`.
fn bytes<T: TryFrom<u64>>(key: &'static str, value: &str) -> Result<T> {
    let count = value.trim().parse::<u64>().ok();
    let count = count.or_else(|| parse_size::parse_size(value).ok());
    count.and_then(|count| T::try_from(count).ok()).ok_or_else(|| Error::InvalidConfig {
        key,
        value: value.to_owned(),
        expected: "a number of bytes, such as 1048576 or 1MiB",
    })
}

/// Parses a time: a number of milliseconds, or with units such as `7d`, `90min` or `1h 30m`.
fn millis(key: &'static str, value: &str) -> Result<u64> {
    let time = || {
        let time = humantime::parse_duration(value).ok()?;
        // What is below a millisecond would be lost.
        let whole = time.subsec_nanos().is_multiple_of(1_000_000);
        whole.then(|| u64::try_from(time.as_millis()).ok())?
    };
    value.trim().parse().ok().or_else(time).ok_or_else(|| Error::InvalidConfig {
        key,
        value: value.to_owned(),
        expected: "a number of milliseconds, or a time such as 7d or 90min",
    })
}

/// Parses a limit that may be absent: `-1`, or what `parse` accepts.
fn limit(
    key: &'static str,
    value: &str,
    parse: impl FnOnce(&'static str, &str) -> Result<u64>,
) -> Result<Option<u64>> {
    if value.trim() == "-1" { Ok(None) } else { parse(key, value).map(Some) }
}

/// Parses a number from its text form.
fn number<T: std::str::FromStr>(
    key: &'static str,
    value: &str,
    expected: &'static str,
) -> Result<T> {
    value.trim().parse().map_err(|_| Error::InvalidConfig {
        key,
        value: value.to_owned(),
        expected,
    })
}
