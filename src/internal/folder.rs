use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::input::Input;
use crate::broker::{Broker, ReadOnlyBroker};
use crate::config::{BrokerConfig, ConsumerConfig, TopicConfig};
use crate::consumer::Consumer;
use crate::engine::CheckpointImage;
use crate::error::{Error, Result};
use crate::producer::Record;
use crate::record::Compression;
use crate::storage::{Crash, FileKind, Memory, OpenMode, Storage};
use crate::time::{ManualClock, SeededRandom};
use crate::types::{Timestamp, TopicPartition};

/// Replaces both checkpoint files by any bytes, or by the right ones with any bits flipped, with right
/// checksums or without. The decoder refuses them, or what they hold encodes and decodes to the same. The
/// folder around them opens or says why not. If no checkpoint is valid, it stays as it was.
pub fn fuzz_checkpoint_load(data: &[u8]) {
    let mut input = Input::new(data);
    let flags = input.u8();
    let folder = template(flags & 1 != 0);
    let len = usize::from(input.u16());
    let parts = [input.bytes(len), input.rest];
    let mut valid = false;
    for (at, (name, bytes)) in ["checkpoint.a", "checkpoint.b"].iter().zip(parts).enumerate() {
        let path = Path::new(name);
        let mut bytes = match flags & (2 << at) {
            0 => bytes.to_vec(),
            _ => flipped(read_file(&folder, path), bytes),
        };
        if flags & (8 << at) != 0 {
            mend(&mut bytes);
        }
        if let Ok(image) = CheckpointImage::decode(&bytes) {
            let encoded = image.encode().expect("it was read");
            assert_eq!(CheckpointImage::decode(&encoded), Ok(image));
            valid = true;
        }
        replace(&folder, path, &bytes);
    }
    check(&folder, valid);
}

/// Opens a folder whose files are changed, removed, exchanged, added and turned into folders. It opens for a
/// reader and a writer, or says why not. A reader changes nothing, nor does a writer that finds no
/// checkpoint. A folder that opens can be read at least in part, appended to, closed and opened again.
pub fn fuzz_open_dir(data: &[u8]) {
    let mut input = Input::new(data);
    let flags = input.u8();
    let folder = template(flags & 1 != 0);
    for _ in 0..8 {
        if input.rest.is_empty() {
            break;
        }
        change(&folder, &mut input);
    }
    let readable = ["checkpoint.a", "checkpoint.b"].iter().any(|name| {
        let is_file = matches!(folder.metadata(Path::new(name)), Ok(Some((FileKind::File, _))));
        is_file && CheckpointImage::decode(&read_file(&folder, Path::new(name))).is_ok()
    });
    check(&folder, readable);
}

/// Returns a folder as a close or a kill leaves it: two topics, of several segments, one of them compressed,
/// offsets of a group, a deleted topic, a full journal file.
fn template(closed: bool) -> Memory {
    static FOLDERS: OnceLock<[Memory; 2]> = OnceLock::new();
    let folders = FOLDERS.get_or_init(|| [false, true].map(|closed| make(closed).expect("memory")));
    folders[usize::from(closed)].crash(Crash::KeepAll, &SeededRandom::new(0))
}

fn config() -> BrokerConfig {
    BrokerConfig::new()
        .background(false)
        .journal_file_bytes(64 << 10)
        .journal_max_bytes(256 << 10)
        .batch_size(1024)
        .stored_append_bytes(400)
        .clock(Arc::new(ManualClock::at(Timestamp::from_millis(1_700_000_000_000))))
        .random(Arc::new(SeededRandom::new(5)))
}

fn make(closed: bool) -> Result<Memory> {
    let memory = Memory::crash_simulating(1);
    let broker = Broker::open_storage(Arc::new(memory.clone()), config())?;
    let small = TopicConfig::new().segment_bytes(2048).index_interval_bytes(256);
    broker.create_topic("a", small.clone().partitions(2))?;
    broker.create_topic("b", small.compression(Compression::Zstd))?;
    broker.create_topic("gone", TopicConfig::new())?;
    let producer = broker.producer()?;
    let mut group = broker.consumer("g")?;
    for round in 0..8_i64 {
        let value = vec![b'a' + round as u8; 300];
        if round % 3 == 1 {
            // It is in the segment, and the journal says where.
            producer.send(Record::to("a").partition(1).value(&value.repeat(2)))?;
        }
        for (topic, partition) in [("a", 0), ("a", 1), ("b", 0), ("b", 0)] {
            let record = Record::to(topic).partition(partition).key("key").value(&value);
            producer.send(record.header("round", "x"))?;
        }
        group.commit_offsets([(TopicPartition::new("a", 0), round)])?;
        if round == 4 {
            broker.delete_topic("gone")?;
            broker.checkpoint()?;
        }
    }
    let left = if closed {
        broker.close()?;
        memory
    } else {
        memory.crash(Crash::Kill, &SeededRandom::new(0))
    };
    Ok(left)
}

/// Opens, reads, appends and closes. `valid` says whether a checkpoint is valid.
fn check(folder: &Memory, valid: bool) {
    let before = contents(folder);
    let storage: Arc<dyn Storage> = Arc::new(folder.clone());
    match Broker::open_storage_read_only(Arc::clone(&storage)) {
        Ok(reader) => read_snapshot(&reader),
        Err(error) => assert!(is_typed(&error), "{error:?}"),
    }
    assert!(contents(folder) == before, "a reader changes nothing");
    match Broker::open_storage(Arc::clone(&storage), config()) {
        Ok(broker) => {
            work(&broker);
            match broker.close() {
                Ok(()) => {}
                Err(error) => assert!(is_typed(&error), "{error:?}"),
            }
            if let Err(error) = Broker::open_storage(storage, config()) {
                assert!(is_typed(&error), "{error:?}");
            }
        }
        Err(error) => {
            assert!(is_typed(&error), "{error:?}");
            assert!(valid || contents(folder) == before, "nothing is deleted without a checkpoint");
        }
    }
}

fn work(broker: &Broker) {
    for name in broker.list_topics() {
        let Ok(topic) = broker.describe_topic(&name) else { continue };
        for partition in topic.partitions.iter().take(64) {
            let Ok(consumer) = broker.consumer_with(ConsumerConfig::new()) else { continue };
            read(consumer, partition.partition.clone());
            let record = Record::to(&name).partition(partition.partition.partition()).value("new");
            if let Err(error) = broker.producer().and_then(|producer| producer.send(record)) {
                assert!(is_typed(&error), "{error:?}");
            }
        }
    }
    for group in broker.list_groups() {
        if let Err(error) = broker.describe_group(&group) {
            assert!(is_typed(&error), "{error:?}");
        }
    }
}

fn read_snapshot(broker: &ReadOnlyBroker) {
    for name in broker.list_topics() {
        let Ok(topic) = broker.describe_topic(&name) else { continue };
        for partition in topic.partitions.iter().take(64) {
            let Ok(consumer) = broker.consumer() else { continue };
            read(consumer, partition.partition.clone());
        }
    }
}

fn read(mut consumer: Consumer, partition: TopicPartition) {
    consumer.assign([partition]).expect("it is listed");
    for _ in 0..200 {
        match consumer.poll(Duration::ZERO) {
            Ok(records) if records.is_empty() => return,
            Ok(records) => {
                for record in &records {
                    let fields = (record.key().map(<[u8]>::len), record.value().map(<[u8]>::len));
                    std::hint::black_box((fields, record.headers().count(), record.timestamp()));
                }
            }
            Err(error) => {
                assert!(is_typed(&error), "{error:?}");
                return;
            }
        }
    }
}

/// Returns whether a reader or opener may report this error for a changed folder.
fn is_typed(error: &Error) -> bool {
    matches!(
        error,
        Error::Corrupt(_)
            | Error::MissingSegment { .. }
            | Error::NotADatabase { .. }
            | Error::UnsupportedFormat { .. }
            | Error::UnsupportedCodec { .. }
            | Error::LimitExceeded { .. }
            | Error::OffsetOutOfRange { .. }
            | Error::Io { .. }
            | Error::DiskFull { .. }
            | Error::Failed { .. }
    )
}

const NAMES: [&str; 14] = [
    "checkpoint.a",
    "checkpoint.b.new",
    "offsets.a",
    "journal/0.journal",
    "journal/1.journal",
    "journal/9.journal",
    "journal/x",
    "a-0/00000000000000000000.log",
    "a-0/00000000000000000099.log",
    "a-0/partition.metadata",
    "b-0/00000000000000000000.index.deleted",
    "c-0",
    "gone-0",
    "stranger",
];

fn change(folder: &Memory, input: &mut Input<'_>) {
    let files: Vec<PathBuf> = contents(folder).into_keys().collect();
    let pick = |input: &mut Input<'_>| files.get(usize::from(input.u8()) % files.len().max(1));
    let kind = input.u8();
    let Some(path) = pick(input) else { return };
    let place = usize::from(input.u16());
    let len = usize::from(input.u8());
    // A change that fails, such as removing a folder that is not empty, is left undone.
    let _left = match kind % 8 {
        0 | 1 => {
            let mut bytes = read_file(folder, path);
            let at = place.min(bytes.len());
            let changes = input.bytes(len);
            bytes[at..].iter_mut().zip(changes).for_each(|(byte, change)| *byte ^= change);
            if kind & 8 != 0 {
                mend(&mut bytes);
            }
            replace(folder, path, &bytes);
            Ok(())
        }
        2 => folder.open(path, OpenMode::Write).and_then(|file| file.set_len(place as u64)),
        3 => folder.remove(path),
        4 => {
            replace(folder, path, input.bytes(len));
            Ok(())
        }
        5 => pick(input).map_or(Ok(()), |other| folder.rename(path, other)),
        6 => folder.create_dir(Path::new(NAMES[place % NAMES.len()])),
        _ => {
            let new = Path::new(NAMES[place % NAMES.len()]);
            let bytes = input.bytes(len);
            folder.open(new, OpenMode::CreateNew).and_then(|file| file.write_at(bytes, 0))
        }
    };
}

fn flipped(mut bytes: Vec<u8>, changes: &[u8]) -> Vec<u8> {
    bytes.iter_mut().zip(changes).for_each(|(byte, change)| *byte ^= change);
    bytes
}

/// Puts a right length and checksum into bytes that begin like a checkpoint.
fn mend(bytes: &mut [u8]) {
    const LENGTH_AT: usize = 36;
    const CRC_AT: usize = 40;
    const BODY_AT: usize = 44;
    let Some(len) = bytes.len().checked_sub(BODY_AT) else { return };
    bytes[LENGTH_AT..CRC_AT].copy_from_slice(&(len as u32).to_be_bytes());
    let mut crc = crc32fast::Hasher::new();
    crc.update(&bytes[..CRC_AT]);
    crc.update(&bytes[BODY_AT..]);
    bytes[CRC_AT..BODY_AT].copy_from_slice(&crc.finalize().to_be_bytes());
}

fn read_file(folder: &Memory, path: &Path) -> Vec<u8> {
    let Ok(file) = folder.open(path, OpenMode::Read) else { return Vec::new() };
    let mut bytes = vec![0; file.len().expect("memory") as usize];
    file.read_at(&mut bytes, 0).expect("memory");
    bytes
}

fn replace(folder: &Memory, path: &Path, bytes: &[u8]) {
    let Ok(file) = folder.open(path, OpenMode::Write) else { return };
    file.set_len(0).expect("memory");
    file.write_at(bytes, 0).expect("memory");
}

/// Returns all files with their bytes, except the lock.
fn contents(folder: &Memory) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut dirs = vec![PathBuf::new()];
    while let Some(dir) = dirs.pop() {
        for entry in folder.list(&dir).expect("memory") {
            let path = dir.join(&entry.name);
            match entry.kind {
                FileKind::Dir => dirs.push(path),
                _ if entry.name == "grouplog.lock" => {}
                _ => {
                    let bytes = read_file(folder, &path);
                    files.insert(path, bytes);
                }
            }
        }
    }
    files
}
