//! How members agree on an assignor.

use super::*;
use crate::group::assignor::{RoundRobinAssignor, StickyAssignor, UniformAssignor};

fn assignor(name: char) -> Arc<dyn Assignor> {
    match name {
        'r' => Arc::new(RangeAssignor),
        'o' => Arc::new(RoundRobinAssignor),
        's' => Arc::new(StickyAssignor),
        _ => Arc::new(UniformAssignor),
    }
}

fn join_with(group: &mut Group, number: u64, list: &str) -> Result<(), Refusal> {
    let topics = topics(&[("t", 1, 4)]);
    let config = proposing(list.chars().map(assignor).collect());
    group.join(&id(number), config, names(&["t"]), &topics, S(0))?;
    group.assign();
    Ok(())
}

fn elected(lists: &[&str]) -> String {
    let mut group = group();
    for (number, list) in (1..).zip(lists) {
        join_with(&mut group, number, list).unwrap();
    }
    group.describe().assignor
}

#[test]
fn most_votes_win_among_what_all_propose() {
    assert_eq!(elected(&["r"]), "range");
    assert_eq!(elected(&["rs", "sr", "sr"]), "sticky");
    // Only assignors that every member has can win: `roundrobin` has most first places but is no
    // candidate.
    assert_eq!(elected(&["or", "or", "ro", "r"]), "range");
    assert_eq!(elected(&["ous", "uso", "sou", "us"]), "uniform");
}

#[test]
fn among_equals_the_member_with_the_lowest_id_decides() {
    assert_eq!(elected(&["rs", "sr"]), "range");
    assert_eq!(elected(&["sr", "rs"]), "sticky");
    assert_eq!(elected(&["rso", "sor", "osr"]), "range");
}

#[test]
fn members_elect_again_when_members_change() {
    let mut group = group();
    join_with(&mut group, 1, "sr").unwrap();
    assert_eq!(group.describe().assignor, "sticky");
    join_with(&mut group, 2, "r").unwrap();
    assert_eq!(group.describe().assignor, "range");
    leave(&mut group, 2);
    assert_eq!(group.describe().assignor, "sticky");
}

#[test]
fn a_member_without_a_common_assignor_cannot_join() {
    let mut group = group();
    join_with(&mut group, 1, "rs").unwrap();
    join_with(&mut group, 2, "so").unwrap();
    let before = group.describe();
    let proposed = "range, roundrobin".to_owned();
    let refusal = Refusal::InconsistentGroupProtocol { proposed };
    assert_eq!(join_with(&mut group, 3, "ro"), Err(refusal.clone()));
    assert_eq!(group.describe(), before);
    assert_eq!(
        refusal.into_error("g", Some(&id(3))).to_string(),
        "cannot join group \"g\": no proposed assignor is supported by all members (proposed: range, roundrobin)"
    );
    // It can join once the member that lacked its assignor has left.
    leave(&mut group, 2);
    join_with(&mut group, 3, "ro").unwrap();
    assert_eq!(group.describe().assignor, "range");
    // The check of a member that joins again ignores its own earlier proposals.
    leave(&mut group, 3);
    join_with(&mut group, 1, "o").unwrap();
    assert_eq!(group.describe().assignor, "roundrobin");
}
