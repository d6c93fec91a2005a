//! Kafka's sticky assignors: as balanced as the subscriptions allow, then with as few moves as
//! possible.

mod claims;
mod constrained;
mod general;

use super::layout::Layout;
use crate::types::{Assignment, Assignor, GroupSubscription};
use claims::Claims;

/// Kafka's `sticky` (KIP-54).
///
/// If all members subscribe to the same topics, their numbers of partitions differ by one at most.
/// Otherwise no partition could move to a subscriber that has two fewer than its owner.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct StickyAssignor;

impl Assignor for StickyAssignor {
    fn name(&self) -> &'static str {
        "sticky"
    }

    fn assign(&self, group: &GroupSubscription) -> Assignment {
        let layout = Layout::new(group);
        let (lists, _) = assign(&layout);
        layout.assignment(lists)
    }
}

/// Kafka's `cooperative-sticky` (KIP-429). As `sticky`, but a partition that moves is in no
/// member's list until its owner has given it up.
///
/// The coordinator waits for owners with every assignor, so the outcome is that of `sticky`. The
/// difference is in between: here the coordinator requests a new assignment once a partition is
/// free.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct CooperativeStickyAssignor;

impl Assignor for CooperativeStickyAssignor {
    fn name(&self) -> &'static str {
        "cooperative-sticky"
    }

    fn assign(&self, group: &GroupSubscription) -> Assignment {
        let layout = Layout::new(group);
        let (mut lists, claims) = assign(&layout);
        for (member, list) in lists.iter_mut().enumerate() {
            list.retain(|&partition| !claims.is_in_transfer(partition, member));
        }
        layout.assignment(lists)
    }
}

/// Returns the assignment by numbers and the previous claims.
fn assign(layout: &Layout<'_>) -> (Vec<Vec<usize>>, Claims) {
    let claims = Claims::new(layout);
    let lists = if layout.members() == 0 {
        Vec::new()
    } else if layout.is_homogeneous {
        constrained::assign(layout, &claims)
    } else {
        general::assign(layout, &claims)
    };
    (lists, claims)
}
