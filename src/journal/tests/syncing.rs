use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Receiver;

use super::rig::{BOTH, LONG, Spy, append, append_synced, config, fresh, fresh_held, open, read};
use crate::error::Error;
use crate::journal::{JournalConfig, JournalMode, Outside, Start};
use crate::storage::{Crash, Memory, OpenMode, Storage};
use crate::time::SeededRandom;

#[test]
fn a_wait_makes_everything_before_it_durable() {
    for mode in BOTH {
        let (_, journal) = fresh(mode);
        let (_, first) = append(&journal, b"one");
        let (_, second) = append(&journal, b"two");
        assert!(journal.synced() < first);
        journal.wait_synced(first, Some(LONG)).unwrap();
        assert_eq!(journal.synced(), second);
        journal.wait_synced(second, Some(Duration::ZERO)).unwrap();
    }
}

#[test]
fn a_sync_goes_over_all_unsynced_files_oldest_first() {
    let (storage, seen, _) = Spy::start();
    let journal = open(&storage, config(JournalMode::Write), Start::default());
    append_synced(&journal, b"the first file is not dirty any more");
    let first = journal.end().sequence();
    while journal.end().sequence() < first + 3 {
        append(&journal, &[1; 2000]);
    }
    seen.synced.lock().clear();
    journal.wait_synced(journal.end(), Some(LONG)).unwrap();
    let expected: Vec<_> =
        (first..first + 4).map(|sequence| super::rig::slot_of(&*storage, sequence).0).collect();
    assert_eq!(*seen.synced.lock(), expected);
    seen.synced.lock().clear();
    append_synced(&journal, b"only the last file is dirty now");
    assert_eq!(*seen.synced.lock(), expected[3..]);
}

#[test]
fn nothing_below_a_checkpoint_is_synced() {
    let (storage, seen, _) = Spy::start();
    let journal = open(&storage, config(JournalMode::Map), Start::default());
    let first = journal.end().sequence();
    while journal.end().sequence() < first + 2 {
        append(&journal, &[1; 2000]);
    }
    seen.synced.lock().clear();
    journal.checkpointed(journal.end());
    assert_eq!(journal.synced(), journal.end());
    journal.wait_synced(journal.end(), Some(LONG)).unwrap();
    journal.close().unwrap();
    assert_eq!(*seen.synced.lock(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn the_first_failed_sync_is_final() {
    let (storage, seen, _) = Spy::start();
    let journal = open(&storage, config(JournalMode::Map), Start::default());
    let (_, durable) = append_synced(&journal, b"durable");
    let (_, lost) = append(&journal, b"unknown");
    *seen.fail_sync.lock() = true;
    let error = journal.wait_synced(lost, Some(LONG));
    assert!(matches!(error, Err(Error::Indeterminate { .. })), "{error:?}");

    // The next sync would succeed, but does not count.
    *seen.fail_sync.lock() = false;
    let syncs = seen.synced.lock().len();
    assert!(matches!(journal.wait_synced(lost, None), Err(Error::Indeterminate { .. })));
    assert_eq!(seen.synced.lock().len(), syncs);
    assert_eq!(journal.synced(), durable);
    journal.wait_synced(durable, None).unwrap();

    let mut credit = journal.reserve(10, LONG).unwrap();
    assert!(matches!(journal.append(&mut credit, &[b"late"]), Err(Error::Failed { .. })));
    drop(credit);
    assert!(matches!(journal.state().as_deref(), Some(Error::Io { op: "sync", .. })));
    assert!(matches!(journal.close(), Err(Error::Failed { .. })));
}

#[test]
fn a_failure_from_outside_reaches_waiters() {
    let (_, journal) = fresh_held(JournalMode::Map);
    let (_, end) = append(&journal, b"held");
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| journal.wait_synced(end, None));
        journal.fail(Arc::new(Error::Closed));
        let outcome = waiter.join().unwrap();
        assert!(matches!(outcome, Err(Error::Indeterminate { .. })), "{outcome:?}");
    });
}

/// H8: replayed frames may be in the cache only, so a sync of the new file proves nothing about them.
#[test]
fn while_held_nothing_counts_as_synced() {
    let (_, journal) = fresh_held(JournalMode::Map);
    let (_, end) = append(&journal, b"behind a hole");
    let waited = journal.wait_synced(end, Some(Duration::from_millis(5)));
    assert!(matches!(waited, Err(Error::Timeout { .. })), "{waited:?}");
    assert!(journal.synced() < end);
    assert_eq!(journal.shared.covered(), end);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| journal.wait_synced(end, Some(LONG)));
        journal.release_synced();
        waiter.join().unwrap().unwrap();
    });
    assert_eq!(journal.synced(), end);
}

/// The thread may sync before the first frame. Its end is then that of the frames of the previous life.
#[test]
fn a_held_journal_is_so_from_the_beginning() {
    let (_, journal) = fresh_held(JournalMode::Map);
    journal.shared.sync_now().unwrap();
    assert_eq!(journal.shared.covered(), journal.end());
    assert!(journal.synced() < journal.end());
    journal.release_synced();
    assert_eq!(journal.synced(), journal.end());
}

#[test]
fn a_held_journal_believes_its_checkpoint() {
    let (_, journal) = fresh_held(JournalMode::Map);
    let (_, end) = append(&journal, b"checkpointed");
    journal.checkpointed(end);
    journal.wait_synced(end, Some(Duration::ZERO)).unwrap();
}

#[test]
fn many_threads_share_their_syncs() {
    let (storage, seen, _) = Spy::start();
    let background = JournalConfig { background: true, ..config(JournalMode::Map) };
    let journal = open(&storage, background, Start::default());
    let from = journal.end();
    std::thread::scope(|scope| {
        for i in 0..8u8 {
            let journal = &journal;
            scope.spawn(move || {
                for _ in 0..50 {
                    let (_, end) = append(journal, &[i; 10]);
                    journal.request_sync(end);
                    journal.wait_synced(end, Some(LONG)).unwrap();
                    assert!(journal.synced() >= end);
                }
            });
        }
    });
    assert!(seen.synced.lock().len() < 450);
    journal.close().unwrap();
    assert_eq!(read(&*storage, from).unwrap().0.len(), 400);
}

/// Waits until `there` is true, which follows an event of the storage. The storage reports a sync before the
/// caller of the sync knows of it, so after the last event the condition may take a moment.
fn after(events: &Receiver<()>, there: impl Fn() -> bool) {
    let moment = Duration::from_millis(10);
    let moments = LONG.as_millis() / moment.as_millis();
    let came = (0..moments).any(|_| there() || events.recv_timeout(moment).is_err() && there());
    assert!(came, "not within {LONG:?}");
}

#[test]
fn a_request_that_nobody_waits_for_is_served_and_gets_a_witness() {
    let (storage, _, events) = Spy::start();
    let background = JournalConfig { background: true, ..config(JournalMode::Map) };
    let journal = open(&storage, background, Start::default());
    let from = journal.end();
    let (_, end) = append(&journal, b"requested");
    journal.request_sync(end);
    // `synced` lies beyond `end` only when the mark that vouches for it is synced too.
    after(&events, || journal.synced() > end);
    let (found, replayed) = loop {
        match read(&*storage, from) {
            // The thread is still preparing a file.
            Err(Error::Busy { .. }) => std::thread::yield_now(),
            read => break read.unwrap(),
        }
    };
    assert_eq!(found, [b"requested"]);
    assert!(replayed.known_synced >= end);
    assert_eq!(replayed.end, end);
}

#[test]
fn frames_are_synced_without_a_request_in_time() {
    let (storage, _, events) = Spy::start();
    let sync_interval = Duration::from_millis(4);
    let background = JournalConfig { background: true, sync_interval, ..config(JournalMode::Map) };
    let journal = open(&storage, background, Start::default());
    let (_, end) = append(&journal, b"written");
    after(&events, || journal.synced() >= end);
}

#[test]
fn a_step_leaves_one_witness_and_then_nothing() {
    let storage: Arc<dyn Storage> = Arc::new(Memory::new());
    let journal = open(&storage, config(JournalMode::Map), Start::default());
    let from = journal.end();
    let (_, end) = append(&journal, b"requested");
    journal.step().unwrap();
    assert_eq!(journal.end(), end);
    journal.request_sync(end);
    journal.step().unwrap();
    let marked = journal.end();
    assert!(marked > end);
    journal.step().unwrap();
    assert_eq!(journal.end(), marked);
    assert_eq!(read(&*storage, from).unwrap().1.known_synced, end);
}

#[test]
fn after_close_nothing_is_appended() {
    let (_, journal) = fresh(JournalMode::Map);
    let (_, end) = append(&journal, b"last");
    let mut credit = journal.reserve(10, LONG).unwrap();
    journal.close().unwrap();
    assert_eq!(journal.synced(), end);
    assert!(matches!(journal.append(&mut credit, &[b"late"]), Err(Error::Closed)));
    drop(credit);
    assert!(matches!(journal.reserve_urgent(1, LONG), Err(Error::Closed)));
}

/// A partition may close files before they are synced, where one sync of the whole storage covers them.
/// The bytes may be written and lost before the frame relies on them.
#[test]
fn no_frame_relies_on_bytes_after_a_sync_of_such_bytes_failed() {
    let storage: Arc<dyn Storage> = Arc::new(Memory::new());
    storage.create_dir(Path::new("journal")).unwrap();
    let journal = open(&storage, config(JournalMode::Write), Start::default());
    let outside = Outside { partition: 0, files: Vec::new(), left: false, folder: "p-0".into() };
    let mut credit = journal.reserve(100, Duration::ZERO).unwrap();
    journal.lose_outside(&Arc::new(Error::Misuse("a test")));
    let end = journal.end();
    let refused = journal.append_relying_on(&mut credit, &[b"where"], &[outside]);
    assert!(matches!(refused, Err(Error::Failed { .. })), "{refused:?}");
    assert_eq!(journal.end(), end);
    journal.append(&mut credit, &[b"other"]).unwrap();
}

#[test]
fn files_that_were_closed_unsynced_are_synced_too() {
    for closes in [false, true] {
        let memory = Memory::crash_simulating(1);
        memory.sync_whole_above(if closes { 0 } else { usize::MAX });
        let storage: Arc<dyn Storage> = Arc::new(memory.clone());
        storage.create_dir(Path::new("journal")).unwrap();
        let journal = open(&storage, config(JournalMode::Write), Start::default());
        storage.create_dir(Path::new("p-0")).unwrap();
        let path = Path::new("p-0/file");
        let file = storage.open(path, OpenMode::CreateNew).unwrap();
        file.write_at(b"stored", 0).unwrap();
        let files = vec![Arc::downgrade(&file)];
        let outside = Outside { partition: 0, files, left: false, folder: "p-0".into() };
        let mut credit = journal.reserve(100, Duration::ZERO).unwrap();
        let end = journal.append_relying_on(&mut credit, &[b"where"], &[outside]).unwrap();
        assert!(!journal.shared.state.lock().relied.is_empty());
        let open = (!closes).then_some(file);
        journal.wait_synced(end, Some(LONG)).unwrap();
        assert!(journal.shared.state.lock().relied.is_empty());
        drop(open);
        let lost = memory.crash(Crash::LoseAll, &SeededRandom::new(1));
        let mut bytes = [0; 6];
        lost.open(path, OpenMode::Read).unwrap().read_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes, b"stored");
    }
}
