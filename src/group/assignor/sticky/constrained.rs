//! The case that all members subscribe to the same topics: numbers alone decide which member keeps
//! what.

use std::collections::VecDeque;

use super::claims::Claims;
use crate::group::assignor::layout::Layout;

/// Assigns P partitions to M members. P mod M members get one more than P / M.
///
/// Linear, except for sorting what each member owned.
pub(super) fn assign(layout: &Layout<'_>, claims: &Claims) -> Vec<Vec<usize>> {
    let mut kept = keep(layout, claims);
    let mut is_kept = vec![false; layout.partitions()];
    for &partition in kept.lists.iter().flatten() {
        if let Some(is_kept) = is_kept.get_mut(partition) {
            *is_kept = true;
        }
    }
    // A topic without subscribers has no owner.
    let mut unassigned = (0..layout.topic_count())
        .filter(|&topic| !layout.subscribers(topic).is_empty())
        .flat_map(|topic| layout.of_topic(topic))
        .filter(|&partition| !is_kept.get(partition).copied().unwrap_or_default());

    // One partition per round for each member below the quota, then one more for each at it.
    let mut turn = 0;
    for partition in unassigned.by_ref() {
        if turn >= kept.below.len() {
            turn = 0;
        }
        let Some(&member) = kept.below.get(turn) else {
            let Some(member) = kept.at_quota.pop_front() else { break };
            if let Some(list) = kept.lists.get_mut(member) {
                list.push(partition);
            }
            continue;
        };
        let Some(list) = kept.lists.get_mut(member) else { break };
        list.push(partition);
        if list.len() == kept.quota {
            kept.below.remove(turn);
            kept.at_quota.push_back(member);
        } else {
            turn += 1;
        }
    }
    kept.lists
}

/// What the members keep, and which of them should get more.
#[derive(Debug)]
struct Kept {
    /// The least number of partitions that every member gets.
    quota: usize,
    lists: Vec<Vec<usize>>,
    /// Members below the quota.
    below: Vec<usize>,
    /// Members at the quota, which may get one more.
    at_quota: VecDeque<usize>,
}

fn keep(layout: &Layout<'_>, claims: &Claims) -> Kept {
    let (quota, extra) = quota(layout);
    let (mut below, mut at_quota, mut above) = (Vec::new(), VecDeque::new(), 0);
    let mut lists = Vec::with_capacity(layout.members());
    for member in 0..layout.members() {
        let mut owned: Vec<usize> = layout
            .owned(member)
            .filter(|&partition| {
                claims.owner(partition) == Some(member)
                    && !layout.subscribers(layout.topic_of(partition)).is_empty()
            })
            .collect();
        owned.sort_unstable_by_key(|&partition| (layout.number(partition), partition));
        owned.dedup();
        if owned.len() < quota {
            below.push(member);
        } else if owned.len() > quota && above < extra {
            owned.truncate(quota + 1);
            above += 1;
            if above == extra {
                at_quota.clear();
            }
        } else {
            owned.truncate(quota);
            if above < extra {
                at_quota.push_back(member);
            }
        }
        lists.push(owned);
    }
    Kept { quota, lists, below, at_quota }
}

/// Returns how many partitions every member gets, and how many members get one more.
fn quota(layout: &Layout<'_>) -> (usize, usize) {
    let partitions: usize = (0..layout.topic_count())
        .filter(|&topic| !layout.subscribers(topic).is_empty())
        .map(|topic| layout.of_topic(topic).len())
        .sum();
    (partitions / layout.members(), partitions % layout.members())
}
