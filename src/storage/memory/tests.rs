use std::collections::HashSet;
use std::io::ErrorKind;

use super::*;
use crate::time::SeededRandom;

fn p(path: &str) -> &Path {
    Path::new(path)
}

fn memory() -> Memory {
    Memory::crash_simulating(7)
}

fn random() -> SeededRandom {
    SeededRandom::new(11)
}

/// Creates a file whose name and bytes are durable.
fn durable(memory: &Memory, path: &str, bytes: &[u8]) -> Arc<dyn StorageFile> {
    let file = memory.open(p(path), OpenMode::CreateNew).unwrap();
    file.write_at(bytes, 0).unwrap();
    file.sync_data().unwrap();
    memory.sync_dir(p(path).parent().unwrap()).unwrap();
    file
}

fn read(memory: &Memory, path: &str) -> Option<Vec<u8>> {
    memory.metadata(p(path)).unwrap()?;
    let file = memory.open(p(path), OpenMode::Read).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
    Some(bytes)
}

fn after(memory: &Memory, kind: Crash, path: &str) -> Option<Vec<u8>> {
    read(&memory.crash(kind, &random()), path)
}

/// Returns the file's content in every state that a power loss can leave.
fn states(memory: &Memory, unit: usize, path: &str) -> HashSet<Option<Vec<u8>>> {
    memory.crash_states(unit, 12).unwrap().iter().map(|state| read(state, path)).collect()
}

fn text(states: &[Option<&str>]) -> HashSet<Option<Vec<u8>>> {
    states.iter().map(|state| state.map(|text| text.as_bytes().to_vec())).collect()
}

#[test]
fn unsynced_bytes_survive_a_kill_and_not_a_power_loss() {
    let memory = memory();
    let file = durable(&memory, "a", b"old");
    file.write_at(b"new", 0).unwrap();
    assert_eq!(after(&memory, Crash::Kill, "a").unwrap(), b"new");
    assert_eq!(after(&memory, Crash::LoseAll, "a").unwrap(), b"old");
    assert_eq!(after(&memory, Crash::KeepAll, "a").unwrap(), b"new");
    assert_eq!(states(&memory, 512, "a"), text(&[Some("old"), Some("new")]));
    // `crash` does not change the storage it is called on.
    assert_eq!(read(&memory, "a").unwrap(), b"new");
}

#[test]
fn what_a_kill_left_unsynced_is_lost_by_a_later_power_loss() {
    let memory = memory();
    let file = durable(&memory, "a", b"old");
    file.write_at(b"new", 0).unwrap();
    memory.open(p("b"), OpenMode::CreateNew).unwrap();
    let killed = memory.crash(Crash::Kill, &random());
    assert_eq!(read(&killed, "b").unwrap(), b"");
    assert_eq!(after(&killed, Crash::LoseAll, "a").unwrap(), b"old");
    assert_eq!(after(&killed, Crash::LoseAll, "b"), None);
    killed.open(p("a"), OpenMode::Write).unwrap().sync_data().unwrap();
    assert_eq!(after(&killed, Crash::LoseAll, "a").unwrap(), b"new");
    assert_eq!(after(&memory, Crash::LoseAll, "a").unwrap(), b"old");
}

#[test]
fn synced_bytes_without_a_synced_name_may_vanish() {
    let memory = memory();
    let file = memory.open(p("a"), OpenMode::CreateNew).unwrap();
    file.write_at(b"abc", 0).unwrap();
    file.sync_data().unwrap();
    assert_eq!(states(&memory, 512, "a"), text(&[None, Some("abc")]));
    memory.sync_dir(p("")).unwrap();
    assert_eq!(states(&memory, 512, "a"), text(&[Some("abc")]));
}

#[test]
fn a_synced_name_says_nothing_of_the_bytes() {
    let memory = memory();
    let file = memory.open(p("a"), OpenMode::CreateNew).unwrap();
    file.write_at(b"abc", 0).unwrap();
    memory.sync_dir(p("")).unwrap();
    assert_eq!(after(&memory, Crash::LoseAll, "a").unwrap(), b"");
    let states = states(&memory, 512, "a");
    assert!(states.contains(&Some(b"\0\0\0".to_vec())), "the length without the bytes");
    assert!(states.contains(&Some(Vec::new())) && states.contains(&Some(b"abc".to_vec())));
    assert_eq!(states.len(), 4, "and once with what the device held before: {states:?}");
}

#[test]
fn a_durable_write_is_durable_alone() {
    let memory = memory();
    let file = durable(&memory, "a", b"..........");
    file.write_at(b"early", 0).unwrap();
    file.write_at_durable(b"NOW", 3).unwrap();
    file.write_at(b"late", 6).unwrap();
    assert_eq!(after(&memory, Crash::LoseAll, "a").unwrap(), b"...NOW....");
    let found = states(&memory, 1, "a");
    assert_eq!(found.len(), 1 << 7, "each other byte is lost or kept on its own");
    assert!(found.iter().flatten().all(|bytes| &bytes[3..6] == b"NOW"));
}

#[test]
fn a_durable_write_that_extends_makes_the_length_durable() {
    let memory = memory();
    let file = durable(&memory, "a", b"");
    file.write_at(b"abc", 0).unwrap();
    file.write_at_durable(b"def", 3).unwrap();
    assert_eq!(after(&memory, Crash::LoseAll, "a").unwrap(), b"\0\0\0def");
}

#[test]
fn a_durable_write_settles_earlier_cuts() {
    let memory = memory();
    let file = durable(&memory, "a", b"0123456789");
    file.write_at(b"abcdefghij", 0).unwrap();
    file.set_len(4).unwrap();
    file.write_at_durable(b"XY", 6).unwrap();
    assert_eq!(after(&memory, Crash::LoseAll, "a").unwrap(), b"0123\0\0XY");
    assert_eq!(after(&memory, Crash::KeepAll, "a").unwrap(), b"abcd\0\0XY");
    assert_eq!(states(&memory, 512, "a"), text(&[Some("0123\0\0XY"), Some("abcd\0\0XY")]));
}

#[test]
fn units_are_lost_independently_and_each_holds_a_state_that_it_had() {
    let memory = memory();
    let file = durable(&memory, "a", b"aabb");
    file.write_at(b"cccc", 0).unwrap();
    file.write_at(b"d", 0).unwrap();
    let expected = ["aabb", "ccbb", "dcbb", "aacc", "cccc", "dccc"].map(Some);
    assert_eq!(states(&memory, 2, "a"), text(&expected));
    let random = random();
    for _ in 0..50 {
        let state = memory.crash(Crash::Subset { unit: 2 }, &random);
        assert!(text(&expected).contains(&read(&state, "a")));
    }
}

#[test]
fn length_and_bytes_are_lost_independently() {
    let memory = memory();
    let file = durable(&memory, "a", b"aaaa");
    file.set_len(1).unwrap();
    file.write_at(b"b", 1).unwrap();
    let found = states(&memory, 4, "a");
    for state in ["aaaa", "a", "aa", "ab", "a\0", "ab\0\0", "a\0\0\0"] {
        assert!(found.contains(&Some(state.as_bytes().to_vec())), "{state:?} in {found:?}");
    }
    assert_eq!(found.len(), 7);
}

#[test]
fn lost_bytes_beyond_the_old_end_may_show_a_removed_file() {
    let memory = memory();
    durable(&memory, "gone", b"secret");
    memory.remove(p("gone")).unwrap();
    memory.sync_dir(p("")).unwrap();
    let file = durable(&memory, "a", b"");
    file.write_at(b"public", 0).unwrap();
    assert!(states(&memory, 512, "a").contains(&Some(b"secret".to_vec())));
}

#[test]
fn a_torn_unit_is_half_old_and_half_new() {
    let memory = memory();
    let file = durable(&memory, "a", b"00000000");
    file.write_at(b"11111111", 0).unwrap();
    let random = random();
    let found: HashSet<_> =
        (0..200).map(|_| read(&memory.crash(Crash::TornUnit, &random), "a").unwrap()).collect();
    let torn = |bytes: &Vec<u8>| {
        let ones = bytes.iter().take_while(|byte| **byte == b'1').count();
        bytes[ones..].iter().all(|byte| *byte == b'0')
    };
    assert!(found.iter().all(torn), "{found:?}");
    assert!(found.len() > 4, "{found:?}");
}

#[test]
fn names_are_lost_independently() {
    let memory = memory();
    durable(&memory, "old", b"");
    memory.open(p("new"), OpenMode::CreateNew).unwrap();
    memory.remove(p("old")).unwrap();
    let found: HashSet<Vec<String>> = memory
        .crash_states(512, 12)
        .unwrap()
        .iter()
        .map(|state| state.list(p("")).unwrap().into_iter().map(|entry| entry.name).collect())
        .collect();
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let expected = [names(&[]), names(&["new"]), names(&["old"]), names(&["new", "old"])];
    assert_eq!(found, expected.into());
}

#[test]
fn a_rename_is_whole_or_not_at_all() {
    let memory = memory();
    durable(&memory, "a", b"A");
    durable(&memory, "b", b"B");
    memory.create_dir(p("d")).unwrap();
    memory.sync_dir(p("")).unwrap();
    memory.rename(p("a"), p("b")).unwrap();
    memory.rename(p("b"), p("d/c")).unwrap();
    let found: HashSet<_> = memory
        .crash_states(512, 12)
        .unwrap()
        .iter()
        .map(|state| ["a", "b", "d/c"].map(|path| read(state, path)))
        .collect();
    let (a, b) = (Some(b"A".to_vec()), Some(b"B".to_vec()));
    let expected = [[a.clone(), b.clone(), None], [None, a.clone(), None], [None, None, a.clone()]];
    assert_eq!(found, expected.into());
    // Syncing the folder of the last name also makes the changes durable that it builds on.
    memory.sync_dir(p("d")).unwrap();
    assert_eq!(after(&memory, Crash::LoseAll, "d/c"), a);
    assert_eq!(after(&memory, Crash::LoseAll, "b"), None);
}

#[test]
fn a_synced_file_in_a_folder_without_a_synced_name_may_vanish() {
    let memory = memory();
    memory.create_dir(p("d")).unwrap();
    durable(&memory, "d/a", b"abc");
    assert_eq!(states(&memory, 512, "d/a"), text(&[None, Some("abc")]));
    memory.sync_dir(p("")).unwrap();
    assert_eq!(states(&memory, 512, "d/a"), text(&[Some("abc")]));
}

#[test]
fn stores_through_a_map_are_writes_like_others() {
    let memory = memory();
    let file = durable(&memory, "a", b"....");
    let map = file.map_write(4).unwrap();
    let ops = memory.ops();
    map.write(1, b"ab").unwrap();
    assert_eq!(memory.ops(), ops + 1);
    assert_eq!(after(&memory, Crash::Kill, "a").unwrap(), b".ab.");
    assert_eq!(after(&memory, Crash::LoseAll, "a").unwrap(), b"....");
    file.sync_data().unwrap();
    assert_eq!(after(&memory, Crash::LoseAll, "a").unwrap(), b".ab.");
    memory.crash_at(memory.ops() + 1);
    map.write(0, b"xxxx").unwrap();
    assert!(memory.has_crashed());
    map.write(0, b"yyyy").unwrap();
    let random = random();
    for _ in 0..20 {
        let left = read(&memory.crash(Crash::Kill, &random), "a").unwrap();
        assert!([".ab.", "xab.", "xxb.", "xxx.", "xxxx"].map(str::as_bytes).contains(&&*left));
    }
}

#[test]
fn the_change_in_flight_is_done_in_part_by_a_kill() {
    let memory = memory();
    let file = durable(&memory, "a", b"");
    memory.crash_at(memory.ops() + 1);
    assert!(file.write_at(b"abc", 0).is_err());
    assert!(file.len().is_err() && memory.list(p("")).is_err() && file.sync_data().is_err());
    let random = random();
    let found: HashSet<_> =
        (0..100).map(|_| read(&memory.crash(Crash::Kill, &random), "a")).collect();
    assert_eq!(found, text(&[Some(""), Some("a"), Some("ab"), Some("abc")]));
    assert_eq!(after(&memory, Crash::LoseAll, "a").unwrap(), b"");
    assert!(states(&memory, 512, "a").contains(&Some(b"abc".to_vec())));
}

#[test]
fn names_and_lengths_in_flight_change_or_not() {
    for rename in [true, false] {
        let memory = memory();
        let file = durable(&memory, "a", b"abc");
        memory.crash_at(memory.ops() + 1);
        if rename {
            assert!(memory.rename(p("a"), p("b")).is_err());
        } else {
            assert!(file.set_len(0).is_err());
        }
        let random = random();
        let found: HashSet<_> =
            (0..50).map(|_| read(&memory.crash(Crash::Kill, &random), "a")).collect();
        assert_eq!(found, text(&[Some("abc"), if rename { None } else { Some("") }]));
    }
}

#[test]
fn a_call_fails_once_or_for_good() {
    let memory = memory();
    let file = durable(&memory, "a", b"");
    memory.fail_at(memory.ops() + 2, ErrorKind::StorageFull, false);
    file.write_at(b"x", 0).unwrap();
    assert!(matches!(file.write_at(b"y", 1), Err(Error::DiskFull { .. })));
    file.write_at(b"z", 2).unwrap();
    memory.fail_at(memory.ops() + 1, ErrorKind::Other, true);
    assert!(matches!(file.sync_data(), Err(Error::Io { op: "sync", .. })));
    assert!(memory.create_dir(p("d")).is_err());
    assert_eq!(memory.metadata(p("d")).unwrap(), None);
    memory.heal();
    memory.create_dir(p("d")).unwrap();
}

#[test]
fn what_a_failed_sync_lost_stays_lost_whatever_later_syncs_say() {
    let memory = memory();
    let file = durable(&memory, "a", b"....");
    file.write_at(b"abc", 0).unwrap();
    memory.fail_at(memory.ops() + 1, ErrorKind::Other, false);
    assert!(file.sync_data().is_err());
    file.write_at(b"X", 1).unwrap();
    file.sync_data().unwrap();
    assert_eq!(read(&memory, "a").unwrap(), b"aXc.", "the cache looks right");
    assert_eq!(after(&memory, Crash::LoseAll, "a").unwrap(), b".X..");
    assert_eq!(after(&memory, Crash::KeepAll, "a").unwrap(), b"aXc.");
    let found = states(&memory, 1, "a");
    assert_eq!(found, text(&[Some(".X.."), Some("aX.."), Some(".Xc."), Some("aXc.")]));
}

#[test]
fn a_sync_of_the_whole_covers_names_and_closed_files() {
    let memory = memory();
    memory.create_dir(p("d")).unwrap();
    memory.open(p("d/a"), OpenMode::CreateNew).unwrap().write_at(b"1", 0).unwrap();
    durable(&memory, "gone", b"2");
    memory.remove(p("gone")).unwrap();
    memory.sync_whole().unwrap();
    memory.open(p("d/b"), OpenMode::CreateNew).unwrap();
    assert_eq!(states(&memory, 512, "d/a"), text(&[Some("1")]));
    assert_eq!(states(&memory, 512, "gone"), text(&[None]));
    assert_eq!(after(&memory, Crash::LoseAll, "d/b"), None);
}

#[test]
fn each_handle_reports_what_a_failed_sync_of_the_whole_lost() {
    let lost = |seed| {
        let memory = Memory::crash_simulating(seed);
        let files = ["a", "b"].map(|path| durable(&memory, path, b"old"));
        durable(&memory, "clean", b"old");
        for file in &files {
            file.write_at(b"new", 0).unwrap();
        }
        memory.fail_at(memory.ops() + 1, ErrorKind::Other, false);
        assert!(memory.sync_whole().is_err());
        // Another handle does not keep the first one from reporting it.
        let late = memory.open(p("a"), OpenMode::Write).unwrap();
        let told = files.map(|file| file.sync_data().is_err());
        assert!(late.sync_data().is_err() || !told[0]);
        memory.open(p("a"), OpenMode::Write).unwrap().sync_data().unwrap();
        memory.sync_whole().unwrap();
        for (path, told) in ["a", "b"].into_iter().zip(told) {
            let found = after(&memory, Crash::LoseAll, path).unwrap();
            assert_eq!(found, if told { b"old" } else { b"new" });
        }
        told
    };
    let all: HashSet<_> = (0..32).map(lost).collect();
    assert_eq!(all, HashSet::from([[true, false], [false, true], [true, true]]));
}

#[test]
fn a_crash_leaves_how_the_storage_is_synced() {
    let memory = memory();
    assert!(!memory.prefers_whole_sync(usize::MAX));
    memory.sync_whole_above(2);
    let after = memory.crash(Crash::Kill, &random());
    assert!(after.prefers_whole_sync(3) && !after.prefers_whole_sync(2));
}

#[test]
fn the_blocks_of_all_files_are_counted() {
    let memory = memory();
    assert_eq!(memory.disk_blocks(), 0);
    durable(&memory, "a", b"12345678");
    memory.create_dir(p("d")).unwrap();
    let inner = durable(&memory, "d/b", &[1; 4097]);
    assert_eq!(memory.disk_blocks(), 3 * 4096);
    inner.preallocate(0, 4 * 4096).unwrap();
    assert_eq!(memory.disk_blocks(), 5 * 4096);
    memory.remove(p("a")).unwrap();
    assert_eq!(memory.disk_blocks(), 4 * 4096);
}

#[test]
fn a_full_storage_accepts_what_fits_and_overwrites() {
    let memory = memory();
    memory.set_capacity(10);
    let file = durable(&memory, "a", b"12345678");
    assert_eq!(memory.free_space().unwrap(), 2);
    assert!(matches!(file.write_at(b"abcd", 7), Err(Error::DiskFull { .. })));
    assert_eq!(read(&memory, "a").unwrap(), b"1234567abc");
    file.write_at(b"rewritten!", 0).unwrap();
    assert!(matches!(file.set_len(11), Err(Error::DiskFull { .. })));
    assert!(matches!(file.preallocate(0, 11), Err(Error::DiskFull { .. })));
    let other = memory.open(p("b"), OpenMode::CreateNew).unwrap();
    assert!(matches!(other.write_at(b"x", 50), Err(Error::DiskFull { .. })));
    file.set_len(2).unwrap();
    assert_eq!(memory.free_space().unwrap(), 8);
    other.preallocate(0, 8).unwrap();
    assert!(matches!(file.write_at(b"xyz", 0), Err(Error::DiskFull { .. })));
    other.write_at(b"87654321", 0).unwrap();
    assert_eq!(memory.crash(Crash::KeepAll, &random()).free_space().unwrap(), 0);
    memory.remove(p("b")).unwrap();
    memory.sync_dir(p("")).unwrap();
    drop(other);
    assert_eq!(memory.free_space().unwrap(), 8);
}

#[test]
fn a_storage_without_history_keeps_only_the_present() {
    let memory = Memory::new();
    let file = memory.open(p("a"), OpenMode::CreateNew).unwrap();
    for _ in 0..100 {
        file.write_at(b"abc", 0).unwrap();
    }
    assert!(memory.shared.tree.lock().pending.is_empty());
    memory.create_dir(p("d")).unwrap();
    memory.remove_dir(p("d")).unwrap();
    assert_eq!(memory.shared.tree.lock().dirs.len(), 1);
    let left = memory.crash(Crash::LoseAll, &random());
    assert_eq!(read(&left, "a").unwrap(), b"abc");
    left.open(p("a"), OpenMode::Write).unwrap().write_at(b"x", 0).unwrap();
    assert_eq!(after(&left, Crash::LoseAll, "a").unwrap(), b"abc");
}

#[test]
fn a_crash_leaves_the_storage_unlocked() {
    let memory = memory();
    let _held = memory.lock(p("lock")).unwrap();
    let left = memory.crash(Crash::Kill, &random());
    let _again = left.lock(p("lock")).unwrap();
    assert!(memory.lock(p("lock")).is_err());
}

#[test]
fn too_many_states_are_not_enumerated() {
    let memory = memory();
    let file = durable(&memory, "a", &[0; 20]);
    file.write_at(&[1; 13], 0).unwrap();
    assert!(memory.crash_states(1, 12).is_none());
    assert_eq!(memory.crash_states(1, 13).unwrap().len(), 1 << 13);
}

#[test]
fn the_same_seed_gives_the_same_crash() {
    let run = || {
        let memory = memory();
        let file = durable(&memory, "a", &[0; 5000]);
        for n in 0..20_u8 {
            file.write_at(&[n; 700], u64::from(n) * 400).unwrap();
        }
        let random = SeededRandom::new(3);
        (0..5).map(|_| read(&memory.crash(Crash::Subset { unit: 512 }, &random), "a")).collect()
    };
    let first: Vec<_> = run();
    assert_eq!(first, run());
    assert!(first.iter().collect::<HashSet<_>>().len() > 1);
}

#[test]
fn a_read_only_call_fails_once_or_for_good() {
    let memory = memory();
    let file = durable(&memory, "a", b"abc");
    let before = memory.reads();
    memory.fail_read_at(before + 2, ErrorKind::Other, false);
    assert_eq!(file.len().unwrap(), 3);
    let mut bytes = [0; 3];
    match file.read_at(&mut bytes, 1) {
        Err(Error::Io { op: "read", path, position: Some(1), .. }) => {
            assert_eq!(*path, *memory.display_path(p("a")));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(bytes, [0; 3], "nothing was read");
    assert_eq!(file.read_at(&mut bytes, 0).unwrap(), 3);
    assert_eq!(memory.reads(), before + 3);

    memory.fail_read_at(memory.reads() + 1, ErrorKind::Other, true);
    assert!(matches!(file.map(3, 3), Err(Error::Io { op: "map", .. })));
    assert!(memory.metadata(p("a")).is_err());
    assert!(memory.list(p("")).is_err());
    assert!(memory.open(p("a"), OpenMode::Read).is_err());
    let ops = memory.ops();
    file.write_at(b"d", 3).unwrap();
    assert_eq!(memory.ops(), ops + 1, "changes still succeed and have their own count");
    memory.heal();
    assert_eq!(memory.metadata(p("a")).unwrap().map(|(_, len)| len), Some(4));
}
