use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// How the data of a topic ends: Kafka's `cleanup.policy`.
///
/// ```
/// use grouplog::CleanupPolicy;
///
/// let both: CleanupPolicy = "compact,delete".parse()?;
/// assert_eq!(both, CleanupPolicy::CompactDelete);
/// assert!(both.compacts() && both.deletes());
/// assert!("shred".parse::<CleanupPolicy>().is_err());
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum CleanupPolicy {
    /// Whole segments go from the front, as the `retention` settings say.
    #[default]
    Delete,
    /// Each record stays until a newer one with the same key replaces it. A record without a value deletes its
    /// key.
    Compact,
    /// Both.
    CompactDelete,
    /// Everything stays, whatever the other settings say. Kafka writes this policy as an empty list.
    Keep,
}

impl CleanupPolicy {
    /// Returns whether the `retention` settings apply.
    pub const fn deletes(self) -> bool {
        matches!(self, Self::Delete | Self::CompactDelete)
    }

    /// Returns whether newer records replace older ones of the same key.
    pub const fn compacts(self) -> bool {
        matches!(self, Self::Compact | Self::CompactDelete)
    }

    /// Returns the value of `cleanup.policy`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delete => "delete",
            Self::Compact => "compact",
            Self::CompactDelete => "compact,delete",
            Self::Keep => "",
        }
    }
}

impl fmt::Display for CleanupPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for CleanupPolicy {
    type Err = Error;

    /// Parses a list of `delete` and `compact`, in any order.
    fn from_str(value: &str) -> Result<Self> {
        let (mut deletes, mut compacts) = (false, false);
        for word in value.split(',').map(str::trim).filter(|_| !value.trim().is_empty()) {
            match word {
                "delete" => deletes = true,
                "compact" => compacts = true,
                _ => {
                    return Err(Error::InvalidConfig {
                        key: "cleanup.policy",
                        value: value.to_owned(),
                        expected: "delete, compact, or both, parted by a comma",
                    });
                }
            }
        }
        Ok(match (deletes, compacts) {
            (true, false) => Self::Delete,
            (false, true) => Self::Compact,
            (true, true) => Self::CompactDelete,
            (false, false) => Self::Keep,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_policy_survives_its_text_form() {
        use CleanupPolicy::{Compact, CompactDelete, Delete, Keep};
        for policy in [Delete, Compact, CompactDelete, Keep] {
            assert_eq!(policy.as_str().parse::<CleanupPolicy>().unwrap(), policy);
        }
        assert_eq!(" delete , compact ".parse::<CleanupPolicy>().unwrap(), CompactDelete);
        for unknown in ["Delete", "delete;compact", "compact,", ",", "delete,shred"] {
            assert!(unknown.parse::<CleanupPolicy>().is_err(), "{unknown}");
        }
    }
}
