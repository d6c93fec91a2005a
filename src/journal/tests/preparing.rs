//! Slots that could not be made spares, or not be removed: nothing is lost by it, and nothing leaks.

use std::io::ErrorKind;
use std::sync::Arc;

use super::rig::*;
use crate::error::{Error, Result};
use crate::journal::slot::list;
use crate::journal::{Journal, JournalConfig, JournalMode, Start};
use crate::storage::{Memory, Storage};

const MAX: u64 = 4 * FILE as u64;

fn small(mode: JournalMode) -> JournalConfig {
    JournalConfig { max_bytes: MAX, ..config(mode) }
}

fn on_disk(storage: &dyn Storage) -> u64 {
    list(storage).unwrap().iter().map(|(_, bytes)| bytes).sum()
}

/// How many frames fit before somebody would have to wait for a checkpoint.
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

/// Asks for space again and again, which never comes: what is asked for is `Io`.
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
            // The current file may be used up more or less.
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
