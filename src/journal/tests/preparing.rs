//! Slots that could not be made spares, or could not be removed, are neither lost nor leaked.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use super::rig::*;
use crate::error::{Error, Result};
use crate::journal::slot::{list, slot_path};
use crate::journal::{Journal, JournalConfig, JournalMode, Start};
use crate::storage::{Crash, Memory, OpenMode, Storage};
use crate::time::SeededRandom;
use crate::types::Lsn;

const MAX: u64 = 4 * FILE as u64;

fn small(mode: JournalMode) -> JournalConfig {
    JournalConfig { max_bytes: MAX, ..config(mode) }
}

fn on_disk(storage: &dyn Storage) -> u64 {
    list(storage).unwrap().iter().map(|(_, bytes)| bytes).sum()
}

/// Appends frames until an append would have to wait for a checkpoint. Returns their number.
fn fill(journal: &Journal) -> usize {
    let append = || -> Result<()> {
        let mut credit = journal.reserve(1000, LONG)?;
        journal.append(&mut credit, &[&[1; 1000]]).map(|_| ())
    };
    let mut count = 0;
    loop {
        match append() {
            Ok(()) => count += 1,
            Err(Error::Timeout { .. }) => return count,
            Err(other) => panic!("{other}"),
        }
    }
}

/// Reserves space again and again until 20 calls fail, each with `Io`.
fn starve(journal: &Journal) {
    let mut credits = Vec::new();
    let mut refused = 0;
    while refused < 20 {
        match journal.reserve(1000, LONG) {
            Ok(credit) => credits.push(credit),
            Err(Error::Io { .. }) => refused += 1,
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn slots_whose_headers_could_not_be_written_are_used_when_they_can_be() {
    for mode in BOTH {
        let memory = Memory::crash_simulating(1);
        let storage: Arc<dyn Storage> = Arc::new(memory.clone());
        let journal = open(&storage, small(mode), Start::default());
        let (from, whole) = (journal.end(), fill(&journal));
        for _ in 0..3 {
            journal.checkpointed(journal.end());
            memory.fail_at(memory.ops() + 1, ErrorKind::Other, true);
            starve(&journal);
            memory.heal();
            assert_eq!(on_disk(&*storage), journal.total_bytes());
            assert!(journal.total_bytes() <= MAX, "{}", journal.total_bytes());
            // The fill of the current file may differ.
            let again = fill(&journal);
            assert!(again + 12 > whole, "{again} frames where {whole} fitted");
        }
        let end = journal.end();
        journal.checkpointed(end);
        append_synced(&journal, b"the last");
        assert_eq!(read(&*storage, end).unwrap().0, [b"the last"]);
        assert!(from < end);
    }
}

#[test]
fn slots_that_could_not_be_opened_are_used_when_they_can_be() {
    for mode in BOTH {
        let memory = Memory::crash_simulating(1);
        let storage: Arc<dyn Storage> = Arc::new(memory.clone());
        let journal = open(&storage, small(mode), Start::default());
        let whole = fill(&journal);
        let end = journal.end();
        drop(journal);
        let start = Start { continues_from: end, ..Start::default() };
        let journal = open(&storage, small(mode), start);
        memory.fail_read_at(memory.reads() + 1, ErrorKind::Other, true);
        starve(&journal);
        memory.heal();
        let again = fill(&journal);
        assert!(again + 12 > whole, "{again} frames where {whole} fitted");
        assert_eq!(on_disk(&*storage), journal.total_bytes());
        assert!(journal.total_bytes() <= MAX, "{}", journal.total_bytes());
    }
}

#[test]
fn a_file_that_could_not_be_removed_is_counted_and_removed_later() {
    let memory = Memory::crash_simulating(1);
    let storage: Arc<dyn Storage> = Arc::new(memory.clone());
    let large = JournalConfig { max_bytes: 2 * MAX, ..config(JournalMode::Write) };
    let journal = open(&storage, large, Start::default());
    fill(&journal);
    let end = journal.end();
    drop(journal);
    let start = Start { continues_from: end, ..Start::default() };
    let journal = open(&storage, small(JournalMode::Write), start);
    assert!(on_disk(&*storage) > MAX);
    memory.fail_at(memory.ops() + 1, ErrorKind::Other, false);
    let before = journal.total_bytes();
    assert!(journal.shared.prepare_one().unwrap(), "a file too many keeps nobody from working");
    assert_eq!(on_disk(&*storage), journal.total_bytes());
    assert_eq!(journal.total_bytes(), before);
    fill(&journal);
    assert_eq!(on_disk(&*storage), journal.total_bytes());
    assert!(journal.total_bytes() <= MAX, "{}", journal.total_bytes());
}

/// Kills a process whose highest journal sequences only the disk knows. Then opens the journal with a power
/// loss at each storage call, or after a frame. No sequence may be in the folder twice.
fn reopen_and_lose(memory: &Memory, from: Lsn) {
    let random = SeededRandom::new(1);
    for op in 1..500 {
        let killed = memory.crash(Crash::Kill, &random);
        let storage: Arc<dyn Storage> = Arc::new(killed.clone());
        let (before, replayed) = read(&*storage, from).unwrap();
        killed.crash_at(op);
        let journal = try_open(&storage, small(JournalMode::Write), Start::after(&replayed));
        let opened = journal.and_then(|journal| {
            let mut credit = journal.reserve_urgent(6, LONG)?;
            let end = journal.append(&mut credit, &[b"behind"])?;
            journal.wait_synced(end, Some(LONG))
        });
        let opened = opened.is_ok();
        let lost = killed.crash(Crash::LoseAll, &random);
        let (found, _) = read(&lost, from).unwrap_or_else(|error| panic!("call {op}: {error}"));
        assert_eq!(found.len(), before.len() + usize::from(opened));
        if opened {
            return;
        }
    }
    panic!("the journal never opens");
}

#[test]
fn a_sequence_whose_header_was_half_overwritten_is_not_given_out_again() {
    for seed in 0..20 {
        let memory = Memory::crash_simulating(seed);
        let storage: Arc<dyn Storage> = Arc::new(memory.clone());
        let journal = open(&storage, small(JournalMode::Write), Start::default());
        fill(&journal);
        let from = journal.end();
        journal.wait_synced(from, Some(LONG)).unwrap();
        // The slot that became free last is reused first, so lower slots get later sequences.
        journal.checkpointed(from);
        while journal.shared.state.lock().current.room() > 5000 {
            append_synced(&journal, &[1; 1000]);
        }
        while journal.shared.state.lock().free.len() > 1 {
            assert!(journal.shared.prepare_one().unwrap());
        }
        for _ in 0..2 {
            memory.fail_at(memory.ops() + 1, ErrorKind::Other, false);
            let refused = journal.shared.prepare_one();
            assert!(matches!(refused, Err(Error::Io { .. })), "{refused:?}");
        }
        reopen_and_lose(&memory, from);
    }
}

#[test]
fn a_sequence_whose_file_was_removed_is_not_given_out_again() {
    let memory = Memory::crash_simulating(1);
    let storage: Arc<dyn Storage> = Arc::new(memory.clone());
    let journal = open(&storage, small(JournalMode::Write), Start::default());
    let from = journal.end();
    append_synced(&journal, b"before");
    while journal.shared.prepare_one().unwrap() {}
    // The reserve gives up the spares for a larger file, for which there is no space.
    memory.set_capacity(0);
    let refused = journal.reserve(FILE as usize - 200, LONG);
    assert!(matches!(refused, Err(Error::DiskFull { .. })), "{refused:?}");
    reopen_and_lose(&memory, from);
}

#[test]
fn a_spare_that_is_no_longer_wanted_is_no_failure() {
    let memory = Memory::crash_simulating(1);
    let storage: Arc<dyn Storage> = Arc::new(memory.clone());
    let large = JournalConfig { max_bytes: 2 * MAX, ..config(JournalMode::Write) };
    let journal = open(&storage, large, Start::default());
    assert!(journal.shared.try_prepare());
    memory.set_capacity(0);
    journal.shared.state.lock().credits.waiters = 1;
    assert!(!journal.shared.try_prepare());
    assert!(matches!(journal.preparation_failure(), Some(Error::DiskFull { .. })));
    // The waiter gave up, or a checkpoint made space.
    journal.shared.state.lock().credits.waiters = 0;
    assert!(journal.shared.try_prepare());
    assert!(journal.preparation_failure().is_none());
}

/// Power loss may take the headers of files that were never synced, but not their frames.
#[test]
fn a_sequence_that_power_loss_took_is_not_given_out_again() {
    let (storage, journal) = fresh(JournalMode::Write);
    let from = journal.end();
    append_synced(&journal, b"durable");
    while journal.end().sequence() < from.sequence() + 2 {
        append(&journal, &[1; 3000]);
    }
    let next = journal.shared.state.lock().next_sequence;
    for sequence in from.sequence() + 1..next {
        damage(&*storage, Lsn::new(sequence, 0), &[0; 72]);
    }
    let (_, replayed) = read(&*storage, from).unwrap();
    assert!(replayed.last_sequence_seen + 1 < next, "only the frames of the lost files tell");
    let journal = open(&storage, config(JournalMode::Write), Start::after(&replayed));
    assert!(journal.end().sequence() >= next, "{}", journal.end());
}

/// Power loss may take the header of a large file. The file must not count for more than it holds.
#[test]
fn a_slot_that_lost_its_header_counts_as_long_as_it_is() {
    for mode in BOTH {
        let storage: Arc<dyn Storage> = Arc::new(Memory::new());
        storage.create_dir(Path::new("journal")).unwrap();
        let large = storage.open(&slot_path(5), OpenMode::CreateNew).unwrap();
        large.write_at(&vec![7; 2 * FILE as usize], 0).unwrap();
        let journal = open(&storage, small(mode), Start::default());
        assert!(fill(&journal) > 20);
        assert_eq!(journal.total_bytes(), on_disk(&*storage));
        // Enough room for the largest frame once a checkpoint has freed the files.
        journal.checkpointed(journal.end());
        drop(journal.reserve(MAX as usize / 4 - 40, LONG).unwrap());
        assert_eq!(journal.total_bytes(), on_disk(&*storage));
    }
}
