//! Flips every bit of every header: of batches in sealed segments and in the active one, of
//! checkpoints, and of journal files and frames. Opening and reading must return a typed error or
//! the written data, and never anything else, in both read modes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use grouplog::record::BatchHeader;
use grouplog::storage::{Crash, Memory, OpenMode, Storage};
use grouplog::time::SeededRandom;
use grouplog::{
    Broker, Consumer, ConsumerConfig, Error, JournalMode, Position, ReadMode, Record, TopicConfig,
    TopicPartition,
};

use crate::folder::read_file;
use crate::journal_file::{self, lsn};
use crate::life::{Setup, config};
use crate::script;

/// The end offset in the last checkpoint.
const CHECKPOINTED: i64 = 62;
const BATCH_HEADER: usize = 61;
const CHECKPOINT_HEADER: usize = 44;
const JOURNAL_HEADER: usize = 72;

/// Offset, leader epoch, timestamp, key and value.
type Seen = (i64, i32, i64, Option<Vec<u8>>, Option<Vec<u8>>);

/// A folder after a kill, with everything known to be synced, and its records.
struct Folder {
    memory: Memory,
    records: Vec<Seen>,
}

fn partition() -> TopicPartition {
    TopicPartition::new("t", 0)
}

fn open(memory: &Memory, mode: ReadMode) -> grouplog::Result<Broker> {
    let setup = Setup {
        mode: JournalMode::Write,
        files: script::FILES,
        stored_from: script::NEVER,
        budget: None,
    };
    let config = config(setup, 3).read_mode(mode).create(false);
    Broker::open_storage(Arc::new(memory.clone()), config)
}

fn copy(memory: &Memory) -> Memory {
    memory.crash(Crash::KeepAll, &SeededRandom::new(0))
}

impl Folder {
    fn new() -> Self {
        let memory = Memory::crash_simulating(1);
        let setup = Setup {
            mode: JournalMode::Write,
            files: script::FILES,
            stored_from: script::NEVER,
            budget: None,
        };
        let open = || Broker::open_storage(Arc::new(memory.clone()), config(setup, 3)).unwrap();
        let broker = open();
        let topic = TopicConfig::new().segment_bytes(6144).index_interval_bytes(1024);
        broker.create_topic("t", topic).unwrap();
        let send = |broker: &Broker, count: i64| {
            let producer = broker.producer().unwrap();
            for n in 0..count {
                let (key, value) = (n.to_be_bytes(), [n as u8; 200]);
                producer.send(Record::to("t").key(&key[..]).value(&value[..])).unwrap();
            }
            producer.flush().unwrap();
        };
        send(&broker, 30);
        broker.close().unwrap();
        // In a later epoch, partly in the active segment and partly in the journal alone.
        let broker = open();
        send(&broker, CHECKPOINTED - 30);
        broker.checkpoint().unwrap();
        // The last frame records that the others are synced.
        send(&broker, 4);
        send(&broker, 1);
        let mut records = Vec::new();
        read(&broker, 0, &mut records).unwrap();
        assert_eq!(records.len() as i64, CHECKPOINTED + 5);
        let folder = Self { memory: copy(&memory), records };
        drop(broker);
        folder
    }

    /// Returns the log files in order.
    fn segments(&self) -> Vec<PathBuf> {
        let names = self.memory.list(Path::new("t-0")).unwrap();
        let logs = names
            .into_iter()
            .filter(|entry| Path::new(&entry.name).extension().is_some_and(|e| e == "log"));
        logs.map(|entry| Path::new("t-0").join(entry.name)).collect()
    }

    /// Flips a bit and checks the result. If `whole`, all records must exist or there must be an
    /// error. Otherwise the end may be missing. Returns whether the flip was noticed.
    fn flip(
        &self,
        place: (&Path, usize, usize),
        mode: ReadMode,
        from: &[i64],
        whole: bool,
    ) -> bool {
        let (path, byte, bit) = place;
        let memory = copy(&self.memory);
        let file = memory.open(path, OpenMode::Write).unwrap();
        let mut value = [0];
        file.read_at(&mut value, byte as u64).unwrap();
        file.write_at(&[value[0] ^ (1 << bit)], byte as u64).unwrap();
        let place = || format!("bit {bit} of byte {byte} of {}, {mode:?}", path.display());
        let broker = match open(&memory, mode) {
            Ok(broker) => broker,
            Err(error) => {
                assert!(is_typed(&error), "{}: {error:?}", place());
                return true;
            }
        };
        let mut noticed = !broker.recovery_report().damaged.is_empty();
        for from in from {
            let mut seen = Vec::new();
            let result = read(&broker, *from, &mut seen);
            let expected = &self.records[*from as usize..];
            assert!(seen.len() <= expected.len(), "{}: too many from {from}", place());
            assert!(seen == expected[..seen.len()], "{}: other data from {from}", place());
            match result {
                Ok(()) => {
                    let all = seen.len() == expected.len();
                    assert!(all || !whole, "{}: only {} records", place(), seen.len());
                    noticed |= !all;
                }
                Err(error) => {
                    assert!(is_typed(&error), "{}: {error:?}", place());
                    noticed = true;
                    let reached = from + seen.len() as i64;
                    self.read_behind(&broker, &error, reached, &place());
                }
            }
        }
        noticed
    }
}

impl Folder {
    /// Checks the records after damage. The error names the lost offsets, and every record after them
    /// is readable up to the end.
    fn read_behind(&self, broker: &Broker, error: &Error, reached: i64, place: &str) {
        let Error::Corrupt(damage) = error else { return };
        let Some((first, last)) = damage.offsets.filter(|_| damage.partition.is_some()) else {
            return;
        };
        assert!((first..=last).contains(&reached), "{place}: {error} at {reached}");
        let end = self.records.len() as i64;
        assert!(first >= 0 && last < end, "{place}: {error}");
        let mut seen = Vec::new();
        let behind = read(broker, last + 1, &mut seen);
        assert!(behind.is_ok(), "{place}: behind {error}: {behind:?}");
        assert!(seen == self.records[last as usize + 1..], "{place}: other data behind {error}");
    }
}

fn is_typed(error: &Error) -> bool {
    error.is_corruption() || matches!(error, Error::UnsupportedFormat { .. })
}

/// Reads everything from `from` on, up to the first error.
fn read(broker: &Broker, from: i64, seen: &mut Vec<Seen>) -> grouplog::Result<()> {
    let mut consumer: Consumer = broker.consumer_with(ConsumerConfig::new())?;
    consumer.assign([partition()])?;
    consumer.seek(&partition(), Position::new(from))?;
    loop {
        let records = consumer.poll(Duration::ZERO)?;
        if records.is_empty() {
            return Ok(());
        }
        seen.extend(records.iter().map(|record| {
            let bytes = |field: Option<&[u8]>| field.map(<[u8]>::to_vec);
            let time = record.timestamp().as_millis();
            let (key, value) = (bytes(record.key()), bytes(record.value()));
            (record.offset(), record.leader_epoch(), time, key, value)
        }));
    }
}

/// Returns the batches of a segment: position and header.
fn batches(bytes: &[u8]) -> Vec<(usize, BatchHeader)> {
    let (mut all, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let header = BatchHeader::parse(&bytes[at..]).unwrap();
        all.push((at, header));
        at += header.total_bytes();
    }
    all
}

fn batch_headers(mode: ReadMode) {
    let folder = Folder::new();
    let segments = folder.segments();
    assert!(segments.len() >= 3, "{segments:?}");
    let [.., sealed, active] = segments.as_slice() else { panic!("{segments:?}") };
    for path in [sealed, active] {
        let mut all = batches(&read_file(&folder.memory, path));
        // Above the checkpointed end only the journal counts: recovery truncates the segment there.
        all.retain(|(_, header)| header.next_offset() <= CHECKPOINTED);
        assert!(all.len() >= 3, "{} batches in {}", all.len(), path.display());
        for (at, header) in [all[0], all[1], all[all.len() - 1]] {
            // Reads from the start, from inside the batch, from its last record, and from after it.
            let from = [0, header.base_offset, header.last_offset(), header.next_offset()];
            for byte in at..at + BATCH_HEADER {
                for bit in 0..8 {
                    let noticed = folder.flip((path, byte, bit), mode, &from, true);
                    assert!(noticed, "bit {bit} of byte {byte} of {}", path.display());
                }
            }
        }
    }
}

#[test]
fn every_bit_of_a_batch_header_is_noticed_through_maps() {
    batch_headers(ReadMode::Map);
}

#[test]
fn every_bit_of_a_batch_header_is_noticed_by_plain_reads() {
    batch_headers(ReadMode::Pread);
}

#[test]
fn every_bit_of_a_checkpoint_is_noticed_or_harmless() {
    let folder = Folder::new();
    for name in ["checkpoint.a", "checkpoint.b"] {
        let path = Path::new(name);
        let bytes = read_file(&folder.memory, path);
        let body = u32::from_be_bytes(bytes[36..40].try_into().unwrap()) as usize;
        for byte in 0..CHECKPOINT_HEADER + body {
            for bit in 0..8 {
                folder.flip((path, byte, bit), ReadMode::Map, &[0], true);
            }
        }
    }
}

#[test]
fn every_bit_of_the_journals_headers_is_noticed_or_harmless() {
    let folder = Folder::new();
    let mut noticed = 0;
    let files = journal_file::read(&folder.memory);
    let frames = files.iter().flat_map(|file| &file.frames);
    let known = frames.map(|frame| frame.known_synced).max().unwrap();
    for file in &files {
        let mut headers = vec![(0..JOURNAL_HEADER, true)];
        headers.extend(file.frames.iter().map(|frame| {
            // No later frame records that the last frame was synced, so it may be a torn write.
            let whole = lsn(file.sequence, frame.end) <= known;
            (frame.position..frame.position + journal_file::FRAME_HEADER, whole)
        }));
        for (range, whole) in headers {
            for (byte, bit) in range.flat_map(|byte| (0..8).map(move |bit| (byte, bit))) {
                let place = (file.path.as_path(), byte, bit);
                noticed += usize::from(folder.flip(place, ReadMode::Map, &[0], whole));
            }
        }
    }
    assert!(noticed > 8 * JOURNAL_HEADER, "only {noticed} bits matter");
}
