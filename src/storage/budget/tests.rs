//! The account against a storage in memory: sums, refusals, and what is set aside.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::files::{BLOCK, Files, Kind, Size, Sums, batch_space, kind, space};
use super::*;
use crate::error::{Error, Result};
use crate::storage::{FileKind, Memory, OpenMode, Storage};
use crate::time::{Random, SeededRandom};

const MIB: u64 = 1 << 20;

fn metered(memory: &Memory, budget: u64, journal: u64) -> (Metered, Arc<Ledger>) {
    let ledger = Ledger::open(memory, budget, journal).unwrap();
    (Metered::new(Arc::new(memory.clone()), Arc::clone(&ledger)), ledger)
}

/// Returns the blocks of all files, as the file system counts them.
fn blocks(storage: &dyn Storage, folder: &Path) -> u64 {
    let entries = storage.list(folder).unwrap();
    let of = |entry: &crate::storage::DirEntry| {
        let path = folder.join(&entry.name);
        match entry.kind {
            FileKind::Dir => blocks(storage, &path),
            _ => storage.disk_bytes(&path).unwrap().next_multiple_of(BLOCK),
        }
    };
    entries.iter().map(of).sum()
}

fn write(storage: &dyn Storage, path: &str, len: usize) -> Result<()> {
    let path = Path::new(path);
    let there = storage.metadata(path)?.is_some();
    let file = storage.open(path, if there { OpenMode::Write } else { OpenMode::CreateNew })?;
    file.write_at(&vec![1; len], 0)
}

#[test]
fn a_file_takes_whole_blocks_and_one_for_the_list_of_its_pieces() {
    assert_eq!([0, 1, BLOCK, BLOCK + 1].map(space), [0, BLOCK, BLOCK, 2 * BLOCK]);
    assert_eq!((space(4 * BLOCK), space(4 * BLOCK + 1)), (4 * BLOCK, 6 * BLOCK));
    // A small batch needs a block, one for the list of pieces, three side files and two files of its partition.
    assert_eq!(batch_space(100), 7 * BLOCK);
    assert_eq!(batch_space(0), 6 * BLOCK);
}

#[test]
fn names_say_what_a_file_is() {
    let is = |path: &str| kind(Path::new(path));
    assert_eq!([is("journal/0.journal"), is("reserve")], [Kind::System, Kind::System]);
    let others = ["checkpoint.a", "LOCK", "t-0/other", "log", "t.log"].map(is);
    assert_eq!(others, [const { Kind::Other }; 5]);
    let Kind::Main(group, _) = is("t-0/00.log") else { panic!() };
    for side in ["t-0/00.index", "t-0/00.timeindex", "t-0/00.sums"] {
        assert_eq!(is(side), Kind::Side(group.clone()));
    }
    // A copy that compaction made.
    assert_eq!(is("t-0/00.1.index"), Kind::Side("t-0/00.1".into()));
    assert!(
        matches!(is("t-0/partition.metadata"), Kind::Main(folder, _) if folder == Path::new("t-0"))
    );
    assert_eq!(is("t-0/leader-epoch-checkpoint"), Kind::Side("t-0".into()));
}

/// B4: a segment counts its side files before they exist, and they add nothing when they come.
#[test]
fn side_files_count_before_they_exist() {
    let mut files = Files::default();
    let at = |len| Size { len, end: len };
    let log = files.add(Path::new("t-0/00.log"), at(100));
    assert_eq!(files.sums, Sums { used: BLOCK, claims: 4 * BLOCK, ..Sums::default() });
    for side in ["index", "timeindex", "sums"] {
        files.add(&Path::new("t-0/00").with_extension(side), at(10));
    }
    assert_eq!(files.sums, Sums { used: 4 * BLOCK, claims: 4 * BLOCK, ..Sums::default() });
    files.resize(&log, Size { len: 100, end: 3 * BLOCK });
    let ahead = Sums { used: 6 * BLOCK, claims: 6 * BLOCK, ahead: 2 * BLOCK, system: 0 };
    assert_eq!(files.sums, ahead);
    // The folder of a deleted topic, and back.
    files.rename(Path::new("t-0"), Path::new("t-0.1-delete"));
    assert_eq!((files.sums, log.name()), (ahead, Some("t-0.1-delete/00.log".into())));
    for name in ["00.log", "00.index", "00.timeindex", "00.sums"] {
        files.remove(&Path::new("t-0.1-delete").join(name));
    }
    assert_eq!(files.sums, Sums::default());
}

/// B1, B2: whatever is done to files, the count is never below the blocks, and never above the budget.
#[test]
fn the_count_follows_random_changes() {
    for seed in 0..50 {
        let random = SeededRandom::new(seed);
        let below = |most: u64| random.next_u64() % most;
        let memory = Memory::new();
        let (storage, ledger) = metered(&memory, MIB, 0);
        for folder in ["journal", "t-0", "t-1"] {
            storage.create_dir(Path::new(folder)).unwrap();
        }
        let names =
            ["reserve", "a", "journal/0", "t-0/0.log", "t-0/0.index", "t-1/0.log", "t-1/0.sums"];
        for _ in 0..300 {
            let path = Path::new(names[below(7) as usize]);
            let mode = match memory.metadata(path).unwrap() {
                Some(_) => OpenMode::Write,
                None => OpenMode::CreateNew,
            };
            let file = storage.open(path, mode).unwrap();
            let (at, len) = (below(300_000), below(100_000));
            let done = match below(7) {
                0 => file.write_at(&vec![1; len as usize], at.min(file.len().unwrap())),
                1 => file.set_len(at),
                2 => file.preallocate(at, len),
                3 => file.trim(),
                4 => storage.remove(path),
                5 => storage.rename(path, Path::new(names[below(7) as usize])),
                _ => file.write_at_durable(&[1; 10], file.len().unwrap()),
            };
            assert!(matches!(done, Ok(()) | Err(Error::DiskFull { .. })), "{done:?}");
            let Account { used, taken, budget } = ledger.account();
            let there = blocks(&memory, Path::new(""));
            assert!(there <= used && used <= budget && used <= taken, "{there} {used} {taken}");
        }
        let (_, again) = metered(&memory, MIB, 0);
        assert!(again.account().used >= blocks(&memory, Path::new("")));
    }
}

#[test]
fn a_call_beyond_the_budget_changes_nothing() {
    let memory = Memory::new();
    let (storage, ledger) = metered(&memory, MIB, 0);
    write(&storage, "a", 900_000).unwrap();
    let before = ledger.account();
    for _ in 0..2 {
        assert!(matches!(write(&storage, "b", 200_000), Err(Error::DiskFull { .. })));
    }
    assert_eq!(
        (ledger.account(), memory.metadata(Path::new("b")).unwrap().unwrap().1),
        (before, 0)
    );
    storage.remove(Path::new("a")).unwrap();
    write(&storage, "b", 200_000).unwrap();
    // A failure that leaves a part counts what is there.
    memory.set_capacity(250_000);
    assert!(write(&storage, "b", 300_000).is_err());
    assert!(ledger.account().used < 270_000, "{ledger:?}");
}

/// B3, B4: what is set aside is not given to appends.
#[test]
fn appends_get_what_is_not_set_aside() {
    let memory = Memory::new();
    let (storage, ledger) = metered(&memory, 64 * MIB, 8 * MIB);
    // Journal and reserve, and a 64th.
    assert_eq!(ledger.account().taken, 17 * MIB);
    let charge = ledger.try_charge(40 * MIB).unwrap();
    assert!(ledger.try_charge(8 * MIB).is_none());
    assert!(ledger.is_exhausted(8 * MIB) && !ledger.is_exhausted(MIB));
    let Error::DiskBudget { budget, taken, needed } = ledger.refusal(9) else { panic!() };
    assert_eq!((budget, taken, needed), (64 * MIB, 57 * MIB, 9));
    // The journal comes to use what was set aside, and more.
    storage.create_dir(Path::new("journal")).unwrap();
    write(&storage, "journal/0", 16 * MIB as usize - 4096).unwrap();
    assert_eq!(ledger.account().taken, 57 * MIB);
    write(&storage, "journal/1", MIB as usize).unwrap();
    assert_eq!(ledger.account().taken, 58 * MIB + BLOCK);
    drop(charge);
    assert_eq!(ledger.account().taken, 18 * MIB + BLOCK);
    assert!(ledger.try_charge(8 * MIB).is_some() && !ledger.is_exhausted(8 * MIB));
}

/// What is kept for copies of segments is there for a copy, and for nothing else.
#[test]
fn a_copy_gets_what_is_kept_for_it() {
    let memory = Memory::new();
    let (storage, ledger) = metered(&memory, 64 * MIB, 0);
    ledger.keep_for_copies(16 * MIB);
    assert!(ledger.try_charge(48 * MIB).is_none());
    let records = ledger.try_charge(47 * MIB).unwrap();
    assert!(ledger.try_charge(1).is_none());
    let copy = ledger.try_charge_copy(16 * MIB).unwrap();
    assert!(ledger.try_charge_copy(1).is_none());
    // While the copy is written, its charge becomes space of the file.
    storage.create_dir(Path::new("t-0")).unwrap();
    for written in 1..=15 {
        copy.spend(MIB);
        write(&storage, "t-0/0.1.log", written * MIB as usize).unwrap();
    }
    let Account { used, taken, .. } = ledger.account();
    assert!(used <= 16 * MIB && taken <= 81 * MIB, "{ledger:?}");
    drop((records, copy));
}

/// B5: space ahead of segments is a small share, and none near the end of the budget.
#[test]
fn little_is_reserved_ahead() {
    let memory = Memory::new();
    let (storage, ledger) = metered(&memory, 64 * MIB, 0);
    storage.create_dir(Path::new("t-0")).unwrap();
    let ahead = |path: &str| {
        let file = storage.open(Path::new(path), OpenMode::CreateNew).unwrap();
        file.write_at(&vec![1; 300_000], 0).unwrap();
        file.preallocate(300_000, 10 * MIB).unwrap();
        memory.disk_bytes(Path::new(path)).unwrap() - 300_000
    };
    let first = ahead("t-0/0.log");
    assert!((MIB / 2..=MIB).contains(&first), "{first}");
    assert!(ahead("t-0/1.log") <= 3 * BLOCK);
    storage.open(Path::new("t-0/0.log"), OpenMode::Write).unwrap().trim().unwrap();
    assert!(ahead("t-0/2.log") > MIB / 2);
    storage.open(Path::new("t-0/2.log"), OpenMode::Write).unwrap().trim().unwrap();
    // Other files are no segments, and get what they ask for.
    storage.open(Path::new("x"), OpenMode::CreateNew).unwrap().preallocate(0, 2 * MIB).unwrap();
    assert_eq!(memory.disk_bytes(Path::new("x")).unwrap(), 2 * MIB);
    let _most = ledger.try_charge(56 * MIB).unwrap();
    assert_eq!(ahead("t-0/3.log"), 0);
}

/// B7: a folder above its budget is not limited until it is below.
#[test]
fn a_folder_above_its_budget_is_limited_once_it_is_below() {
    let memory = Memory::new();
    write(&memory, "a", 3 << 20).unwrap();
    let (storage, ledger) = metered(&memory, 2 * MIB, 0);
    assert!(ledger.try_charge(1).is_none() && ledger.is_exhausted(0));
    write(&storage, "b", 1 << 19).unwrap();
    storage.remove(Path::new("a")).unwrap();
    let _some = ledger.try_charge(1).unwrap();
    assert!(matches!(write(&storage, "c", 2 << 20), Err(Error::DiskFull { .. })));
}

#[test]
fn the_oldest_go_from_nine_tenths_on() {
    let (_, ledger) = metered(&Memory::new(), 640 * MIB, 0);
    let _some = ledger.try_charge(560 * MIB).unwrap();
    assert!(!ledger.is_high());
    assert_eq!((ledger.excess(0), ledger.shortage(0)), (0, 0));
    assert_eq!((ledger.excess(70 * MIB), ledger.shortage(70 * MIB)), (0, 0));
    assert_eq!((ledger.excess(71 * MIB), ledger.shortage(71 * MIB)), (4 * MIB, MIB));
    let _more = ledger.try_charge(20 * MIB).unwrap();
    assert!(ledger.is_high());
    // Down to nine tenths, and a 64th less.
    assert_eq!(ledger.excess(0), (590 - 576 + 10) * MIB);
    assert_eq!(ledger.excess(100 * MIB), (590 - 540) * MIB);
    assert_eq!(ledger.shortage(100 * MIB), 50 * MIB);
}

#[test]
fn who_waits_is_woken_when_something_is_freed() {
    let (_, ledger) = metered(&Memory::new(), 64 * MIB, 0);
    let charge = ledger.try_charge(60 * MIB).unwrap();
    assert!(!ledger.wait(10 * MIB, Duration::from_millis(1)));
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| ledger.wait(10 * MIB, Duration::from_mins(1)));
        while ledger.waiters() == 0 {
            std::thread::yield_now();
        }
        drop(charge);
        assert!(waits.join().unwrap());
    });
}
