//! KIP-848's `uniform` assignor.

mod heterogeneous;
mod homogeneous;

use super::layout::Layout;
use crate::types::{Assignment, Assignor, GroupSubscription};

/// Kafka's `uniform`, the default of its new coordinator: balanced and sticky.
///
/// If all members subscribe to the same topics, their numbers of partitions differ by one at most.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct UniformAssignor;

impl Assignor for UniformAssignor {
    fn name(&self) -> &'static str {
        "uniform"
    }

    fn assign(&self, group: &GroupSubscription) -> Assignment {
        let layout = Layout::new(group);
        let lists = if layout.members() == 0 {
            Vec::new()
        } else if layout.is_homogeneous {
            homogeneous::assign(&layout)
        } else {
            heterogeneous::assign(&layout)
        };
        layout.assignment(lists)
    }
}

/// Returns the previous owner of each partition. Of two claims, that of the member with the lower
/// id counts.
fn owners(layout: &Layout<'_>) -> Vec<Option<usize>> {
    let mut owners = vec![None; layout.partitions()];
    for member in 0..layout.members() {
        for partition in layout.owned(member) {
            if let Some(owner @ None) = owners.get_mut(partition) {
                *owner = Some(member);
            }
        }
    }
    owners
}
