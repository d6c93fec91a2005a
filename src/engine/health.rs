//! Reports what is wrong with an open folder.

use std::fmt;
use std::sync::Arc;

use crate::engine::state::Engine;
use crate::error::Error;
use crate::types::TopicPartition;

/// Everything that is wrong with an open folder, as [`Broker::health`](crate::Broker::health) returns it.
///
/// It lists the problems that exist now, including those that no call has reported. Each call checks
/// every partition.
///
/// ```
/// use grouplog::{Broker, HealthStatus, Problem};
///
/// let broker = Broker::open_in_memory()?;
/// let health = broker.health();
/// assert_eq!(health.status(), HealthStatus::Ok);
/// for problem in health.problems() {
///     match problem {
///         Problem::DiskFull => println!("free some space; appends then resume"),
///         other => println!("{other}"),
///     }
/// }
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Health {
    problems: Vec<Problem>,
}

/// The severity of the problems, in rising order.
///
/// ```
/// use grouplog::HealthStatus;
/// assert!(HealthStatus::Ok < HealthStatus::Degraded);
/// assert!(HealthStatus::Degraded < HealthStatus::Failed);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum HealthStatus {
    /// No problem.
    Ok,
    /// Some operations fail, or will fail before long. [`Health::problems`] says which.
    Degraded,
    /// Nothing can be written until the program opens the folder again. Reading still works.
    Failed,
}

/// A problem of an open folder. Its `Display` says what is wrong and what to do.
///
/// ```
/// use grouplog::Problem;
/// assert!(Problem::DiskFull.to_string().contains("full"));
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Problem {
    /// A write or sync of the journal failed, or a panic left a change unfinished. This is final: open the
    /// folder again.
    Failed {
        /// The first failure.
        cause: Arc<Error>,
    },
    /// The disk is full. Appends return [`Error::DiskFull`] until there is space. Deletions and commits still
    /// work, and the contents of the journal are safe.
    DiskFull,
    /// The disk budget has no room for the last append that asked. Appends return [`Error::DiskBudget`] until
    /// deletions make room, or the folder is opened with a larger
    /// [`disk_budget`](crate::BrokerConfig::disk_budget). Deletions and commits still work.
    DiskBudget {
        /// The budget in bytes.
        budget: u64,
        /// What is taken of it in bytes. See [`BudgetUsage::taken`](crate::BudgetUsage::taken).
        taken: u64,
    },
    /// The engine cannot prepare another journal file, and retries. Appends work until the prepared files are
    /// full, then they return this cause.
    Journal {
        /// The failure.
        cause: Error,
    },
    /// The last checkpoint failed. The engine retries it. Until one succeeds, the journal frees no space, and
    /// appends stop when it is full.
    Checkpoint {
        /// The failure.
        cause: Error,
    },
    /// A sync of a checkpoint failed, so the engine writes no further checkpoint. Appends and syncs work
    /// until the journal is full, then they return [`Error::Failed`]. Open the folder again.
    CheckpointsStopped {
        /// The failed sync.
        cause: Arc<Error>,
    },
    /// A partition rejects appends. Its undamaged records can still be read.
    Partition {
        /// The partition.
        partition: TopicPartition,
        /// The damage that the opening or the first append found (`Corrupt`, `MissingSegment`), or `Poisoned`
        /// after a panic.
        cause: Error,
    },
    /// Records past their retention could not be deleted. The next check retries. Other partitions are not
    /// affected.
    Retention {
        /// The first partition that failed.
        partition: TopicPartition,
        /// The failure.
        cause: Error,
    },
    /// A partition could not be compacted. Nothing is lost, but its folder grows. The engine tries again, after
    /// damage only once the settings of the topic change or [`Admin::compact`](crate::Admin::compact) asks for it.
    /// Other partitions are not affected.
    Compaction {
        /// The first partition that failed.
        partition: TopicPartition,
        /// The failure.
        cause: Error,
    },
    /// A share group cannot end attempts whose locks have ended: the journal takes nothing, or a dead letter cannot be
    /// written. Records that come again do so all the same; those that are to be given up wait. The engine tries again
    /// when a member polls.
    ShareGroup {
        /// The first group that failed.
        group: String,
        /// The failure.
        cause: Error,
    },
    /// The idempotency ids that a topic remembered could not be read when the folder was opened. Records with ids that
    /// were sent before may be stored again. Their window has passed after `dedup.window.ms`; the problem is shown until
    /// the folder is opened again.
    Ids {
        /// The topic.
        topic: String,
        /// The damage.
        cause: Error,
    },
    /// The files of a deleted topic could not be removed. Each checkpoint retries.
    Deletion {
        /// The failure.
        cause: Error,
    },
}

impl Health {
    /// Returns the severity of the worst problem.
    pub fn status(&self) -> HealthStatus {
        self.problems.iter().map(Problem::status).max().unwrap_or(HealthStatus::Ok)
    }

    /// Returns whether there is no problem.
    pub fn is_ok(&self) -> bool {
        self.problems.is_empty()
    }

    /// Returns all problems, the worst first.
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
                write!(f, "all writing has stopped, open the folder again: {cause}")
            }
            Self::DiskFull => f.write_str("the disk is full, appends fail until there is space"),
            Self::DiskBudget { budget, taken } => write!(
                f,
                "the disk budget of {budget} bytes is used up, {taken} are taken: appends fail until deletions make room"
            ),
            Self::Journal { cause } => {
                write!(
                    f,
                    "no journal file can be prepared, appends fail when the prepared files are full: {cause}"
                )
            }
            Self::Checkpoint { cause } => {
                write!(f, "the last checkpoint failed and will be retried: {cause}")
            }
            Self::CheckpointsStopped { cause } => write!(
                f,
                "checkpoints have stopped, open the folder again before the journal is full: {cause}"
            ),
            Self::Partition { partition, cause } => {
                write!(f, "partition {partition} rejects appends: {cause}")
            }
            Self::Retention { partition, cause } => {
                write!(
                    f,
                    "records of {partition} past their retention remain, the next check retries: {cause}"
                )
            }
            Self::Compaction { partition, cause } => {
                write!(f, "partition {partition} cannot be compacted and grows: {cause}")
            }
            Self::ShareGroup { group, cause } => {
                write!(f, "share group {group:?} cannot give records up and will retry: {cause}")
            }
            Self::Ids { topic, cause } => {
                write!(
                    f,
                    "topic {topic:?} has lost its idempotency ids, repeated records may be stored: {cause}"
                )
            }
            Self::Deletion { cause } => {
                write!(f, "files of a deleted topic remain, the next checkpoint retries: {cause}")
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
        // Checkpoints fail for the same reason, so it is reported once.
        problems.extend(failed.or_else(stopped));
        let checkpoint = self.troubles.checkpoint.lock().clone().filter(|_| problems.is_empty());
        let preparing = self.journal.preparation_failure().filter(|_| problems.is_empty());
        let full = |error: &Error| matches!(error, Error::DiskFull { .. });
        // A reserve that the budget has no room for is no full disk. Appends are refused for the budget then.
        let budget = self.budget_problem();
        if self.reserve.is_given_up() && budget.is_none()
            || preparing.as_ref().is_some_and(full)
            || checkpoint.as_ref().is_some_and(full)
        {
            problems.push(Problem::DiskFull);
        }
        problems.extend(budget);
        let preparing = preparing.filter(|error| !full(error));
        problems.extend(preparing.map(|cause| Problem::Journal { cause }));
        problems.extend(checkpoint.map(|cause| Problem::Checkpoint { cause }));
        for topic in self.registry.topics() {
            problems.extend(topic.logs.iter().filter_map(|log| {
                let partition = log.partition().clone();
                log.failure().map(|cause| Problem::Partition { partition, cause })
            }));
        }
        let retention = self.troubles.retention.lock().clone();
        problems
            .extend(retention.map(|(partition, cause)| Problem::Retention { partition, cause }));
        problems.extend(self.compaction_problem());
        let deletion = self.troubles.deletion.lock().clone();
        problems.extend(deletion.map(|cause| Problem::Deletion { cause }));
        let shares = self.shares.first_failure();
        problems.extend(shares.map(|(group, cause)| Problem::ShareGroup { group, cause }));
        let ids = self.troubles.damaged_ids.iter().cloned();
        problems.extend(ids.map(|(topic, cause)| Problem::Ids { topic, cause }));
        Health { problems }
    }

    fn compaction_problem(&self) -> Option<Problem> {
        let failed = self.troubles.compaction.lock().clone();
        let damaged = || {
            let topics = self.registry.topics();
            let mut logs = topics.iter().flat_map(|topic| &topic.logs);
            logs.find_map(|log| Some((log.partition().clone(), log.compaction_damage()?)))
        };
        let (partition, cause) = failed.or_else(damaged)?;
        Some(Problem::Compaction { partition, cause })
    }
}
