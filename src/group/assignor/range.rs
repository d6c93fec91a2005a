use super::layout::Layout;
use crate::types::{Assignment, Assignor, GroupSubscription};

/// Kafka's `range`: each topic's partitions in consecutive ranges.
///
/// For n partitions of a topic and k subscribed members, each member gets n/k, and the first n mod
/// k get one more. Members with an instance id come first, by instance id, then the others by
/// member id. Partitions with the same number, in topics with equal counts, go to the same member,
/// so they can be joined. Not sticky.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RangeAssignor;

impl Assignor for RangeAssignor {
    fn name(&self) -> &'static str {
        "range"
    }

    fn assign(&self, group: &GroupSubscription) -> Assignment {
        let (layout, _) = Layout::statics_first(group);
        let mut lists = vec![Vec::new(); layout.members()];
        for topic in 0..layout.topic_count() {
            let subscribers = layout.subscribers(topic);
            let partitions = layout.of_topic(topic);
            let ranges = ranges(partitions.len(), subscribers.len());
            for (&member, range) in subscribers.iter().zip(ranges) {
                let range = range.start + partitions.start..range.end + partitions.start;
                if let Some(list) = lists.get_mut(member) {
                    list.extend(range);
                }
            }
        }
        layout.assignment(lists)
    }
}

/// Divides `0..partitions` into `members` consecutive ranges, the longer ones first.
fn ranges(partitions: usize, members: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let members = members.max(1);
    let (quota, extras) = (partitions / members, partitions % members);
    let mut start = 0;
    (0..members).map(move |i| {
        let end = start + quota + usize::from(i < extras);
        std::mem::replace(&mut start, end)..end
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_cover_everything_once_and_differ_by_at_most_one() {
        for partitions in 0..40 {
            for members in 1..12 {
                let ranges: Vec<_> = ranges(partitions, members).collect();
                let all: Vec<usize> = ranges.iter().cloned().flatten().collect();
                assert_eq!(all, (0..partitions).collect::<Vec<_>>());
                assert!(ranges.is_sorted_by_key(|r| std::cmp::Reverse(r.len())));
                assert!(ranges[0].len() - ranges[members - 1].len() <= 1);
            }
        }
    }
}
