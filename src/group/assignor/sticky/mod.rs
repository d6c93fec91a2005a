//! Kafka's sticky assignors: as balanced as the subscriptions allow, and then moving as little as possible.

mod claims;
mod constrained;
mod general;

use super::layout::Layout;
use crate::types::{Assignment, Assignor, GroupSubscription};
use claims::Claims;

/// Kafka's `sticky` (KIP-54).
///
/// If all members subscribe to the same topics, no two of them differ by more than one partition. If
/// they do not, no partition could move to a subscriber that has two fewer than its owner.
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

/// Kafka's `cooperative-sticky` (KIP-429): as `sticky`, but a partition that was owned and is to go to
/// another member is in nobody's list until its owner has given it up.
///
/// The coordinator waits for owners whatever the assignor, so the outcome is that of `sticky`; what
/// differs is who decides in between: here a new assignment is asked for once a partition is free.
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

/// The assignment by numbers, and who claimed what before.
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
