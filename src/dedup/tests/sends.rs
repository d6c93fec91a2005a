//! Sends and settings one by one.

use crate::dedup::{Claims, Decision, DedupSettings, DedupTable, IdHash, Place};
use crate::types::{PartitionNumber, TopicId};

fn table(window_ms: u64, max_ids: u32) -> DedupTable {
    DedupTable::new(TopicId::from_bytes([1; 16]), DedupSettings { window_ms, max_ids })
}

fn hash(n: u64) -> IdHash {
    IdHash {
        high: n.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        low: n.wrapping_mul(0xd6e8_feb8_6659_fd93),
    }
}

fn place(offset: i64) -> Place {
    Place { partition: PartitionNumber(3), offset }
}

#[test]
fn time_never_goes_back() {
    let mut table = table(100, 10);
    assert_eq!(table.time(-5), 0);
    assert_eq!(table.time(1000), 1000);
    assert_eq!(table.time(10), 1000);
    table.insert(hash(1), place(0), 1000);
    assert_eq!(table.lookup(hash(1), 10), Some(place(0)));
    assert_eq!(table.lookup(hash(1), 1099), Some(place(0)));
    assert_eq!(table.lookup(hash(1), 1100), None);
    // It was over once.
    assert_eq!(table.lookup(hash(1), 1000), None);
    // Registered again.
    table.insert(hash(1), place(7), 1100);
    assert_eq!(table.lookup(hash(1), 1199), Some(place(7)));
}

#[test]
fn an_id_twice_in_one_frame_is_a_duplicate_of_the_first() {
    let mut table = table(100, 10);
    table.insert(hash(9), place(4), 0);
    let mut claims = Claims::default();
    let Decision::New(first) = claims.decide(&mut table, hash(1), 5) else { panic!() };
    let Decision::New(second) = claims.decide(&mut table, hash(2), 5) else { panic!() };
    assert_eq!(claims.decide(&mut table, hash(1), 5), Decision::Repeat(first));
    assert_eq!(claims.decide(&mut table, hash(9), 5), Decision::Duplicate(place(4)));
    assert_eq!(claims.place_of(first), None);
    claims.place(second, place(6));
    claims.place(first, place(5));
    assert_eq!((claims.place_of(first), claims.len()), (Some(place(5)), 2));
    let ids: Vec<_> = claims.ids().collect();
    assert_eq!(ids, [(hash(1), place(5)), (hash(2), place(6))]);
    // The frame fails: nothing is registered.
    drop(claims);
    assert_eq!((table.lookup(hash(1), 5), table.len()), (None, 1));
}

#[test]
fn a_frame_of_many_ids_finds_all_of_them() {
    let mut table = table(100, 10_000);
    let mut claims = Claims::default();
    for n in 0..2000 {
        let Decision::New(claim) = claims.decide(&mut table, hash(n), 5) else { panic!("{n}") };
        claims.place(claim, place(n as i64));
    }
    for n in 0..2000 {
        let Decision::Repeat(claim) = claims.decide(&mut table, hash(n), 5) else { panic!("{n}") };
        assert_eq!(claims.place_of(claim), Some(place(n as i64)));
    }
    claims.register(&mut table, 5);
    assert!((0..2000).all(|n| table.lookup(hash(n), 5) == Some(place(n as i64))));
}

#[test]
fn a_topic_without_a_window_registers_nothing() {
    let mut table = table(0, 10);
    assert!(!table.is_on());
    assert_eq!(Claims::default().decide(&mut table, hash(1), 5), Decision::Off);
    table.insert(hash(1), place(0), 5);
    assert_eq!((table.len(), table.bytes(), table.lookup(hash(1), 5)), (0, 0, None));
}

#[test]
fn the_oldest_ids_are_forgotten_and_counted() {
    let mut table = table(100, 3);
    (0..5).for_each(|n| table.insert(hash(n), place(n as i64), 10));
    assert_eq!((table.len(), table.forgotten()), (3, 2));
    assert_eq!(table.lookup(hash(1), 10), None);
    assert_eq!(table.lookup(hash(2), 10), Some(place(2)));
    // Those that are over are not forgotten.
    (5..8).for_each(|n| table.insert(hash(n), place(n as i64), 110));
    assert_eq!((table.len(), table.forgotten()), (3, 2));
}

#[test]
fn settings_count_at_once() {
    let settings = |window_ms, max_ids| DedupSettings { window_ms, max_ids };
    let mut table = table(100, 10);
    (0..10).for_each(|n| table.insert(hash(n), place(n as i64), n as i64));
    table.configure(settings(100, 6), 10);
    assert_eq!((table.len(), table.forgotten()), (6, 4));
    assert_eq!(table.lookup(hash(3), 10), None);
    assert!(table.lookup(hash(4), 10).is_some());
    table.configure(settings(5, 6), 10);
    assert_eq!((table.len(), table.forgotten()), (4, 4));
    assert_eq!(table.lookup(hash(5), 10), None);
    assert!(table.lookup(hash(6), 10).is_some());
    // What is over does not come back.
    table.configure(settings(1000, 10), 10);
    assert_eq!(table.lookup(hash(5), 10), None);
    assert_eq!(table.len(), 4);
    assert!(table.lookup(hash(6), 900).is_some());
    table.configure(settings(0, 10), 900);
    assert_eq!((table.len(), table.lookup(hash(6), 900)), (0, None));
}

#[test]
fn expiry_returns_all_memory() {
    let mut table = table(100, 100_000);
    (0..50_000).for_each(|n| table.insert(hash(n), place(0), n as i64 / 1000));
    let full = table.bytes();
    assert!(full > 50_000 * 40);
    // Ten thousand are over. That takes two calls.
    assert!(table.expire(109));
    assert!(!table.expire(109));
    assert_eq!(table.len(), 40_000);
    assert!(table.bytes() < full);
    assert!((10_000..50_000).all(|n| table.lookup(hash(n), 109).is_some()));
    assert!(!table.expire(1000));
    assert_eq!((table.len(), table.bytes()), (0, 0));
}
