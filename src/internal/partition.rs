//! A partition with one segment in memory.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::{BrokerConfig, IsolationLevel, TopicConfig};
use crate::log::{
    Cursor, FetchLimits, Fetched, Log, LogIdentity, LogImage, LogShared, SegmentImage,
};
use crate::segment::{Extension, SegmentId, file_name};
use crate::storage::{Memory, OpenMode, Storage};
use crate::types::{Epoch, PartitionNumber, TopicId, TopicPartition};

pub(super) const FOLDER: &str = "t-0";

/// A record as it was delivered: offset, key, value.
pub(super) type Delivered = (i64, Option<Vec<u8>>, Option<Vec<u8>>);

/// Creates a storage that holds the folder of a partition.
pub(super) fn storage() -> Memory {
    let storage = Memory::new();
    storage.create_dir(Path::new(FOLDER)).expect("memory");
    let text = format!("version: 0\ntopic_id: {}\n", topic_id());
    put(&storage, &Path::new(FOLDER).join("partition.metadata"), text.as_bytes());
    storage
}

pub(super) fn put(storage: &dyn Storage, path: &Path, bytes: &[u8]) {
    let file = storage.open(path, OpenMode::CreateNew).expect("a new file");
    file.write_at(bytes, 0).expect("memory");
}

pub(super) fn segment_path(base_offset: i64, extension: Extension) -> PathBuf {
    Path::new(FOLDER).join(file_name(SegmentId::first(base_offset), extension))
}

fn topic_id() -> TopicId {
    TopicId::from_bytes([7; 16])
}

/// Restores the partition as a checkpoint knows it.
pub(super) fn restore(
    storage: &Memory,
    segment: SegmentImage,
    epochs: Vec<(Epoch, i64)>,
    interval: u32,
) -> Log {
    let shared = LogShared::new(Arc::new(storage.clone()), 1, &BrokerConfig::new());
    let identity = LogIdentity {
        number: PartitionNumber(0),
        partition: TopicPartition::new("t", 0),
        topic_id: topic_id(),
        config: Arc::new(TopicConfig::new().index_interval_bytes(interval)),
    };
    let image = LogImage {
        start_offset: segment.base_offset,
        end_offset: segment.end_offset,
        epochs,
        segments: vec![segment],
        first_dirty_offset: None,
    };
    Log::restore(identity, Arc::new(shared), &image)
}

/// Reads all records from `from` on. Also returns the error that ended it before the end.
pub(super) fn read(
    log: &Log,
    from: i64,
    limits: FetchLimits,
) -> (Vec<Delivered>, Option<crate::Error>) {
    read_at(log, from, IsolationLevel::ReadUncommitted, limits)
}

/// Reads all records of this isolation level. One of committed records also ends at the last stable offset.
pub(super) fn read_at(
    log: &Log,
    from: i64,
    level: IsolationLevel,
    limits: FetchLimits,
) -> (Vec<Delivered>, Option<crate::Error>) {
    let mut cursor = Cursor::new(from).reading(level);
    let mut all = Vec::new();
    while cursor.position() < log.end_offset() {
        let before = cursor.position();
        let mut fetched = Fetched::default();
        if let Err(error) = log.fetch(&mut cursor, 0, limits, &mut fetched) {
            assert!(fetched.records.is_empty(), "nothing is delivered with an error");
            return (all, Some(error));
        }
        take(&fetched, &mut all);
        if level == IsolationLevel::ReadCommitted && cursor.position() == before {
            assert_eq!(cursor.waits_at(), log.end_offset());
            return (all, None);
        }
        assert!(cursor.position() > before, "a fetch below the end moves or fails");
    }
    assert_eq!(cursor.position(), log.end_offset());
    (all, None)
}

fn take(fetched: &Fetched, all: &mut Vec<Delivered>) {
    let mut at = 0;
    for chunk in &fetched.chunks {
        let bytes = chunk.source.bytes();
        for raw in fetched.records.get(at..chunk.end).unwrap_or_default() {
            let offset = chunk.base_offset + i64::from(raw.offset_delta);
            let field = |span: crate::record::Span| span.get(bytes).map(<[u8]>::to_vec);
            all.push((offset, field(raw.key), field(raw.value)));
        }
        at = chunk.end;
    }
    assert_eq!(at, fetched.records.len());
}
