//! Model checks of appenders, sync waiters and readers in every order. They run the journal itself, without
//! its thread, on a storage in memory whose calls are atomic.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use super::{Journal, JournalConfig, JournalMode, Start, replay};
use crate::error::Error;
use crate::storage::{Crash, Memory};
use crate::sync::{check, spawn};
use crate::time::{ManualClock, SeededRandom};
use crate::types::{Lsn, Timestamp};

const ID: [u8; 16] = [3; 16];

/// Creates a journal. Also returns the position of its first frame.
fn fresh(mode: JournalMode) -> (Memory, Arc<Journal>, Lsn) {
    fresh_at(mode, &Start::default())
}

fn fresh_at(mode: JournalMode, start: &Start) -> (Memory, Arc<Journal>, Lsn) {
    let storage = Memory::crash_simulating(1);
    let config = JournalConfig {
        file_bytes: 16 << 10,
        max_bytes: 64 << 10,
        mode,
        directory_id: ID,
        epoch: 5,
        sync_interval: Duration::from_secs(1),
        background: false,
    };
    let journal = Journal::create(
        Arc::new(storage.clone()),
        config,
        Arc::new(SeededRandom::new(1)),
        Arc::new(ManualClock::at(Timestamp::from_millis(0))),
        start,
        Box::new(|| ()),
    )
    .unwrap();
    let from = journal.end();
    (storage, journal, from)
}

fn append(journal: &Journal, payload: &[u8]) -> Lsn {
    journal.try_append(&[payload]).unwrap().unwrap()
}

/// Returns the payloads that a replay finds, and the position where it ends.
fn read(storage: &Memory, from: Lsn) -> (Vec<Vec<u8>>, Lsn) {
    let mut payloads = Vec::new();
    let replayed = replay(storage, ID, from, &mut |frame| {
        payloads.push(frame.payload.to_vec());
        Ok(())
    });
    (payloads, replayed.unwrap().end)
}

/// Returns the payloads that a power loss now would leave.
fn after_power_loss(storage: &Memory, from: Lsn) -> Vec<Vec<u8>> {
    read(&storage.crash(Crash::LoseAll, &SeededRandom::new(1)), from).0
}

/// J1: a reader that sees an end finds all frames below it whole, and the end never falls. The journal
/// already holds `before` frames.
fn frames_are_complete(before: usize) {
    check(move || {
        let (storage, journal, from) = fresh(JournalMode::Write);
        // Prepare spares, so that the frames can continue in another file.
        journal.shared.state.lock().spare_target = 3;
        journal.step().unwrap();
        for _ in 0..before {
            append(&journal, &LARGE);
        }
        let first = journal.end();
        let appending = [b"one", b"two"].map(|payload| {
            let journal = Arc::clone(&journal);
            spawn(move || {
                let end = append(&journal, payload);
                assert!(journal.end() >= end, "the end is below an appended frame");
            })
        });
        let seen = journal.end();
        let (payloads, found) = read(&storage, from);
        assert!(found >= seen, "a published frame is missing");
        let new = payloads.get(before..).expect("the earlier frames are missing");
        assert!(new.iter().all(|payload| payload == b"one" || payload == b"two"));
        assert!(journal.end() >= seen, "the end fell");
        for thread in appending {
            thread.join().unwrap();
        }
        let (payloads, found) = read(&storage, from);
        assert_eq!((payloads.len(), found), (before + 2, journal.end()));
        assert_eq!(found.sequence() > first.sequence(), before > 0);
    });
}

/// A payload whose frame has nearly the largest size. Three such frames fill a file but for a few bytes.
const LARGE: [u8; 4040] = [7; 4040];

#[test]
fn frames_are_complete_below_the_published_end() {
    frames_are_complete(0);
}

#[test]
fn frames_are_complete_below_an_end_in_the_next_file() {
    frames_are_complete(3);
}

/// J4: a waiter returns when a sync that began after the end of its frame is done, and not before. It does
/// not matter which thread runs that sync.
#[test]
fn who_waits_is_told_by_a_sync_that_began_later() {
    check(|| {
        let (storage, journal, from) = fresh(JournalMode::Write);
        let committing = [b"one", b"two"].map(|payload| {
            let (journal, storage) = (Arc::clone(&journal), storage.clone());
            spawn(move || {
                let end = append(&journal, payload);
                journal.wait_synced(end, None).unwrap();
                assert!(journal.synced() >= end);
                let left = after_power_loss(&storage, from);
                assert!(
                    left.iter().any(|left| left == payload),
                    "acknowledged before it was durable"
                );
            })
        });
        for thread in committing {
            thread.join().unwrap();
        }
        assert_eq!(journal.synced(), journal.end());
    });
}

/// J5: a failed sync is final, and the waiter of every frame that it should have covered gets the error.
#[test]
fn a_failed_sync_is_told_to_all() {
    check(|| {
        let (storage, journal, _) = fresh(JournalMode::Map);
        // Stores through a map cannot fail, so the syncs fail.
        storage.fail_at(storage.ops() + 1, ErrorKind::Other, true);
        let ends = [b"one", b"two"].map(|payload| {
            let journal = Arc::clone(&journal);
            let waiting = spawn(move || match journal.try_append(&[payload]) {
                Ok(end) => {
                    let told = journal.wait_synced(end.unwrap(), None);
                    assert!(matches!(told, Err(Error::Indeterminate { .. })), "{told:?}");
                    end
                }
                Err(Error::Failed { .. }) => None,
                Err(other) => panic!("{other:?}"),
            });
            waiting
        });
        let ends = ends.map(|thread| thread.join().unwrap());
        storage.heal();
        for end in ends.into_iter().flatten() {
            let told = journal.wait_synced(end, None);
            assert!(matches!(told, Err(Error::Indeterminate { .. })), "{told:?}");
        }
    });
}

/// While `synced` is held a waiter has no sync to run. Another thread must wake it with `wake`.
fn wakes_a_held_waiter(wake: fn(&Journal, Lsn), told: fn(Result<(), Error>) -> bool) {
    check(move || {
        let held = Start { held: true, ..Start::default() };
        let (_, journal, _) = fresh_at(JournalMode::Write, &held);
        let end = append(&journal, b"held");
        let waiting = {
            let journal = Arc::clone(&journal);
            spawn(move || journal.wait_synced(end, None))
        };
        wake(&journal, end);
        assert!(told(waiting.join().unwrap()));
    });
}

#[test]
fn a_failure_reaches_who_waits_without_a_sync() {
    wakes_a_held_waiter(
        |journal, _| journal.fail(Arc::new(Error::Closed)),
        |told| matches!(told, Err(Error::Indeterminate { .. })),
    );
}

#[test]
fn a_checkpoint_reaches_who_waits_without_a_sync() {
    wakes_a_held_waiter(|journal, end| journal.checkpointed(end), |told| told.is_ok());
}

#[test]
fn a_release_reaches_who_waits_without_a_sync() {
    wakes_a_held_waiter(|journal, _| journal.release_synced(), |told| told.is_ok());
}
