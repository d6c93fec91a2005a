//! The key map, the grouping and the reasons of the selection.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::vectors::map_bytes;
use crate::cleaner::{
    DEFAULT_MAP_BYTES, GroupLimits, KeyMap, LogInfo, NotCleaned, SegmentInfo, SelectSettings,
    Selection, group, select,
};

const HASH_KEY: [u8; 16] = [3; 16];

#[test]
fn the_map_takes_nine_keys_in_ten_slots_and_never_more_memory_than_allowed() {
    for (bytes, most_keys, expected) in [
        (0, 100, 0),
        (23, 100, 0),
        (47, 100, 0),
        (48, 100, 1),
        (240, 100, 9),
        (DEFAULT_MAP_BYTES, u64::MAX, 1_258_290),
    ] {
        assert_eq!(KeyMap::new(bytes, most_keys, &HASH_KEY).max_keys(), expected, "{bytes}");
    }
    // A few offsets make a small map, which has room for them all.
    for most_keys in 0..200 {
        let keys = KeyMap::new(DEFAULT_MAP_BYTES, most_keys, &HASH_KEY).max_keys() as u64;
        assert!((most_keys..=most_keys + 1).contains(&keys), "{most_keys}: {keys}");
    }
}

#[test]
fn a_full_map_refuses_new_keys_and_newer_offsets() {
    let mut map = KeyMap::new(map_bytes(2), u64::MAX, &HASH_KEY);
    assert!(map.put(map.hash(b"a"), 0));
    assert!(map.put(map.hash(b"a"), 1));
    assert!(map.put(map.hash(b""), 2));
    assert_eq!(map.len(), 2);
    assert!(!map.put(map.hash(b"a"), 3));
    assert!(!map.put(map.hash(b"c"), 4));
    assert_eq!(
        (map.get(map.hash(b"a")), map.get(map.hash(b"")), map.get(map.hash(b"c"))),
        (Some(1), Some(2), None)
    );
    let mut none = KeyMap::new(0, 100, &HASH_KEY);
    assert!(!none.put(none.hash(b"a"), 0));
    assert_eq!(none.get(none.hash(b"a")), None);
}

#[test]
fn the_largest_offset_of_a_key_wins() {
    let mut map = KeyMap::new(1000, u64::MAX, &HASH_KEY);
    for offset in [7, i64::MAX - 1, 0] {
        assert!(map.put(map.hash(b"a"), offset));
    }
    assert_eq!((map.len(), map.get(map.hash(b"a"))), (1, Some(i64::MAX - 1)));
}

proptest! {
    #[test]
    fn the_map_agrees_with_a_tree(
        keys in proptest::collection::vec(0_u16..300, 0..600), room in 1_u64..400, hash_key: [u8; 16],
    ) {
        let mut map = KeyMap::new(map_bytes(room), u64::MAX, &hash_key);
        let mut model = BTreeMap::new();
        for (offset, key) in (0..).zip(&keys) {
            let takes = model.len() < room as usize;
            prop_assert_eq!(map.put(map.hash(&key.to_be_bytes()), offset), takes);
            if takes {
                model.insert(*key, offset);
            }
            prop_assert_eq!(map.len(), model.len());
        }
        for key in 0..300_u16 {
            prop_assert_eq!(map.get(map.hash(&key.to_be_bytes())), model.get(&key).copied());
        }
    }
}

fn segment(base_offset: i64, end_offset: i64, sizes: [u64; 3]) -> SegmentInfo {
    let [log_bytes, index_bytes, time_index_bytes] = sizes;
    SegmentInfo {
        base_offset,
        end_offset,
        log_bytes,
        index_bytes,
        time_index_bytes,
        first_timestamp: base_offset * 100,
        largest_timestamp: end_offset * 100,
    }
}

#[test]
fn groups_respect_every_limit() {
    let groups = |segments: &[SegmentInfo]| {
        let limits = GroupLimits { segment_bytes: 100, index_bytes: 10 };
        group(segments, limits).into_iter().map(|range| range.len()).collect::<Vec<_>>()
    };
    let sizes = |sizes: &[[u64; 3]]| {
        let infos = (0_i64..).zip(sizes).map(|(base, sizes)| segment(base, base + 1, *sizes));
        groups(&infos.collect::<Vec<_>>())
    };
    assert!(sizes(&[]).is_empty());
    assert_eq!(sizes(&[[50, 5, 5], [50, 5, 5], [1, 0, 0]]), [2, 1]);
    assert_eq!(sizes(&[[10, 5, 5], [10, 6, 5], [10, 4, 5]]), [1, 2]);
    assert_eq!(sizes(&[[10, 5, 5], [10, 5, 6], [10, 5, 4]]), [1, 2]);
    assert_eq!(sizes(&[[500, 50, 50], [1, 1, 1], [1, 1, 1], [500, 0, 0]]), [1, 2, 1]);

    let reach = i64::from(i32::MAX);
    let far =
        |end: i64, bytes| groups(&[segment(5, 10, [1, 1, 1]), segment(10, end, [bytes, 0, 0])]);
    assert_eq!(far(5 + reach + 1, 1), [2]);
    assert_eq!(far(5 + reach + 2, 1), [1, 1]);
    assert_eq!(far(5 + reach + 2, 0), [2]);
}

/// Three segments of ten offsets and 100 bytes, and an active one of five.
fn choose(change: impl Fn(&mut LogInfo<'_>, &mut SelectSettings)) -> Selection {
    let segments = [0, 10, 20].map(|base| segment(base, base + 10, [100, 0, 0]));
    let segments = [&segments[..], &[segment(30, 35, [100, 0, 0])]].concat();
    let mut log = LogInfo {
        segments: &segments,
        log_start_offset: 0,
        log_end_offset: 35,
        last_stable_offset: 35,
        durable_end_offset: 35,
        checkpoint: None,
    };
    let mut settings = SelectSettings {
        min_cleanable_dirty_ratio: 0.5,
        min_compaction_lag_ms: 0,
        max_compaction_lag_ms: i64::MAX,
    };
    change(&mut log, &mut settings);
    select(&log, &settings, 3_100)
}

#[test]
fn a_log_that_is_not_cleaned_says_why() {
    let why = |change: &dyn Fn(&mut LogInfo<'_>, &mut SelectSettings)| choose(change).not_cleaned;
    assert_eq!(why(&|_, _| ()), None);
    let dirty = |log: &mut LogInfo<'_>, checkpoint| log.checkpoint = Some(checkpoint);
    let ratio = why(&|log, _| dirty(log, 20));
    assert_eq!(ratio, Some(NotCleaned::DirtyRatio { ratio: 1.0 / 3.0, required: 0.5 }));
    assert_eq!(why(&|log, _| dirty(log, 30)), Some(NotCleaned::NothingDirty));
    assert_eq!(why(&|log, _| dirty(log, 33)), Some(NotCleaned::NothingDirty));
    let only_active = |log: &mut LogInfo<'_>| {
        log.segments = log.segments.split_at(3).1;
        log.log_start_offset = 30;
    };
    assert_eq!(why(&|log, _| only_active(log)), Some(NotCleaned::OnlyActiveSegment));
    assert_eq!(why(&|log, _| log.segments = &[]), Some(NotCleaned::OnlyActiveSegment));
    for last_stable_offset in [0, 9] {
        let open = why(&|log, _| log.last_stable_offset = last_stable_offset);
        assert_eq!(open, Some(NotCleaned::OpenTransaction { last_stable_offset }));
    }
    for durable_end_offset in [0, 9] {
        let not_durable = why(&|log, _| log.durable_end_offset = durable_end_offset);
        assert_eq!(not_durable, Some(NotCleaned::NotDurable { durable_end_offset }));
    }
    let young = why(&|_, settings| settings.min_compaction_lag_ms = 2_101);
    assert_eq!(young, Some(NotCleaned::MinCompactionLag { segment: 0, until: 3_101 }));
    assert_eq!(why(&|_, settings| settings.min_compaction_lag_ms = 2_100), None);
    // The transaction in a cleaned segment holds it, not the young segment behind.
    let both = why(&|log, settings| {
        dirty(log, 10);
        log.last_stable_offset = 12;
        settings.min_compaction_lag_ms = 500;
    });
    assert_eq!(both, Some(NotCleaned::OpenTransaction { last_stable_offset: 12 }));
}

#[test]
fn a_segment_is_cleanable_as_a_whole_or_not_at_all() {
    for (last_stable_offset, bytes) in [(9, 0), (10, 100), (19, 100), (20, 200), (35, 300)] {
        let selection = choose(|log, _| log.last_stable_offset = last_stable_offset);
        assert_eq!(selection.first_uncleanable_offset, last_stable_offset.min(30));
        assert_eq!(selection.cleanable_bytes, bytes, "{last_stable_offset}");
        let durable = choose(|log, _| log.durable_end_offset = last_stable_offset);
        assert_eq!(durable.cleanable_bytes, bytes, "{last_stable_offset}");
    }
    // A first dirty offset inside a segment counts it on both sides.
    let split = choose(|log, _| log.checkpoint = Some(15));
    assert_eq!((split.clean_bytes, split.cleanable_bytes), (200, 200));
}

#[test]
fn an_old_dirty_segment_is_cleaned_whatever_the_ratio() {
    let overdue = |lag, first_dirty| {
        let selection = choose(|log, settings| {
            log.checkpoint = Some(first_dirty);
            settings.max_compaction_lag_ms = lag;
        });
        (selection.must_clean_now, selection.not_cleaned.is_none())
    };
    // The segment at 20 has the first timestamp 2000. It is 1100 ms old.
    assert_eq!(overdue(1_100, 20), (false, false));
    assert_eq!(overdue(1_099, 20), (true, true));
    // The one at 0 has the first timestamp 0, which says nothing.
    assert_eq!(overdue(2_100, 0), (false, true));
    assert_eq!(overdue(1, 30), (false, false));
}
