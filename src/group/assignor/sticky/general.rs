//! The case that members subscribe to different topics.

use std::collections::{BTreeMap, BTreeSet};

use super::claims::Claims;
use crate::group::assignor::layout::Layout;

/// Keeps what is still subscribed and gives the rest to the least loaded members. Then moves single
/// partitions to subscribers that have at least two fewer than the owner, until there are none.
///
/// Each move lowers the sum of the squared loads, so the loop ends. No move makes the balance
/// worse, so the result never has to be reverted, as Kafka's does.
pub(super) fn assign(layout: &Layout<'_>, claims: &Claims) -> Vec<Vec<usize>> {
    let mut state = State {
        layout,
        owners: vec![None; layout.partitions()],
        loads: vec![0; layout.members()],
        moves: Moves::default(),
    };
    let revoked = state.keep(claims);
    let all = by_subscribers(layout);
    let mut new: Vec<usize> =
        all.iter().copied().filter(|&partition| state.owner(partition).is_none()).collect();
    for &partition in &new {
        if let Some((member, _)) = state.least_loaded(partition) {
            state.give(partition, member);
        }
    }
    // A partition with one subscriber stays with it.
    let movable = |partition: &usize| layout.subscribers(layout.topic_of(*partition)).len() > 1;
    new.retain(movable);
    let all: Vec<usize> = all.into_iter().filter(movable).collect();
    if !revoked {
        state.balance(&new, claims);
    }
    state.balance(&all, claims);
    state.lists()
}

/// Returns all partitions: topics by number of subscribers, then by name.
fn by_subscribers(layout: &Layout<'_>) -> Vec<usize> {
    let mut topics: Vec<usize> = (0..layout.topic_count()).collect();
    topics.sort_by_key(|&topic| layout.subscribers(topic).len());
    topics.into_iter().flat_map(|topic| layout.of_topic(topic)).collect()
}

#[derive(Debug)]
struct State<'a> {
    layout: &'a Layout<'a>,
    owners: Vec<Option<usize>>,
    loads: Vec<usize>,
    moves: Moves,
}

impl State<'_> {
    /// Gives every member what it owned and subscribes to. Returns whether a member lost a
    /// partition by its subscription.
    fn keep(&mut self, claims: &Claims) -> bool {
        let mut revoked = false;
        for partition in 0..self.layout.partitions() {
            let Some(member) = claims.owner(partition) else { continue };
            if self.layout.is_subscriber(member, partition) {
                self.give(partition, member);
            } else {
                revoked = true;
            }
        }
        revoked
    }

    fn balance(&mut self, partitions: &[usize], claims: &Claims) {
        let mut moved = true;
        while moved {
            moved = false;
            for &partition in partitions {
                moved |= self.improve(partition, claims);
            }
        }
    }

    /// Moves the partition, or another one of its topic instead, if a subscriber has at least two
    /// fewer.
    fn improve(&mut self, partition: usize, claims: &Claims) -> bool {
        let Some(owner) = self.owner(partition) else { return false };
        let load = self.load(owner);
        let older = claims.older_owner(partition).filter(|&older| {
            self.load(older) + 1 < load && self.layout.is_subscriber(older, partition)
        });
        let to = older.or_else(|| {
            let (member, least) = self.least_loaded(partition)?;
            (least + 1 < load).then_some(member)
        });
        let Some(to) = to else { return false };
        let topic = self.layout.topic_of(partition);
        let instead = self.moves.reverse(topic, partition, owner, to);
        // Only if that improves the balance as well.
        let instead = instead.filter(|&other| {
            self.owner(other).is_some_and(|owner| self.load(to) + 1 < self.load(owner))
        });
        self.relocate(instead.unwrap_or(partition), to);
        true
    }

    fn relocate(&mut self, partition: usize, to: usize) {
        let Some(from) = self.owner(partition) else { return };
        self.moves.record(self.layout.topic_of(partition), partition, from, to);
        if let Some(load) = self.loads.get_mut(from) {
            *load -= 1;
        }
        self.give(partition, to);
    }

    fn give(&mut self, partition: usize, member: usize) {
        if let (Some(owner), Some(load)) =
            (self.owners.get_mut(partition), self.loads.get_mut(member))
        {
            *owner = Some(member);
            *load += 1;
        }
    }

    fn owner(&self, partition: usize) -> Option<usize> {
        self.owners.get(partition).copied().flatten()
    }

    fn load(&self, member: usize) -> usize {
        self.loads.get(member).copied().unwrap_or_default()
    }

    /// Returns the subscriber with the fewest partitions and their number. The first of equals
    /// wins.
    fn least_loaded(&self, partition: usize) -> Option<(usize, usize)> {
        let subscribers = self.layout.subscribers(self.layout.topic_of(partition));
        let loads = subscribers.iter().map(|&member| (member, self.load(member)));
        loads.min_by_key(|&(_, load)| load)
    }

    fn lists(self) -> Vec<Vec<usize>> {
        let mut lists = vec![Vec::new(); self.loads.len()];
        for (partition, owner) in self.owners.into_iter().enumerate() {
            if let Some(list) = owner.and_then(|owner| lists.get_mut(owner)) {
                list.push(partition);
            }
        }
        lists
    }
}

/// The moves made so far, each with the partition's first owner.
///
/// If a partition of a topic moved from A to B, no partition of that topic moves from B to A.
/// Instead the first move is reverted, and both members keep what they had.
#[derive(Debug, Default)]
struct Moves {
    of_partition: BTreeMap<usize, (usize, usize)>,
    /// The moved partitions by topic, source and destination.
    by_pair: BTreeMap<(usize, usize, usize), BTreeSet<usize>>,
}

impl Moves {
    /// Returns a partition that moved in the opposite direction.
    fn reverse(&self, topic: usize, partition: usize, from: usize, to: usize) -> Option<usize> {
        let from = self.of_partition.get(&partition).map_or(from, |(source, _)| *source);
        self.by_pair.get(&(topic, to, from))?.first().copied()
    }

    fn record(&mut self, topic: usize, partition: usize, from: usize, to: usize) {
        let mut source = from;
        if let Some((first, last)) = self.of_partition.remove(&partition) {
            let pair = (topic, first, last);
            if let Some(partitions) = self.by_pair.get_mut(&pair) {
                partitions.remove(&partition);
                if partitions.is_empty() {
                    self.by_pair.remove(&pair);
                }
            }
            source = first;
        }
        if source != to {
            self.of_partition.insert(partition, (source, to));
            self.by_pair.entry((topic, source, to)).or_default().insert(partition);
        }
    }
}
