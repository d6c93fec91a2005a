use std::time::Duration;

use super::*;
use crate::error::Error;
use crate::group::assignor::RangeAssignor;
use crate::group::describe::{GroupState, MemberState};
use crate::group::member::MemberConfig;
use crate::group::subscription::Subscription;
use crate::group::topics::TopicInfo;
use crate::types::{
    Assignment, Assignor, GroupMembershipOperation, GroupSubscription, OffsetReset, TopicId,
    TopicPartition,
};

mod agreement;
mod limits;
mod statics;
mod targets;

const S: fn(u64) -> Duration = Duration::from_secs;

fn topics(list: &[(&str, u8, u32)]) -> TopicsView {
    list.iter()
        .map(|(name, id, partitions)| {
            let id = TopicId::from_bytes([*id; 16]);
            (Arc::from(*name), TopicInfo { id, partitions: *partitions })
        })
        .collect()
}

fn group() -> Group {
    Group::new("g", i32::MAX as u32)
}

fn id(number: u64) -> MemberId {
    MemberId::new("m", number)
}

fn config() -> MemberConfig {
    proposing(vec![Arc::new(RangeAssignor)])
}

fn proposing(assignors: Vec<Arc<dyn Assignor>>) -> MemberConfig {
    MemberConfig {
        client_id: "m".into(),
        max_poll_interval: S(300),
        session_timeout: None,
        assignors,
        offset_reset: OffsetReset::default(),
    }
}

fn names(list: &[&str]) -> Subscription {
    Subscription::Topics(list.iter().map(|name| (*name).into()).collect())
}

fn join(group: &mut Group, number: u64, subscription: &[&str], topics: &TopicsView) {
    group.join(&id(number), config(), names(subscription), topics, S(0)).unwrap();
    group.assign();
}

fn leave(group: &mut Group, number: u64) {
    group.leave(&id(number), GroupMembershipOperation::Default, S(0)).unwrap();
    group.assign();
}

fn expire(group: &mut Group, seconds: u64) -> Vec<MemberId> {
    let evicted = group.expire(S(seconds));
    group.assign();
    evicted
}

fn metadata_changed(group: &mut Group, topics: &TopicsView) {
    group.metadata_changed(topics);
    group.assign();
}

fn subscribe(group: &mut Group, number: u64, subscription: &[&str], topics: &TopicsView) {
    group.subscribe(&id(number), names(subscription), topics).unwrap();
    group.assign();
}

/// Returns the next step of a member as text: `epoch -revoked +assigned`, or nothing if unchanged.
fn step(group: &mut Group, number: u64) -> String {
    let Heartbeat::Reconcile(step) = group.heartbeat(&id(number), S(0)).unwrap() else {
        return String::new();
    };
    let signed = |sign, list: Vec<TopicPartition>| list.into_iter().map(move |tp| (sign, tp));
    signed('-', step.revoke)
        .chain(signed('+', step.assign))
        .fold(step.epoch.0.to_string(), |text, (sign, partition)| {
            format!("{text} {sign}{partition}")
        })
}

fn revoked(group: &mut Group, number: u64, partitions: &[(&str, u32)]) {
    let list: Vec<_> = partitions.iter().map(|(t, p)| TopicPartition::new(*t, *p)).collect();
    group.revoked(&id(number), &list).unwrap();
    group.assign();
}

/// Returns the members in the news, with `!` after those to wake.
fn news(group: &mut Group) -> Vec<String> {
    let mark = |wake| if wake { "!" } else { "" };
    group.take_news().iter().map(|n| format!("{}{}", n.member, mark(n.wake))).collect()
}

#[test]
fn a_partition_moves_only_after_its_owner_gave_it_up() {
    let topics = topics(&[("t", 1, 3)]);
    let mut group = group();
    assert_eq!(group.state(), GroupState::Empty);
    join(&mut group, 1, &["t"], &topics);
    assert_eq!(group.state(), GroupState::Reconciling);
    assert_eq!(step(&mut group, 1), "1 +t-0 +t-1 +t-2");
    assert_eq!(step(&mut group, 1), "");
    assert_eq!(group.state(), GroupState::Stable);

    join(&mut group, 2, &["t"], &topics);
    assert_eq!(news(&mut group), ["m-1!", "m-2"]);
    // It takes the epoch at once and gets nothing yet.
    assert_eq!(step(&mut group, 2), "2");
    assert_eq!(step(&mut group, 2), "");
    let states: Vec<_> = group.describe().members.iter().map(|m| m.state).collect();
    assert_eq!(states, [MemberState::UnrevokedPartitions, MemberState::UnreleasedPartitions]);

    assert_eq!(step(&mut group, 1), "1 -t-2");
    assert_eq!(step(&mut group, 1), "1 -t-2", "repeated until it is acknowledged");
    assert_eq!(step(&mut group, 2), "");
    revoked(&mut group, 1, &[("t", 2)]);
    assert_eq!(news(&mut group), ["m-1", "m-2!"]);
    assert_eq!(step(&mut group, 1), "2");
    assert_eq!(group.state(), GroupState::Reconciling);
    assert_eq!(step(&mut group, 2), "2 +t-2");
    assert_eq!(group.state(), GroupState::Stable);
    assert!(news(&mut group).is_empty());
}

#[test]
fn partitions_of_a_leaving_or_evicted_member_are_free_at_once() {
    let topics = topics(&[("t", 1, 2)]);
    let mut group = group();
    join(&mut group, 1, &["t"], &topics);
    join(&mut group, 2, &["t"], &topics);
    assert_eq!(step(&mut group, 1), "2 +t-0");
    assert_eq!(step(&mut group, 2), "2 +t-1");
    leave(&mut group, 2);
    assert_eq!(step(&mut group, 1), "3 +t-1");

    join(&mut group, 3, &["t"], &topics);
    group.enter_poll(&id(3), S(200)).unwrap();
    group.exit(&id(3), S(200)).unwrap();
    assert_eq!(group.next_deadline(), Some(S(300)));
    assert!(expire(&mut group, 299).is_empty());
    assert_eq!(expire(&mut group, 300), [id(1)]);
    assert_eq!(step(&mut group, 3), "5 +t-0 +t-1");
    assert_eq!(group.heartbeat(&id(1), S(300)), Err(Refusal::UnknownMember));
    assert_eq!(
        group.check_commit(&id(1), MemberEpoch(3), [&TopicPartition::new("t", 0)]),
        Err(Refusal::UnknownMember)
    );
    assert_eq!(group.describe().members.len(), 1);
}

#[test]
fn a_member_blocked_in_the_engine_is_not_evicted() {
    let topics = topics(&[("t", 1, 1)]);
    let mut group = group();
    join(&mut group, 1, &["t"], &topics);
    group.enter_poll(&id(1), S(10)).unwrap();
    assert_eq!(group.next_deadline(), None);
    assert!(expire(&mut group, 10_000).is_empty());
    group.exit(&id(1), S(10_000)).unwrap();
    assert!(expire(&mut group, 10_299).is_empty());
    assert_eq!(expire(&mut group, 10_300), [id(1)]);
    assert_eq!(group.state(), GroupState::Empty);
}

#[test]
fn a_member_that_is_not_concerned_takes_the_epoch_without_being_woken() {
    let topics = topics(&[("a", 1, 1), ("b", 2, 1)]);
    let mut group = group();
    join(&mut group, 1, &["a"], &topics);
    step(&mut group, 1);
    news(&mut group);
    join(&mut group, 2, &["b"], &topics);
    assert_eq!(news(&mut group), ["m-1", "m-2!"]);
    assert_eq!(group.describe().members[0].epoch, MemberEpoch(2));
    // It still knows epoch 1, which is valid only for what it held then.
    let check =
        |topic| group.check_commit(&id(1), MemberEpoch(1), [&TopicPartition::new(topic, 0)]);
    assert_eq!(check("a"), Ok(()));
    assert_eq!(check("b"), Err(Refusal::StaleEpoch { current: MemberEpoch(2) }));
    assert_eq!(step(&mut group, 1), "2");
}

#[test]
fn commits_follow_kafkas_checks() {
    let topics = topics(&[("t", 1, 2)]);
    let mut group = group();
    assert_eq!(group.check_simple_commit(), Ok(()));
    join(&mut group, 1, &["t"], &topics);
    assert_eq!(group.check_simple_commit(), Err(Refusal::HasMembers));
    step(&mut group, 1);
    join(&mut group, 2, &["t"], &topics);
    let t1 = TopicPartition::new("t", 1);
    let check = |group: &Group, member, epoch, partitions: &[&TopicPartition]| {
        group.check_commit(&id(member), MemberEpoch(epoch), partitions.iter().copied())
    };
    // While it revokes it can still commit, with its own epoch even for partitions it does not
    // hold.
    assert_eq!(step(&mut group, 1), "1 -t-1");
    assert_eq!(check(&group, 1, 1, &[&t1, &TopicPartition::new("x", 9)]), Ok(()));
    revoked(&mut group, 1, &[("t", 1)]);
    step(&mut group, 1);
    step(&mut group, 2);
    let stale = Err(Refusal::StaleEpoch { current: MemberEpoch(2) });
    assert_eq!(check(&group, 1, 1, &[&t1]), stale, "given up since");
    assert_eq!(check(&group, 1, 1, &[&TopicPartition::new("t", 0), &t1]), stale, "all or nothing");
    assert_eq!(check(&group, 1, 1, &[&TopicPartition::new("t", 0)]), Ok(()));
    assert_eq!(check(&group, 2, 1, &[&t1]), stale, "before it was given");
    assert_eq!(check(&group, 2, 2, &[&t1]), Ok(()));
    assert_eq!(check(&group, 2, 3, &[&t1]), stale, "an epoch of the future");
    assert_eq!(check(&group, 9, 2, &[&t1]), Err(Refusal::UnknownMember));
}

#[test]
fn an_old_life_of_a_member_cannot_commit_what_the_new_one_holds() {
    let topics = topics(&[("t", 1, 1)]);
    let mut group = group();
    join(&mut group, 1, &["t"], &topics);
    step(&mut group, 1);
    assert_eq!(expire(&mut group, 300), [id(1)]);
    join(&mut group, 1, &["t"], &topics);
    assert_eq!(step(&mut group, 1), "3 +t-0");
    let old = group.check_commit(&id(1), MemberEpoch(1), [&TopicPartition::new("t", 0)]);
    assert_eq!(old, Err(Refusal::StaleEpoch { current: MemberEpoch(3) }));
    // A member that joins again starts from scratch too.
    join(&mut group, 1, &["t"], &topics);
    assert!(group.describe().members[0].owned.is_empty());
    assert_eq!(step(&mut group, 1), "4 +t-0");
}

#[test]
fn an_announced_revocation_happens_even_if_the_target_changes_back() {
    let topics = topics(&[("t", 1, 2)]);
    let mut group = group();
    join(&mut group, 1, &["t"], &topics);
    step(&mut group, 1);
    join(&mut group, 2, &["t"], &topics);
    assert_eq!(step(&mut group, 1), "1 -t-1");
    leave(&mut group, 2);
    assert_eq!(step(&mut group, 1), "1 -t-1");
    revoked(&mut group, 1, &[("t", 1)]);
    assert_eq!(step(&mut group, 1), "3 +t-1");
    // It keeps partitions whose revocation no answer has announced yet.
    join(&mut group, 2, &["t"], &topics);
    leave(&mut group, 2);
    assert_eq!(step(&mut group, 1), "5");
}

#[test]
fn created_grown_and_deleted_topics_are_followed() {
    let mut group = group();
    join(&mut group, 1, &["t"], &topics(&[]));
    assert_eq!(group.state(), GroupState::Stable);
    assert_eq!(step(&mut group, 1), "1");
    metadata_changed(&mut group, &topics(&[("t", 1, 1), ("other", 2, 5)]));
    assert_eq!(step(&mut group, 1), "2 +t-0");
    metadata_changed(&mut group, &topics(&[("t", 1, 1)]));
    assert_eq!(step(&mut group, 1), "", "nobody subscribes to the other one");
    metadata_changed(&mut group, &topics(&[("t", 1, 2)]));
    assert_eq!(step(&mut group, 1), "3 +t-1");
    // Another topic with the same name: the member gives it up first, so no position carries over.
    metadata_changed(&mut group, &topics(&[("t", 7, 1)]));
    assert_eq!(news(&mut group), ["m-1!"]);
    assert_eq!(step(&mut group, 1), "3 -t-0 -t-1");
    revoked(&mut group, 1, &[("t", 0), ("t", 1)]);
    assert_eq!(step(&mut group, 1), "4 +t-0");
    metadata_changed(&mut group, &topics(&[]));
    assert_eq!(step(&mut group, 1), "4 -t-0");
    revoked(&mut group, 1, &[("t", 0)]);
    assert_eq!(step(&mut group, 1), "5");
    assert_eq!(group.state(), GroupState::Stable);
}

#[test]
fn a_changed_subscription_moves_only_what_it_must() {
    let topics = topics(&[("a", 1, 2), ("b", 2, 1)]);
    let mut group = group();
    join(&mut group, 1, &["a"], &topics);
    step(&mut group, 1);
    subscribe(&mut group, 1, &["a"], &topics);
    assert_eq!(step(&mut group, 1), "", "the same subscription is no change");
    subscribe(&mut group, 1, &["a", "b"], &topics);
    assert_eq!(step(&mut group, 1), "2 +b-0");
    subscribe(&mut group, 1, &["b"], &topics);
    assert_eq!(step(&mut group, 1), "2 -a-0 -a-1");
}

#[test]
fn giving_up_unasked_frees_a_partition_until_the_next_heartbeat() {
    let topics = topics(&[("t", 1, 2)]);
    let mut group = group();
    join(&mut group, 1, &["t"], &topics);
    step(&mut group, 1);
    revoked(&mut group, 1, &[("t", 1), ("t", 9), ("x", 0)]);
    assert_eq!(group.state(), GroupState::Reconciling);
    assert_eq!(step(&mut group, 1), "1 +t-1");
}

#[test]
fn strangers_commit_only_to_a_group_without_members() {
    let mut group = group();
    join(&mut group, 1, &["t"], &topics(&[]));
    assert_eq!(group.check_simple_commit(), Err(Refusal::HasMembers));
    leave(&mut group, 1);
    assert_eq!(group.check_simple_commit(), Ok(()));
    assert_eq!(group.state(), GroupState::Empty);
}

/// Assigns everything to every member, including partitions that do not exist.
#[derive(Debug)]
struct Careless;

impl Assignor for Careless {
    fn name(&self) -> &'static str {
        "careless"
    }

    fn assign(&self, group: &GroupSubscription) -> Assignment {
        let all = [("t", 0), ("t", 1), ("t", 2), ("t", 0), ("x", 0)];
        let all: Vec<_> = all.into_iter().map(|(t, p)| TopicPartition::new(t, p)).collect();
        // One list more than there are members.
        vec![all; group.members().len() + 1]
    }
}

#[test]
fn an_assignor_that_makes_no_sense_splits_no_partition() {
    let topics = topics(&[("t", 1, 2), ("x", 2, 1)]);
    let mut group = group();
    for (number, subscription) in [(1, &["t"][..]), (2, &["t", "x"])] {
        let config = proposing(vec![Arc::new(Careless)]);
        group.join(&id(number), config, names(subscription), &topics, S(0)).unwrap();
        group.assign();
    }
    assert_eq!(step(&mut group, 1), "2 +t-0 +t-1");
    assert_eq!(step(&mut group, 2), "2 +x-0");
    assert_eq!(group.state(), GroupState::Stable);
}

#[test]
fn refusals_become_errors_of_the_consumer() {
    for refusal in [
        Refusal::UnknownMember,
        Refusal::StaleEpoch { current: MemberEpoch(1) },
        Refusal::HasMembers,
    ] {
        assert!(
            matches!(refusal.into_error("g", Some(&id(1))), Error::Fenced { group, .. } if group == "g")
        );
    }
}
