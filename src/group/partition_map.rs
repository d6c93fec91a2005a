use std::collections::BTreeMap;
use std::sync::Arc;

use crate::types::TopicPartition;

/// A map keyed by partition: a tree of topics, each with a list of partition numbers.
///
/// Groups with tens of thousands of partitions are reassigned with every change. So a lookup must
/// not compare names at each level of a large tree.
#[derive(Debug, Clone)]
pub(super) struct PartitionMap<V> {
    topics: BTreeMap<Arc<str>, Numbers<V>>,
}

/// The entries of one topic. Never empty.
#[derive(Debug, Clone)]
struct Numbers<V> {
    slots: Vec<Option<V>>,
    used: usize,
}

impl<V> PartitionMap<V> {
    pub(super) fn new() -> Self {
        Self { topics: BTreeMap::new() }
    }

    pub(super) fn get(&self, partition: &TopicPartition) -> Option<&V> {
        let numbers = self.topics.get(partition.topic())?;
        numbers.slots.get(partition.partition() as usize)?.as_ref()
    }

    pub(super) fn contains(&self, partition: &TopicPartition) -> bool {
        self.get(partition).is_some()
    }

    /// Inserts a value and returns the previous one.
    pub(super) fn insert(&mut self, partition: &TopicPartition, value: V) -> Option<V> {
        if !self.topics.contains_key(partition.topic()) {
            let none = Numbers { slots: Vec::new(), used: 0 };
            self.topics.insert(Arc::clone(partition.topic_name()), none);
        }
        let numbers = self.topics.get_mut(partition.topic())?;
        let at = partition.partition() as usize;
        if numbers.slots.len() <= at {
            numbers.slots.resize_with(at.saturating_add(1), || None);
        }
        let before = numbers.slots.get_mut(at).and_then(|slot| slot.replace(value));
        numbers.used = numbers.used.saturating_add(usize::from(before.is_none()));
        before
    }

    pub(super) fn remove(&mut self, partition: &TopicPartition) -> Option<V> {
        let numbers = self.topics.get_mut(partition.topic())?;
        let value = numbers.slots.get_mut(partition.partition() as usize)?.take()?;
        numbers.used = numbers.used.saturating_sub(1);
        if numbers.used == 0 {
            self.topics.remove(partition.topic());
        }
        Some(value)
    }

    pub(super) fn clear(&mut self) {
        self.topics.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_map(
            steps in prop::collection::vec((0..3_u8, 0..6_u32, prop::option::of(0..9_i32)), 0..80)
        ) {
            let mut map = PartitionMap::new();
            let mut model = BTreeMap::new();
            for (topic, number, value) in steps {
                let partition = TopicPartition::new(topic.to_string(), number);
                if let Some(value) = value {
                    let before = map.insert(&partition, value);
                    prop_assert_eq!(before, model.insert(partition.clone(), value));
                } else {
                    prop_assert_eq!(map.remove(&partition), model.remove(&partition));
                }
                prop_assert_eq!(map.get(&partition), model.get(&partition));
                let topics: BTreeSet<_> = model.keys().map(TopicPartition::topic).collect();
                prop_assert_eq!(map.topics.len(), topics.len());
            }
            for topic in 0..3_u8 {
                for number in 0..7 {
                    let partition = TopicPartition::new(topic.to_string(), number);
                    prop_assert_eq!(map.get(&partition), model.get(&partition));
                }
            }
        }
    }
}
