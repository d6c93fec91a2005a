//! The case that all members subscribe to the same topics.

use super::owners;
use crate::group::assignor::layout::Layout;

/// Assigns in one pass over the members. Each keeps what fits into its quota. Then the rest is
/// dealt out, filling one member before the next. Linear.
pub(super) fn assign(layout: &Layout<'_>) -> Vec<Vec<usize>> {
    let subscribed = |&topic: &usize| !layout.subscribers(topic).is_empty();
    let topics: Vec<usize> = (0..layout.topic_count()).filter(subscribed).collect();
    let partitions: usize = topics.iter().map(|&topic| layout.of_topic(topic).len()).sum();
    let members = layout.members();
    let (quota, mut extra) = (partitions / members, partitions % members);

    let owners = owners(layout);
    let mut owned = vec![Vec::new(); members];
    let mut unassigned = Vec::new();
    for partition in topics.iter().flat_map(|&topic| layout.of_topic(topic)) {
        match owners.get(partition).copied().flatten().and_then(|owner| owned.get_mut(owner)) {
            Some(list) => list.push(partition),
            None => unassigned.push(partition),
        }
    }

    // Partitions are in the order of topics, then numbers. A member keeps the first ones that fit.
    let mut missing = Vec::new();
    for (member, list) in owned.iter_mut().enumerate() {
        let mut has_extra = extra > 0;
        let quota = quota + usize::from(has_extra);
        unassigned.extend(list.drain(list.len().min(quota)..));
        let mut left = quota - list.len();
        // While more members remain than extras, a member that owned an extra has the better claim.
        if left > 0 && has_extra && members - member > extra {
            has_extra = false;
            left -= 1;
        }
        missing.push(left);
        extra -= usize::from(has_extra);
    }
    let mut unassigned = unassigned.into_iter();
    for (list, left) in owned.iter_mut().zip(missing) {
        list.extend(unassigned.by_ref().take(left));
    }
    owned
}
