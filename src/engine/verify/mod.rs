//! Checking everything that a folder holds, without changing it, and mending what can be made anew.

mod check;
mod repair;
mod strays;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::storage::{Disk, ReadOnly, Storage};

/// Checks everything that is stored in a folder: both checkpoints, the committed offsets, every frame of
/// the journal, every byte of the segments against their checksums, each batch and its records, the chain of
/// offsets, the leader epochs, the indexes and block sums, the identity of folders, and files that nothing
/// refers to. What it calls damaged is what [`Consumer::poll`](crate::Consumer::poll) refuses, with the same
/// offsets.
///
/// It takes no lock and changes nothing. Beside a running writer it checks what the writer's last
/// checkpoint and the journal say; where the writer went on meanwhile, what looks wrong is looked at again
/// before it is reported.
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

/// What [`Verify::run`] counted and found.
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
    /// All that is wrong, the order of the folder's files.
    pub findings: Vec<Finding>,
    /// Partitions that were looked at.
    pub partitions: u64,
    /// Segments that were looked at.
    pub segments: u64,
    /// Batches that are whole.
    pub batches: u64,
    /// Records in them, by their headers. Those that are in the journal alone are not among them.
    pub records: u64,
    /// Bytes of segments that were read.
    pub bytes: u64,
    /// Journal frames behind the checkpoint. Opening the folder replays them.
    pub frames: u64,
    /// Bytes of a torn end of the journal: what power loss took, and nobody was promised.
    pub torn_bytes: u64,
    /// Groups with committed offsets.
    pub groups: u64,
    /// How long it took.
    pub duration: Duration,
}

/// Something that is wrong in a folder.
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
    /// What kind of thing it is.
    pub kind: FindingKind,
    /// The file or folder.
    pub path: PathBuf,
    /// What is wrong with it. For damage: `Corrupt` with position and offsets, `MissingSegment`, `Io`.
    pub cause: Error,
}

/// What a [`Finding`] means.
///
/// ```
/// assert!(!grouplog::FindingKind::Damage.is_repairable());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FindingKind {
    /// Something is lost or cannot be read. There is one copy: it can only come from a backup.
    Damage,
    /// A file that can be made anew from others is missing, or does not match them: an index, block sums,
    /// the older checkpoint, an export for Kafka's tools. Nothing is lost.
    Derived,
    /// A file that nothing refers to, of a step that a crash cut short.
    Leftover,
    /// A file or folder that is not grouplog's, or of a topic that this folder does not have. It is in
    /// nobody's way, and repair leaves it alone, since it may be the only copy of something: look at it, and
    /// move it elsewhere. Names that begin with a dot, and `lost+found`, are not reported.
    Foreign,
}

impl FindingKind {
    /// Whether [`Verify::repair`] mends it.
    pub fn is_repairable(self) -> bool {
        matches!(self, Self::Derived | Self::Leftover)
    }

    /// Its name: `damage`, `derived`, `leftover` or `foreign`.
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
    /// With as many threads as there are processors, and nobody told of the progress.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many partitions are checked at the same time, at least 1.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads.max(1));
        self
    }

    /// Calls `progress` with the bytes of segments that were read and that there are in all, after each
    /// MiB at the latest, from any of the threads.
    pub fn on_progress(mut self, progress: impl Fn(u64, u64) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(progress));
        self
    }

    /// Checks a folder.
    ///
    /// # Errors
    /// Only where there is nothing to check: `NotADatabase`, `UnsupportedFormat`, `Io` for the folder
    /// itself. All else is a finding.
    pub fn run(&self, path: impl AsRef<Path>) -> Result<VerifyReport> {
        self.run_storage(&(Arc::new(ReadOnly::new(Disk::open(path.as_ref())?)) as Arc<dyn Storage>))
    }

    /// As [`Verify::run`], of what a [`Storage`] holds.
    pub fn run_storage(&self, storage: &Arc<dyn Storage>) -> Result<VerifyReport> {
        check::run(self, storage)
    }

    /// Makes anew what findings say can be, and removes what is left over, then opens the folder for
    /// writing and closes it, which replays the journal, drops its torn end and writes both checkpoints.
    /// Damage stays as it is. What was done is returned, one line each.
    ///
    /// # Errors
    /// Those of [`Broker::open`](crate::Broker::open): nobody else may have the folder open.
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

    /// As [`Verify::repair`], of what a [`Storage`] holds.
    pub fn repair_storage(storage: &Arc<dyn Storage>, findings: &[Finding]) -> Result<Vec<String>> {
        repair::run(storage, findings)
    }
}

impl fmt::Debug for Verify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verify").field("threads", &self.threads).finish_non_exhaustive()
    }
}
