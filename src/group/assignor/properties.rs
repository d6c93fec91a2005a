//! Properties of all assignors for any group, and the promises of the sticky ones beyond Kafka's
//! examples.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::types::{Assignment, Assignor, GroupSubscription, MemberSubscription, TopicPartition};

/// Topics with their numbers of partitions. For each member, the topics it subscribes to and its
/// claims.
type Plan = (Vec<u32>, Vec<(BTreeSet<usize>, BTreeSet<(usize, u32)>)>);

fn plans() -> impl Strategy<Value = Plan> {
    let member = (
        prop::collection::btree_set(0..4_usize, 0..4),
        prop::collection::btree_set((0..4_usize, 0..7_u32), 0..9),
    );
    (prop::collection::vec(0..7_u32, 4), prop::collection::vec(member, 1..7))
}

fn topic(number: usize) -> String {
    format!("t{number}")
}

/// Builds the group. If two members claim a partition, the first one owns it.
fn group((topics, members): &Plan) -> GroupSubscription {
    let mut claimed = BTreeSet::new();
    let members = members.iter().enumerate().map(|(at, (subscribed, owned))| {
        let owned: Vec<_> = owned.iter().filter(|partition| claimed.insert(**partition)).collect();
        let owned = owned.into_iter().map(|(t, number)| TopicPartition::new(topic(*t), *number));
        MemberSubscription::new(format!("m{at}"), subscribed.iter().map(|t| topic(*t)))
            .with_owned(owned)
    });
    let members: Vec<_> = members.collect();
    let counts = topics.iter().enumerate().map(|(number, count)| (topic(number), *count));
    GroupSubscription::new(counts, members)
}

fn all() -> [Box<dyn Assignor>; 5] {
    [
        Box::new(RangeAssignor),
        Box::new(RoundRobinAssignor),
        Box::new(StickyAssignor),
        Box::new(CooperativeStickyAssignor),
        Box::new(UniformAssignor),
    ]
}

fn with_owned(group: &GroupSubscription, assignment: &Assignment) -> GroupSubscription {
    let topics = group.topics().iter().cloned();
    let members = group.members().iter().zip(assignment);
    let members = members.map(|(member, list)| member.clone().with_owned(list.iter().cloned()));
    GroupSubscription::new(topics, members)
}

/// Returns the final assignment. Owners give up what `cooperative-sticky` withholds, and it is
/// assigned again. That may move other partitions, but only for a few rounds.
fn settle(assignor: &dyn Assignor, group: &GroupSubscription) -> Assignment {
    let mut assignment = assignor.assign(group);
    if assignor.name() == "cooperative-sticky" {
        for _ in 0..6 {
            assignment = assignor.assign(&with_owned(group, &assignment));
        }
    }
    assignment
}

/// Returns the owner of each partition. Checks that there is only one and that it subscribes.
fn owners(group: &GroupSubscription, assignment: &Assignment) -> BTreeMap<TopicPartition, usize> {
    let mut owners = BTreeMap::new();
    for (member, list) in assignment.iter().enumerate() {
        for partition in list {
            assert!(group.members()[member].topics().contains(partition.topic()));
            assert_eq!(owners.insert(partition.clone(), member), None, "{partition} twice");
        }
    }
    owners
}

proptest! {
    #[test]
    fn every_partition_that_somebody_subscribes_to_is_given_once(plan in plans()) {
        let group = group(&plan);
        for assignor in all() {
            let assignment = settle(&*assignor, &group);
            prop_assert_eq!(assignor.assign(&group), assignor.assign(&group.clone()));
            let owners = owners(&group, &assignment);
            for partition in group.partitions() {
                let read = group.members().iter().any(|m| m.topics().contains(partition.topic()));
                prop_assert_eq!(owners.contains_key(&partition), read, "{}", assignor.name());
            }
            prop_assert!(owners.keys().all(|at| group.partitions().any(|tp| tp == *at)));
        }
    }

    #[test]
    fn sticky_leaves_no_partition_that_could_go_to_one_with_two_fewer(plan in plans()) {
        let group = group(&plan);
        let assignment = StickyAssignor.assign(&group);
        for (partition, owner) in owners(&group, &assignment) {
            for (member, list) in group.members().iter().zip(&assignment) {
                let could = member.topics().contains(partition.topic());
                let fewer = list.len() + 1 < assignment[owner].len();
                prop_assert!(!(could && fewer), "{} to {}", partition, member.id());
            }
        }
    }

    #[test]
    fn sticky_assignors_leave_everything_where_they_put_it(plan in plans()) {
        let group = group(&plan);
        let sorted = |mut assignment: Assignment| {
            for list in &mut assignment {
                list.sort();
            }
            assignment
        };
        for assignor in all().into_iter().skip(2) {
            let settled = settle(&*assignor, &group);
            let again = assignor.assign(&with_owned(&group, &settled));
            prop_assert_eq!(sorted(again), sorted(settled), "{}", assignor.name());
        }
    }
}
