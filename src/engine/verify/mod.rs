//! Checks everything that a folder holds, without changing it, and repairs what can be rebuilt.
//!
//! Imported by `engine`.

mod check;
mod repair;
mod strays;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::storage::{Disk, ReadOnly, Storage};

/// Checks everything that is stored in a folder.
///
/// A check covers:
///
/// - both checkpoints, the committed offsets, and every frame of the journal,
/// - every byte of the segments against their checksums, each batch and its records,
/// - the chain of offsets, the leader epochs, the indexes and block sums,
/// - the identity of folders, and files that nothing refers to.
///
/// What it reports as damage is what [`Consumer::poll`](crate::Consumer::poll) refuses to deliver, with the
/// same offsets.
///
/// A check takes no lock and changes nothing. Beside a running writer, it checks the state of the writer's
/// last checkpoint and journal. If the writer has moved on meanwhile, the check examines a suspect place
/// again before it reports it.
///
/// ```
/// use grouplog::{Broker, Record, TopicConfig, Verify};
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("data");
/// let broker = Broker::open(&path)?;
/// broker.create_topic("orders", TopicConfig::new())?;
/// broker.producer()?.send(Record::to("orders").value("1 pear"))?;
/// broker.close()?;
///
/// let report = Verify::new().run(&path)?;
/// assert!(report.findings.is_empty());
/// assert_eq!(report.records, 1);
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Clone, Default)]
#[must_use]
pub struct Verify {
    threads: Option<usize>,
    progress: Option<Arc<OnProgress>>,
}

type OnProgress = dyn Fn(u64, u64) + Send + Sync;

/// The counts and findings of [`Verify::run`].
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("data");
/// grouplog::Broker::open(&path)?.close()?;
/// let report = grouplog::Verify::new().run(&path)?;
/// assert_eq!((report.partitions, report.findings.len()), (0, 0));
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct VerifyReport {
    /// Everything that is wrong, in the order of the folder's files.
    pub findings: Vec<Finding>,
    /// The number of partitions checked.
    pub partitions: u64,
    /// The number of segments checked.
    pub segments: u64,
    /// The number of undamaged batches.
    pub batches: u64,
    /// The number of records in those batches, by the batch headers. Records that are only in the journal are
    /// not counted.
    pub records: u64,
    /// The number of bytes read from segments.
    pub bytes: u64,
    /// The number of journal frames behind the checkpoint. Opening the folder replays them.
    pub frames: u64,
    /// The number of bytes in a torn end of the journal. A crash left it, and none of it was acknowledged as
    /// `Synced`.
    pub torn_bytes: u64,
    /// The number of groups with committed offsets.
    pub groups: u64,
    /// The time that the check took.
    pub duration: Duration,
}

/// A problem in a folder that [`Verify::run`] found.
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("data");
/// # grouplog::Broker::open(&path)?.close()?;
/// for finding in grouplog::Verify::new().run(&path)?.findings {
///     println!("{finding}");
/// }
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Finding {
    /// The meaning of the finding, and whether it can be repaired.
    pub kind: FindingKind,
    /// The path of the file or folder.
    pub path: PathBuf,
    /// What is wrong. For damage, it is `Corrupt` with position and offsets, `MissingSegment`, or `Io`.
    pub cause: Error,
}

/// The meaning of a [`Finding`].
///
/// ```
/// assert!(!grouplog::FindingKind::Damage.is_repairable());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FindingKind {
    /// Data is lost or cannot be read. The folder has no second copy of it, so it can only come from a
    /// backup.
    Damage,
    /// A file is missing, or does not match the files that it can be rebuilt from. It is an index, block
    /// sums, the older checkpoint, or an export for Kafka's tools. No data is lost.
    Derived,
    /// A file or folder that nothing refers to, left by a step that a crash interrupted.
    Leftover,
    /// A file or folder that is not grouplog's, or that belongs to a topic that this folder does not have. It
    /// does no harm. Repair leaves it alone, because it may be the only copy of something. Inspect it, and
    /// move it elsewhere. Names that begin with a dot, and `lost+found`, are not reported.
    Foreign,
}

impl FindingKind {
    /// Returns whether [`Verify::repair`] repairs it.
    pub fn is_repairable(self) -> bool {
        matches!(self, Self::Derived | Self::Leftover)
    }

    /// Returns its name: `damage`, `derived`, `leftover` or `foreign`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Damage => "damage",
            Self::Derived => "derived",
            Self::Leftover => "leftover",
            Self::Foreign => "foreign",
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.kind, &self.cause) {
            (FindingKind::Leftover, _) => {
                write!(f, "leftover: nothing refers to {}", self.path.display())
            }
            (FindingKind::Foreign, _) => {
                write!(f, "foreign: {} belongs to no topic of this folder", self.path.display())
            }
            (kind, cause) => write!(f, "{}: {cause}", kind.name()),
        }
    }
}

impl Verify {
    /// Creates a check that uses as many threads as there are processors and reports no progress.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how many partitions are checked at the same time. The minimum is 1, and 0 means 1.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads.max(1));
        self
    }

    /// Calls `progress` with two numbers of segment bytes: those read so far, and the total. It is called
    /// after each MiB at the latest, from any of the threads.
    pub fn on_progress(mut self, progress: impl Fn(u64, u64) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(progress));
        self
    }

    /// Checks a folder.
    ///
    /// # Errors
    /// Everything that is wrong inside the folder is a finding. The check fails only if it cannot start:
    ///
    /// - `NotADatabase` if the folder is not a grouplog folder.
    /// - `UnsupportedFormat` if a newer version wrote it.
    /// - `Io` if the folder itself cannot be read.
    pub fn run(&self, path: impl AsRef<Path>) -> Result<VerifyReport> {
        self.run_storage(&(Arc::new(ReadOnly::new(Disk::open(path.as_ref())?)) as Arc<dyn Storage>))
    }

    /// Checks the folder in a [`Storage`]. See [`Verify::run`].
    pub fn run_storage(&self, storage: &Arc<dyn Storage>) -> Result<VerifyReport> {
        check::run(self, storage)
    }

    /// Repairs what `findings` show to be repairable: rebuilds derived files and removes leftover ones.
    /// Returns a line of text for each step.
    ///
    /// The call then opens the folder for writing and closes it. This replays the journal, drops its torn
    /// end, and writes both checkpoints. Damage stays as it is.
    ///
    /// # Errors
    /// The errors of [`Broker::open`](crate::Broker::open). `Locked` if the folder is open for writing.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = folder.path().join("data");
    /// # grouplog::Broker::open(&path)?.close()?;
    /// let report = grouplog::Verify::new().run(&path)?;
    /// grouplog::Verify::repair(&path, &report.findings)?;
    /// # Ok::<(), grouplog::Error>(())
    /// ```
    pub fn repair(path: impl AsRef<Path>, findings: &[Finding]) -> Result<Vec<String>> {
        let storage: Arc<dyn Storage> = Arc::new(Disk::open(path.as_ref())?);
        Self::repair_storage(&storage, findings)
    }

    /// Repairs the folder in a [`Storage`]. See [`Verify::repair`].
    pub fn repair_storage(storage: &Arc<dyn Storage>, findings: &[Finding]) -> Result<Vec<String>> {
        repair::run(storage, findings)
    }
}

impl fmt::Debug for Verify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verify").field("threads", &self.threads).finish_non_exhaustive()
    }
}
