//! The case that members subscribe to different topics.

use super::owners;
use crate::group::assignor::layout::Layout;

/// Kafka's bound on the rounds: balancing one topic may unbalance another, so many rounds are
/// possible.
const ROUNDS: usize = 16;

/// Keeps what is still subscribed, gives the rest to the least loaded members, then balances topic
/// by topic.
pub(super) fn assign(layout: &Layout<'_>) -> Vec<Vec<usize>> {
    let mut owners = owners(layout);
    for (partition, owner) in owners.iter_mut().enumerate() {
        *owner = owner.filter(|&member| layout.is_subscriber(member, partition));
    }
    let mut state = State { layout, owners, loads: vec![0; layout.members()] };
    for owner in state.owners.iter().flatten() {
        if let Some(load) = state.loads.get_mut(*owner) {
            *load += 1;
        }
    }
    let topics = in_order(layout);
    for &topic in &topics {
        state.fill(topic);
    }
    for _ in 0..ROUNDS {
        let mut moved = false;
        for &topic in &topics {
            moved |= state.balance(topic);
        }
        if !moved {
            break;
        }
    }
    state.lists()
}

/// Returns the topics in the order of processing: most partitions per subscriber first, then fewest
/// subscribers, then by name (Kafka: by id).
fn in_order(layout: &Layout<'_>) -> Vec<usize> {
    let subscribers = |topic: &usize| layout.subscribers(*topic).len();
    let mut topics: Vec<usize> =
        (0..layout.topic_count()).filter(|topic| subscribers(topic) > 0).collect();
    topics.sort_by(|a, b| {
        let (p, q) = (layout.of_topic(*a).len(), layout.of_topic(*b).len());
        // Compares p / subscribers(a) with q / subscribers(b), without fractions; descending.
        let share = (q * subscribers(a)).cmp(&(p * subscribers(b)));
        share.then(subscribers(a).cmp(&subscribers(b))).then(a.cmp(b))
    });
    topics
}

#[derive(Debug)]
struct State<'a> {
    layout: &'a Layout<'a>,
    owners: Vec<Option<usize>>,
    loads: Vec<usize>,
}

impl State<'_> {
    /// Gives each unassigned partition of the topic to the least loaded subscriber.
    fn fill(&mut self, topic: usize) {
        for partition in self.layout.of_topic(topic) {
            if self.owner(partition).is_none()
                && let Some(member) = self.least_loaded(topic)
            {
                self.give(partition, member);
            }
        }
    }

    /// Moves the topic's partitions, highest numbers first, from the most loaded to the least
    /// loaded subscriber, until their loads differ by one at most. Returns whether a partition
    /// moved.
    fn balance(&mut self, topic: usize) -> bool {
        if self.layout.subscribers(topic).len() < 2 {
            return false;
        }
        let mut of_member = vec![Vec::new(); self.loads.len()];
        for partition in self.layout.of_topic(topic) {
            let owner = self.owner(partition);
            if let Some(list) = owner.and_then(|owner| of_member.get_mut(owner)) {
                list.push(partition);
            }
        }
        let mut moved = false;
        loop {
            let has_some = |member: &&usize| of_member.get(**member).is_some_and(|l| !l.is_empty());
            let holders = self.layout.subscribers(topic).iter().filter(has_some);
            // The last of equals here, and the first of equals below.
            let most = holders.copied().max_by_key(|&member| self.load(member));
            let (Some(most), Some(least)) = (most, self.least_loaded(topic)) else { break };
            if self.load(most) <= self.load(least) + 1 {
                break;
            }
            let Some(partition) = of_member.get_mut(most).and_then(Vec::pop) else { break };
            if let Some(load) = self.loads.get_mut(most) {
                *load -= 1;
            }
            self.give(partition, least);
            moved = true;
        }
        moved
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

    /// Returns the subscriber with the fewest partitions. The first of equals wins.
    fn least_loaded(&self, topic: usize) -> Option<usize> {
        self.layout.subscribers(topic).iter().copied().min_by_key(|&member| self.load(member))
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
