//! Static members (KIP-345).

use super::*;

fn x(number: u64) -> MemberId {
    MemberId::of_instance("x", number)
}

fn join_static(group: &mut Group, number: u64, topics: &TopicsView, now: u64) {
    group.join(&x(number), config(), names(&["t"]), topics, S(now)).unwrap();
    group.assign();
}

fn go_away(group: &mut Group, number: u64, now: u64) {
    group.leave(&x(number), GroupMembershipOperation::Default, S(now)).unwrap();
    group.assign();
}

/// As `step`, for the static member.
fn step_static(group: &mut Group, number: u64) -> String {
    match group.heartbeat(&x(number), S(0)).unwrap() {
        Heartbeat::Unchanged => String::new(),
        Heartbeat::Reconcile(step) => {
            format!("{} -{:?} +{:?}", step.epoch.0, step.revoke, step.assign)
        }
    }
}

/// Returns a settled group of a static member, which has t-2 and t-3, and a dynamic one.
fn settled(topics: &TopicsView) -> Group {
    let mut group = group();
    join(&mut group, 1, &["t"], topics);
    join_static(&mut group, 2, topics, 0);
    // Members with an instance id come first.
    assert_eq!(step_static(&mut group, 2), "2 -[] +[t-0, t-1]");
    assert_eq!(step(&mut group, 1), "2 +t-2 +t-3");
    news(&mut group);
    group
}

#[test]
fn a_static_member_comes_back_to_its_partitions_and_nobody_notices() {
    let topics = topics(&[("t", 1, 4)]);
    let mut group = settled(&topics);
    go_away(&mut group, 2, 10);
    assert_eq!(group.state(), GroupState::Stable);
    assert!(news(&mut group).is_empty());
    let away = group.describe().members.into_iter().find(|member| member.id == x(2)).unwrap();
    assert_eq!((away.epoch, away.owned.len(), away.target.len()), (MemberEpoch(-2), 0, 2));
    assert_eq!(group.check_simple_commit(), Err(Refusal::HasMembers));
    assert_eq!(group.heartbeat(&x(2), S(10)), Err(Refusal::UnknownMember));

    assert_eq!(group.next_deadline(), Some(S(55)), "45 s from when it left");
    assert!(expire(&mut group, 54).is_empty());
    join_static(&mut group, 3, &topics, 54);
    let news: Vec<_> = group.take_news().into_iter().map(|news| (news.member, news.wake)).collect();
    assert_eq!(news, [(x(2), true), (x(3), true)], "nobody else");
    assert_eq!(step_static(&mut group, 3), "2 -[] +[t-0, t-1]");
    assert_eq!(step(&mut group, 1), "");
    assert_eq!(group.state(), GroupState::Stable);
}

#[test]
fn a_static_member_that_stays_away_is_given_up() {
    let topics = topics(&[("t", 1, 4)]);
    let mut group = settled(&topics);
    go_away(&mut group, 2, 0);
    assert_eq!(expire(&mut group, 45), [x(2)]);
    assert_eq!(step(&mut group, 1), "3 +t-0 +t-1");
    // If it returns too late, it is treated as any new member.
    join_static(&mut group, 3, &topics, 46);
    assert_eq!(step_static(&mut group, 3), "4 -[] +[]");
}

#[test]
fn a_static_member_can_leave_for_good_and_any_member_can_remain() {
    let topics = topics(&[("t", 1, 4)]);
    let mut group = settled(&topics);
    group.leave(&x(2), GroupMembershipOperation::LeaveGroup, S(0)).unwrap();
    group.assign();
    assert_eq!(step(&mut group, 1), "3 +t-0 +t-1");
    join(&mut group, 4, &["t"], &topics);
    group.leave(&id(1), GroupMembershipOperation::RemainInGroup, S(10)).unwrap();
    group.assign();
    assert_eq!(step(&mut group, 4), "4 +t-2 +t-3", "it gets its own half at once");
    assert_eq!(expire(&mut group, 55), [id(1)]);
    assert_eq!(step(&mut group, 4), "5 +t-0 +t-1");
}

#[test]
fn a_second_consumer_with_the_instance_id_fences_the_first() {
    let topics = topics(&[("t", 1, 4)]);
    let mut group = settled(&topics);
    join_static(&mut group, 3, &topics, 0);
    let news: Vec<_> =
        group.take_news().into_iter().map(|news| (news.member, news.version.is_some())).collect();
    assert_eq!(news, [(x(2), false), (x(3), true)]);
    let t0 = TopicPartition::new("t", 0);
    assert_eq!(step_static(&mut group, 3), "2 -[] +[t-0, t-1]");
    assert_eq!(group.check_commit(&x(3), MemberEpoch(2), [&t0]), Ok(()));
    let fenced = Refusal::FencedInstanceId;
    assert_eq!(group.check_commit(&x(2), MemberEpoch(2), [&t0]), Err(fenced.clone()));
    assert_eq!(group.heartbeat(&x(2), S(0)), Err(fenced.clone()));
    assert_eq!(group.revoked(&x(2), &[t0]), Err(fenced.clone()));
    // The fenced member cannot take its place back.
    let again = group.join(&x(2), config(), names(&["t"]), &topics, S(0));
    assert_eq!(again, Err(fenced.clone()));
    match fenced.into_error("g", Some(&x(2))) {
        Error::FencedInstanceId { group, instance_id } => {
            assert_eq!((group.as_str(), instance_id.as_str()), ("g", "x"));
        }
        other => panic!("{other}"),
    }
    // It can once the other one has left for good.
    group.leave(&x(3), GroupMembershipOperation::LeaveGroup, S(0)).unwrap();
    assert_eq!(group.heartbeat(&x(2), S(0)), Err(Refusal::UnknownMember));
    join_static(&mut group, 2, &topics, 0);
}

#[test]
fn a_replacement_with_another_subscription_causes_a_new_target() {
    let topics = topics(&[("t", 1, 4), ("u", 2, 1)]);
    let mut group = settled(&topics);
    go_away(&mut group, 2, 0);
    group.join(&x(3), config(), names(&["u"]), &topics, S(0)).unwrap();
    group.assign();
    assert_eq!(step_static(&mut group, 3), "3 -[] +[u-0]");
    assert_eq!(step(&mut group, 1), "3 +t-0 +t-1");
}

#[test]
fn pending_revocations_of_an_absent_member_are_free() {
    let topics = topics(&[("t", 1, 4)]);
    let mut group = settled(&topics);
    join(&mut group, 0, &["t"], &topics);
    assert_eq!(step(&mut group, 0), "3");
    // x keeps t-0 and t-1. m-1, which should give t-2 up to m-0, stays for now.
    group.leave(&id(1), GroupMembershipOperation::RemainInGroup, S(0)).unwrap();
    group.assign();
    assert_eq!(news(&mut group).last().map(String::as_str), Some("x-2"));
    assert_eq!(step(&mut group, 0), "3 +t-2");
    assert_eq!(group.state(), GroupState::Stable, "t-3 is kept for m-1");
}

#[test]
fn a_silent_static_member_gets_its_session_timeout_in_addition() {
    let topics = topics(&[("t", 1, 4)]);
    let mut group = settled(&topics);
    assert_eq!(expire(&mut group, 300), [id(1)]);
    assert!(expire(&mut group, 344).is_empty());
    assert_eq!(expire(&mut group, 345), [x(2)]);
}

#[test]
fn a_place_taken_over_while_a_target_is_computed_keeps_its_partitions() {
    let topics = topics(&[("t", 1, 4)]);
    let mut group = settled(&topics);
    group.enforce_rebalance(&id(1)).unwrap();
    let task = group.next_assignment().unwrap();
    join_static_unassigned(&mut group, 3, &topics);
    group.publish(task.run());
    assert_eq!(group.state(), GroupState::Assigning, "that target names the predecessor");
    group.assign();
    assert_eq!(step_static(&mut group, 3), "4 -[] +[t-0, t-1]");
    assert_eq!(step(&mut group, 1), "4");
    assert_eq!(group.state(), GroupState::Stable);
}

fn join_static_unassigned(group: &mut Group, number: u64, topics: &TopicsView) {
    group.join(&x(number), config(), names(&["t"]), topics, S(0)).unwrap();
}
