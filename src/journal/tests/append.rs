use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use proptest::prelude::*;

use super::rig::{
    BOTH, FILE, LONG, append, append_synced, config, fresh, open, read, try_open_telling,
};
use crate::error::Error;
use crate::journal::{Credit, Journal, JournalMode, Start};
use crate::storage::{Memory, Storage};
use crate::time::{Random, SeededRandom, SystemClock};

/// J3, between calls: the files surely take the outstanding credits.
fn assert_exact(journal: &Journal, outstanding: &[Credit<'_>]) {
    let shared = &journal.shared;
    let state = shared.state.lock();
    let out: usize = outstanding.iter().map(Credit::bytes).sum();
    assert_eq!(state.credits.bytes, out as u64);
    assert!(state.backs_credits());
}

fn fill(journal: &Journal) -> usize {
    (0..10_000)
        .take_while(|_| match journal.reserve(1000, LONG) {
            Ok(mut credit) => journal.append(&mut credit, &[&[9; 1000]]).is_ok(),
            Err(Error::Timeout { .. }) => false,
            Err(error) => panic!("{error}"),
        })
        .count()
}

#[test]
fn without_a_credit_frames_fill_what_is_free_and_no_more() {
    for mode in BOTH {
        let (storage, journal) = fresh(mode);
        journal.step().unwrap();
        let from = journal.end();
        let taken = journal.reserve(3000, LONG).unwrap();
        let outstanding = [taken];
        let mut appended = 0_u32;
        while journal.try_append(&[&appended.to_be_bytes(), &[9; 500]]).unwrap().is_some() {
            appended += 1;
            assert_exact(&journal, &outstanding);
        }
        assert_exact(&journal, &outstanding);
        let end = journal.end();
        assert_eq!(journal.try_append(&[&[9; 500]]).unwrap(), None, "refused again");
        assert_eq!(journal.end(), end);

        // The granted bytes are still available, and a reserve finds the bytes that `try_append` did not.
        let [mut taken] = outstanding;
        journal.append(&mut taken, &[&[7; 3000]]).unwrap();
        drop(taken);
        append(&journal, b"more");
        let (found, _) = read(&*storage, from).unwrap();
        assert!(appended > 10);
        assert_eq!(found.len(), appended as usize + 2);
        assert_eq!(found[3][..4], 3_u32.to_be_bytes());
    }
}

#[test]
fn without_a_credit_a_frame_takes_what_no_credit_needs() {
    let (_storage, journal) = fresh(JournalMode::Map);
    journal.step().unwrap();
    let large = vec![1; FILE as usize / 2];
    assert!(journal.try_append(&[&large]).unwrap().is_some());
    let credit = journal.reserve(3 * FILE as usize, LONG).unwrap();
    assert!(journal.try_append(&[b"small"]).unwrap().is_some(), "a large credit shuts out nobody");
    while journal.try_append(&[&large]).unwrap().is_some() {
        assert_exact(&journal, std::slice::from_ref(&credit));
    }
    let mut credit = credit;
    journal.append(&mut credit, &[&vec![2; 3 * FILE as usize]]).unwrap();
}

#[test]
fn the_more_a_journal_holds_the_larger_are_its_new_files() {
    for mode in BOTH {
        let storage: Arc<dyn Storage> = Arc::new(Memory::new());
        let file_bytes = 16 * FILE;
        let max_bytes = 64 * u64::from(file_bytes);
        let config = crate::journal::JournalConfig { file_bytes, max_bytes, ..config(mode) };
        let journal = open(&storage, config, Start::default());
        let from = journal.end();
        journal.shared.state.lock().spare_target = 16;
        journal.step().unwrap();
        let sizes: Vec<u32> =
            journal.shared.state.lock().spares.iter().map(|spare| spare.slot.size).collect();
        assert_eq!(sizes[..2], [FILE; 2]);
        assert!(sizes.is_sorted(), "{sizes:?}");
        assert_eq!(*sizes.last().unwrap(), 4 * file_bytes, "{sizes:?}");
        assert_exact(&journal, &[]);
        let frames = fill(&journal);
        assert!(frames > 200, "{frames}");
        assert!(journal.total_bytes() <= max_bytes);
        assert_eq!(read(&*storage, from).unwrap().0.len(), frames);
    }
}

#[test]
fn frames_come_back_in_order_over_many_files() {
    for mode in BOTH {
        let (storage, journal) = fresh(mode);
        let from = journal.end();
        let random = SeededRandom::new(1);
        let payloads: Vec<Vec<u8>> =
            (0..60u8).map(|i| vec![i; (random.next_u64() % 4000) as usize]).collect();
        for payload in &payloads {
            let (left, right) = payload.split_at(payload.len() / 3);
            let mut credit = journal.reserve(payload.len(), LONG).unwrap();
            journal.append(&mut credit, &[left, &[], right]).unwrap();
            drop(credit);
            assert_exact(&journal, &[]);
        }
        assert!(journal.end().sequence() > from.sequence() + 3);
        let (found, replayed) = read(&*storage, from).unwrap();
        assert_eq!(found, payloads);
        assert_eq!(replayed.end, journal.end());
        assert!(!replayed.torn);
        assert_eq!(read(&*storage, from).unwrap(), (found, replayed));
    }
}

#[test]
fn replay_from_the_middle_gives_the_rest() {
    let (storage, journal) = fresh(JournalMode::Map);
    append(&journal, b"before");
    let from = journal.end();
    append(&journal, b"after");
    assert_eq!(read(&*storage, from).unwrap().0, [b"after"]);
    assert_eq!(read(&*storage, journal.end()).unwrap().0.len(), 0);
}

#[test]
fn a_frame_of_more_than_a_quarter_of_the_journal_is_refused() {
    let (_, journal) = fresh(JournalMode::Map);
    let max = journal.shared.config.max_bytes as usize / 4;
    assert!(journal.reserve(max - 32, LONG).is_ok());
    assert!(matches!(journal.reserve(max, LONG), Err(Error::LimitExceeded { .. })));
    assert!(matches!(journal.reserve(usize::MAX, LONG), Err(Error::LimitExceeded { .. })));
}

#[test]
fn an_append_beyond_its_credit_changes_nothing() {
    let (_, journal) = fresh(JournalMode::Map);
    let end = journal.end();
    let mut credit = journal.reserve(10, LONG).unwrap();
    assert!(matches!(journal.append(&mut credit, &[&[0; 100]]), Err(Error::Misuse(_))));
    assert_eq!(journal.end(), end);
}

fn is_due(journal: &Journal) -> bool {
    let shared = &journal.shared;
    shared.state.lock().is_checkpoint_due(&shared.config, shared.covered())
}

#[test]
fn a_checkpoint_is_due_again_only_when_there_is_something_for_it() {
    let (_, journal) = fresh(JournalMode::Map);
    let limit = journal.shared.config.checkpoint_bytes() as usize;
    let large = vec![9; limit];
    while !is_due(&journal) {
        let mut credit = journal.reserve(large.len(), LONG).unwrap();
        journal.append(&mut credit, &[&large]).unwrap();
    }
    // The file that has the large frame is the current one, and stays.
    journal.checkpointed(journal.end());
    let mut bytes = 0;
    while !is_due(&journal) {
        append(&journal, &[9; 100]);
        bytes += 100;
    }
    // The headers of frames and files count too.
    assert!((limit / 16..=limit / 4).contains(&bytes), "{bytes} of {limit}");
}

#[test]
fn a_full_journal_still_takes_urgent_frames_until_a_checkpoint() {
    for mode in BOTH {
        let (storage, journal) = fresh(mode);
        let from = journal.end();
        let records = fill(&journal);
        assert!(records > 100, "{records}");
        assert!(is_due(&journal));
        // A quarter of a file is held back for urgent frames.
        let urgent = FILE as usize / 4 / 144;
        for _ in 0..urgent {
            let mut credit = journal.reserve_urgent(100, LONG).unwrap();
            journal.append(&mut credit, &[&[7; 100]]).unwrap();
        }
        assert_exact(&journal, &[]);
        assert!(!journal.shared.state.lock().spares.is_empty(), "one spare is never granted");
        assert_eq!(read(&*storage, from).unwrap().0.len(), records + urgent);

        journal.checkpointed(journal.end());
        assert!(!is_due(&journal));
        assert!(fill(&journal) > 100);
    }
}

#[test]
fn the_folder_stays_within_its_limit() {
    let (storage, journal) = fresh(JournalMode::Map);
    for _ in 0..5 {
        fill(&journal);
        journal.checkpointed(journal.end());
        append(&journal, &vec![1; 60_000]);
        journal.checkpointed(journal.end());
    }
    let total: u64 =
        super::super::slot::list(&*storage).unwrap().iter().map(|(_, bytes)| bytes).sum();
    assert_eq!(total, journal.shared.state.lock().total_bytes);
    assert!(total <= journal.shared.config.max_bytes, "{total}");
}

/// Files of frames slightly too large for an ordinary file must not use up the limit. Otherwise a frame that
/// does not fit would never fit again (seed 50985 of the simulation).
#[test]
fn after_a_checkpoint_four_files_take_any_frame() {
    for mode in BOTH {
        let file_bytes = 4 * FILE;
        let max_bytes = 4 * u64::from(file_bytes);
        let storage: Arc<dyn Storage> = Arc::new(Memory::new());
        let config = crate::journal::JournalConfig { file_bytes, max_bytes, ..config(mode) };
        let journal = open(&storage, config, Start::default());
        let reserve = |payload: &[u8]| {
            journal.reserve(payload.len(), LONG).or_else(|_full| {
                journal.checkpointed(journal.end());
                journal.reserve(payload.len(), LONG)
            })
        };
        let large = vec![1; 20_000];
        while let Ok(mut credit) = journal.reserve(large.len(), LONG) {
            journal.append(&mut credit, &[&large]).unwrap();
        }
        journal.checkpointed(journal.end());
        for frame in 0..1000_usize {
            let payload = vec![1; 16_000 - frame % 100];
            let mut credit = reserve(&payload).unwrap_or_else(|e| panic!("{frame}: {e}"));
            journal.append(&mut credit, &[&payload]).unwrap();
            drop(credit);
            assert_exact(&journal, &[]);
        }
    }
}

#[test]
fn without_checkpoints_large_frames_do_not_take_the_journal_beyond_its_limit() {
    for mode in BOTH {
        let (_storage, journal) = fresh(mode);
        let sizes = [5000, 1000, 12_000, 3000];
        let append = |bytes: usize| {
            let mut credit = journal.reserve(bytes, LONG)?;
            journal.append(&mut credit, &[&vec![1; bytes]])
        };
        let appended = sizes.repeat(100).into_iter().filter(|bytes| append(*bytes).is_ok()).count();
        let most = journal.shared.config.max_bytes;
        assert!(journal.total_bytes() <= most, "{}", journal.total_bytes());
        assert!((20..100).contains(&appended), "{appended}");
        journal.checkpointed(journal.end());
        for bytes in sizes {
            append(bytes).unwrap();
        }
    }
}

#[test]
fn with_a_checkpoint_before_it_the_largest_frame_fits_into_the_smallest_journal() {
    for mode in BOTH {
        let storage: Arc<dyn Storage> = Arc::new(Memory::new());
        let max_bytes = 4 * u64::from(FILE);
        let config = crate::journal::JournalConfig { max_bytes, ..config(mode) };
        let journal = open(&storage, config, Start::default());
        for bytes in [FILE as usize - 32, 3000, 5000].repeat(100) {
            journal.checkpointed(journal.end());
            append(&journal, &vec![1; bytes]);
            assert_exact(&journal, &[]);
            assert!(journal.total_bytes() <= max_bytes);
        }
    }
}

#[test]
fn a_large_frame_gets_a_file_of_its_own() {
    for mode in BOTH {
        let (storage, journal) = fresh(mode);
        let from = journal.end();
        append(&journal, b"small");
        append_synced(&journal, &vec![7; 3 * FILE as usize]);
        assert_exact(&journal, &[]);
        append_synced(&journal, b"small again");
        let (found, _) = read(&*storage, from).unwrap();
        let sizes: Vec<_> = found.iter().map(Vec::len).collect();
        assert_eq!(sizes, [5, 3 * FILE as usize, 11]);
    }
}

#[test]
fn large_and_small_credits_are_out_at_once() {
    let (_, journal) = fresh(JournalMode::Map);
    let small = journal.reserve(1, LONG).unwrap();
    let mut large = journal.reserve(2 * FILE as usize, LONG).unwrap();
    let other = journal.reserve(100, LONG).unwrap();
    assert_eq!(journal.shared.state.lock().credits.bytes, u64::from(40 + 2 * FILE + 32 + 136));
    drop(small);
    append(&journal, b"meanwhile");
    journal.append(&mut large, &[&vec![1; 2 * FILE as usize]]).unwrap();
    drop(large);
    assert_exact(&journal, std::slice::from_ref(&other));
    drop(other);
    assert_exact(&journal, &[]);
}

/// Small frames of other threads cannot eat up the space that a large one waits for.
#[test]
fn a_large_frame_gets_its_turn() {
    let storage: Arc<dyn Storage> = Arc::new(Memory::new());
    let max_bytes = 8 * u64::from(FILE);
    let config = config(JournalMode::Map);
    let config = crate::journal::JournalConfig { max_bytes, background: true, ..config };
    let journal = open(&storage, config, Start::default());
    let gets_more = || journal.shared.may_get_more(&journal.shared.state.lock());
    loop {
        match journal.reserve(1000, Duration::ZERO) {
            Ok(mut credit) => _ = journal.append(&mut credit, &[&[1; 1000]]).unwrap(),
            Err(_) if gets_more() => std::thread::yield_now(),
            Err(_) => break,
        }
    }
    std::thread::scope(|scope| {
        let large = scope.spawn(|| {
            let payload = vec![2; 20_000];
            let mut credit = journal.reserve(payload.len(), LONG).unwrap();
            journal.append(&mut credit, &[&payload]).unwrap();
        });
        while journal.shared.state.lock().credits.waiters == 0 {
            std::thread::yield_now();
        }
        assert_eq!(
            journal.try_append(&[b"small"]).unwrap(),
            None,
            "it stands behind the large one"
        );
        let small = journal.reserve(1, Duration::ZERO);
        assert!(matches!(small, Err(Error::Timeout { .. })), "{small:?}");
        assert!(journal.reserve_urgent(1, Duration::ZERO).is_ok(), "urgent ones do not wait");
        journal.checkpointed(journal.end());
        large.join().unwrap();
    });
    append(&journal, b"small");
}

#[test]
fn a_due_checkpoint_is_asked_for_once() {
    let told = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&told);
    let storage: Arc<dyn Storage> = Arc::new(Memory::new());
    let on_checkpoint_due = Box::new(move || {
        counter.fetch_add(1, Ordering::SeqCst);
    });
    let clock = Arc::new(SystemClock::new());
    let random = Arc::new(SeededRandom::new(1));
    let config = config(JournalMode::Map);
    let start = Start::default();
    let journal =
        Journal::create(storage, config, random, clock, &start, on_checkpoint_due).unwrap();
    for round in 1..=3 {
        fill(&journal);
        assert_eq!(told.load(Ordering::SeqCst), round);
        journal.checkpointed(journal.end());
    }
}

#[test]
fn a_waiting_reserve_asks_for_a_checkpoint_and_gets_its_space() {
    let (ask, asked) = crossbeam_channel::unbounded();
    let storage: Arc<dyn Storage> = Arc::new(Memory::new());
    let config = crate::journal::JournalConfig { background: true, ..config(JournalMode::Map) };
    let clock = Arc::new(SystemClock::new());
    let random = Arc::new(SeededRandom::new(1));
    let on_checkpoint_due = Box::new(move || {
        ask.send(()).ok();
    });
    let journal =
        Journal::create(storage, config, random, clock, &Start::default(), on_checkpoint_due)
            .unwrap();
    std::thread::scope(|scope| {
        let checkpointer = scope.spawn(|| {
            while let Ok(()) = asked.recv_timeout(LONG) {
                journal.checkpointed(journal.end());
                if journal.shared.closed.load(Ordering::SeqCst) {
                    break;
                }
            }
        });
        let writers: Vec<_> = (0..4)
            .map(|i| {
                let journal = &journal;
                scope.spawn(move || {
                    for n in 0..300 {
                        // Every so often a frame with its own file, between the others.
                        append(journal, &vec![i; if n % 100 == 50 { 20_000 } else { 1500 }]);
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.join().unwrap();
        }
        journal.close().unwrap();
        (journal.shared.on_checkpoint_due)();
        checkpointer.join().unwrap();
    });
    assert_exact(&journal, &[]);
}

#[test]
fn who_waits_for_space_is_told_that_there_will_be_none() {
    let (ask, asked) = crossbeam_channel::unbounded();
    let storage: Arc<dyn Storage> = Arc::new(Memory::new());
    // A sync by the thread would wake the waiter too, so keep it from running one.
    let sync_interval = Duration::from_hours(1);
    let config = crate::journal::JournalConfig {
        background: true,
        sync_interval,
        ..config(JournalMode::Map)
    };
    let (clock, random) = (Arc::new(SystemClock::new()), Arc::new(SeededRandom::new(1)));
    let told = Box::new(move || {
        ask.send(()).ok();
    });
    let journal = Journal::create(storage, config, random, clock, &Start::default(), told).unwrap();
    while let Ok(mut credit) = journal.reserve(1000, Duration::from_millis(50)) {
        journal.append(&mut credit, &[&[9; 1000]]).unwrap();
    }
    asked.try_iter().for_each(drop);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| journal.reserve(1000, LONG).map(drop));
        asked.recv_timeout(LONG).unwrap();
        // Gives the waiter time to fall asleep. If it does not, it sees the stop before it sleeps.
        (0..10_000).for_each(|_| std::thread::yield_now());
        journal.lose_outside(&Arc::new(Error::Closed));
        let refused = waiter.join().unwrap();
        assert!(matches!(refused, Err(Error::Failed { .. })), "{refused:?}");
    });
}

/// J6.
#[test]
fn a_file_is_not_used_again_while_frames_behind_the_checkpoint_lie_in_it() {
    for mode in BOTH {
        let (storage, journal) = fresh(mode);
        let (_, end) = append(&journal, b"in the checkpoint");
        append(&journal, b"behind it");
        while journal.end().sequence() == end.sequence() {
            append(&journal, &[5; 3000]);
        }
        journal.checkpointed(end);
        fill(&journal);
        assert_eq!(read(&*storage, end).unwrap().0[0], b"behind it");
    }
}

#[test]
fn reserve_gives_up_after_its_time() {
    let storage: Arc<dyn Storage> = Arc::new(Memory::new());
    let config = crate::journal::JournalConfig { background: true, ..config(JournalMode::Map) };
    let journal = open(&storage, config, Start::default());
    let wait = Duration::from_millis(50);
    let error = std::iter::repeat_with(|| {
        let mut credit = journal.reserve(1000, wait)?;
        journal.append(&mut credit, &[&[0; 1000]])
    })
    .find_map(Result::err);
    assert!(matches!(error, Some(Error::Timeout { what: "journal space" })), "{error:?}");
}

#[test]
fn a_failed_write_is_indeterminate_and_final() {
    let memory = Memory::crash_simulating(1);
    let storage: Arc<dyn Storage> = Arc::new(memory.clone());
    let journal = open(&storage, config(JournalMode::Write), Start::default());
    let mut credit = journal.reserve(100, LONG).unwrap();
    let end = journal.end();
    memory.fail_at(memory.ops() + 1, std::io::ErrorKind::Other, false);
    let failed = journal.append(&mut credit, &[&[1; 50]]);
    assert!(matches!(failed, Err(Error::Indeterminate { .. })), "{failed:?}");
    let failed = journal.append(&mut credit, &[&[1; 50]]);
    assert!(matches!(failed, Err(Error::Failed { .. })), "{failed:?}");
    assert_eq!(journal.end(), end);
}

#[test]
fn a_full_disk_is_reported_and_a_checkpoint_ends_it() {
    let memory = Memory::new();
    let storage: Arc<dyn Storage> = Arc::new(memory.clone());
    memory.set_capacity(u64::from(FILE) * 4 + 100);
    let journal = open(&storage, config(JournalMode::Map), Start::default());
    let until_full = || {
        std::iter::repeat_with(|| {
            let mut credit = journal.reserve(1000, LONG)?;
            journal.append(&mut credit, &[&[1; 1000]])
        })
        .find_map(Result::err)
    };
    for _ in 0..3 {
        let error = until_full();
        assert!(matches!(error, Some(Error::DiskFull { .. })), "{error:?}");
        let mut credit = journal.reserve_urgent(100, LONG).unwrap();
        journal.append(&mut credit, &[b"urgent"]).unwrap();
        drop(credit);
        journal.checkpointed(journal.end());
        append(&journal, b"again");
    }
    drop(journal);
    // The next opening continues in the space that was held back.
    memory.set_capacity(0);
    let journal = open(&storage, config(JournalMode::Map), Start::default());
    append(&journal, b"on a full disk");
}

#[derive(Debug, Clone)]
enum Op {
    Reserve(usize),
    Urgent(usize),
    Append(usize),
    Drop(usize),
    Checkpoint,
    Large(usize),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..4064usize).prop_map(Op::Reserve),
        1 => (0..4064usize).prop_map(Op::Urgent),
        8 => any::<usize>().prop_map(Op::Append),
        2 => any::<usize>().prop_map(Op::Drop),
        1 => Just(Op::Checkpoint),
        1 => (5000..60_000usize).prop_map(Op::Large),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// J3: an append finds room, whichever credits are outstanding and in whichever order they are used.
    #[test]
    fn an_append_with_a_credit_finds_room(ops in prop::collection::vec(op(), 1..300)) {
        let (storage, journal) = fresh(JournalMode::Map);
        let mut credits: Vec<Credit<'_>> = Vec::new();
        let mut from = journal.end();
        let mut since = 0;
        for op in ops {
            match op {
                Op::Reserve(bytes) => credits.extend(journal.reserve(bytes, LONG).ok()),
                Op::Urgent(bytes) => credits.extend(journal.reserve_urgent(bytes, LONG).ok()),
                Op::Append(which) if !credits.is_empty() => {
                    let which = which % credits.len();
                    let mut credit = credits.swap_remove(which);
                    let payload = vec![1; credit.bytes() - 32];
                    journal.append(&mut credit, &[&payload]).unwrap();
                    since += 1;
                }
                Op::Drop(which) if !credits.is_empty() => {
                    let which = which % credits.len();
                    drop(credits.swap_remove(which));
                }
                Op::Checkpoint => {
                    prop_assert_eq!(read(&*storage, from).unwrap().0.len(), since);
                    from = journal.end();
                    since = 0;
                    journal.checkpointed(from);
                }
                Op::Large(bytes) => {
                    if let Ok(mut credit) = journal.reserve(bytes, LONG) {
                        journal.append(&mut credit, &[&vec![2; bytes]]).unwrap();
                        since += 1;
                    }
                }
                Op::Append(_) | Op::Drop(_) => {}
            }
            assert_exact(&journal, &credits);
        }
        prop_assert_eq!(read(&*storage, from).unwrap().0.len(), since);
    }
}

fn files(storage: &dyn Storage) -> Vec<u64> {
    super::super::slot::list(storage).unwrap().into_iter().map(|(_, bytes)| bytes).collect()
}

#[test]
fn a_journal_at_rest_is_small_and_keeps_a_file_for_the_next_opening() {
    for mode in BOTH {
        let storage: Arc<dyn Storage> = Arc::new(Memory::new());
        let file_bytes = 64 * FILE;
        let max_bytes = 16 * u64::from(file_bytes);
        let config = crate::journal::JournalConfig { file_bytes, max_bytes, ..config(mode) };
        let journal = open(&storage, config.clone(), Start::default());
        for _ in 0..200 {
            append(&journal, &vec![1; 60_000]);
        }
        assert!(journal.total_bytes() > 10 << 20);
        journal.checkpointed(journal.end());
        journal.stop_appends();
        journal.rest().unwrap();
        let end = journal.end();
        journal.anchor(end).unwrap();
        journal.checkpointed(end);
        journal.close().unwrap();
        journal.trim().unwrap();
        let first = u64::from(config.first_bytes());
        assert_eq!(files(&*storage), [first, first]);
        assert_eq!(journal.total_bytes(), 2 * first);
        let (found, replayed) = read(&*storage, end).unwrap();
        assert_eq!((found.len(), replayed.end, replayed.torn), (0, end, false));
        let journal = open(&storage, config, Start::after(&replayed));
        append(&journal, b"goes on");
        assert_eq!(read(&*storage, end).unwrap().0, [b"goes on"]);
    }
}

#[test]
fn a_journal_at_rest_on_a_full_disk_takes_the_place_of_larger_files() {
    let memory = Memory::new();
    let storage: Arc<dyn Storage> = Arc::new(memory.clone());
    let file_bytes = 64 * FILE;
    let max_bytes = 16 * u64::from(file_bytes);
    let config = config(JournalMode::Map);
    let config = crate::journal::JournalConfig { file_bytes, max_bytes, ..config };
    let journal = open(&storage, config, Start::default());
    for _ in 0..200 {
        append(&journal, &vec![1; 60_000]);
    }
    journal.checkpointed(journal.end());
    memory.set_capacity(0);
    journal.stop_appends();
    journal.rest().unwrap();
    journal.checkpointed(journal.end());
    journal.trim().unwrap();
    assert_eq!(files(&*storage).len(), 2);
}

#[test]
fn an_idle_journal_gives_back_what_a_burst_took() {
    let storage: Arc<dyn Storage> = Arc::new(Memory::new());
    let file_bytes = 64 * FILE;
    let max_bytes = 64 * u64::from(file_bytes);
    let config =
        crate::journal::JournalConfig { file_bytes, max_bytes, ..config(JournalMode::Map) };
    let asked = Arc::new(AtomicUsize::new(0));
    let for_journal = Arc::clone(&asked);
    let ask = Box::new(move || {
        for_journal.fetch_add(1, Ordering::Relaxed);
    });
    let journal = try_open_telling(&storage, config.clone(), Start::default(), ask).unwrap();
    journal.shared.state.lock().spare_target = 8;
    for _ in 0..200 {
        journal.step().unwrap();
        append(&journal, &vec![1; 60_000]);
    }
    journal.checkpointed(journal.end());
    let credit = journal.reserve(100, LONG).unwrap();
    let before = journal.total_bytes();
    journal.shared.shrink_idle().unwrap();
    assert_eq!(journal.total_bytes(), before, "a credit relies on the spares");
    drop(credit);
    let before_shrinking = asked.load(Ordering::Relaxed);
    journal.shared.shrink_idle().unwrap();
    assert_eq!(asked.load(Ordering::Relaxed), before_shrinking + 1, "the reserve shrinks too");
    journal.shared.shrink_idle().unwrap();
    assert_eq!(asked.load(Ordering::Relaxed), before_shrinking + 1);
    assert_eq!(files(&*storage).iter().sum::<u64>(), journal.total_bytes());
    let current = u64::from(journal.shared.state.lock().current.slot.size);
    let enough = 2 * u64::from(file_bytes);
    assert!(journal.total_bytes() <= enough + current, "{}", journal.total_bytes());
    assert!(before > enough + current, "{before}");
    let spares: Vec<u32> =
        journal.shared.state.lock().spares.iter().map(|spare| spare.slot.size).collect();
    assert_eq!(spares, [config.first_bytes(); 2]);
    let from = journal.end();
    append(&journal, b"goes on");
    append(&journal, &vec![1; 60_000]);
    assert_eq!(read(&*storage, from).unwrap().0.len(), 2);
}

#[test]
fn only_a_small_journal_gives_back_at_once_what_a_checkpoint_freed() {
    for (appends, gives_back) in [(10, true), (200, false)] {
        let storage: Arc<dyn Storage> = Arc::new(Memory::new());
        let file_bytes = 64 * FILE;
        let max_bytes = 64 * u64::from(file_bytes);
        let config =
            crate::journal::JournalConfig { file_bytes, max_bytes, ..config(JournalMode::Map) };
        let journal = open(&storage, config, Start::default());
        for _ in 0..appends {
            journal.step().unwrap();
            append(&journal, &vec![1; 60_000]);
        }
        journal.checkpointed(journal.end());
        let before = journal.total_bytes();
        journal.trim_small().unwrap();
        assert_eq!(journal.total_bytes() < before, gives_back, "{before}");
        assert_eq!(files(&*storage).iter().sum::<u64>(), journal.total_bytes());
    }
}
