use std::sync::Arc;

use crate::types::{Assignment, GroupSubscription, MemberSubscription, TopicPartition};

/// A group by numbers: members in their order, and partitions through all topics in the order of
/// names.
///
/// An assignor reads each partition many times. It stays linear with a small factor because it
/// compares numbers instead of names.
#[derive(Debug)]
pub(super) struct Layout<'a> {
    group: &'a GroupSubscription,
    /// The first partition of each topic, followed by the number of all partitions.
    starts: Vec<usize>,
    /// The topic of each partition.
    topics: Vec<usize>,
    /// The subscribers of each topic, in the order of the layout. Shared if all members subscribe
    /// alike.
    subscribers: Vec<Arc<[usize]>>,
    /// Set if all members subscribe to the same topics.
    pub(super) is_homogeneous: bool,
}

impl<'a> Layout<'a> {
    /// Creates a layout with the subscribers in the order of member ids.
    pub(super) fn new(group: &'a GroupSubscription) -> Self {
        Self::ordered(group, &(0..group.members().len()).collect::<Vec<_>>())
    }

    /// Creates a layout with the subscribers in the order of `range` and `roundrobin`: members with
    /// an instance id first, by instance id, then the others by member id. Also returns that order
    /// of all members.
    pub(super) fn statics_first(group: &'a GroupSubscription) -> (Self, Vec<usize>) {
        let mut order: Vec<usize> = (0..group.members().len()).collect();
        // Stable, so equals stay in the order of ids; `false < true`.
        order.sort_by_key(|&at| {
            let instance = group.members().get(at).and_then(|member| member.instance_id());
            (instance.is_none(), instance)
        });
        (Self::ordered(group, &order), order)
    }

    fn ordered(group: &'a GroupSubscription, order: &[usize]) -> Self {
        let mut starts = vec![0];
        let mut topics = Vec::new();
        for (topic, (_, partitions)) in group.topics().iter().enumerate() {
            topics.resize(topics.len() + *partitions as usize, topic);
            starts.push(topics.len());
        }
        let members = group.members();
        let first = members.first();
        let is_homogeneous =
            members.iter().all(|m| first.is_some_and(|first| m.same_topics(first)));
        let everybody: Arc<[usize]> = order.into();
        let nobody: Arc<[usize]> = Arc::new([]);
        let subscribers = group.topics().iter().map(|(name, _)| {
            let subscribed =
                |at: &usize| members.get(*at).is_some_and(|m| m.topics().contains(name));
            match first {
                Some(first) if is_homogeneous && first.topics().contains(name) => everybody.clone(),
                _ if is_homogeneous => nobody.clone(),
                _ => order.iter().copied().filter(subscribed).collect(),
            }
        });
        Self { group, starts, topics, subscribers: subscribers.collect(), is_homogeneous }
    }

    pub(super) fn members(&self) -> usize {
        self.group.members().len()
    }

    pub(super) fn partitions(&self) -> usize {
        self.topics.len()
    }

    pub(super) fn topic_count(&self) -> usize {
        self.subscribers.len()
    }

    /// Returns the partitions of a topic, in order.
    pub(super) fn of_topic(&self, topic: usize) -> std::ops::Range<usize> {
        let bound = |at| self.starts.get(at).copied().unwrap_or(self.topics.len());
        bound(topic)..bound(topic + 1)
    }

    pub(super) fn topic_of(&self, partition: usize) -> usize {
        self.topics.get(partition).copied().unwrap_or_default()
    }

    /// Returns the number of a partition within its topic.
    pub(super) fn number(&self, partition: usize) -> usize {
        partition - self.of_topic(self.topic_of(partition)).start
    }

    /// Returns the subscribers of a topic, in the order of the layout.
    pub(super) fn subscribers(&self, topic: usize) -> &[usize] {
        self.subscribers.get(topic).map_or(&[], |list| &**list)
    }

    pub(super) fn is_subscriber(&self, member: usize, partition: usize) -> bool {
        let Some((name, _)) = self.group.topics().get(self.topic_of(partition)) else {
            return false;
        };
        self.group.members().get(member).is_some_and(|member| member.topics().contains(name))
    }

    /// Returns the existing partitions that a member owned.
    pub(super) fn owned(&self, member: usize) -> impl Iterator<Item = usize> {
        let owned = self.group.members().get(member).map(MemberSubscription::owned);
        let mut last: Option<(&TopicPartition, usize)> = None;
        owned.unwrap_or_default().iter().filter_map(move |partition| {
            // Consecutive partitions mostly belong to the same topic.
            let topic = match last {
                Some((known, topic)) if known.topic() == partition.topic() => topic,
                _ => self.find(partition.topic())?,
            };
            last = Some((partition, topic));
            let all = self.of_topic(topic);
            let at = all.start + partition.partition() as usize;
            (at < all.end).then_some(at)
        })
    }

    /// Returns the generation of a member's claims. A member without one counts as the oldest, as
    /// in Kafka.
    pub(super) fn generation(&self, member: usize) -> i32 {
        self.group.members().get(member).and_then(MemberSubscription::generation).unwrap_or(-1)
    }

    fn find(&self, topic: &str) -> Option<usize> {
        self.group.topics().binary_search_by(|(name, _)| (**name).cmp(topic)).ok()
    }

    /// Converts lists of partition numbers to lists of partitions.
    pub(super) fn assignment(&self, lists: Vec<Vec<usize>>) -> Assignment {
        let name = |at: usize| {
            let (topic, _) = self.group.topics().get(self.topic_of(at))?;
            Some(TopicPartition::new(Arc::clone(topic), self.number(at) as u32))
        };
        lists.into_iter().map(|list| list.into_iter().filter_map(name).collect()).collect()
    }
}
