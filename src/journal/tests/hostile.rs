//! Files and frames that have right checksums but that no version wrote, and foreign names in the folder.

use std::path::Path;

use super::rig::{
    BOTH, FILE, LONG, append, append_synced, config, damage, fresh, open, read, reason, slot_of,
    try_open,
};
use crate::error::{CorruptReason, Error};
use crate::journal::frame::{FrameHeader, Kind, payload_crc};
use crate::journal::header::FIRST_FRAME;
use crate::journal::slot::{list, slot_path};
use crate::journal::{JournalConfig, JournalMode, Start};
use crate::storage::{OpenMode, Storage};
use crate::types::Lsn;

/// Writes a Next frame at `at` that names `sequence`.
fn write_next(storage: &dyn Storage, at: Lsn, sequence: u32) {
    let payload = sequence.to_be_bytes();
    let header = FrameHeader {
        payload_bytes: 4,
        kind: Kind::Next,
        lsn: at,
        known_synced: Lsn::ZERO,
        payload_crc: payload_crc(&[&payload]),
    };
    let salt = slot_of(storage, at.sequence()).1.frame_salt();
    damage(storage, at, &[&header.encode(salt)[..], &payload].concat());
}

#[test]
fn a_replay_begins_at_a_frame_or_not_at_all() {
    let (storage, journal) = fresh(JournalMode::Map);
    let from = journal.end();
    append(&journal, b"one");
    for position in [0, FIRST_FRAME - 8, FIRST_FRAME + 4] {
        let result = read(&*storage, Lsn::new(from.sequence(), position));
        assert_eq!(reason(result), CorruptReason::Field, "{position}");
    }
    assert_eq!(read(&*storage, from).unwrap().0, [b"one"]);
}

/// A recovery ends between frames, so no recovery made a file that continues from inside a frame.
#[test]
fn a_file_that_continues_from_inside_a_frame_is_damage() {
    let (storage, journal) = fresh(JournalMode::Map);
    let (from, end) = append_synced(&journal, b"one frame");
    drop(journal);
    let inside = Lsn::new(end.sequence(), end.position() - 8);
    let start = Start { continues_from: inside, ..keeping(&*storage, from) };
    let journal = open(&storage, config(JournalMode::Map), start);
    append(&journal, b"behind");
    assert_eq!(reason(read(&*storage, from)), CorruptReason::Field);
}

/// Returns the start of an opening that keeps the file of `from`.
fn keeping(storage: &dyn Storage, from: Lsn) -> Start {
    Start::after(&read(storage, from).unwrap().1)
}

#[test]
fn a_next_frame_names_a_later_file_that_continues_no_other() {
    for back in [0, 1] {
        let (storage, journal) = fresh(JournalMode::Map);
        let from = journal.end();
        let (_, end) = append(&journal, b"one");
        write_next(&*storage, end, end.sequence() - back);
        assert_eq!(reason(read(&*storage, from)), CorruptReason::Field, "{back} back");
    }
    let (storage, journal) = fresh(JournalMode::Map);
    let (from, end) = append(&journal, b"one");
    // A file that an opening made to continue another file.
    let elsewhere = Lsn::new(end.sequence() + 50, FIRST_FRAME);
    let start = Start { continues_from: elsewhere, ..keeping(&*storage, from) };
    let other = open(&storage, config(JournalMode::Map), start);
    write_next(&*storage, end, other.end().sequence());
    assert_eq!(reason(read(&*storage, from)), CorruptReason::Field);
}

#[test]
fn a_file_that_is_still_needed_must_be_there_and_ours() {
    for foreign in [false, true] {
        let (storage, journal) = fresh(JournalMode::Map);
        let (from, _) = append_synced(&journal, b"needed");
        drop(journal);
        let start = keeping(&*storage, from);
        let (path, mut header) = slot_of(&*storage, from.sequence());
        header.directory_id = [9; 16];
        let bytes = if foreign { header.encode() } else { [0; 72] };
        storage.open(&path, OpenMode::Write).unwrap().write_at(&bytes, 0).unwrap();
        let refused = try_open(&storage, config(JournalMode::Map), start);
        let Err(Error::Corrupt(damage)) = refused else { panic!("{refused:?}") };
        assert_eq!(damage.reason, CorruptReason::Missing);
        assert!(damage.path.ends_with(&path));
    }
}

#[test]
fn names_that_are_not_a_journals_are_left_alone() {
    for mode in BOTH {
        let (storage, journal) = fresh(mode);
        let (from, _) = append_synced(&journal, b"ours");
        drop(journal);
        let start = keeping(&*storage, from);
        let known = list(&*storage).unwrap();
        let strangers = ["journal/900.journal", "journal/notes.new"].map(Path::new);
        for folder in strangers {
            storage.create_dir(folder).unwrap();
        }
        // Not the canonical form of a number.
        let number = Path::new("journal/0900.journal");
        storage.open(number, OpenMode::CreateNew).unwrap().write_at(b"theirs", 0).unwrap();

        assert_eq!(list(&*storage).unwrap(), known);
        let journal = open(&storage, config(mode), start);
        append_synced(&journal, b"and on");
        assert_eq!(read(&*storage, from).unwrap().0, [&b"ours"[..], b"and on"]);
        assert!(strangers.into_iter().all(|folder| storage.metadata(folder).unwrap().is_some()));
        assert_eq!(storage.metadata(number).unwrap().map(|(_, len)| len), Some(6));
    }
}

/// A file that was cut has its full length again before a map or a frame relies on it.
#[test]
fn a_file_that_was_cut_is_filled_before_it_is_used_again() {
    for mode in BOTH {
        let (storage, journal) = fresh(mode);
        drop(journal);
        let slots = list(&*storage).unwrap();
        for (number, _) in &slots {
            let file = storage.open(&slot_path(*number), OpenMode::Write).unwrap();
            file.set_len(u64::from(FIRST_FRAME)).unwrap();
        }
        let journal = open(&storage, config(mode), Start::default());
        let from = journal.end();
        for number in 0..10 {
            append(&journal, &[number; 3000]);
        }
        assert_eq!(read(&*storage, from).unwrap().0.len(), 10);
        let now = list(&*storage).unwrap();
        assert!(slots.iter().all(|slot| now.contains(slot)), "{now:?}");
    }
}

#[test]
fn a_checkpoint_that_lies_before_what_is_kept_keeps_it() {
    let (storage, journal) = fresh(JournalMode::Map);
    let (from, end) = append_synced(&journal, b"kept");
    drop(journal);
    let journal = open(&storage, config(JournalMode::Map), keeping(&*storage, from));
    append(&journal, b"new");
    let kept = || journal.shared.state.lock().kept.len();
    assert_eq!(kept(), 1);
    journal.checkpointed(end);
    assert_eq!(kept(), 1);
    journal.checkpointed(journal.end());
    assert_eq!(kept(), 0);
}

#[test]
fn a_wait_beyond_the_end_is_refused() {
    let (_, journal) = fresh(JournalMode::Map);
    let (_, end) = append(&journal, b"one");
    let beyond = Lsn::new(end.sequence(), end.position() + 8);
    assert!(matches!(journal.wait_synced(beyond, None), Err(Error::Misuse(_))));
    assert!(journal.synced() < end, "nothing was synced for it");
    journal.wait_synced(end, Some(LONG)).unwrap();
}

#[test]
fn the_memory_of_a_large_frame_is_given_back() {
    let (storage, journal) = fresh(JournalMode::Write);
    drop(journal);
    let roomy = JournalConfig { max_bytes: 16 << 20, ..config(JournalMode::Write) };
    let journal = open(&storage, roomy, Start::default());
    let from = journal.end();
    let large = vec![7; 3 << 20];
    append(&journal, &large);
    assert!(journal.shared.state.lock().scratch.capacity() <= 1 << 20);
    append(&journal, b"small");
    assert_eq!(read(&*storage, from).unwrap().0, [&large[..], b"small"]);
}

#[test]
fn a_failed_journal_prepares_no_files() {
    let (storage, journal) = fresh(JournalMode::Map);
    let before = list(&*storage).unwrap();
    append(&journal, b"one");
    journal.shared.state.lock().spare_target = 5;
    journal.fail(std::sync::Arc::new(Error::Closed));
    drop(journal.step());
    assert_eq!(list(&*storage).unwrap(), before);
}

#[test]
fn a_reserve_without_time_to_wait_fails_at_once() {
    let (storage, journal) = fresh(JournalMode::Map);
    drop(journal);
    let background = JournalConfig {
        background: true,
        max_bytes: u64::from(FILE) * 4,
        ..config(JournalMode::Map)
    };
    let journal = open(&storage, background, Start::default());
    let zero = std::time::Duration::ZERO;
    let told = std::iter::repeat_with(|| {
        let mut credit = journal.reserve(2000, zero)?;
        journal.append(&mut credit, &[&[0; 2000]])
    });
    let told = told.take(1_000).find_map(Result::err);
    assert!(matches!(told, Some(Error::Timeout { what: "journal space" })), "{told:?}");
}
