//! Resuming where an earlier replay ended.

use super::rig::{
    BOTH, ID, LONG, append, append_synced, config, damage, fresh, open, read, reason, slot_of,
};
use crate::error::{CorruptReason, Error, Result};
use crate::journal::{JournalMode, Mark, Replayed, Start, replay_on};
use crate::storage::Storage;
use crate::types::Lsn;

/// Resumes from a mark. Returns the payloads after it.
fn on(storage: &dyn Storage, mark: &Mark) -> Result<Option<(Vec<Vec<u8>>, Replayed)>> {
    let mut payloads = Vec::new();
    let replayed = replay_on(storage, ID, mark, &mut |frame| {
        payloads.push(frame.payload.to_vec());
        Ok(())
    })?;
    Ok(replayed.map(|replayed| (payloads, replayed)))
}

#[test]
fn many_steps_give_what_one_replay_gives() {
    for mode in BOTH {
        let (storage, mut journal) = fresh(mode);
        let from = journal.end();
        let (mut payloads, replayed) = read(&*storage, from).unwrap();
        let mut mark = replayed.mark;
        let (mut nothing, mut switched) = (0, 0);
        for n in 0..200_usize {
            match n % 10 {
                // Frames in several files (3), a killed writer (5), only a witness (7), nothing (9).
                3 => (0..n % 60).for_each(|n| _ = append(&journal, &vec![n as u8; 600])),
                5 if n % 50 == 5 => {
                    drop(journal);
                    let (_, replayed) = read(&*storage, from).unwrap();
                    let mut config = config(mode);
                    config.max_bytes *= 64;
                    journal = open(&storage, config, Start::after(&replayed));
                }
                7 => {
                    journal.wait_synced(journal.end(), Some(LONG)).unwrap();
                    journal.step().unwrap();
                }
                9 => {}
                _ => _ = append(&journal, &vec![n as u8; n * 13 % 700]),
            }
            let (all, whole) = read(&*storage, from).unwrap();
            match on(&*storage, &mark).unwrap() {
                Some((news, replayed)) => {
                    switched += u32::from(replayed.end.sequence() > mark.end.sequence() + 1);
                    payloads.extend(news);
                    mark = replayed.mark;
                }
                None => nothing += 1,
            }
            assert_eq!(payloads, all, "{n}");
            assert_eq!(mark, whole.mark, "{n}");
        }
        assert!(nothing >= 20 && switched > 0, "{nothing} {switched}");
    }
}

/// M2: a later writer found less than this reader, and continued before the reader's file.
#[test]
fn a_reader_that_saw_more_than_the_next_writer_starts_over() {
    let (storage, journal) = fresh(JournalMode::Map);
    let from = journal.end();
    let (_, kept) = append_synced(&journal, b"kept");
    let mut lost = Vec::new();
    while journal.end().sequence() == from.sequence() {
        lost.push(append(&journal, &[1; 1000]).0);
    }
    let mark = read(&*storage, from).unwrap().1.mark;
    drop(journal);
    // Power loss on the writer's machine. A reader of a shared folder may run on another one and survive.
    for frame in lost {
        damage(&*storage, frame, &[0; 32]);
    }
    let (found, replayed) = read(&*storage, from).unwrap();
    assert_eq!((found.len(), replayed.end), (1, kept));
    let journal = open(&storage, config(JournalMode::Map), Start::after(&replayed));
    append(&journal, b"instead");
    assert!(matches!(on(&*storage, &mark), Err(Error::Busy { .. })));
    assert_eq!(read(&*storage, from).unwrap().0, [&b"kept"[..], b"instead"]);
}

#[test]
fn a_reader_whose_file_is_used_again_starts_over() {
    let (storage, journal) = fresh(JournalMode::Write);
    let from = journal.end();
    append(&journal, b"first");
    let mark = read(&*storage, from).unwrap().1.mark;
    let (path, _) = slot_of(&*storage, from.sequence());
    while slot_of_path(&*storage, &path) == from.sequence() {
        append(&journal, &[1; 1000]);
        journal.checkpointed(journal.end());
        journal.step().unwrap();
    }
    assert!(matches!(on(&*storage, &mark), Err(Error::Busy { .. })));
}

/// Returns the sequence of the current life of a file.
fn slot_of_path(storage: &dyn Storage, path: &std::path::Path) -> u32 {
    let file = storage.open(path, crate::storage::OpenMode::Read).unwrap();
    let name = path.file_stem().unwrap().to_str().unwrap();
    match crate::journal::slot::read_header(&*file, name.parse().unwrap()).unwrap() {
        crate::journal::header::Decoded::Valid(header) => header.sequence,
        other => panic!("{other:?}"),
    }
}

/// M3: the header of a frame is in the file, but its payload comes later.
#[test]
fn a_frame_that_has_begun_is_looked_at_until_it_is_whole() {
    let (storage, journal) = fresh(JournalMode::Write);
    let from = journal.end();
    append(&journal, b"first");
    let (frame, _) = append(&journal, &[9; 100]);
    let payload = Lsn::new(frame.sequence(), frame.position() + 32);
    damage(&*storage, payload, &[0; 100]);
    let mark = read(&*storage, from).unwrap().1.mark;
    assert_eq!(on(&*storage, &mark).unwrap().unwrap().0.len(), 0);
    damage(&*storage, payload, &[9; 100]);
    assert_eq!(on(&*storage, &mark).unwrap().unwrap().0, [[9; 100]]);
}

/// M4: a file that was blank in the last replay now holds a witness, and the chain does not lead there.
#[test]
fn a_file_that_is_no_longer_blank_is_searched() {
    let (storage, journal) = fresh(JournalMode::Write);
    let from = journal.end();
    append_synced(&journal, b"first");
    let mark = read(&*storage, from).unwrap().1.mark;
    assert!(!mark.blank.is_empty());
    let mut last = journal.end();
    while journal.end().sequence() == from.sequence() {
        last = journal.end();
        append_synced(&journal, &[1; 1000]);
    }
    // This frame knows that the one before it is synced.
    append_synced(&journal, b"witness");
    assert!(on(&*storage, &mark).unwrap().is_some());
    // Damage the place where the chain continues in the next file.
    damage(&*storage, last, &[0; 40]);
    assert_eq!(reason(read(&*storage, from)), CorruptReason::BelowSynced);
    assert!(matches!(on(&*storage, &mark), Err(Error::Corrupt(_))));
}
