//! Figures of a table of a million ids: `cargo test --release --lib dedup::tests::measure -- --ignored --nocapture`.
//! They print and assert nothing: machines differ.

#![expect(clippy::print_stdout, reason = "what it is for")]

use std::path::Path;

use crate::dedup::{
    DedupSettings, DedupTable, IdHash, IdHasher, Place, decode_topics, encode_topics, load,
    write_out,
};
use crate::storage::Disk;
use crate::time::{Clock, SystemClock};
use crate::types::{PartitionNumber, TopicId};

const IDS: usize = 1_000_000;

fn nanos_each(what: &str, count: usize, work: impl FnOnce()) {
    let clock = SystemClock::new();
    let begin = clock.monotonic();
    work();
    let taken = clock.monotonic().saturating_sub(begin).as_nanos() as f64;
    println!("{what}: {:.0} ns each, {:.1} ms", taken / count as f64, taken / 1e6);
}

fn hashes(hasher: &IdHasher, first: usize, count: usize) -> Vec<IdHash> {
    (first..first + count).map(|n| hasher.hash(&n.to_be_bytes()).unwrap()).collect()
}

#[test]
#[ignore = "measures: cargo test --release --lib tests::measure -- --ignored --nocapture"]
fn a_million_ids() {
    let hasher = IdHasher::new(&[3; 16]);
    let settings = DedupSettings { window_ms: 120_000, max_ids: IDS as u32 };
    let mut table = DedupTable::new(TopicId::from_bytes([1; 16]), settings);
    let place = Place { partition: PartitionNumber(1), offset: 5 };
    let all = hashes(&hasher, 0, IDS);
    nanos_each("insert, growing", IDS, || all.iter().for_each(|id| table.insert(*id, place, 10)));
    println!("{:.1} bytes per id", table.bytes() as f64 / IDS as f64);
    // In another order than they were inserted.
    let shuffled: Vec<_> = (0..IDS).map(|n| all[n * 7_919 % IDS]).collect();
    let mut found = 0;
    nanos_each("lookup of a known id", IDS, || {
        found += shuffled.iter().filter(|id| table.lookup(**id, 10).is_some()).count();
    });
    assert_eq!(found, IDS);
    let others = hashes(&hasher, IDS, IDS);
    nanos_each("lookup of a new id", IDS, || {
        found += others.iter().filter(|id| table.lookup(**id, 10).is_some()).count();
    });
    assert_eq!(found, IDS);
    let folder =
        tempfile::tempdir_in(Path::new(env!("CARGO_MANIFEST_DIR")).join("target")).unwrap();
    let storage = Disk::open(folder.path()).unwrap();
    let mut frozen = Vec::new();
    nanos_each("freeze of all", 1, || frozen.push(table.freeze()));
    let mut images = Vec::new();
    nanos_each("write out", IDS, || images = write_out(&frozen, &storage).unwrap());
    let mut bytes = Vec::new();
    encode_topics(&images, &mut bytes);
    println!("{} bytes in the checkpoint", bytes.len());
    table.committed(&images[0]);
    nanos_each("load", IDS, || {
        let images = decode_topics(&bytes).unwrap();
        let loaded = load(&storage, &images[0], settings, 10).unwrap();
        assert_eq!(loaded.len(), IDS as u64);
    });
    nanos_each("insert, full", IDS, || others.iter().for_each(|id| table.insert(*id, place, 20)));
    nanos_each("expiry of a part at once", 8192, || {
        table.insert(shuffled[0], place, 1000);
        assert!(table.expire(120_020));
    });
}
