//! Brings segments that a Kafka broker wrote into a closed folder, for tests.

use std::path::Path;

use super::files;
use crate::log::{LogImage, METADATA_FILE, SegmentImage};
use crate::record::BatchHeader;
use crate::segment::{Extension, SegmentId, file_name};
use crate::storage::{OpenMode, Storage};
use crate::types::TopicPartition;

/// A segment file, and the offset after it.
#[derive(Debug, Clone)]
pub(crate) struct KafkaSegment {
    pub(crate) id: SegmentId,
    pub(crate) log: Vec<u8>,
    pub(crate) end_offset: i64,
}

/// Puts the segments into a partition that has no records yet, and lists them in a new checkpoint.
pub(crate) fn bring_in(
    storage: &dyn Storage,
    partition: &TopicPartition,
    segments: &[KafkaSegment],
) {
    let mut image = files::read_checkpoint(storage).unwrap();
    assert!(image.closed, "the last writer has closed the folder");
    let topic = image.catalogue.topic(partition.topic()).unwrap();
    let number = topic.numbers().nth(partition.partition() as usize).unwrap();
    let dir = partition.to_string();
    let dir = Path::new(&dir);
    storage.create_dir(dir).unwrap();
    let metadata = format!("version: 0\ntopic_id: {}\n", topic.id);
    write(storage, &dir.join(METADATA_FILE), metadata.as_bytes());
    let mut log = LogImage {
        start_offset: segments.first().unwrap().id.base_offset,
        end_offset: segments.last().unwrap().end_offset,
        ..LogImage::default()
    };
    for segment in segments {
        write(storage, &dir.join(file_name(segment.id, Extension::Log)), &segment.log);
        let headers = headers(&segment.log);
        for header in &headers {
            if log.epochs.last().is_none_or(|(last, _)| *last < header.leader_epoch) {
                log.epochs.push((header.leader_epoch, header.base_offset));
            }
        }
        let timestamps = headers.iter().map(|header| header.max_timestamp);
        log.segments.push(SegmentImage {
            base_offset: segment.id.base_offset,
            generation: segment.id.generation,
            end_offset: segment.end_offset,
            len: segment.log.len() as u64,
            checksum: crc32fast::hash(&segment.log),
            first_timestamp: headers.first().map_or(-1, |header| header.max_timestamp),
            max_timestamp: timestamps.max().unwrap_or(-1),
        });
    }
    image.logs.insert(number, log);
    image.generation += 1;
    image.epoch = image.epoch.max(image.logs[&number].epochs.last().map_or(0, |last| last.0));
    files::write_checkpoint(storage, &image).unwrap().sync(storage).unwrap();
}

fn headers(mut log: &[u8]) -> Vec<BatchHeader> {
    let mut out = Vec::new();
    while !log.is_empty() {
        let header = BatchHeader::parse(log).unwrap();
        log = &log[header.total_bytes()..];
        out.push(header);
    }
    out
}

fn write(storage: &dyn Storage, path: &Path, bytes: &[u8]) {
    let file = storage.open(path, OpenMode::CreateNew).unwrap();
    file.write_at(bytes, 0).unwrap();
    file.sync_data().unwrap();
}
