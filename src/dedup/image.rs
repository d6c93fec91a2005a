//! What a checkpoint lists of the ids of all topics.
//!
//! All numbers are big-endian.
//!
//! | size | type | field |
//! |---|---|---|
//! | 1 | u8 | version: 1 |
//! | 4 | u32 | number of topics, then the topics in rising order of their ids |
//!
//! A topic:
//!
//! | offset | size | type | field |
//! |---|---|---|---|
//! | 0 | 16 | bytes | topic id |
//! | 16 | 8 | i64 | the latest time that the table has seen, milliseconds since 1970, not negative |
//! | 24 | 8 | u64 | ids that were forgotten before their window ended |
//! | 32 | 8 | u64 | number of the first entry that counts |
//! | 40 | 8 | u64 | number of the next bucket |
//! | 48 | 4 | u32 | number of buckets, then the buckets, oldest first |
//!
//! A bucket:
//!
//! | offset | size | type | field |
//! |---|---|---|---|
//! | 0 | 8 | u64 | number, rising from bucket to bucket |
//! | 8 | 8 | u64 | number of its first entry: one more than that of the last entry before |
//! | 16 | 4 | u32 | entries, from 1 to 65,536 |
//! | 20 | 4 | u32 | CRC-32 of its bytes |
//!
//! The first entry that counts is in the first bucket. A topic without buckets stays listed until it is deleted, so
//! that the numbers of its buckets are never used again (D5).
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use super::bytes::Reader;
use super::files::{BUCKET_ENTRIES, BucketImage, TopicImage};
use crate::error::{CorruptReason, Unreadable};

const VERSION: u8 = 1;
const TOPIC_BYTES: usize = 16 + 4 * 8 + 4;
const BUCKET_BYTES: usize = 8 + 8 + 4 + 4;

/// Appends what a checkpoint lists. The topics must be in rising order of their ids, each once.
pub(crate) fn encode_topics(topics: &[TopicImage], out: &mut Vec<u8>) {
    debug_assert!(topics.is_sorted_by(|a, b| a.topic < b.topic), "each state has one form");
    out.push(VERSION);
    out.extend_from_slice(&(topics.len() as u32).to_be_bytes());
    for topic in topics {
        out.extend_from_slice(&topic.topic.to_bytes());
        out.extend_from_slice(&topic.seen.to_be_bytes());
        for counter in [topic.forgotten, topic.first, topic.next_bucket] {
            out.extend_from_slice(&counter.to_be_bytes());
        }
        out.extend_from_slice(&(topic.buckets.len() as u32).to_be_bytes());
        for bucket in &topic.buckets {
            out.extend_from_slice(&bucket.number.to_be_bytes());
            out.extend_from_slice(&bucket.first.to_be_bytes());
            out.extend_from_slice(&bucket.count.to_be_bytes());
            out.extend_from_slice(&bucket.crc.to_be_bytes());
        }
    }
}

/// Decodes what a checkpoint lists. It must fill `bytes`.
pub(crate) fn decode_topics(bytes: &[u8]) -> Result<Vec<TopicImage>, Unreadable> {
    let mut reader = Reader::new(bytes);
    let version = reader.u8()?;
    if version != VERSION {
        return Err(Unreadable::unsupported("version of the list of ids", version, VERSION));
    }
    let count = reader.count(TOPIC_BYTES)?;
    let mut topics: Vec<TopicImage> = Vec::with_capacity(count);
    for _ in 0..count {
        let topic = decode_topic(&mut reader)?;
        if topics.last().is_some_and(|before| before.topic >= topic.topic) {
            return Err(CorruptReason::Field.into());
        }
        topics.push(topic);
    }
    reader.finish()?;
    Ok(topics)
}

fn decode_topic(reader: &mut Reader<'_>) -> Result<TopicImage, CorruptReason> {
    let topic = reader.topic()?;
    let seen = reader.natural()?;
    let (forgotten, first, next_bucket) = (reader.u64()?, reader.u64()?, reader.u64()?);
    let count = reader.count(BUCKET_BYTES)?;
    let mut buckets: Vec<BucketImage> = Vec::with_capacity(count);
    for _ in 0..count {
        let bucket = decode_bucket(reader)?;
        let follows = match buckets.last() {
            Some(before) => before.number < bucket.number && before.end() == bucket.first,
            None => (bucket.first..bucket.end()).contains(&first),
        };
        if !follows || bucket.number >= next_bucket {
            return Err(CorruptReason::Field);
        }
        buckets.push(bucket);
    }
    // Counters that no program reaches. Without the check, sums of them could overflow.
    if first > MAX_COUNTER || next_bucket > MAX_COUNTER {
        return Err(CorruptReason::Field);
    }
    Ok(TopicImage { topic, seen, forgotten, first, next_bucket, buckets })
}

const MAX_COUNTER: u64 = 1 << 62;

fn decode_bucket(reader: &mut Reader<'_>) -> Result<BucketImage, CorruptReason> {
    let (number, first) = (reader.u64()?, reader.u64()?);
    let (count, crc) = (reader.u32()?, reader.u32()?);
    if first > MAX_COUNTER {
        return Err(CorruptReason::Field);
    }
    match count {
        1..=BUCKET_ENTRIES => Ok(BucketImage { number, first, count, crc }),
        _ => Err(CorruptReason::Count),
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "tests may panic")]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::types::TopicId;

    fn image() -> TopicImage {
        let bucket = |number, first, count| BucketImage { number, first, count, crc: 7 };
        TopicImage {
            topic: TopicId::from_bytes([9; 16]),
            seen: 5,
            forgotten: 6,
            first: 103,
            next_bucket: 9,
            buckets: vec![bucket(3, 100, 4), bucket(8, 104, 65_536)],
        }
    }

    fn encoded(topics: &[TopicImage]) -> Vec<u8> {
        let mut out = Vec::new();
        encode_topics(topics, &mut out);
        out
    }

    fn changed(change: impl Fn(&mut TopicImage)) -> Result<Vec<TopicImage>, Unreadable> {
        let mut image = image();
        change(&mut image);
        decode_topics(&encoded(&[image]))
    }

    #[test]
    fn a_list_comes_back_as_it_was() {
        let empty = TopicImage {
            topic: TopicId::from_bytes([10; 16]),
            buckets: Vec::new(),
            first: 0,
            ..image()
        };
        for topics in [vec![], vec![image()], vec![image(), empty]] {
            let bytes = encoded(&topics);
            assert_eq!(decode_topics(&bytes), Ok(topics));
            for cut in 0..bytes.len() {
                assert!(decode_topics(&bytes[..cut]).is_err(), "{cut}");
            }
            let longer = [&bytes[..], &[0]].concat();
            assert_eq!(decode_topics(&longer), Err(CorruptReason::Length.into()));
        }
    }

    #[test]
    fn an_impossible_list_is_damage() {
        let field = Err(Unreadable::Corrupt(CorruptReason::Field));
        assert!(changed(|_| {}).is_ok());
        let changes: [&dyn Fn(&mut TopicImage); 10] = [
            &|topic| topic.seen = -1,
            &|topic| topic.first = 99,
            &|topic| topic.first = 104,
            &|topic| topic.next_bucket = 8,
            &|topic| topic.next_bucket = u64::MAX,
            &|topic| topic.buckets[1].number = 3,
            &|topic| topic.buckets[1].first = 103,
            &|topic| topic.buckets[1].first = 105,
            &|topic| topic.buckets[0].first = u64::MAX,
            &|topic| topic.buckets[1].first = u64::MAX,
        ];
        for (number, change) in changes.into_iter().enumerate() {
            assert_eq!(changed(change), field, "change {number}");
        }
        for count in [0, 65_537] {
            let refused = changed(|topic| topic.buckets[1].count = count);
            assert_eq!(refused, Err(CorruptReason::Count.into()));
        }
        let bytes = encoded(&[image()]);
        let twice = [&[1, 0, 0, 0, 2], &bytes[5..], &bytes[5..]].concat();
        assert_eq!(decode_topics(&twice), field);
        let newer = Unreadable::unsupported("version of the list of ids", 2_u32, 1_u32);
        assert_eq!(decode_topics(&[2]), Err(newer));
        let many = [&[1, 255, 0, 0, 0], &bytes[5..]].concat();
        assert_eq!(decode_topics(&many), Err(CorruptReason::Count.into()));
    }

    proptest! {
        #[test]
        fn a_changed_byte_is_read_or_refused(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = encoded(&[image()]);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(topics) = decode_topics(&bytes) {
                prop_assert_eq!(encoded(&topics), bytes);
            }
        }
    }
}
