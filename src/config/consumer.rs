use std::time::Duration;

use super::duration::parse_iso;
use super::{Acks, AssignmentStrategy, in_range};
use crate::error::{Error, Result};
use crate::types::OffsetReset;

impl std::str::FromStr for OffsetReset {
    type Err = Error;

    /// Parses `earliest`, `latest`, `none` or `by_duration:PnDTnHnMn.nS`.
    ///
    /// ```
    /// use grouplog::OffsetReset;
    /// use std::time::Duration;
    ///
    /// let reset: OffsetReset = "by_duration:PT12H".parse()?;
    /// assert_eq!(reset, OffsetReset::ByDuration(Duration::from_hours(12)));
    /// # Ok::<(), grouplog::Error>(())
    /// ```
    fn from_str(text: &str) -> Result<Self> {
        let by_duration = text.strip_prefix("by_duration:").and_then(parse_iso);
        match (text, by_duration) {
            ("earliest", _) => Ok(Self::Earliest),
            ("latest", _) => Ok(Self::Latest),
            ("none", _) => Ok(Self::None),
            (_, Some(duration)) => Ok(Self::ByDuration(duration)),
            _ => Err(Error::InvalidConfig {
                key: "auto.offset.reset",
                value: text.to_owned(),
                expected: "earliest, latest, none or by_duration:PnDTnHnMn.nS",
            }),
        }
    }
}

/// Which records of transactions a consumer returns: Kafka's `isolation.level`.
///
/// A transaction of this engine is one frame of the journal. So a record is committed when it
/// becomes visible, and both levels read the same of what this engine wrote.
///
/// In segments that a Kafka broker wrote, transactions end with control batches, which no consumer
/// gets. `ReadCommitted` then means what it means in Kafka: records of aborted transactions are
/// passed, and reading ends at the last stable offset, the first offset of the earliest open
/// transaction. That is also where the log ends for `end_offsets`, `lag` and `seek_to_end`. Nobody
/// ends a transaction that was open when the segments were brought in, so use `ReadUncommitted` to
/// read on, or delete the records.
///
/// A reader that begins at the log start, or reads what this process appended, costs nothing more.
/// Otherwise the engine reads the partition's segments once, to find its transactions. Damage may
/// hide the end of a transaction. So in a log that holds transactions `ReadCommitted` ends at the
/// first damage with the error `Corrupt`, also behind it.
///
/// ```
/// use grouplog::IsolationLevel;
/// assert_eq!(IsolationLevel::default(), IsolationLevel::ReadUncommitted);
/// assert_eq!("read_committed".parse::<IsolationLevel>()?, IsolationLevel::ReadCommitted);
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum IsolationLevel {
    /// All records.
    #[default]
    ReadUncommitted,
    /// Only records whose transaction is committed.
    ReadCommitted,
}

impl std::str::FromStr for IsolationLevel {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "read_uncommitted" => Ok(Self::ReadUncommitted),
            "read_committed" => Ok(Self::ReadCommitted),
            _ => Err(Error::InvalidConfig {
                key: "isolation.level",
                value: text.to_owned(),
                expected: "read_uncommitted or read_committed",
            }),
        }
    }
}

/// The settings of a consumer.
///
/// ```
/// use grouplog::{Broker, ConsumerConfig, OffsetReset, TopicConfig};
///
/// let broker = Broker::open_in_memory()?;
/// broker.create_topic("orders", TopicConfig::new())?;
/// let mut tail = broker.consumer_with(
///     ConsumerConfig::new().group("tail").auto_offset_reset(OffsetReset::Latest),
/// )?;
/// tail.subscribe(["orders"])?;
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct ConsumerConfig {
    pub(crate) group: Option<String>,
    pub(crate) client_id: String,
    pub(crate) auto_offset_reset: OffsetReset,
    pub(crate) isolation_level: IsolationLevel,
    pub(crate) read_durability: Acks,
    /// `None` if not set: then auto-commit is on with a group and off without one.
    pub(crate) enable_auto_commit: Option<bool>,
    pub(crate) auto_commit_interval: Duration,
    pub(crate) commit_acks: Acks,
    pub(crate) max_poll_records: usize,
    pub(crate) fetch_max_bytes: u32,
    pub(crate) max_partition_fetch_bytes: u32,
    pub(crate) max_poll_interval: Duration,
    pub(crate) session_timeout: Option<Duration>,
    pub(crate) group_instance_id: Option<String>,
    pub(crate) assignment_strategies: Vec<AssignmentStrategy>,
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        Self {
            group: None,
            client_id: "consumer".to_owned(),
            auto_offset_reset: OffsetReset::default(),
            isolation_level: IsolationLevel::default(),
            read_durability: Acks::Written,
            enable_auto_commit: None,
            auto_commit_interval: Duration::from_secs(5),
            commit_acks: Acks::Written,
            max_poll_records: 500,
            fetch_max_bytes: 50 << 20,
            max_partition_fetch_bytes: 1 << 20,
            max_poll_interval: Duration::from_mins(5),
            session_timeout: None,
            group_instance_id: None,
            assignment_strategies: vec![
                AssignmentStrategy::Range,
                AssignmentStrategy::CooperativeSticky,
            ],
        }
    }
}

impl ConsumerConfig {
    /// Creates the default settings, without a group.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets Kafka's `group.id`: 1 to 249 bytes of any text without control characters. Without one,
    /// only `assign` works and nothing can be committed.
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.group = Some(group.into());
        self
    }

    /// Sets Kafka's `client.id`: shown in descriptions, and the first part of the member id.
    pub fn client_id(mut self, client_id: impl Into<String>) -> Self {
        self.client_id = client_id.into();
        self
    }

    /// Sets Kafka's `auto.offset.reset`.
    pub fn auto_offset_reset(mut self, reset: OffsetReset) -> Self {
        self.auto_offset_reset = reset;
        self
    }

    /// Sets Kafka's `isolation.level`.
    pub fn isolation_level(mut self, level: IsolationLevel) -> Self {
        self.isolation_level = level;
        self
    }

    /// Sets what must have happened to a record before `poll` returns it. Not one of Kafka's settings, where
    /// the high watermark plays this part.
    ///
    /// With `Written`, the default, `poll` returns a record as soon as it is visible. Power loss may
    /// take back a record that was read and not synced yet. `Synced` returns no record that power loss
    /// can take back. So what a program has done with a record, outside of this folder too, never
    /// rests on a record that is gone.
    ///
    /// A consumer that reads `Synced` asks for the syncs that it needs, whatever the acknowledgements
    /// of the producers. One sync serves all readers and writers. As beside a producer with
    /// `Synced`, large appends go through the journal meanwhile. `end_offsets`, `lag` and
    /// `seek_to_end` do not depend on this setting.
    ///
    /// A poll that finds only records that are not synced waits for the sync, or runs it itself. So
    /// it may take longer than its timeout by one sync, and so may a wakeup. `Duration::ZERO` does
    /// not wait, and a later poll returns the records; only with
    /// [`background(false)`](super::BrokerConfig::background), where nobody else syncs, it does so
    /// too. The first records after a crash wait until recovery has made durable what it found.
    ///
    /// After a failed sync, `poll` returns what this consumer has found to be synced before, and then
    /// [`Error::Failed`]. A folder that is open read-only refuses `Synced`: only its writer knows
    /// what is synced.
    ///
    /// ```
    /// use grouplog::{Acks, Broker, ConsumerConfig, ProducerConfig, Record, TopicConfig};
    /// use std::time::Duration;
    ///
    /// let broker = Broker::open_in_memory()?;
    /// broker.create_topic("orders", TopicConfig::new())?;
    /// let fast = broker.producer_with(ProducerConfig::new().acks(Acks::Written))?;
    /// fast.send(Record::to("orders").value("1 pear"))?;
    ///
    /// let config = ConsumerConfig::new().group("mailer").read_durability(Acks::Synced);
    /// let mut mailer = broker.consumer_with(config)?;
    /// mailer.subscribe(["orders"])?;
    /// // No mail for an order that power loss takes back.
    /// assert_eq!(mailer.poll(Duration::from_secs(1))?.len(), 1);
    /// # Ok::<(), grouplog::Error>(())
    /// ```
    pub fn read_durability(mut self, level: Acks) -> Self {
        self.read_durability = level;
        self
    }

    /// Sets Kafka's `enable.auto.commit`.
    ///
    /// With auto-commit, `poll` commits what earlier polls returned, every
    /// `auto.commit.interval.ms`. Giving up a partition, `assign` and `close` commit as well. On by
    /// default with a group. Switching it on without a group is an error, as in Kafka.
    pub fn enable_auto_commit(mut self, enable: bool) -> Self {
        self.enable_auto_commit = Some(enable);
        self
    }

    /// Sets Kafka's `auto.commit.interval.ms`. Default 5 s.
    pub fn auto_commit_interval(mut self, interval: Duration) -> Self {
        self.auto_commit_interval = interval;
        self
    }

    /// Sets what a commit must have reached when it returns.
    ///
    /// `Written`, the default, survives a killed process and costs no system call. `Synced`
    /// survives power loss and waits for one sync of the journal, which appends and other commits
    /// share. Auto-commit waits for it too.
    pub fn commit_acks(mut self, acks: Acks) -> Self {
        self.commit_acks = acks;
        self
    }

    /// Sets Kafka's `max.poll.records`: the maximum number of records that one `poll` returns.
    /// Default 500.
    pub fn max_poll_records(mut self, records: usize) -> Self {
        self.max_poll_records = records;
        self
    }

    /// Sets Kafka's `fetch.max.bytes`: the approximate maximum of record bytes that one `poll`
    /// returns. Default 50 MiB.
    ///
    /// The record that exceeds the limit is still returned, so a large record never blocks a
    /// partition.
    pub fn fetch_max_bytes(mut self, bytes: u32) -> Self {
        self.fetch_max_bytes = bytes;
        self
    }

    /// Sets Kafka's `max.partition.fetch.bytes`: as [`ConsumerConfig::fetch_max_bytes`], for one
    /// partition. Default 1 MiB.
    pub fn max_partition_fetch_bytes(mut self, bytes: u32) -> Self {
        self.max_partition_fetch_bytes = bytes;
        self
    }

    /// Sets Kafka's `max.poll.interval.ms`: how long a member may go without a `poll` before others
    /// get its partitions. Default 5 minutes.
    pub fn max_poll_interval(mut self, interval: Duration) -> Self {
        self.max_poll_interval = interval;
        self
    }

    /// Sets Kafka's `session.timeout.ms`: how long a member may be silent before others get its
    /// partitions.
    ///
    /// A silent member neither polls nor commits. The timeout also limits how long a static member
    /// may be away, see [`ConsumerConfig::group_instance_id`].
    ///
    /// Kafka's consumers have a thread that sends heartbeats while they work, because their
    /// processes can die. Here `poll` is the heartbeat, and no member dies alone. So the timeout
    /// applies to live members only if it is set, in addition to `max.poll.interval.ms`. If it is
    /// not set, static members may be away for Kafka's 45 seconds.
    pub fn session_timeout(mut self, timeout: Duration) -> Self {
        self.session_timeout = Some(timeout);
        self
    }

    /// Sets Kafka's `group.instance.id`, which makes this a static member (KIP-345).
    ///
    /// When the consumer is closed or dropped, the group keeps its place for `session.timeout.ms`.
    /// A consumer that returns under the same instance id takes over the same partitions, and no
    /// other member notices. The member is evicted if it does not poll for the sum
    /// of `max.poll.interval.ms` and `session.timeout.ms`. A second consumer under the same id
    /// takes the place from the first, whose calls then fail with [`Error::FencedInstanceId`].
    pub fn group_instance_id(mut self, id: impl Into<String>) -> Self {
        self.group_instance_id = Some(id.into());
        self
    }

    /// Sets Kafka's `partition.assignment.strategy`: the assignors that this member proposes, in
    /// order of preference. See [`AssignmentStrategy`] for how the members of a group agree.
    pub fn assignment_strategies(
        mut self,
        strategies: impl IntoIterator<Item = AssignmentStrategy>,
    ) -> Self {
        self.assignment_strategies = strategies.into_iter().collect();
        self
    }

    /// Returns whether `poll` commits positions automatically.
    pub(crate) fn auto_commits(&self) -> bool {
        self.enable_auto_commit.unwrap_or(true) && self.group.is_some()
    }

    pub(crate) fn validate(&self) -> Result<()> {
        if let Some(id) = &self.group_instance_id
            && crate::types::check_topic_name(id).is_err()
        {
            return Err(Error::InvalidConfig {
                key: "group.instance.id",
                value: id.clone(),
                expected: "1 to 249 letters, digits, '.', '_' or '-'",
            });
        }
        if self.assignment_strategies.is_empty() {
            return Err(Error::InvalidConfig {
                key: "partition.assignment.strategy",
                value: String::new(),
                expected: "one or more assignors",
            });
        }
        let session = self.session_timeout.map_or(1, |timeout| timeout.as_millis());
        in_range("session.timeout.ms", session, 1.., "1 or more milliseconds")?;
        in_range("max.poll.records", self.max_poll_records, 1.., "1 or more")?;
        in_range("fetch.max.bytes", self.fetch_max_bytes, 1.., "1 or more")?;
        in_range("max.partition.fetch.bytes", self.max_partition_fetch_bytes, 1.., "1 or more")?;
        let interval = self.max_poll_interval.as_millis();
        in_range("max.poll.interval.ms", interval, 1.., "1 or more milliseconds")?;
        if self.enable_auto_commit == Some(true) && self.group.is_none() {
            return Err(Error::InvalidConfig {
                key: "enable.auto.commit",
                value: "true".to_owned(),
                expected: "false, or not set, without group.id",
            });
        }
        Ok(())
    }
}
