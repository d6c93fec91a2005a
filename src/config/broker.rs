use std::sync::Arc;
use std::time::Duration;

use super::in_range;
use crate::error::{Error, Result};
#[cfg(unix)]
use crate::storage::Access;
use crate::time::{Clock, Random, SeededRandom, SystemClock};

/// How frames are written to the journal.
///
/// ```
/// assert_eq!(grouplog::JournalMode::default(), grouplog::JournalMode::Auto);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum JournalMode {
    /// `Map` where a mapped store can fail only with the disk (ext4 and tmpfs on Linux), else `Write`.
    #[default]
    Auto,
    /// Through a shared map, without a system call. A dying disk can end the process by SIGBUS,
    /// which loses nothing acknowledged.
    Map,
    /// By `pwrite`.
    Write,
}

/// How segments are read.
///
/// ```
/// assert_eq!(grouplog::ReadMode::default(), grouplog::ReadMode::Map);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum ReadMode {
    /// Through maps, without a system call or a copy. A disk that dies under a map can end the process by
    /// SIGBUS, which loses nothing acknowledged.
    #[default]
    Map,
    /// By `pread`: slower, and a disk that cannot be read is an [`Error::Io`](crate::Error::Io).
    Pread,
}

/// The settings of a broker: an open folder.
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
    pub(crate) open_batches_max_bytes: u64,
    pub(crate) sync_interval: Duration,
    pub(crate) group_max_size: u32,
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
            journal_max_bytes: 128 << 20,
            batch_size: 64 << 10,
            open_batches_max_bytes: 64 << 20,
            sync_interval: Duration::from_secs(1),
            group_max_size: i32::MAX as u32,
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
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// How the journal is written.
    pub fn journal_mode(mut self, mode: JournalMode) -> Self {
        self.journal_mode = mode;
        self
    }

    /// How segments are read.
    pub fn read_mode(mut self, mode: ReadMode) -> Self {
        self.read_mode = mode;
        self
    }

    /// How many files of segments are open at once, at most: a quarter of them to be read (or as many
    /// mapped), the others to be written. The journal has its own, one for each of its files.
    ///
    /// This is an upper limit. Where the process may open few files (`ulimit -n`, as it is when the folder is
    /// opened), fewer are used: all files of the engine together take at most half of that limit.
    pub fn max_open_files(mut self, files: u32) -> Self {
        self.max_open_files = files;
        self
    }

    /// The size of one journal file in bytes. A journal that has to grow under load grows by files four
    /// times as large.
    pub fn journal_file_bytes(mut self, bytes: u32) -> Self {
        self.journal_file_bytes = bytes;
        self
    }

    /// The size that all journal files may reach together, in bytes. A checkpoint begins when half of
    /// it is used; recovery never has more to read. One `send_all` is limited to a quarter of it.
    pub fn journal_max_bytes(mut self, bytes: u64) -> Self {
        self.journal_max_bytes = bytes;
        self
    }

    /// The size in bytes at which a partition's open batch is sealed.
    pub fn batch_size(mut self, bytes: u32) -> Self {
        self.batch_size = bytes;
        self
    }

    /// The memory in bytes that the open batches of all partitions may take together.
    pub fn open_batches_max_bytes(mut self, bytes: u64) -> Self {
        self.open_batches_max_bytes = bytes;
        self
    }

    /// How long a record sent with [`Acks::Written`](crate::Acks::Written) stays without a sync.
    pub fn sync_interval(mut self, interval: Duration) -> Self {
        self.sync_interval = interval;
        self
    }

    /// Kafka's `group.max.size`: how many members a group may have. One more is refused with
    /// [`Error::GroupMaxSizeReached`](crate::Error::GroupMaxSizeReached).
    pub fn group_max_size(mut self, members: u32) -> Self {
        self.group_max_size = members;
        self
    }

    /// How long committed offsets are kept that nobody uses: those of a group without members, from when it
    /// had members last, and those of topics that its members do not read.
    ///
    /// A jump of the wall clock is not elapsed time. While the folder is open, its monotonic clock counts. When it
    /// is opened, the time since it was closed counts, up to one day. The rest counts from the next opening on that
    /// comes an hour or more later. So offsets may be kept for longer than this, but not for less, unless the wall
    /// clock is wrong when the folder is opened: then for a day less.
    pub fn offsets_retention(mut self, retention: Duration) -> Self {
        self.offsets_retention = retention;
        self
    }

    /// How often it is looked for offsets that are kept for too long. A group's last use is recorded as
    /// often.
    pub fn offsets_retention_check_interval(mut self, interval: Duration) -> Self {
        self.offsets_retention_check_interval = interval;
        self
    }

    /// Whether threads of its own do what can be done later: checkpoints, journal files ahead of
    /// need, syncs nobody waits for. Without them the calling threads do it when it must be done,
    /// which makes every run the same, for tests.
    pub fn background(mut self, background: bool) -> Self {
        self.background = background;
        self
    }

    /// Whether a folder that does not exist or is empty becomes a new one; otherwise opening it is
    /// an error.
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// Whether a partition whose files are damaged or gone makes opening fail. Otherwise the folder
    /// opens, the partition takes no appends, and [`RecoveryReport`](crate::RecoveryReport) and
    /// [`Health`](crate::Health) name it. Opening then looks at the files of all partitions, also in a folder
    /// that was closed: of 10,000 partitions 0.2 s, and two seconds when the system has not cached them.
    pub fn strict(mut self, strict: bool) -> Self {
        self.strict = strict;
        self
    }

    /// Who may read the files that are created, beside the owner. It widens nothing that is there: a
    /// folder that was created for the owner alone stays so.
    #[cfg(unix)]
    pub fn access(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    /// Where the time comes from.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Where random numbers come from.
    pub fn random(mut self, random: Arc<dyn Random>) -> Self {
        self.random = random;
        self
    }

    pub(crate) fn validate(&self) -> Result<()> {
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
        in_range("max.open.files", self.max_open_files, 64.., "64 or more files")?;
        in_range("batch.size", self.batch_size, 1024..=1 << 20, "1024 to 1048576 bytes")?;
        in_range(
            "open.batches.max.bytes",
            self.open_batches_max_bytes,
            1 << 20..,
            "1048576 or more bytes",
        )
    }
}
