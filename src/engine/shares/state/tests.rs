use std::time::Duration;

use super::*;
use crate::types::Backoff;

/// Sections of `group::share` with every kind of item, as its diagram draws them. After the first one the window begins
/// at 12, since what is delayed is passed.
pub(in crate::engine::shares) fn sections() -> [Section; 2] {
    let first: [&[u8]; 4] = [
        // The version, one text, and four items: the log start at 2, and the window begins at 5, in epoch 3.
        &[1, 1, 3, b'5', b'0', b'3', 4],
        &[0, 2, 1, 5, 3],
        // 5 to 9 are delayed until 700 because of "503", with a key.
        &[7, 10, 4, 2, 16, 0xbc, 0x05, 1, 2, 3, 4, 5, 6, 7, 8],
        // 10 and 11 are delayed until 100, without a key.
        &[6, 0, 1, 1, 4, 100],
    ];
    let second: [&[u8]; 4] = [
        &[1, 1, 3, b'5', b'0', b'3', 6],
        // 6 is with a handler again, below the window. 12 to 20 are with one, for the 400th time.
        &[2, 12, 0, 3, 2, 10, 8, 0x90, 0x03],
        // 21 is available because its lock ended, 22 and 23 because of "503".
        &[3, 0, 0, 1, 2, 3, 0, 1, 20, 16],
        // 30 is accepted, and 31 to 33 are given up.
        &[4, 12, 0, 1, 5, 0, 2, 4],
    ];
    [first, second].map(|parts| Section::decode(&parts.concat()).unwrap())
}

/// Settings of which none is the default.
pub(in crate::engine::shares) fn settings() -> GroupSettings {
    let config = ShareGroupConfig::KEYS.iter().fold(ShareGroupConfig::new(), |config, key| {
        let value = match *key {
            "share.auto.offset.reset" => "by_duration:PT1H",
            "share.isolation.level" => "read_committed",
            "share.renew.acknowledge.enable" | "errors.deadletterqueue.copy.record.enable" => {
                "false"
            }
            "share.acquire.mode" => "batch_optimized",
            "share.ordering" => "key",
            "share.retry.backoff.max.ms" => "5000",
            "share.retry.backoff.jitter" => "0.25",
            "errors.deadletterqueue.topic.name" => "dead",
            _ => "77",
        };
        config.set(key, value).unwrap()
    });
    assert_eq!(config.entries().len(), ShareGroupConfig::KEYS.len());
    GroupSettings::new(config, true)
}

fn change(group: &str, kind: ShareChangeKind) -> ShareChange {
    ShareChange { group: group.into(), kind }
}

/// Changes of every kind.
fn changes() -> Vec<ShareChange> {
    let plain = GroupSettings::new(ShareGroupConfig::new(), false);
    let [first, second] = sections();
    vec![
        change("g", ShareChangeKind::Settings(plain)),
        change(&"x".repeat(249), ShareChangeKind::Settings(settings())),
        change("\u{fc}", ShareChangeKind::Partition(PartitionNumber(u32::MAX), first)),
        change("g", ShareChangeKind::Partition(PartitionNumber(1), second)),
        change(
            "g",
            ShareChangeKind::Partition(PartitionNumber(0), Section::log_start(i64::MAX - 1)),
        ),
        change("g", ShareChangeKind::Partition(PartitionNumber(7), Section::default())),
        change("g", ShareChangeKind::Delete),
    ]
}

#[test]
fn a_change_decodes_to_what_was_encoded() {
    for change in changes() {
        let bytes = change.encode();
        assert_eq!(ShareChange::decode(&bytes), Ok(change.clone()));
        if let ShareChangeKind::Partition(number, section) = &change.kind {
            let mut same = vec![9];
            encode_partition_change(&change.group, *number, section, &mut same);
            assert_eq!((same[0], &same[1..]), (9, &bytes[..]));
        }
    }
}

#[test]
fn a_change_that_is_cut_or_longer_is_refused() {
    for change in changes() {
        let mut bytes = change.encode();
        for cut in 0..bytes.len() {
            let refused = ShareChange::decode(&bytes[..cut]);
            assert!(matches!(refused, Err(Unreadable::Corrupt(_))), "{cut} of {change:?}");
        }
        bytes.push(0);
        assert_eq!(ShareChange::decode(&bytes), Err(CorruptReason::Length.into()));
    }
}

/// Returns the bytes with each bit flipped alone.
pub(in crate::engine::shares) fn flipped(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    (0..bytes.len() * 8).map(move |bit| {
        let mut bytes = bytes.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        bytes
    })
}

#[test]
fn a_change_with_a_flipped_bit_is_refused_or_is_another_one() {
    for change in changes() {
        for bytes in flipped(&change.encode()) {
            let Ok(other) = ShareChange::decode(&bytes) else { continue };
            assert_eq!(ShareChange::decode(&other.encode()), Ok(other));
        }
    }
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u32).to_be_bytes(), text.as_bytes()].concat()
}

/// A settings section with these settings, whose number is said to be `count`.
fn settings_section(paused: u8, count: u32, entries: &[(&str, &str)]) -> Vec<u8> {
    let head = [&[SETTINGS][..], &text("g"), &[paused], &count.to_be_bytes()].concat();
    entries.iter().fold(head, |out, (key, value)| [out, text(key), text(value)].concat())
}

#[test]
fn wrong_fields_are_refused() {
    let corrupt = |bytes: &[u8]| match ShareChange::decode(bytes) {
        Err(Unreadable::Corrupt(reason)) => reason,
        other => panic!("{other:?}"),
    };
    let limit = ("share.delivery.count.limit", "9");
    assert!(ShareChange::decode(&settings_section(1, 1, &[limit])).is_ok());
    assert_eq!(corrupt(&settings_section(2, 0, &[])), CorruptReason::Field, "paused");
    // Nine settings take more bytes than follow. Two could be there, and are not.
    for count in [9, u32::MAX] {
        assert_eq!(corrupt(&settings_section(0, count, &[limit])), CorruptReason::Count, "{count}");
    }
    assert_eq!(corrupt(&settings_section(0, 2, &[limit])), CorruptReason::Length);
    for value in ["0", "10001"] {
        let beyond = settings_section(0, 1, &[(limit.0, value)]);
        assert_eq!(corrupt(&beyond), CorruptReason::Field, "{value}");
    }
    assert_eq!(corrupt(&[]), CorruptReason::Length);
    assert_eq!(corrupt(&[&[0][..], &text("g")].concat()), CorruptReason::Field, "kind 0");
    for name in [String::new(), "a\nb".to_owned(), "x".repeat(250)] {
        assert_eq!(corrupt(&[&[DELETE][..], &text(&name)].concat()), CorruptReason::Field);
    }
    assert_eq!(corrupt(&[DELETE, 0, 0, 0, 2, b'g']), CorruptReason::Count, "a name's length");
    assert_eq!(corrupt(&[DELETE, 0, 0, 0, 1, 0xff]), CorruptReason::Utf8);
}

#[test]
fn what_a_newer_version_could_write_is_not_damage() {
    let refused = |bytes: &[u8]| ShareChange::decode(bytes).unwrap_err();
    let settings = ShareGroupConfig::KEYS.len() as u32;
    let newer = |found: u32| Unreadable::unsupported("share group setting", found, settings);
    let section = |key: &str, value: &str| settings_section(0, 1, &[(key, value)]);
    assert_eq!(refused(&section("share.priority", "1")), newer(settings));
    assert_eq!(refused(&section("share.ordering", "partition")), newer(7));
    assert_eq!(refused(&section("share.record.lock.duration.ms", "soon")), newer(0));
    let kind = Unreadable::unsupported("share section kind", DELETE + 1, DELETE);
    assert_eq!(refused(&[&[DELETE + 1][..], &text("g")].concat()), kind);
    let partition = |rest: &[u8]| [&[PARTITION][..], &text("g"), &[0; 4], rest].concat();
    let version = Unreadable::unsupported("share section version", 2_u8, 1_u8);
    assert_eq!(refused(&partition(&[2, 0, 0])), version);
    let item = Unreadable::unsupported("share section kind", 8_u8, 7_u8);
    assert_eq!(refused(&partition(&[1, 0, 1, 8, 0])), item);
}

#[test]
fn changes_follow_each_other() {
    let mut states = ShareStates::default();
    let number = PartitionNumber(4);
    let [first, second] =
        sections().map(|section| change("g", ShareChangeKind::Partition(number, section)));
    for early in [first.clone(), change("g", ShareChangeKind::Delete)] {
        assert_eq!(states.apply(early), Err(CorruptReason::Field), "there is no group");
    }
    let set = |settings: GroupSettings| change("g", ShareChangeKind::Settings(settings));
    let plain = GroupSettings::new(ShareGroupConfig::new(), false);
    states.apply(set(plain)).unwrap();
    states.apply(first).unwrap();
    states.apply(second).unwrap();
    states.apply(set(settings())).unwrap();
    let group = states.get("g").unwrap();
    assert!(group.settings.paused);
    assert_eq!(group.settings.share.lock_duration, Duration::from_millis(77));
    assert_eq!(group.settings.share.backoff, group.settings.config.backoff);
    assert_ne!(group.settings.share.backoff, Backoff::NONE);
    assert_eq!(group.partitions[&number].start(), 12, "what is delayed is passed");
    assert_eq!(group.partitions[&number].delayed(0).count(), 6);
    states.remove_partitions(&[PartitionNumber(3)]);
    assert_eq!(states.get("g").unwrap().partitions.len(), 1);
    states.remove_partitions(&[number]);
    assert_eq!(states.get("g").unwrap().partitions.len(), 0);
    states.apply(change("g", ShareChangeKind::Delete)).unwrap();
    assert_eq!(states.iter().count(), 0);
}
