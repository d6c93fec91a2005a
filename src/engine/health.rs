//! What is wrong with an open folder.

use std::fmt;
use std::sync::Arc;

use crate::engine::state::Engine;
use crate::error::Error;
use crate::types::TopicPartition;

/// What [`Broker::health`](crate::Broker::health) tells: everything that is wrong now, whether a call
/// has reported it or not. Asking costs a look at each partition.
///
/// ```
/// use grouplog::{Broker, HealthStatus, Problem};
///
/// let broker = Broker::open_in_memory()?;
/// let health = broker.health();
/// assert_eq!(health.status(), HealthStatus::Ok);
/// for problem in health.problems() {
///     match problem {
///         Problem::DiskFull => println!("make room; appends resume by themselves"),
///         other => println!("{other}"),
///     }
/// }
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Health {
    problems: Vec<Problem>,
}

/// How bad it is, in rising order.
///
/// ```
/// use grouplog::HealthStatus;
/// assert!(HealthStatus::Ok < HealthStatus::Degraded);
/// assert!(HealthStatus::Degraded < HealthStatus::Failed);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum HealthStatus {
    /// All is well.
    Ok,
    /// Some of what could be done cannot, or not for long; see the problems.
    Degraded,
    /// Nothing is written until the folder is opened again. Reading goes on.
    Failed,
}

/// One thing that is wrong. Its `Display` says what, and what to do.
///
/// ```
/// use grouplog::Problem;
/// assert!(Problem::DiskFull.to_string().contains("full"));
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Problem {
    /// A write or sync of the journal failed, or a panic left something half changed. It is final:
    /// open the folder again.
    Failed {
        /// The first failure.
        cause: Arc<Error>,
    },
    /// The disk is full: appends are refused with [`Error::DiskFull`] until there is space; deleting
    /// and committing go on. What is in the journal is safe.
    DiskFull,
    /// No further journal file can be prepared; it is tried again. Appends go on until the files that
    /// are ready are full, then they are refused with this cause.
    Journal {
        /// Why not.
        cause: Error,
    },
    /// The last checkpoint did not come about; it is tried again. Until one does, the journal is not
    /// given back, and appends stop when it is full.
    Checkpoint {
        /// Why not.
        cause: Error,
    },
    /// A sync of a checkpoint failed, so that none is written any more. Appends and syncs go on until
    /// the journal is full, then they are refused with [`Error::Failed`]. Open the folder again.
    CheckpointsStopped {
        /// The failed sync.
        cause: Arc<Error>,
    },
    /// A partition cannot be appended to. What of it can be read is read.
    Partition {
        /// The partition.
        partition: TopicPartition,
        /// The damage found at opening or by the first append (`Corrupt`, `MissingSegment`), or `Poisoned`
        /// after a panic.
        cause: Error,
    },
    /// The files of a deleted topic could not be removed; it is tried again with each checkpoint.
    Deletion {
        /// Why not.
        cause: Error,
    },
}

impl Health {
    /// How bad it is.
    pub fn status(&self) -> HealthStatus {
        self.problems.iter().map(Problem::status).max().unwrap_or(HealthStatus::Ok)
    }

    /// Whether nothing is wrong.
    pub fn is_ok(&self) -> bool {
        self.problems.is_empty()
    }

    /// Everything that is wrong, the worst first.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((first, others)) = self.problems.split_first() else { return f.write_str("ok") };
        fmt::Display::fmt(first, f)?;
        others.iter().try_for_each(|problem| write!(f, "; {problem}"))
    }
}

impl Problem {
    fn status(&self) -> HealthStatus {
        match self {
            Self::Failed { .. } => HealthStatus::Failed,
            _ => HealthStatus::Degraded,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed { cause } => {
                write!(f, "nothing is written any more, open the folder again: {cause}")
            }
            Self::DiskFull => f.write_str("the disk is full, appends wait for space"),
            Self::Journal { cause } => {
                write!(
                    f,
                    "no journal file can be prepared, appends end when those are full that are ready: {cause}"
                )
            }
            Self::Checkpoint { cause } => {
                write!(f, "the last checkpoint failed and is tried again: {cause}")
            }
            Self::CheckpointsStopped { cause } => write!(
                f,
                "no checkpoint is written any more, open the folder again before the journal is full: {cause}"
            ),
            Self::Partition { partition, cause } => {
                write!(f, "partition {partition} takes no appends: {cause}")
            }
            Self::Deletion { cause } => {
                write!(f, "files of a deleted topic are still there and removed later: {cause}")
            }
        }
    }
}

impl Engine {
    pub(crate) fn health(&self) -> Health {
        if let Err(forked) = self.check_fork() {
            return Health { problems: vec![Problem::Failed { cause: Arc::new(forked) }] };
        }
        let mut problems = Vec::new();
        let failed = self.journal.state().map(|cause| Problem::Failed { cause });
        let stopped = || {
            let cause = self.journal.space_stopped()?;
            Some(Problem::CheckpointsStopped { cause })
        };
        // Checkpoints fail for that reason, too.
        problems.extend(failed.or_else(stopped));
        let checkpoint = self.troubles.checkpoint.lock().clone().filter(|_| problems.is_empty());
        let preparing = self.journal.preparation_failure().filter(|_| problems.is_empty());
        let full = |error: &Error| matches!(error, Error::DiskFull { .. });
        if self.reserve.is_given_up()
            || preparing.as_ref().is_some_and(full)
            || checkpoint.as_ref().is_some_and(full)
        {
            problems.push(Problem::DiskFull);
        }
        let preparing = preparing.filter(|error| !full(error));
        problems.extend(preparing.map(|cause| Problem::Journal { cause }));
        problems.extend(checkpoint.map(|cause| Problem::Checkpoint { cause }));
        for topic in self.registry.topics() {
            problems.extend(topic.logs.iter().filter_map(|log| {
                let partition = log.partition().clone();
                log.failure().map(|cause| Problem::Partition { partition, cause })
            }));
        }
        let deletion = self.troubles.deletion.lock().clone();
        problems.extend(deletion.map(|cause| Problem::Deletion { cause }));
        Health { problems }
    }
}
