use super::layout::Layout;
use crate::types::{Assignment, Assignor, GroupSubscription};

/// Kafka's `roundrobin`: deals all partitions of all topics to the members in turn.
///
/// The members form a circle: those with an instance id first, by instance id, then the others by
/// member id. A member that does not subscribe to the topic is skipped. Not sticky.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RoundRobinAssignor;

impl Assignor for RoundRobinAssignor {
    fn name(&self) -> &'static str {
        "roundrobin"
    }

    fn assign(&self, group: &GroupSubscription) -> Assignment {
        let (layout, order) = Layout::statics_first(group);
        let mut place = vec![0; order.len()];
        for (at, &member) in order.iter().enumerate() {
            if let Some(place) = place.get_mut(member) {
                *place = at;
            }
        }
        let mut lists = vec![Vec::new(); order.len()];
        // The place of the next member.
        let mut turn = 0;
        for topic in 0..layout.topic_count() {
            let subscribers = layout.subscribers(topic);
            let place = |member: &usize| place.get(*member).copied().unwrap_or_default();
            // Subscribers are in the order of their places.
            let mut next = subscribers.partition_point(|member| place(member) < turn);
            for partition in layout.of_topic(topic) {
                let Some(member) = subscribers.get(next).or_else(|| subscribers.first()) else {
                    break;
                };
                if let Some(list) = lists.get_mut(*member) {
                    list.push(partition);
                }
                next = if next < subscribers.len() { next + 1 } else { 1 };
                turn = (place(member) + 1) % order.len();
            }
        }
        layout.assignment(lists)
    }
}
