use crate::error::Error;
use crate::group::member::{MemberEpoch, MemberId};

/// Why a group refuses a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The member was evicted or left. It holds nothing any more and must join again.
    UnknownMember,
    /// Another member has this one's instance id. It holds nothing any more and must not join
    /// again.
    FencedInstanceId,
    /// The commit's epoch is not the member's, and it is older than the assignment of a partition
    /// in the commit.
    StaleEpoch {
        /// The member's epoch.
        current: MemberEpoch,
    },
    /// The member does not own a partition of the commit.
    NotOwned,
    /// The call is only allowed for groups without members.
    HasMembers,
    /// No assignor would be proposed by all members.
    InconsistentGroupProtocol {
        /// The names of the assignors that the newcomer proposes.
        proposed: String,
    },
    /// The group has `group.max.size` members.
    GroupMaxSizeReached {
        /// The limit.
        max: u32,
    },
}

impl Refusal {
    /// Converts into the error for the caller of a consumer. `id` is that of the caller's member,
    /// if it has one.
    pub(crate) fn into_error(self, group: &str, id: Option<&MemberId>) -> Error {
        let group = group.to_owned();
        let fenced = |group, reason| Error::Fenced { group, reason };
        match self {
            Self::UnknownMember => fenced(
                group,
                "the member left, or was evicted after max.poll.interval.ms without a poll or \
                 session.timeout.ms without any call",
            ),
            Self::StaleEpoch { .. } => {
                fenced(group, "the member epoch is stale because the group has rebalanced")
            }
            Self::NotOwned => fenced(group, "the member does not own a partition of the commit"),
            Self::HasMembers => fenced(group, "the group has active members"),
            Self::FencedInstanceId => {
                let instance_id = id.and_then(MemberId::instance_id).unwrap_or_default();
                Error::FencedInstanceId { group, instance_id: instance_id.to_owned() }
            }
            Self::InconsistentGroupProtocol { proposed } => {
                Error::InconsistentGroupProtocol { group, proposed }
            }
            Self::GroupMaxSizeReached { max } => Error::GroupMaxSizeReached { group, max },
        }
    }
}
