//! Buckets that something has changed.

use std::path::{Path, PathBuf};

use crate::dedup::bucket::{ENTRY_BYTES, HEADER_BYTES, bucket_path};
use crate::dedup::{DedupSettings, DedupTable, IdHash, Place, TopicImage, load, write_out};
use crate::error::{CorruptReason, Error};
use crate::storage::{Memory, OpenMode, Storage};
use crate::types::{PartitionNumber, TopicId};

const TOPIC: TopicId = TopicId::from_bytes([1; 16]);
const SETTINGS: DedupSettings = DedupSettings { window_ms: 100, max_ids: 50 };

fn stored() -> (Memory, TopicImage) {
    let mut table = DedupTable::new(TOPIC, SETTINGS);
    table.files.bucket_entries = 4;
    for n in 0..10 {
        let place = Place { partition: PartitionNumber(4), offset: n as i64 };
        table.insert(IdHash { high: n, low: n }, place, 10 + n as i64);
    }
    let storage = Memory::new();
    let frozen = table.freeze();
    let image = write_out(&[frozen], &storage).unwrap().remove(0);
    (storage, image)
}

fn path(image: &TopicImage, at: usize) -> PathBuf {
    bucket_path(TOPIC, image.buckets[at].number)
}

fn change(storage: &Memory, path: &Path, at: usize, byte: u8) {
    storage.open(path, OpenMode::Write).unwrap().write_at(&[byte], at as u64).unwrap();
}

/// Returns the file, position and reason of the damage that loading finds.
fn damage(storage: &Memory, image: &TopicImage) -> (PathBuf, u64, CorruptReason) {
    match load(storage, image, SETTINGS, 0) {
        Err(Error::Corrupt(damage)) => (damage.path, damage.position, damage.reason),
        other => panic!("{other:?}"),
    }
}

/// Makes the listed checksum that of the changed bytes.
fn mend(storage: &Memory, image: &mut TopicImage, at: usize) {
    let file = storage.open(&path(image, at), OpenMode::Read).unwrap();
    let mut bytes = vec![0; HEADER_BYTES + image.buckets[at].count as usize * ENTRY_BYTES];
    assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
    image.buckets[at].crc = crc32fast::hash(&bytes);
}

#[test]
fn a_changed_or_missing_bucket_is_damage_that_names_its_file() {
    let (storage, image) = stored();
    assert_eq!(load(&storage, &image, SETTINGS, 0).unwrap().len(), 10);
    let name = path(&image, 1);
    let shown = storage.display_path(&name);
    let length = HEADER_BYTES + 4 * ENTRY_BYTES;
    for at in 0..length {
        let (storage, image) = stored();
        change(&storage, &name, at, 0xaa);
        assert_eq!(damage(&storage, &image), (shown.clone(), 0, CorruptReason::Checksum), "{at}");
    }
    let file = storage.open(&name, OpenMode::Write).unwrap();
    // Bytes behind the hard length mean nothing.
    file.write_at(&[7; 50], length as u64).unwrap();
    assert_eq!(load(&storage, &image, SETTINGS, 0).unwrap().len(), 10);
    file.set_len(length as u64 - 1).unwrap();
    let short = (shown.clone(), length as u64 - 1, CorruptReason::Short);
    assert_eq!(damage(&storage, &image), short);
    storage.remove(&name).unwrap();
    assert_eq!(damage(&storage, &image), (shown, 0, CorruptReason::Missing));
}

#[test]
fn a_bucket_in_the_place_of_another_is_damage() {
    let (storage, image) = stored();
    storage.rename(&path(&image, 0), &path(&image, 1)).unwrap();
    assert_eq!(damage(&storage, &image).2, CorruptReason::Missing);
    let (storage, mut image) = stored();
    storage.rename(&path(&image, 1), &path(&image, 0)).unwrap();
    assert_eq!(damage(&storage, &image).2, CorruptReason::Checksum);
    mend(&storage, &mut image, 0);
    assert_eq!(damage(&storage, &image).2, CorruptReason::Field);
}

#[test]
fn contents_that_nobody_writes_are_damage_even_if_the_checksum_is_right() {
    let entry = HEADER_BYTES + ENTRY_BYTES;
    let time = entry + 28;
    for (at, byte, position, reason) in [
        (0, b'x', 0, CorruptReason::Magic),
        (12, 9, 0, CorruptReason::TopicId),
        (35, 9, 0, CorruptReason::Field),
        (entry + 20, 0x80, entry, CorruptReason::Field),
        (time, 0x80, entry, CorruptReason::Field),
        // Before the entry before, and after the latest time that the table had seen.
        (time + 7, 9, entry, CorruptReason::Field),
        (time + 7, 20, entry, CorruptReason::Field),
    ] {
        let (storage, mut image) = stored();
        let name = path(&image, 0);
        change(&storage, &name, at, byte);
        mend(&storage, &mut image, 0);
        let expected = (storage.display_path(&name), position as u64, reason);
        assert_eq!(damage(&storage, &image), expected, "byte {at}");
    }
}

#[test]
fn a_newer_version_is_told_from_damage() {
    let (storage, mut image) = stored();
    change(&storage, &path(&image, 0), 11, 2);
    mend(&storage, &mut image, 0);
    let error = load(&storage, &image, SETTINGS, 0).unwrap_err();
    assert!(matches!(error, Error::UnsupportedFormat { found: 2, max: 1, .. }), "{error}");
}

#[test]
fn a_bucket_that_was_cut_is_not_continued() {
    let mut table = DedupTable::new(TOPIC, SETTINGS);
    let place = Place { partition: PartitionNumber(4), offset: 1 };
    table.insert(IdHash { high: 1, low: 1 }, place, 10);
    let storage = Memory::new();
    let frozen = table.freeze();
    let image = write_out(&[frozen], &storage).unwrap().remove(0);
    table.committed(&image);
    let name = path(&image, 0);
    storage.open(&name, OpenMode::Write).unwrap().set_len(HEADER_BYTES as u64).unwrap();
    table.insert(IdHash { high: 2, low: 2 }, place, 10);
    let frozen = table.freeze();
    let error = write_out(&[frozen], &storage).unwrap_err();
    let Error::Corrupt(damage) = error else { panic!("{error}") };
    assert_eq!((damage.position, damage.reason), (HEADER_BYTES as u64, CorruptReason::Short));
    // The memory still holds what is not in that bucket, and writes it to the next one.
    let frozen = table.freeze();
    assert!(write_out(&[frozen], &storage).is_ok());
}
