//! `group.max.size`, `session.timeout.ms`, patterns.

use super::*;
use crate::group::subscription::TopicPattern;

#[test]
fn a_full_group_accepts_only_a_replacement_of_a_static_member() {
    let topics = topics(&[("t", 1, 2)]);
    let mut group = Group::new("g", 2);
    join(&mut group, 1, &["t"], &topics);
    let x = |number| MemberId::of_instance("x", number);
    group.join(&x(2), config(), names(&["t"]), &topics, S(0)).unwrap();
    group.assign();
    let before = group.describe();
    let refused = group.join(&id(3), config(), names(&["t"]), &topics, S(0));
    assert_eq!(refused, Err(Refusal::GroupMaxSizeReached { max: 2 }));
    assert_eq!(group.describe(), before);
    group.join(&x(4), config(), names(&["t"]), &topics, S(0)).unwrap();
    // A member that is away still takes a place.
    group.leave(&x(4), GroupMembershipOperation::Default, S(0)).unwrap();
    let refused = group.join(&id(5), config(), names(&["t"]), &topics, S(0));
    let text = refused.unwrap_err().into_error("g", None).to_string();
    assert_eq!(text, "cannot join group \"g\": it has 2 members, as many as group.max.size allows");
    leave(&mut group, 1);
    join(&mut group, 5, &["t"], &topics);
}

#[test]
fn a_session_ends_without_calls_and_continues_with_commits() {
    let topics = topics(&[("t", 1, 2)]);
    let mut group = group();
    let config = MemberConfig { session_timeout: Some(S(10)), ..config() };
    group.join(&id(1), config, names(&["t"]), &topics, S(0)).unwrap();
    group.assign();
    join(&mut group, 2, &["t"], &topics);
    assert_eq!(group.next_deadline(), Some(S(10)));
    group.heard(&id(1), S(9)).unwrap();
    assert!(expire(&mut group, 18).is_empty());
    assert_eq!(expire(&mut group, 19), [id(1)]);
    assert_eq!(group.heard(&id(1), S(19)), Err(Refusal::UnknownMember));
    // The other member has set no session timeout: only its polls count.
    assert_eq!(group.next_deadline(), Some(S(300)));
    let news: Vec<_> = group.take_news();
    let gone: Vec<_> = news.iter().filter(|news| news.version.is_none()).collect();
    assert_eq!(gone, [&News { member: id(1), version: None, wake: true }]);
}

#[test]
fn a_pattern_adds_matching_topics_and_drops_deleted_ones() {
    let mut group = group();
    let pattern = || Subscription::Pattern(TopicPattern::new("t.*").unwrap());
    group.join(&id(1), config(), pattern(), &topics(&[("u", 1, 1)]), S(0)).unwrap();
    group.assign();
    assert_eq!(step(&mut group, 1), "1");
    metadata_changed(&mut group, &topics(&[("u", 1, 1), ("t1", 2, 1)]));
    assert_eq!(step(&mut group, 1), "2 +t1-0");
    metadata_changed(&mut group, &topics(&[("t1", 2, 2), ("t2", 3, 1)]));
    assert_eq!(step(&mut group, 1), "3 +t1-1 +t2-0");
    metadata_changed(&mut group, &topics(&[("t1", 2, 2), ("t2", 3, 1), ("v", 4, 1)]));
    assert_eq!(step(&mut group, 1), "", "no topic of this group");
    metadata_changed(&mut group, &topics(&[("t2", 3, 1)]));
    assert_eq!(step(&mut group, 1), "3 -t1-0 -t1-1");
    let all = topics(&[("t2", 3, 1), ("t3", 5, 0)]);
    revoked(&mut group, 1, &[("t1", 0), ("t1", 1)]);
    step(&mut group, 1);
    metadata_changed(&mut group, &all);
    assert_eq!(group.state(), GroupState::Stable, "a topic without partitions");
    assert_eq!(step(&mut group, 1), "5");
    // The same topics by name are no change.
    let epoch = group.epoch();
    group.subscribe(&id(1), names(&["t2", "t3"]), &all).unwrap();
    assert_eq!(group.epoch(), epoch);
    metadata_changed(&mut group, &topics(&[("t2", 3, 1), ("t3", 5, 0), ("t4", 6, 1)]));
    assert_eq!(step(&mut group, 1), "", "names match no new topic");
}

#[test]
fn more_members_than_partitions_stand_by() {
    let topics = topics(&[("t", 1, 1)]);
    let mut group = group();
    for number in 1..=3 {
        join(&mut group, number, &["t"], &topics);
    }
    assert_eq!(step(&mut group, 1), "3 +t-0");
    assert_eq!((step(&mut group, 2), step(&mut group, 3)), ("3".into(), "3".into()));
    assert_eq!(group.state(), GroupState::Stable);
    leave(&mut group, 1);
    assert_eq!(step(&mut group, 2), "4 +t-0");
}
