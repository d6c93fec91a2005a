//! Figures of the journal on a real disk: `cargo test --release --lib journal::tests::measure -- --ignored
//! --nocapture --test-threads 1`. They print and assert nothing: machines differ.

#![expect(clippy::print_stdout, reason = "what it is for")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::error::Result;
use crate::journal::{Journal, JournalConfig, JournalMode, Start};
use crate::storage::{Disk, OpenMode, Storage};
use crate::time::{Clock, SeededRandom, SystemClock};

const ROUNDS: usize = 5;
const WAIT: Duration = Duration::from_secs(10);

fn folder() -> tempfile::TempDir {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    let base = std::env::var_os("CARGO_TARGET_DIR").map_or(target, Into::into);
    tempfile::tempdir_in(base).unwrap()
}

fn journal(folder: &Path) -> Result<(Arc<dyn Storage>, Arc<Journal>)> {
    let storage: Arc<dyn Storage> = Arc::new(Disk::open(folder)?);
    let config = JournalConfig {
        file_bytes: 4 << 20,
        max_bytes: 128 << 20,
        mode: JournalMode::Map,
        directory_id: [1; 16],
        epoch: 0,
        sync_interval: Duration::from_secs(1),
        background: true,
    };
    let random = Arc::new(SeededRandom::from_os());
    let clock = Arc::new(SystemClock::new());
    let none = Box::new(|| ());
    let start = Start::default();
    let journal = Journal::create(Arc::clone(&storage), config, random, clock, &start, none)?;
    Ok((storage, journal))
}

fn seconds(work: impl FnOnce()) -> f64 {
    let clock = SystemClock::new();
    work();
    clock.monotonic().as_secs_f64()
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

#[test]
#[ignore = "measures: cargo test --release --lib tests::measure -- --ignored --nocapture"]
fn appends_of_150_bytes() {
    let folder = folder();
    let (_storage, journal) = journal(folder.path()).unwrap();
    let payload = [7; 150];
    let append = |n: usize| {
        for i in 0..n {
            let mut credit = journal.reserve(payload.len(), WAIT).unwrap();
            journal.append(&mut credit, &[&payload]).unwrap();
            if i % 16_384 == 0 {
                journal.checkpointed(journal.end());
            }
        }
    };
    append(1_000_000);
    let n = 2_000_000;
    let figures = (0..ROUNDS).map(|_| seconds(|| append(n)) * 1e9 / n as f64).collect();
    println!("append of 150 bytes: {:.1} ns", median(figures));
}

#[test]
#[ignore = "measures: cargo test --release --lib tests::measure -- --ignored --nocapture"]
fn synced_appends() {
    let folder = folder();
    let (storage, journal) = journal(folder.path()).unwrap();
    let plain = storage.open(Path::new("plain"), OpenMode::CreateNew).unwrap();
    let one = [7; 200];
    let loop_plain = |n: u64| {
        for i in 0..n {
            plain.write_at(&one, i * 200).unwrap();
            plain.sync_data().unwrap();
        }
    };
    let loop_journal = |n: u64| {
        for _ in 0..n {
            let mut credit = journal.reserve(150, WAIT).unwrap();
            let end = journal.append(&mut credit, &[&one[..150]]).unwrap();
            journal.request_sync(end);
            journal.wait_synced(end, None).unwrap();
        }
        journal.checkpointed(journal.end());
    };
    let n = 2_000;
    loop_plain(n); // Makes the file, so that later rounds overwrite, as the journal does.
    loop_journal(n);
    let (mut plains, mut ones, mut sixteens) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        plains.push(n as f64 / seconds(|| loop_plain(n)));
        ones.push(n as f64 / seconds(|| loop_journal(n)));
        let all = || {
            std::thread::scope(|scope| {
                (0..16).for_each(|_| drop(scope.spawn(|| loop_journal(n))));
            });
        };
        sixteens.push(16.0 * n as f64 / seconds(all));
    }
    let (plain, one, sixteen) = (median(plains), median(ones), median(sixteens));
    println!("plain write + fdatasync {plain:.0}/s, journal {one:.0}/s ({:.2})", one / plain);
    println!("16 threads {sixteen:.0}/s ({:.1} of one thread)", sixteen / one);
}
