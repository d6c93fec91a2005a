//! All members subscribe to the same topics, so that numbers alone decide who keeps what.

use std::collections::VecDeque;

use super::claims::Claims;
use crate::group::assignor::layout::Layout;

/// Of P partitions and M members, P mod M get one more than P / M.
///
/// Linear but for sorting what each member owned.
pub(super) fn assign(layout: &Layout<'_>, claims: &Claims) -> Vec<Vec<usize>> {
    let mut kept = keep(layout, claims);
    let mut is_kept = vec![false; layout.partitions()];
    for &partition in kept.lists.iter().flatten() {
        if let Some(is_kept) = is_kept.get_mut(partition) {
            *is_kept = true;
        }
    }
    // Topics that nobody subscribes to are nobody's.
    let mut unassigned = (0..layout.topic_count())
        .filter(|&topic| !layout.subscribers(topic).is_empty())
        .flat_map(|topic| layout.of_topic(topic))
        .filter(|&partition| !is_kept.get(partition).copied().unwrap_or_default());

    // One each per round for those below the quota; then one more each for those at it.
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

/// What the members keep, and who is to get more.
#[derive(Debug)]
struct Kept {
    /// What everybody gets at least.
    quota: usize,
    lists: Vec<Vec<usize>>,
    /// Members that have less than the quota.
    below: Vec<usize>,
    /// Members that have just the quota, and may get one more.
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

/// How many partitions everybody gets, and how many members one more.
fn quota(layout: &Layout<'_>) -> (usize, usize) {
    let partitions: usize = (0..layout.topic_count())
        .filter(|&topic| !layout.subscribers(topic).is_empty())
        .map(|topic| layout.of_topic(topic).len())
        .sum();
    (partitions / layout.members(), partitions % layout.members())
}
