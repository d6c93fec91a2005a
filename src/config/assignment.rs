use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::types::Assignor;

/// How a group spreads partitions over its members: one entry of Kafka's
/// `partition.assignment.strategy`, under Kafka's names.
///
/// Each member proposes a list. The candidates are the strategies that all members propose. Each
/// member votes for the first candidate of its list, and the candidate with most votes wins. In a
/// tie, the vote of the member with the lowest id decides. There are no racks: all members live in
/// one process.
///
/// ```
/// use grouplog::AssignmentStrategy;
///
/// let strategy: AssignmentStrategy = "cooperative-sticky".parse()?;
/// assert_eq!(strategy, AssignmentStrategy::CooperativeSticky);
/// assert_eq!(AssignmentStrategy::RoundRobin.to_string(), "roundrobin");
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum AssignmentStrategy {
    /// `range`: each topic's partitions in consecutive ranges. The first members get one more if
    /// the numbers do not divide. Topics with equal numbers of partitions are divided alike, so
    /// that they can be joined. Not sticky.
    Range,
    /// `roundrobin`: deals out all partitions of all topics in turn. Not sticky.
    RoundRobin,
    /// `sticky`: as balanced as the subscriptions allow, then with as few moves as possible.
    Sticky,
    /// `cooperative-sticky`: as `sticky`, but a partition that moves is in no member's target until
    /// its owner has given it up.
    CooperativeSticky,
    /// `uniform`: balanced and sticky by the rules of KIP-848's server side.
    Uniform,
    /// The program's own assignor.
    Own(Arc<dyn Assignor>),
}

impl AssignmentStrategy {
    /// Returns the name by which the members of a group agree on a strategy.
    pub fn name(&self) -> &str {
        match self {
            Self::Range => "range",
            Self::RoundRobin => "roundrobin",
            Self::Sticky => "sticky",
            Self::CooperativeSticky => "cooperative-sticky",
            Self::Uniform => "uniform",
            Self::Own(assignor) => assignor.name(),
        }
    }
}

/// Compares names, as the members of a group do.
impl PartialEq for AssignmentStrategy {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for AssignmentStrategy {}

impl fmt::Display for AssignmentStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for AssignmentStrategy {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "range" => Ok(Self::Range),
            "roundrobin" => Ok(Self::RoundRobin),
            "sticky" => Ok(Self::Sticky),
            "cooperative-sticky" => Ok(Self::CooperativeSticky),
            "uniform" => Ok(Self::Uniform),
            _ => Err(Error::InvalidConfig {
                key: "partition.assignment.strategy",
                value: text.to_owned(),
                expected: "range, roundrobin, sticky, cooperative-sticky or uniform",
            }),
        }
    }
}
