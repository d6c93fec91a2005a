use std::sync::Arc;
use std::time::Duration;

use super::in_range;
use crate::error::{Error, Result};
#[cfg(unix)]
use crate::storage::Access;
use crate::storage::Ledger;
use crate::time::{Clock, Random, SeededRandom, SystemClock};
use crate::types::planted;

/// Of less, too little would be left for records.
const DISK_BUDGET_MIN: u64 = 2 << 20;

/// How the engine writes frames to the journal.
///
/// ```
/// assert_eq!(grouplog::JournalMode::default(), grouplog::JournalMode::Auto);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum JournalMode {
    /// `Map` where a mapped store can fail only if the disk fails (ext4 and tmpfs on Linux), else
    /// `Write`.
    #[default]
    Auto,
    /// Writes through a shared map, without a system call. A dying disk can end the process by
    /// SIGBUS, which loses nothing acknowledged.
    Map,
    /// Writes with `pwrite`.
    Write,
}

/// How the engine reads segments.
///
/// ```
/// assert_eq!(grouplog::ReadMode::default(), grouplog::ReadMode::Map);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum ReadMode {
    /// Reads through maps, without a system call or a copy. A disk that dies under a map can end
    /// the process by SIGBUS, which loses nothing acknowledged.
    #[default]
    Map,
    /// Reads with `pread`. Slower, but a disk that cannot be read is an
    /// [`Error::Io`](crate::Error::Io).
    Pread,
}

/// The settings of a broker, that is, of an open folder.
///
/// ```
/// use grouplog::{Broker, BrokerConfig, JournalMode};
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("data");
/// let config = BrokerConfig::new().journal_mode(JournalMode::Write);
/// let broker = Broker::open_with(&path, config)?;
/// broker.close()?;
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct BrokerConfig {
    pub(crate) journal_mode: JournalMode,
    pub(crate) read_mode: ReadMode,
    pub(crate) max_open_files: u32,
    pub(crate) journal_file_bytes: u32,
    pub(crate) journal_max_bytes: u64,
    pub(crate) batch_size: u32,
    pub(crate) stored_append_bytes: u32,
    pub(crate) open_batches_max_bytes: u64,
    pub(crate) sync_interval: Duration,
    pub(crate) group_max_size: u32,
    pub(crate) retention_check_interval: Duration,
    pub(crate) disk_budget: Option<u64>,
    /// The account of the budget, once the folder is open.
    pub(crate) ledger: Option<Arc<Ledger>>,
    pub(crate) cleaner_memory: usize,
    pub(crate) cleaner_rate: Option<u64>,
    pub(crate) cleaner_interval: Duration,
    pub(crate) offsets_retention: Duration,
    pub(crate) offsets_retention_check_interval: Duration,
    pub(crate) background: bool,
    pub(crate) create: bool,
    pub(crate) strict: bool,
    #[cfg(unix)]
    pub(crate) access: Access,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
}

impl Default for BrokerConfig {
    fn default() -> Self {
        Self {
            journal_mode: JournalMode::Auto,
            read_mode: ReadMode::Map,
            max_open_files: 512,
            journal_file_bytes: 4 << 20,
            journal_max_bytes: 256 << 20,
            batch_size: 64 << 10,
            stored_append_bytes: 8 << 10,
            open_batches_max_bytes: 64 << 20,
            sync_interval: Duration::from_secs(1),
            group_max_size: i32::MAX as u32,
            retention_check_interval: Duration::from_mins(5),
            disk_budget: None,
            ledger: None,
            cleaner_memory: 32 << 20,
            cleaner_rate: None,
            cleaner_interval: Duration::from_secs(15),
            offsets_retention: Duration::from_hours(7 * 24),
            offsets_retention_check_interval: Duration::from_mins(10),
            background: true,
            create: true,
            strict: false,
            #[cfg(unix)]
            access: Access::Owner,
            clock: Arc::new(SystemClock::new()),
            random: Arc::new(SeededRandom::from_os()),
        }
    }
}

impl BrokerConfig {
    /// Creates the default settings.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how the engine writes the journal. Default [`JournalMode::Auto`].
    pub fn journal_mode(mut self, mode: JournalMode) -> Self {
        self.journal_mode = mode;
        self
    }

    /// Sets how the engine reads segments. Default [`ReadMode::Map`].
    pub fn read_mode(mut self, mode: ReadMode) -> Self {
        self.read_mode = mode;
        self
    }

    /// Sets the maximum number of open segment files. Default 512, at least 64.
    ///
    /// A quarter of them are for reading (or as many maps), the others for writing. The journal's
    /// files do not count: each of them is open as well.
    ///
    /// This is an upper limit. The engine uses fewer files if the process may open only a few
    /// (`ulimit -n`, read when the folder is opened). All files of the engine together take at most
    /// half of that limit.
    pub fn max_open_files(mut self, files: u32) -> Self {
        self.max_open_files = files;
        self
    }

    /// Sets the size of an ordinary journal file in bytes. Default 4 MiB.
    ///
    /// The first files are smaller, a sixteenth of it. A journal that must grow under load grows by
    /// larger files, up to four times this size.
    pub fn journal_file_bytes(mut self, bytes: u32) -> Self {
        self.journal_file_bytes = bytes;
        self
    }

    /// Sets the size in bytes that all journal files may reach together. Default 256 MiB.
    ///
    /// The journal begins with less than 1 MiB and grows only if records come faster than the disk
    /// takes them. It is small again when it has been idle for a while, or is closed. A checkpoint
    /// begins when two ordinary files, or half of the limit, are in use. Recovery never has more to
    /// read than the limit. One `send_all` is limited to a quarter of it.
    pub fn journal_max_bytes(mut self, bytes: u64) -> Self {
        self.journal_max_bytes = bytes;
        self
    }

    /// Sets the size in bytes at which a partition's open batch is sealed. Default 64 KiB.
    pub fn batch_size(mut self, bytes: u32) -> Self {
        self.batch_size = bytes;
        self
    }

    /// Sets the size in bytes from which an append writes its records into the segment at once. Default
    /// 8 KiB; `u32::MAX` never does it.
    ///
    /// The journal then holds only where the records are, so they are written once. The size is that of the
    /// records that one `send` or `send_all` adds to one partition. Guarantees do not depend on it.
    ///
    /// Appends go to the journal whatever their size if the topic compresses, or while producers with
    /// `acks` = `synced` send.
    pub fn stored_append_bytes(mut self, bytes: u32) -> Self {
        self.stored_append_bytes = bytes;
        self
    }

    /// Sets the memory in bytes that the open batches of all partitions may take together. Default
    /// 64 MiB.
    pub fn open_batches_max_bytes(mut self, bytes: u64) -> Self {
        self.open_batches_max_bytes = bytes;
        self
    }

    /// Sets how long a record sent with [`Acks::Written`](crate::Acks::Written) may stay without a
    /// sync. Default one second.
    pub fn sync_interval(mut self, interval: Duration) -> Self {
        self.sync_interval = interval;
        self
    }

    /// Sets Kafka's `group.max.size`: the maximum number of members of a group. A further member
    /// gets [`Error::GroupMaxSizeReached`](crate::Error::GroupMaxSizeReached).
    pub fn group_max_size(mut self, members: u32) -> Self {
        self.group_max_size = members;
        self
    }

    /// Sets how long unused committed offsets are kept. Default 7 days.
    ///
    /// Those are the offsets of a group without members, counted from when it last had members, and
    /// the offsets of topics that its members do not read.
    ///
    /// A jump of the wall clock does not count as elapsed time. While the folder is open, its
    /// monotonic clock counts. An opening adds the time since the folder was closed, up to one day.
    /// The rest of that time counts from the next opening that comes an hour or more later. So
    /// offsets may be kept for longer than this, but not for less, unless the wall clock is wrong
    /// when the folder is opened: then for up to a day less.
    pub fn offsets_retention(mut self, retention: Duration) -> Self {
        self.offsets_retention = retention;
        self
    }

    /// Sets how often the engine checks whether records of topics are past their retention. Default 5
    /// minutes, as `log.retention.check.interval.ms` in Kafka.
    ///
    /// This is the longest time between two checks. A topic with a short
    /// [`retention`](crate::TopicConfig::retention) is checked more often, a sixteenth of that time apart.
    /// A partition with [`retention_bytes`](crate::TopicConfig::retention_bytes) is also checked whenever it
    /// begins a segment, and a topic with [`retention_consumed`](crate::TopicConfig::retention_consumed) every
    /// ten seconds.
    pub fn retention_check_interval(mut self, interval: Duration) -> Self {
        self.retention_check_interval = interval;
        self
    }

    /// Sets an upper limit for the space in bytes that the files of the folder take on the disk: 2 MiB or more.
    /// Default: no limit. Not in Kafka.
    ///
    /// The limit holds at every moment, in blocks of 4 KiB, and includes the journal, the reserve for a full
    /// disk and space that files reserve ahead. What the file system needs for itself, such as for folders, does
    /// not count.
    ///
    /// An append for which there is no room is treated as
    /// [`disk.budget.policy`](crate::TopicConfig::disk_budget_policy) of its topic says. Commits, deletions and
    /// checkpoints go on, because their space is set aside: about a third of the budget. For that,
    /// [`journal.max.bytes`](Self::journal_max_bytes) is at most an eighth of the budget, and
    /// [`journal.file.bytes`](Self::journal_file_bytes) a quarter of that. The larger ones of your settings are
    /// reduced. So one `send_all` is limited to a 32nd of the budget.
    ///
    /// A folder that takes more than the budget opens nevertheless. It refuses appends until deletions have made
    /// room. [The chapter on how data ends](crate::manual::retention) says more.
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// use grouplog::storage::Memory;
    /// use grouplog::{Broker, BrokerConfig, Error};
    ///
    /// let config = BrokerConfig::new().disk_budget(256 << 20);
    /// let broker = Broker::open_storage(Arc::new(Memory::new()), config)?;
    /// let budget = broker.admin().disk_usage()?.budget.unwrap();
    /// assert!(budget.used <= budget.taken && budget.taken <= budget.limit);
    ///
    /// let too_little = Broker::open_storage(
    ///     Arc::new(Memory::new()),
    ///     BrokerConfig::new().disk_budget(100_000),
    /// );
    /// assert!(matches!(too_little, Err(Error::InvalidConfig { key: "disk.budget", .. })));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn disk_budget(mut self, bytes: u64) -> Self {
        self.disk_budget = Some(bytes);
        self
    }

    /// Sets the memory in bytes for the map of keys of a compaction, as `log.cleaner.dedupe.buffer.size` in Kafka.
    /// Default 32 MiB, at least 64 KiB.
    ///
    /// The map takes 24 bytes a key and leaves a tenth of its places empty, so 32 MiB hold 1.25 million keys. If
    /// the new part of a log has more, several passes follow each other. The engine compacts one partition at a time,
    /// and takes the memory only while it does so.
    pub fn cleaner_memory(mut self, bytes: usize) -> Self {
        self.cleaner_memory = bytes;
        self
    }

    /// Sets how many bytes a second the background thread reads and writes to compact. Default: 64 MiB, or twice
    /// as many as producers write if that is more. [`Admin::compact`](crate::Admin::compact) does not wait.
    pub fn cleaner_rate(mut self, bytes: u64) -> Self {
        self.cleaner_rate = Some(bytes);
        self
    }

    /// Sets how long the background thread waits after it has found nothing to compact, as `log.cleaner.backoff.ms`
    /// in Kafka. Default 15 seconds.
    pub fn cleaner_interval(mut self, interval: Duration) -> Self {
        self.cleaner_interval = interval;
        self
    }

    /// Sets how often the engine checks for offsets past their retention. Default 10 minutes. The
    /// engine records a group's last use at the same interval.
    pub fn offsets_retention_check_interval(mut self, interval: Duration) -> Self {
        self.offsets_retention_check_interval = interval;
        self
    }

    /// Sets whether background threads do the deferred work: checkpoints, journal files ahead of
    /// need, and syncs that no caller waits for. Default true.
    ///
    /// Without them the calling threads do this work when it becomes necessary. Every run is then
    /// the same, which tests need.
    pub fn background(mut self, background: bool) -> Self {
        self.background = background;
        self
    }

    /// Sets whether to create a folder that does not exist or is empty. Default true. Otherwise
    /// opening such a folder is an error.
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// Sets whether opening fails if a partition's files are damaged or missing. Default false.
    ///
    /// Without it the folder opens and the partition rejects appends.
    /// [`RecoveryReport`](crate::RecoveryReport) and [`Health`](crate::Health) name the partition.
    /// With it opening checks the files of all partitions, even in a folder that was closed
    /// cleanly. For 10,000 partitions that takes 0.2 s, or two seconds if the system has not cached
    /// the files.
    pub fn strict(mut self, strict: bool) -> Self {
        self.strict = strict;
        self
    }

    /// Sets who besides the owner may read created files. An existing folder is not widened: one
    /// that was created for the owner alone stays so.
    #[cfg(unix)]
    pub fn access(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    /// Sets the clock.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Sets the source of random numbers.
    pub fn random(mut self, random: Arc<dyn Random>) -> Self {
        self.random = random;
        self
    }

    /// Returns the settings with a journal that is small beside the budget.
    pub(crate) fn within_budget(mut self) -> Self {
        let Some(budget) = self.disk_budget else { return self };
        if !planted("budget_ignores_journal") {
            self.journal_max_bytes = self.journal_max_bytes.min(budget / 8);
        }
        let most = u32::try_from(self.journal_max_bytes / 4).unwrap_or(u32::MAX) & !4095;
        self.journal_file_bytes = self.journal_file_bytes.min(most);
        self
    }

    /// Returns the most bytes that the journal takes: more than its limit by the first files of two openings.
    pub(crate) fn journal_space(&self) -> u64 {
        let first = u64::from(self.journal_file_bytes / 16).max(16 << 10);
        self.journal_max_bytes.saturating_add(first).saturating_add(first)
    }

    pub(crate) fn validate(&self) -> Result<()> {
        if let Some(budget) = self.disk_budget {
            in_range("disk.budget", budget, DISK_BUDGET_MIN.., "2097152 or more bytes")?;
        }
        in_range(
            "journal.file.bytes",
            self.journal_file_bytes,
            64 << 10..=256 << 20,
            "65536 to 268435456 bytes",
        )?;
        in_range(
            "journal.max.bytes",
            self.journal_max_bytes,
            4 * u64::from(self.journal_file_bytes)..=4 << 30,
            "4 times journal.file.bytes to 4294967296 bytes",
        )?;
        in_range("group.max.size", self.group_max_size, 1..=i32::MAX as u32, "1 to 2147483647")?;
        if self.offsets_retention < Duration::from_mins(1) {
            return Err(Error::InvalidConfig {
                key: "offsets.retention.minutes",
                value: format!("{:?}", self.offsets_retention),
                expected: "1 or more minutes",
            });
        }
        if self.offsets_retention_check_interval < Duration::from_millis(1) {
            return Err(Error::InvalidConfig {
                key: "offsets.retention.check.interval.ms",
                value: format!("{:?}", self.offsets_retention_check_interval),
                expected: "1 or more milliseconds",
            });
        }
        if self.retention_check_interval < Duration::from_millis(1) {
            return Err(Error::InvalidConfig {
                key: "log.retention.check.interval.ms",
                value: format!("{:?}", self.retention_check_interval),
                expected: "1 or more milliseconds",
            });
        }
        in_range(
            "log.cleaner.dedupe.buffer.size",
            self.cleaner_memory,
            64 << 10..,
            "65536 or more bytes",
        )?;
        if let Some(rate) = self.cleaner_rate {
            in_range("log.cleaner.io.max.bytes.per.second", rate, 1.., "1 or more bytes")?;
        }
        if self.cleaner_interval < Duration::from_millis(1) {
            return Err(Error::InvalidConfig {
                key: "log.cleaner.backoff.ms",
                value: format!("{:?}", self.cleaner_interval),
                expected: "1 or more milliseconds",
            });
        }
        in_range("max.open.files", self.max_open_files, 64.., "64 or more files")?;
        in_range("batch.size", self.batch_size, 1024..=1 << 20, "1024 to 1048576 bytes")?;
        in_range("stored.append.bytes", self.stored_append_bytes, 1.., "1 or more bytes")?;
        in_range(
            "open.batches.max.bytes",
            self.open_batches_max_bytes,
            1 << 20..,
            "1048576 or more bytes",
        )
    }
}
