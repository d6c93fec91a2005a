use super::layout::Layout;
use crate::types::{Assignment, Assignor, GroupSubscription};

/// Kafka's `simple` of share groups (KIP-932, as of 4.2). A partition goes to several members, so
/// that all members have equal work even if there are more members than partitions.
///
/// Of P partitions and M members, s = ceil(M / P) members share each partition. The members get s *
/// P / M each, and their numbers differ by one at most. Within that bound members keep what they
/// had. If members subscribe to different topics, each topic is shared separately.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SimpleAssignor;

impl Assignor for SimpleAssignor {
    fn name(&self) -> &'static str {
        "simple"
    }

    fn assign(&self, group: &GroupSubscription) -> Assignment {
        let layout = Layout::new(group);
        let topics = (0..layout.topic_count()).filter(|&t| !layout.subscribers(t).is_empty());
        let mut lists = vec![Vec::new(); layout.members()];
        if layout.is_homogeneous {
            let all: Vec<usize> = topics.flat_map(|topic| layout.of_topic(topic)).collect();
            let members: Vec<usize> = (0..layout.members()).collect();
            Pool::new(&layout, &members, all).share(&mut lists);
        } else {
            for topic in topics {
                let partitions = layout.of_topic(topic).collect();
                Pool::new(&layout, layout.subscribers(topic), partitions).share(&mut lists);
            }
        }
        layout.assignment(lists)
    }
}

/// Partitions shared among members.
#[derive(Debug)]
struct Pool<'a> {
    members: &'a [usize],
    partitions: Vec<usize>,
    /// By place among the members: the places of the partitions that each member has.
    has: Vec<Vec<usize>>,
    /// By place among the members: how many more partitions each member should get.
    wants: Vec<usize>,
    /// By place among the partitions: how many more members each partition should get.
    needs: Vec<usize>,
}

impl<'a> Pool<'a> {
    /// Starts with what the members had and may keep.
    fn new(layout: &Layout<'_>, members: &'a [usize], partitions: Vec<usize>) -> Self {
        let (m, p) = (members.len(), partitions.len());
        let sharers = if p == 0 { 0 } else { m.div_ceil(p) };
        let up_to = |i: usize| (sharers * p * i).div_ceil(m);
        let mut pool = Self {
            members,
            has: vec![Vec::new(); m],
            wants: (0..m).map(|i| up_to(i + 1) - up_to(i)).collect(),
            needs: vec![sharers; p],
            partitions,
        };
        for (at, &member) in members.iter().enumerate() {
            for partition in layout.owned(member) {
                if let Ok(partition) = pool.partitions.binary_search(&partition)
                    && pool.wants.get(at) > Some(&0)
                    && pool.needs.get(partition) > Some(&0)
                {
                    pool.give(at, partition);
                }
            }
        }
        pool
    }

    /// Deals out the missing places, each to the member that wants most.
    fn share(mut self, lists: &mut [Vec<usize>]) {
        for partition in 0..self.partitions.len() {
            while self.needs.get(partition) > Some(&0) {
                let wanting = (0..self.members.len())
                    .filter(|&at| self.wants.get(at) > Some(&0) && !self.holds(at, partition));
                // `rev` makes the first of equals win.
                match wanting.rev().max_by_key(|&at| self.wants.get(at)) {
                    Some(at) => self.give(at, partition),
                    None if self.exchange(partition) => {}
                    None => break,
                }
            }
        }
        for (at, has) in self.has.iter().enumerate() {
            let list = self.members.get(at).and_then(|&member| lists.get_mut(member));
            if let Some(list) = list {
                list.extend(has.iter().filter_map(|&place| self.partitions.get(place)));
            }
        }
    }

    /// Resolves the case that all members that want more have the partition already. One of them
    /// gets another partition, whose member gets this one.
    ///
    /// Such a partition exists: one that needs no members has more of them than this one has.
    fn exchange(&mut self, partition: usize) -> bool {
        for at in (0..self.members.len()).filter(|&at| self.wants.get(at) > Some(&0)) {
            for other in (0..self.partitions.len()).filter(|&other| !self.holds(at, other)) {
                let mut others = 0..self.members.len();
                let from = others.find(|&m| self.holds(m, other) && !self.holds(m, partition));
                if let Some(from) = from {
                    self.take(from, other);
                    self.give(from, partition);
                    self.give(at, other);
                    return true;
                }
            }
        }
        false
    }

    fn holds(&self, at: usize, partition: usize) -> bool {
        self.has.get(at).is_some_and(|has| has.contains(&partition))
    }

    fn give(&mut self, at: usize, partition: usize) {
        if let (false, Some(has), Some(wants), Some(needs)) = (
            self.holds(at, partition),
            self.has.get_mut(at),
            self.wants.get_mut(at),
            self.needs.get_mut(partition),
        ) {
            has.push(partition);
            *wants -= 1;
            *needs -= 1;
        }
    }

    fn take(&mut self, at: usize, partition: usize) {
        if let (Some(has), Some(wants), Some(needs)) =
            (self.has.get_mut(at), self.wants.get_mut(at), self.needs.get_mut(partition))
        {
            has.retain(|held| *held != partition);
            *wants += 1;
            *needs += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::types::{MemberSubscription, TopicPartition};

    proptest! {
        #[test]
        fn everybody_gets_as_much_and_nothing_twice_whatever_there_was_before(
            partitions in 1..7_u32,
            before in prop::collection::vec(prop::collection::btree_set(0..7_u32, 0..7), 1..9),
        ) {
            let member = |(at, owned): (usize, &BTreeSet<u32>)| {
                let owned = owned.iter().map(|number| TopicPartition::new("t", *number));
                MemberSubscription::new(at.to_string(), ["t"]).with_owned(owned)
            };
            let members = before.iter().enumerate().map(member);
            let group = GroupSubscription::new([("t", partitions)], members);
            let lists = SimpleAssignor.assign(&group);
            let sharers = before.len().div_ceil(partitions as usize);
            for partition in group.partitions() {
                let found = lists.iter().filter(|list| list.contains(&partition)).count();
                prop_assert_eq!(found, sharers);
            }
            let all = sharers * partitions as usize;
            for list in &lists {
                prop_assert_eq!(list.iter().collect::<BTreeSet<_>>().len(), list.len());
                let least = all / before.len();
                prop_assert!((least..=least + usize::from(!all.is_multiple_of(before.len()))).contains(&list.len()));
            }
        }
    }
}
