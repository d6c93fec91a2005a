//! The results of Kafka's own assignors: `tests/vectors/assignors.json`.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::simple::SimpleAssignor;
use super::*;
use crate::types::{Assignor, GroupSubscription, MemberSubscription, TopicPartition};

#[derive(Debug, Deserialize)]
struct Example {
    name: String,
    assignor: String,
    partitions: BTreeMap<String, u32>,
    members: Vec<Member>,
    result: BTreeMap<String, BTreeSet<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Member {
    id: String,
    topics: Vec<String>,
    #[serde(default)]
    owned: Vec<String>,
    generation: Option<i32>,
    instance_id: Option<String>,
}

impl Member {
    fn subscription(&self) -> MemberSubscription {
        let owned = self.owned.iter().map(|text| {
            let (topic, number) = text.rsplit_once('-').unwrap();
            TopicPartition::new(topic, number.parse().unwrap())
        });
        let topics = self.topics.iter().map(String::as_str);
        let mut member = MemberSubscription::new(self.id.as_str(), topics).with_owned(owned);
        if let Some(generation) = self.generation {
            member = member.with_generation(generation);
        }
        match &self.instance_id {
            Some(instance) => member.with_instance_id(instance.as_str()),
            None => member,
        }
    }
}

fn examples() -> Vec<Example> {
    serde_json::from_str(include_str!("../../../tests/vectors/assignors.json")).unwrap()
}

fn group(example: &Example) -> GroupSubscription {
    let topics = example.partitions.iter().map(|(topic, count)| (topic.as_str(), *count));
    GroupSubscription::new(topics, example.members.iter().map(Member::subscription))
}

fn by_name(name: &str) -> Option<Box<dyn Assignor>> {
    Some(match name {
        "range" | "server-range" => Box::new(RangeAssignor),
        "roundrobin" => Box::new(RoundRobinAssignor),
        "sticky" => Box::new(StickyAssignor),
        "cooperative-sticky" => Box::new(CooperativeStickyAssignor),
        "server-uniform" => Box::new(UniformAssignor),
        _ => return None,
    })
}

fn by_member(assignor: &dyn Assignor, example: &Example) -> BTreeMap<String, BTreeSet<String>> {
    let group = group(example);
    let lists = assignor.assign(&group);
    let in_words = lists.iter().map(|list| list.iter().map(ToString::to_string).collect());
    group.members().iter().map(|member| member.id().to_owned()).zip(in_words).collect()
}

#[test]
fn the_results_are_kafkas() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for example in examples() {
        let Some(assignor) = by_name(&example.assignor) else { continue };
        count += 1;
        let found = by_member(&*assignor, &example);
        if found != example.result {
            wrong.push(format!("{}: {found:?} and not {:?}", example.name, example.result));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(count, 80);
}

/// Kafka deals them out in the order of a hash map. So the test compares only how many partitions
/// of each topic a member gets, and how many members share each partition.
#[test]
fn share_groups_have_the_numbers_of_kafka() {
    let numbers = |lists: &BTreeMap<String, BTreeSet<String>>| {
        let mut numbers: BTreeMap<String, usize> = BTreeMap::new();
        for (member, partition) in lists.iter().flat_map(|(id, l)| l.iter().map(move |p| (id, p))) {
            let (topic, _) = partition.rsplit_once('-').unwrap();
            for key in [partition.clone(), format!("{member} of {topic}")] {
                *numbers.entry(key).or_default() += 1;
            }
        }
        numbers
    };
    let mut count = 0;
    for example in examples().iter().filter(|example| example.assignor == "share-simple") {
        count += 1;
        let found = by_member(&SimpleAssignor, example);
        assert_eq!(numbers(&found), numbers(&example.result), "{}: {found:?}", example.name);
    }
    assert_eq!(count, 10);
}
