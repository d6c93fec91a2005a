use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use super::rig::{
    BOTH, FILE, ID, LONG, append, append_synced, config, damage, fresh, open, read, reason,
    slot_of, try_open,
};
use crate::error::{CorruptReason, Error};
use crate::journal::frame::{FrameHeader, Kind, payload_crc};
use crate::journal::header::FileHeader;
use crate::journal::slot::slot_path;
use crate::journal::{Journal, JournalMode, Start, replay};
use crate::storage::{OpenMode, Storage};
use crate::types::Lsn;

/// Returns the `n` bytes from `at` on, in the file that holds them.
fn bytes_at(storage: &dyn Storage, at: Lsn, n: usize) -> Vec<u8> {
    let (path, _) = slot_of(storage, at.sequence());
    let mut bytes = vec![0; n];
    let file = storage.open(&path, OpenMode::Read).unwrap();
    file.read_at(&mut bytes, u64::from(at.position())).unwrap();
    bytes
}

fn erase_header(storage: &dyn Storage, sequence: u32) {
    damage(storage, Lsn::new(sequence, 0), &[0; 72]);
}

#[test]
fn an_unsynced_invalid_frame_is_a_torn_tail() {
    let (storage, journal) = fresh(JournalMode::Map);
    let from = journal.end();
    let (_, end) = append_synced(&journal, b"kept");
    let (torn, _) = append(&journal, &[1; 100]);
    append(&journal, &[2; 100]);
    damage(&*storage, torn, &[0; 32]);
    let (found, replayed) = read(&*storage, from).unwrap();
    assert_eq!(found, [b"kept"]);
    assert_eq!(replayed.end, end);
    assert!(replayed.torn);
    assert_eq!(replayed.discarded_bytes, 136);
}

#[test]
fn a_payload_that_does_not_fit_its_checksum_is_no_frame() {
    let (storage, journal) = fresh(JournalMode::Map);
    let from = journal.end();
    let (torn, _) = append(&journal, &[1; 100]);
    damage(&*storage, Lsn::new(torn.sequence(), torn.position() + 40), &[9]);
    let (found, replayed) = read(&*storage, from).unwrap();
    assert_eq!(found.len(), 0);
    assert_eq!((replayed.torn, replayed.discarded_bytes), (true, 136));
}

/// H11.
#[test]
fn an_invalid_frame_with_synced_frames_behind_it_is_damage() {
    let (storage, journal) = fresh(JournalMode::Map);
    let from = journal.end();
    append_synced(&journal, b"first");
    let (broken, _) = append_synced(&journal, b"second");
    append_synced(&journal, b"third");
    // The fourth frame knows that the third is synced, and the third knows that the second is.
    append(&journal, b"fourth");
    for size in [1, 40] {
        damage(&*storage, broken, &vec![255; size]);
        let Err(Error::Corrupt(corruption)) = read(&*storage, from) else { panic!() };
        assert_eq!(corruption.reason, CorruptReason::BelowSynced);
        assert_eq!(corruption.position, u64::from(broken.position()));
        assert!(corruption.path.ends_with(slot_of(&*storage, broken.sequence()).0));
    }
}

/// H11, where the witness lies in a later file, whether or not the chain reaches it.
#[test]
fn a_later_file_is_a_witness_too() {
    let (storage, journal) = fresh(JournalMode::Map);
    let from = journal.end();
    let (broken, _) = append_synced(&journal, b"first");
    while journal.end().sequence() == from.sequence() {
        append(&journal, &[5; 3000]);
    }
    damage(&*storage, Lsn::new(from.sequence(), broken.position()), &[0; FILE as usize - 4096]);
    assert_eq!(reason(read(&*storage, from)), CorruptReason::BelowSynced);
}

/// A checkpoint of the writer frees the file that the reader beside it comes to next.
#[test]
fn a_file_that_is_used_again_while_others_are_read_is_noticed() {
    let (storage, journal) = fresh(JournalMode::Map);
    let from = journal.end();
    while journal.end().sequence() == from.sequence() {
        append(&journal, &[5; 3000]);
    }
    let (path, header) = slot_of(&*storage, journal.end().sequence());
    let again = FileHeader { sequence: header.sequence + 9, salt: header.salt + 1, ..header };
    let replayed = replay(&*storage, ID, from, &mut |_| {
        storage.open(&path, OpenMode::Write)?.write_at(&again.encode(), 0)
    });
    assert!(matches!(replayed, Err(Error::Busy { .. })), "{replayed:?}");
}

/// H11 for the last group: the sync mark.
#[test]
fn the_last_synced_frame_has_a_witness_once_the_journal_was_idle() {
    let (storage, journal) = fresh(JournalMode::Map);
    let from = journal.end();
    let (broken, end) = append_synced(&journal, b"last");
    journal.request_sync(end);
    journal.step().unwrap();
    damage(&*storage, broken, &[0; 8]);
    assert_eq!(reason(read(&*storage, from)), CorruptReason::BelowSynced);
}

/// H12.
/// Appends until the journal continues in a second file. Returns where replay begins, and the second file.
fn second_file(journal: &Journal) -> (Lsn, u32) {
    journal.step().unwrap();
    let from = journal.end();
    while journal.end().sequence() == from.sequence() {
        append(journal, &[5; 3000]);
    }
    (from, journal.end().sequence())
}

/// H14: power loss may take a file that was never synced.
#[test]
fn a_named_file_that_was_never_synced_may_be_lost() {
    let (storage, journal) = fresh(JournalMode::Map);
    let (from, second) = second_file(&journal);
    let whole = read(&*storage, from).unwrap().0.len();
    let (path, _) = slot_of(&*storage, second);
    erase_header(&*storage, second);
    let (found, replayed) = read(&*storage, from).unwrap();
    assert_eq!(found.len(), whole - 1);
    assert!(replayed.torn, "the frame in the lost file is recognised");
    assert!(replayed.last_sequence_seen >= second, "the sequence is not given out again");
    storage.remove(&path).unwrap();
    let (found, replayed) = read(&*storage, from).unwrap();
    assert_eq!((found.len(), replayed.torn), (whole - 1, false));
}

/// H15: a frame in the file knows that the file was synced.
#[test]
fn a_named_file_that_lost_its_header_after_a_sync_is_damage() {
    let (storage, journal) = fresh(JournalMode::Map);
    let (from, second) = second_file(&journal);
    journal.wait_synced(journal.end(), Some(LONG)).unwrap();
    append(&journal, b"knows that");
    // Nothing else tells it.
    let spare = journal.shared.state.lock().spares.back().map(|spare| spare.sequence).unwrap();
    erase_header(&*storage, spare);
    assert!(read(&*storage, from).is_ok());
    erase_header(&*storage, second);
    assert_eq!(reason(read(&*storage, from)), CorruptReason::Missing);
}

#[test]
fn a_named_file_that_was_removed_after_a_sync_is_damage() {
    let (storage, journal) = fresh(JournalMode::Map);
    let (from, second) = second_file(&journal);
    journal.wait_synced(journal.end(), Some(LONG)).unwrap();
    storage.remove(&slot_of(&*storage, second).0).unwrap();
    assert_eq!(reason(read(&*storage, from)), CorruptReason::Missing, "a spare knows");
}

/// Early builds made every header durable first.
#[test]
fn a_file_that_an_early_build_named_must_be_there() {
    let (storage, journal) = fresh(JournalMode::Map);
    let (from, second) = second_file(&journal);
    let (path, header) = slot_of(&*storage, from.sequence());
    let at = journal.shared.state.lock().sealed[0].position - 40;
    let payload = second.to_be_bytes();
    let next = FrameHeader {
        payload_bytes: 4,
        kind: Kind::Next,
        lsn: Lsn::new(from.sequence(), at),
        known_synced: Lsn::ZERO,
        payload_crc: payload_crc(&[&payload]),
    };
    let file = storage.open(&path, OpenMode::Write).unwrap();
    file.write_at(&next.encode(header.frame_salt()), at.into()).unwrap();
    file.write_at(&payload, u64::from(at) + 32).unwrap();
    assert!(read(&*storage, from).is_ok());
    erase_header(&*storage, second);
    assert_eq!(reason(read(&*storage, from)), CorruptReason::Missing);
}

/// Power loss may take the length of a file that was never synced.
#[test]
fn a_file_that_lost_its_end_is_damage_if_it_was_synced() {
    for synced in [false, true] {
        let (storage, journal) = fresh(JournalMode::Write);
        let (from, second) = second_file(&journal);
        append(&journal, b"more");
        if synced {
            journal.wait_synced(journal.end(), Some(LONG)).unwrap();
        }
        let (path, _) = slot_of(&*storage, second);
        storage.open(&path, OpenMode::Write).unwrap().set_len(5000).unwrap();
        let result = read(&*storage, from);
        if synced {
            assert_eq!(reason(result), CorruptReason::Short);
        } else {
            assert!(result.is_ok());
        }
    }
    let (storage, journal) = fresh(JournalMode::Write);
    let (from, _) = append(&journal, b"in the first file, which is durable from the start");
    let (path, _) = slot_of(&*storage, from.sequence());
    storage.open(&path, OpenMode::Write).unwrap().set_len(4096).unwrap();
    assert_eq!(reason(read(&*storage, from)), CorruptReason::Short);
}

#[test]
fn the_file_to_begin_in_must_be_there() {
    let (storage, journal) = fresh(JournalMode::Map);
    let from = journal.end();
    let missing = Lsn::new(from.sequence() + 50, from.position());
    assert_eq!(reason(read(&*storage, missing)), CorruptReason::Missing);
    let odd = Lsn::new(from.sequence(), from.position() + 4);
    assert_eq!(reason(read(&*storage, odd)), CorruptReason::Field);
    erase_header(&*storage, from.sequence());
    assert_eq!(reason(read(&*storage, from)), CorruptReason::Missing);
    let empty: Arc<dyn Storage> = Arc::new(crate::storage::Memory::new());
    assert_eq!(reason(read(&*empty, from)), CorruptReason::Missing);
}

/// H13.
#[test]
fn frames_behind_the_end_of_a_recovery_stay_dead() {
    for mode in BOTH {
        let (storage, journal) = fresh(mode);
        let from = journal.end();
        append(&journal, b"kept");
        let (torn, _) = append(&journal, b"torn");
        append(&journal, b"dead");
        let whole = bytes_at(&*storage, torn, 40);
        drop(journal);
        damage(&*storage, torn, &[0; 40]);
        let (found, replayed) = read(&*storage, from).unwrap();
        assert_eq!(found, [b"kept"]);

        let journal = open(&storage, config(mode), Start::after(&replayed));
        append(&journal, b"new");
        // The torn frame stays dead even if it is valid again, as a cache may leave it.
        damage(&*storage, torn, &whole);
        let (found, second) = read(&*storage, from).unwrap();
        assert_eq!(found, [&b"kept"[..], b"new"]);

        // After another recovery the highest one counts.
        drop(journal);
        let journal = open(&storage, config(mode), Start::after(&second));
        append(&journal, b"newest");
        let (found, _) = read(&*storage, from).unwrap();
        assert_eq!(found, [&b"kept"[..], b"new", b"newest"]);
    }
}

/// R3: a kill leaves frames in the cache, a recovery names their end, power loss takes them.
#[test]
fn frames_lost_after_a_recovery_saw_them_are_a_torn_tail() {
    let (storage, journal) = fresh(JournalMode::Map);
    let from = journal.end();
    append_synced(&journal, b"durable");
    let (cached, _) = append(&journal, b"only in the cache");
    drop(journal);
    let (found, replayed) = read(&*storage, from).unwrap();
    assert_eq!(found.len(), 2);
    let start = Start { held: true, ..Start::after(&replayed) };
    let journal = open(&storage, config(JournalMode::Map), start);
    let (_, end) = append(&journal, b"behind a hole");
    drop(journal.wait_synced(end, Some(std::time::Duration::ZERO)));
    append(&journal, b"knows of no sync");
    drop(journal);
    damage(&*storage, cached, &[0; 56]);

    let (found, second) = read(&*storage, from).unwrap();
    assert_eq!(found, [b"durable"]);
    assert!(second.torn);
    let journal = open(&storage, config(JournalMode::Map), Start::after(&second));
    append_synced(&journal, b"goes on");
    assert_eq!(read(&*storage, from).unwrap().0, [&b"durable"[..], b"goes on"]);
}

/// R4: the next file relies only on the checkpoint.
#[test]
fn marks_and_next_frames_are_not_relied_on() {
    let (storage, journal) = fresh(JournalMode::Map);
    let (_, end) = append_synced(&journal, b"checkpointed");
    journal.checkpointed(end);
    journal.request_sync(end);
    journal.step().unwrap();
    assert!(journal.end() > end, "no mark was appended");
    drop(journal);
    let (_, replayed) = read(&*storage, end).unwrap();
    assert_eq!((replayed.end, replayed.frames), (end, 0));
    let journal = open(&storage, config(JournalMode::Map), Start::after(&replayed));
    append_synced(&journal, b"new");
    append(&journal, b"newer");
    // The mark was not durable.
    damage(&*storage, end, &[0; 32]);
    assert_eq!(read(&*storage, end).unwrap().0, [&b"new"[..], b"newer"]);
}

#[test]
fn what_a_replay_knew_as_synced_stays_known() {
    let (storage, journal) = fresh(JournalMode::Map);
    let from = journal.end();
    let (broken, _) = append_synced(&journal, b"one");
    append(&journal, b"two");
    drop(journal);
    let (_, replayed) = read(&*storage, from).unwrap();
    drop(open(&storage, config(JournalMode::Map), Start::after(&replayed)));
    // The witness itself is lost too, but the header of the next file still carries the position.
    damage(&*storage, broken, &[0; 4096]);
    assert_eq!(reason(read(&*storage, from)), CorruptReason::BelowSynced);
}

/// The author of a payload knows sequence, position and frame format, but not the salt.
#[test]
fn a_payload_of_look_alikes_convinces_nobody() {
    let (storage, journal) = fresh(JournalMode::Map);
    let from = journal.end();
    let first = from.position() + 32;
    let mut payload = Vec::new();
    while payload.len() < 2000 {
        let lsn = Lsn::new(from.sequence(), first + payload.len() as u32);
        let look_alike = FrameHeader {
            payload_bytes: 0,
            kind: Kind::Data,
            lsn,
            known_synced: lsn,
            payload_crc: payload_crc(&[]),
        };
        payload.extend(look_alike.encode(0));
    }
    append(&journal, &payload);
    damage(&*storage, from, &[0; 32]);
    let (found, replayed) = read(&*storage, from).unwrap();
    assert_eq!((found.len(), replayed.end), (0, from));
}

#[test]
fn frames_of_an_earlier_life_never_come_back() {
    for mode in BOTH {
        let (storage, journal) = fresh(mode);
        let mut seen = 0u32;
        for round in 0..20u32 {
            let from = journal.end();
            for i in 0..7 {
                append(&journal, &(round * 100 + i).to_be_bytes().repeat(200));
            }
            let (found, replayed) = read(&*storage, from).unwrap();
            assert_eq!(found.len(), 7);
            assert!(found.iter().all(|p| p.starts_with(&(round * 100).to_be_bytes()[..3])));
            assert!(!replayed.torn);
            seen = seen.max(replayed.last_sequence_seen);
            journal.checkpointed(journal.end());
        }
        let slots = super::super::slot::list(&*storage).unwrap().len() as u32;
        assert!(slots * 2 < seen, "{slots} files had {seen} lives");
    }
}

#[test]
fn sequences_rise_over_openings_and_slots_are_used_again() {
    let (storage, journal) = fresh(JournalMode::Map);
    let mut last = journal.end();
    drop(journal);
    for _ in 0..10 {
        let (_, replayed) = read(&*storage, last).unwrap();
        let journal = open(&storage, config(JournalMode::Map), Start::after(&replayed));
        assert!(journal.end().sequence() > replayed.last_sequence_seen);
        append(&journal, b"x");
        journal.checkpointed(journal.end());
        last = journal.end();
        journal.close().unwrap();
    }
    assert!(super::super::slot::list(&*storage).unwrap().len() <= 4);
}

#[test]
fn kept_slots_are_left_alone_until_the_checkpoint() {
    let (storage, journal) = fresh(JournalMode::Map);
    let from = journal.end();
    for i in 0..40 {
        append(&journal, &[i; 2000]);
    }
    drop(journal);
    let (found, replayed) = read(&*storage, from).unwrap();
    let journal = open(&storage, config(JournalMode::Map), Start::after(&replayed));
    while let Ok(mut credit) = journal.reserve(2000, LONG) {
        journal.append(&mut credit, &[&[77; 2000]]).unwrap();
    }
    let (again, _) = read(&*storage, from).unwrap();
    assert!(again.starts_with(&found) && again.len() > found.len());
    journal.checkpointed(journal.end());
    for _ in 0..60 {
        append(&journal, &[0; 2000]);
    }
}

#[test]
fn a_full_journal_can_be_opened_and_gone_on_with() {
    let (storage, journal) = fresh(JournalMode::Map);
    let mut from = journal.end();
    for round in 0..3 {
        let journal = if round == 0 {
            Arc::clone(&journal)
        } else {
            let (_, replayed) = read(&*storage, from).unwrap();
            open(&storage, config(JournalMode::Map), Start::after(&replayed))
        };
        while let Ok(mut credit) = journal.reserve(2000, LONG) {
            journal.append(&mut credit, &[&[77; 2000]]).unwrap();
        }
        let mut credit = journal.reserve_urgent(10, LONG).unwrap();
        journal.append(&mut credit, &[b"urgent"]).unwrap();
        if round == 1 {
            from = journal.end();
            journal.checkpointed(from);
        }
    }
}

#[test]
fn a_newer_format_and_a_foreign_file_are_refused() {
    let (storage, journal) = fresh(JournalMode::Map);
    let from = journal.end();
    drop(journal);
    let foreign = replay(&*storage, [9; 16], from, &mut |_| Ok(()));
    let Err(Error::Corrupt(corruption)) = foreign else { panic!("{foreign:?}") };
    assert_eq!(corruption.reason, CorruptReason::Missing);

    let (path, header) = slot_of(&*storage, from.sequence());
    let mut bytes = header.encode();
    bytes[11] = 9;
    let crc = crc32fast::hash(&bytes[..68]);
    bytes[68..].copy_from_slice(&crc.to_be_bytes());
    storage.open(&path, OpenMode::Write).unwrap().write_at(&bytes, 0).unwrap();
    let newer = read(&*storage, from);
    assert!(matches!(newer, Err(Error::UnsupportedFormat { found: 9, max: 1, .. })), "{newer:?}");
}

#[test]
fn a_creation_that_did_not_get_far_is_begun_again() {
    let (storage, journal) = fresh(JournalMode::Map);
    append(&journal, b"of a folder that never came to be");
    drop(journal);
    let file = storage.open(&slot_path(9), OpenMode::CreateNew).unwrap();
    file.write_at(b"half made", 0).unwrap();
    let other = crate::journal::JournalConfig { directory_id: [8; 16], ..config(JournalMode::Map) };
    let journal = open(&storage, other, Start::default());
    let from = journal.end();
    for _ in 0..40 {
        append(&journal, &[1; 2000]);
    }
    let mut frames = 0;
    let mut count = |_: crate::journal::Frame<'_>| {
        frames += 1;
        Ok(())
    };
    replay(&*storage, [8; 16], from, &mut count).unwrap();
    assert_eq!(frames, 40);
}

#[test]
fn two_files_with_one_sequence_are_damage() {
    let (storage, journal) = fresh(JournalMode::Map);
    let from = journal.end();
    let (path, header) = slot_of(&*storage, from.sequence());
    let copy = storage.open(Path::new("journal/77.journal"), OpenMode::CreateNew).unwrap();
    let early = FileHeader { slot: None, ..header };
    copy.write_at(&early.encode(), 0).unwrap();
    assert_eq!(reason(read(&*storage, from)), CorruptReason::Field);
    // A newer header names its slot. There it is a leftover of a removed file.
    copy.write_at(&header.encode(), 0).unwrap();
    assert!(read(&*storage, from).is_ok());
    assert!(storage.metadata(&path).unwrap().is_some());
}

#[test]
fn a_header_of_a_giant_allocates_nothing() {
    let (storage, journal) = fresh(JournalMode::Map);
    let from = journal.end();
    let (path, header) = slot_of(&*storage, from.sequence());
    let giant = FileHeader { size: u32::MAX - 7, ..header };
    let file = storage.open(&path, OpenMode::Write).unwrap();
    file.write_at(&giant.encode(), 0).unwrap();
    assert_eq!(reason(read(&*storage, from)), CorruptReason::Short);
}

#[test]
fn an_error_of_the_visitor_ends_the_replay() {
    let (storage, journal) = fresh(JournalMode::Map);
    let from = journal.end();
    append(&journal, b"one");
    let error = replay(&*storage, ID, from, &mut |_| Err(Error::Wakeup));
    assert!(matches!(error, Err(Error::Wakeup)));
}

#[test]
fn a_configuration_that_cannot_work_is_refused() {
    let (storage, _journal) = fresh(JournalMode::Map);
    let refused =
        [(5000, 1 << 20), (8 << 10, 1 << 20), (FILE, u64::from(FILE) * 3), (FILE, (8 << 30) + 1)];
    for (file_bytes, max_bytes) in refused {
        let config =
            crate::journal::JournalConfig { file_bytes, max_bytes, ..config(JournalMode::Map) };
        let error = try_open(&storage, config, Start::default());
        assert!(matches!(error, Err(Error::InvalidConfig { .. })));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// Whatever damage the bytes have, replay does not panic, and it gives a prefix of the frames written.
    #[test]
    fn damaged_journals_replay_to_a_prefix_or_an_error(
        sizes in prop::collection::vec(0..3000usize, 1..20),
        sync_every in 1..6usize,
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..FILE, prop::collection::vec(any::<u8>(), 1..64)), 1..6),
    ) {
        let (storage, journal) = fresh(JournalMode::Map);
        let from = journal.end();
        let mut written = Vec::new();
        for (i, size) in sizes.into_iter().enumerate() {
            let payload: Vec<u8> = (0..size).map(|at| (at * 7 + i) as u8).collect();
            let (_, end) = append(&journal, &payload);
            if i % sync_every == 0 {
                journal.wait_synced(end, Some(LONG)).unwrap();
            }
            written.push(payload);
        }
        drop(journal);
        let slots = super::super::slot::list(&*storage).unwrap();
        for (which, at, bytes) in edits {
            let (slot, _) = slots[which.index(slots.len())];
            let file = storage.open(&slot_path(slot), OpenMode::Write).unwrap();
            let bytes = &bytes[..bytes.len().min((FILE - at) as usize)];
            file.write_at(bytes, u64::from(at)).unwrap();
        }
        let first = read(&*storage, from);
        let second = read(&*storage, from);
        match (first, second) {
            (Ok(first), Ok(second)) => {
                prop_assert!(written.starts_with(&first.0));
                prop_assert_eq!(first, second);
            }
            (Err(first), Err(second)) => {
                prop_assert!(first.is_corruption(), "{}", first);
                prop_assert_eq!(first.to_string(), second.to_string());
            }
            (first, second) => prop_assert!(false, "{:?} then {:?}", first, second),
        }
    }
}
