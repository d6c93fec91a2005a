//! This build refuses what a later version could write, and changes nothing. It skips what the later version
//! marks as skippable.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use grouplog::storage::{Disk, Memory, OpenMode, Storage};
use grouplog::{Broker, BrokerConfig, Entry, Error, Verify};

use crate::container::{Files, files_of, fill};
use crate::craft::{self, DATA};
use crate::make::Life;
use crate::{listing, old};

/// A folder of a later version.
struct Newer {
    what: &'static str,
    files: Files,
    /// The file that is unknown, which `dump` refuses as well.
    path: PathBuf,
    found: u32,
    max: u32,
}

/// Returns a folder of this build with a journal to replay.
fn killed() -> Files {
    let memory = Memory::crash_simulating(1);
    fill(&memory, &old::named("killed").files);
    let life = Life::new(memory);
    let broker = life.open();
    broker.admin().alter_share_group("mailers", grouplog::ShareGroupConfig::new()).unwrap();
    broker.checkpoint().unwrap();
    broker.create_topic("last", grouplog::TopicConfig::new()).unwrap();
    let producer = broker.producer().unwrap();
    producer.send(grouplog::Record::to("last").value("x")).unwrap();
    let mut files = files_of(&life.storage);
    // The lock of another process.
    files.insert("grouplog.lock".into(), b"123456    \n".to_vec());
    files
}

fn changed(
    what: &'static str,
    path: &str,
    (found, max): (u32, u32),
    change: impl Fn(&mut Files),
) -> Newer {
    let mut files = killed();
    change(&mut files);
    Newer { what, files, path: path.into(), found, max }
}

fn framed(what: &'static str, known: (u32, u32), kind: u8, flags: u8, payload: &[u8]) -> Newer {
    let mut files = killed();
    let path = craft::append_frame(&mut files, kind, flags, payload);
    Newer { what, files, path, found: known.0, max: known.1 }
}

fn all() -> Vec<Newer> {
    let data = |what, known, payload: Vec<u8>| framed(what, known, DATA, 0, &payload);
    let mut append = vec![0; 48];
    append[36] = 2;
    append[7] = 1;
    let alter = [&[9][..], &[0; 20]].concat();
    // Any of them, since the opening removes files that nothing needs.
    let journals = craft::journals(&killed());
    let journal = journals[0].to_str().unwrap();
    vec![
        changed("format version", journal, (2, 1), |files| craft::journal_version(files, 2)),
        framed("journal frame kind", (4, 3), 4, 0, b""),
        framed("journal frame flags", (1 << 16, 0), DATA, 1, b""),
        data("journal section kind", (9, 8), craft::section(9, 0, b"new")),
        data("journal section flags", (1 << 16, 0), craft::section(2, 1, b"new")),
        data("catalogue change kind", (9, 4), craft::section(3, 0, &alter)),
        data("offset section version", (7, 1), craft::section(2, 0, &[7, 0, 0, 1, b'g'])),
        data("offset section kind", (7, 3), craft::section(2, 0, &[1, 7, 0, 1, b'g'])),
        data("share section kind", (7, 3), craft::section(8, 0, &[7, 0, 0, 0, 1, b'g'])),
        data("owner section kind", (7, 2), craft::section(6, 0, &[7, 0, 0, 0, 1, b'p'])),
        data("id section version", (2, 1), craft::section(7, 0, &[2; 57])),
        data("append section flags", (2, 1), craft::section(1, 0, &append)),
        changed("format version", "checkpoint.a", (4, 3), |files| {
            craft::checkpoints(files, |bytes| bytes[11] = 4);
        }),
        changed("checkpoint section tag", "checkpoint.a", (99, 9), |files| {
            craft::checkpoints(files, |bytes| bytes.extend(craft::checkpoint_section(99, 1, b"x")));
        }),
        changed("format version", "offsets.a", (4, 3), |files| {
            craft::image_version(files, ["offsets.a", "offsets.b"], 4);
        }),
        changed("format version", "shares.a", (2, 1), |files| {
            craft::image_version(files, ["shares.a", "shares.b"], 2);
        }),
    ]
}

#[track_caller]
fn assert_unsupported<T: std::fmt::Debug>(result: Result<T, Error>, newer: &Newer, call: &str) {
    match result {
        Err(Error::UnsupportedFormat { path, what, found, max }) => {
            assert_eq!((&*what, found, max), (newer.what, newer.found, newer.max), "{call}");
            let (path, kind) = (path.to_str().unwrap(), newer.path.to_str().unwrap());
            // Several files may hold the unknown number.
            let kind = kind.strip_suffix(".journal").unwrap_or(kind);
            let kind = kind.trim_end_matches(char::is_numeric).trim_end_matches(['a', 'b']);
            assert!(path.contains(kind), "{call}: {path} is not {kind}");
        }
        other => panic!("{} by {call}: {other:?}", newer.what),
    }
}

fn config() -> BrokerConfig {
    Life::new(Memory::new()).config()
}

#[test]
fn a_folder_of_a_later_version_is_refused_by_all_and_untouched() {
    for newer in all() {
        for with_lock_file in [true, false] {
            let mut files = newer.files.clone();
            if !with_lock_file {
                files.remove(Path::new("grouplog.lock"));
            }
            let temp = tempfile::tempdir().unwrap();
            let disk = Disk::open(temp.path()).unwrap();
            fill(&disk, &files);
            let path = temp.path();
            let opened = Broker::open_with(path, config()).map(|_| ());
            assert_unsupported(opened, &newer, "open");
            let background = Broker::open(path).map(|_| ());
            assert_unsupported(background, &newer, "open with threads");
            let strict = Broker::open_with(path, config().strict(true)).map(|_| ());
            assert_unsupported(strict, &newer, "open strictly");
            assert_unsupported(Broker::open_read_only(path).map(|_| ()), &newer, "read");
            assert_unsupported(Verify::new().run(path), &newer, "verify");
            let dump = Entry::visit(&path.join(&newer.path), |_| {});
            assert_unsupported(dump, &newer, "dump");
            assert!(files_of(&disk) == files, "{}", newer.what);
        }
    }
}

#[test]
fn a_reader_that_is_open_already_says_so_at_its_next_refresh() {
    for newer in all() {
        let storage = Memory::new();
        fill(&storage, &killed());
        let mut reader = Broker::open_storage_read_only(Arc::new(storage.clone())).unwrap();
        let before = listing::of(&reader);
        for (path, bytes) in &newer.files {
            storage.open(path, OpenMode::Write).unwrap().write_at(bytes, 0).unwrap();
        }
        // These files are read with their checkpoint, and the reader has read that checkpoint before.
        if [Path::new("offsets.a"), Path::new("shares.a")].contains(&&*newer.path) {
            continue;
        }
        assert_unsupported(reader.refresh(), &newer, "refresh");
        assert_eq!(listing::of(&reader), before, "it goes on with what it saw");
    }
}

#[test]
fn a_new_folder_is_not_made_over_the_journal_of_a_later_version() {
    let mut files = killed();
    craft::journal_version(&mut files, 2);
    files.retain(|path, _| path.starts_with("journal"));
    let storage = Memory::new();
    fill(&storage, &files);
    let opened = Broker::open_storage(Arc::new(storage.clone()), config());
    assert!(matches!(opened, Err(Error::UnsupportedFormat { found: 2, .. })), "{opened:?}");
    assert!(files_of(&storage) == files);
}

#[test]
fn what_may_be_skipped_is_skipped_and_not_written_again() {
    let plain = killed();
    let mut files = plain.clone();
    let skipped = [craft::section(200, 3, b"a later one"), craft::section(128, 0, b"")].concat();
    craft::append_frame(&mut files, DATA, 0, &skipped);
    let hint = craft::checkpoint_section(500, 0, b"a hint of a later version");
    craft::checkpoints(&mut files, |bytes| bytes.extend(&hint));
    let listed = |files: &Files| {
        let storage = Memory::new();
        fill(&storage, files);
        let reader = Broker::open_storage_read_only(Arc::new(storage.clone())).unwrap();
        let listing = listing::of(&reader);
        let life = Life::new(storage);
        let broker = life.open();
        assert_eq!(listing::of(&broker), listing);
        broker.checkpoint().unwrap();
        broker.checkpoint().unwrap();
        broker.close().unwrap();
        (listing, files_of(&life.storage))
    };
    let has_hint = |files: &Files| {
        files.values().any(|bytes| bytes.windows(hint.len()).any(|window| window == hint))
    };
    assert!(has_hint(&files));
    let (listing, after) = listed(&files);
    assert_eq!(listing, listed(&plain).0);
    let valid = |files: &Files| {
        let mut files = files.clone();
        craft::checkpoints(&mut files, |_| {});
        files
    };
    assert!(!has_hint(&valid(&after)));
}
