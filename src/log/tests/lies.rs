//! Batches with false fields under right checksums. All readers must reach the same verdict.

use super::*;
use crate::config::ReadMode;
use crate::record::{Attributes, Batch, Compression, DEFAULT_MAX_DECOMPRESSED_BYTES, compress};
use crate::types::TimestampType;

/// A batch under test, and whether it is sound.
struct Lie {
    name: &'static str,
    bytes: Vec<u8>,
    /// The offset after the batch, according to the checkpoint.
    end: i64,
    max_timestamp: i64,
    /// The offsets of the records that readers deliver. `None` if the batch is damaged.
    delivers: Option<Vec<i64>>,
}

const BASE: i64 = 100;

fn records(deltas: &[i32]) -> Vec<u8> {
    let mut out = Vec::new();
    for delta in deltas {
        let mut record = [0; 64];
        let key = [*delta as u8];
        let size =
            encode_record(&mut record, i64::from(*delta), *delta, Some(&key), Some(b"v"), &[]);
        out.extend_from_slice(&record[..size.unwrap()]);
    }
    out
}

fn header(count: i32, last_offset_delta: i32) -> BatchHeader {
    BatchHeader {
        base_offset: BASE,
        leader_epoch: EPOCH,
        count,
        last_offset_delta,
        base_timestamp: 1_000,
        max_timestamp: 1_009,
        ..BatchHeader::default()
    }
}

fn lie(name: &'static str, header: &BatchHeader, payload: &[u8], whole: Option<&[i32]>) -> Lie {
    let bytes = [&seal(header, payload).unwrap()[..], payload].concat();
    let end = header.next_offset().max(BASE + 10);
    let delivers = whole.map(|deltas| deltas.iter().map(|d| BASE + i64::from(*d)).collect());
    Lie { name, bytes, end, max_timestamp: header.max_timestamp, delivers }
}

const TEN: [i32; 10] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];

fn counts() -> Vec<Lie> {
    let ten = records(&TEN);
    let mut packed = Vec::new();
    compress(Compression::Zstd, None, &ten, &mut packed).unwrap();
    let zstd = Attributes::default().with_compression(Compression::Zstd);
    let of = |count, last| BatchHeader { attributes: zstd, ..header(count, last) };
    vec![
        lie("the truth", &header(10, 9), &ten, Some(&TEN)),
        lie("the truth, compressed", &of(10, 9), &packed, Some(&TEN)),
        lie("compacted", &header(3, 9), &records(&[0, 4, 8]), Some(&[0, 4, 8])),
        lie("emptied", &header(0, 9), &[], Some(&[])),
        lie("emptied, with its codec", &of(0, 9), &[], Some(&[])),
        lie("count 9", &header(9, 9), &ten, None),
        lie("count 11", &header(11, 10), &ten, None),
        lie("count 0", &header(0, 9), &ten, None),
        lie("count -1", &header(-1, 9), &ten, None),
        lie("count 11 of 10 offsets", &header(11, 9), &ten, None),
        lie("count 9, compressed", &of(9, 9), &packed, None),
        lie("count 0, compressed", &of(0, 9), &packed, None),
        lie("count 2^31-1, compressed", &of(i32::MAX, i32::MAX - 1), &packed, None),
        lie("no records", &header(10, 9), &[], None),
    ]
}

fn fields() -> Vec<Lie> {
    let ten = records(&TEN);
    let control = |count, payload: &[u8], whole| {
        let attributes = Attributes::default().with_control(true);
        let header = BatchHeader { attributes, ..header(count, 0) };
        Lie { end: BASE + 1, ..lie("control", &header, payload, whole) }
    };
    let mut short_key = [0; 64];
    let size = encode_record(&mut short_key, 0, 0, Some(b"\0"), None, &[]).unwrap();
    let mut codec = lie("codec 6", &header(10, 9), &ten, None);
    codec.bytes[22] = 6;
    let crc = crate::record::crc::crc32c(&codec.bytes[21..]);
    codec.bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    // Right sums over a false checksum, as a writer's bad memory makes them. Only the batch's own checksum tells.
    let mut other_crc = lie("checksum of other records", &header(10, 9), &ten, None);
    other_crc.bytes[17] ^= 1;
    let stamped = Attributes::default().with_timestamp_type(TimestampType::LogAppendTime);
    vec![
        codec,
        other_crc,
        lie(
            "last offset delta too low",
            &header(10, 9),
            &records(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 10]),
            None,
        ),
        lie("last offset delta -1", &header(0, -1), &[], None),
        lie("offset twice", &header(10, 9), &records(&[0, 1, 2, 3, 3, 5, 6, 7, 8, 9]), None),
        lie("offsets fall", &header(10, 9), &records(&[0, 1, 2, 4, 3, 5, 6, 7, 8, 9]), None),
        lie("a byte left over", &header(10, 9), &[&ten[..], &[0]].concat(), None),
        lie("a byte too few", &header(10, 9), &ten[..ten.len() - 1], None),
        // Timestamps damage no record.
        lie(
            "maximum below a record's time",
            &BatchHeader { max_timestamp: 5, ..header(10, 9) },
            &ten,
            Some(&TEN),
        ),
        lie(
            "times beyond the last",
            &BatchHeader { base_timestamp: i64::MAX - 3, ..header(10, 9) },
            &ten,
            Some(&TEN),
        ),
        lie("stamped", &BatchHeader { attributes: stamped, ..header(10, 9) }, &ten, Some(&TEN)),
        Lie { name: "control", ..control(1, &records(&[0]), Some(&[])) },
        Lie { name: "control without type", ..control(1, &short_key[..size], Some(&[])) },
        Lie { name: "control, count 0", ..control(0, &records(&[0]), None) },
        Lie { name: "control of noise", ..control(1, &[7; 12], None) },
    ]
}

/// Creates a log with sound batches of 10 records before the lie, and one after it.
fn world(lie: &Lie) -> World {
    let mut world = World::of(&[1], 10);
    let folder = Log::new(identity(), shared(&world.storage)).segment_folder();
    let segment = Arc::new(Segment::create(folder, 10, 4096).unwrap());
    for base in (10..BASE).step_by(10) {
        segment.append(&batch(base, 10, 10), base + 10, 1_000 + base).unwrap();
    }
    segment.append(&lie.bytes, lie.end, lie.max_timestamp).unwrap();
    segment.append(&batch(lie.end, 10, 10), lie.end + 10, 1_000 + lie.end).unwrap();
    segment.finish(false).unwrap();
    world.images.push(segment.image());
    world
}

/// Reads from `from` on. Returns the offsets with their timestamps, and the error after them.
fn read(log: &Log, from: i64, records: usize) -> (Vec<(i64, i64)>, Option<Error>) {
    let mut cursor = Cursor::new(from);
    let mut seen = Vec::new();
    while cursor.position() < log.end_offset() {
        let mut fetched = Fetched::default();
        let limits = FetchLimits { records, bytes: usize::MAX, until: i64::MAX };
        if let Err(error) = log.fetch(&mut cursor, 0, limits, &mut fetched) {
            assert!(fetched.records.is_empty() && fetched.chunks.is_empty());
            return (seen, Some(error));
        }
        let mut at = 0;
        for chunk in &fetched.chunks {
            for record in &fetched.records[at..chunk.end] {
                let offset = chunk.base_offset + i64::from(record.offset_delta);
                seen.push((offset, chunk.timestamp_of(record)));
            }
            at = chunk.end;
        }
    }
    (seen, None)
}

/// Returns what `grouplog dump` reports: the records of the batch with their timestamps, unless it is
/// damaged.
fn dumped(lie: &Lie) -> Option<Vec<(i64, i64)>> {
    let batch = Batch::parse(&lie.bytes).ok()?;
    let records = batch.records(DEFAULT_MAX_DECOMPRESSED_BYTES);
    let verified = batch.verify(DEFAULT_MAX_DECOMPRESSED_BYTES);
    // Decoding checks no checksum.
    let sound = batch.verify_crc().is_ok() && records.is_ok();
    assert_eq!(verified.is_ok(), sound, "{}", lie.name);
    verified.ok()?;
    let control = batch.header().attributes.is_control();
    let records = records.unwrap();
    let all = records.iter().map(|record| (record.offset(), record.timestamp().as_millis()));
    Some(all.filter(|_| !control).collect())
}

fn check(lie: &Lie) {
    let name = lie.name;
    let dumped = dumped(lie);
    let offsets = dumped.as_ref().map(|all| all.iter().map(|(offset, _)| *offset).collect());
    assert_eq!(offsets, lie.delivers, "{name}: dump");
    let world = world(lie);
    let verified = world.log().verify(false, &mut |_| {});
    let lost = Some((BASE, lie.end - 1));
    match (&lie.delivers, verified.findings.as_slice()) {
        (Some(_), []) | (None, [Error::Corrupt(_)]) => {}
        (_, findings) => panic!("{name}: {findings:?}"),
    }
    if let [Error::Corrupt(found)] = verified.findings.as_slice() {
        assert_eq!(found.offsets, lost, "{name}: verify");
        assert_eq!((verified.batches, verified.records), (11, 110), "{name}");
    }
    for mode in [ReadMode::Map, ReadMode::Pread] {
        for records in [usize::MAX, 10, 3, 1] {
            let log = world.log_with(&BrokerConfig::new().read_mode(mode));
            let (seen, error) = read(&log, BASE, records);
            match (&dumped, error) {
                (Some(whole), None) => {
                    let whole: Vec<_> = whole.clone();
                    assert_eq!(seen[..whole.len()], whole, "{name}: poll");
                    assert_eq!(seen.len(), whole.len() + 10, "{name}: poll");
                }
                (None, Some(Error::Corrupt(found))) => {
                    assert_eq!((seen, found.offsets), (Vec::new(), lost), "{name}: poll");
                    let (behind, error) = read(&log, lie.end, records);
                    assert!(error.is_none() && behind.len() == 10, "{name}: {error:?}");
                }
                (dumped, error) => panic!("{name}: dump {dumped:?}, poll {error:?}"),
            }
        }
    }
}

#[test]
fn poll_verify_and_dump_agree_on_counts() {
    counts().iter().for_each(check);
}

#[test]
fn poll_verify_and_dump_agree_on_all_other_fields() {
    fields().iter().for_each(check);
}

/// The checksum of a batch that spans blocks is computed along with their sums, which are right.
#[test]
fn poll_verify_and_dump_agree_on_the_checksum_of_a_large_batch() {
    for false_bit in [0, 1] {
        let mut bytes = batch(BASE, 10, 20_000);
        bytes[17] ^= false_bit;
        let delivers = (false_bit == 0).then(|| (BASE..BASE + 10).collect());
        let large = Lie { name: "large", bytes, end: BASE + 10, max_timestamp: 1_100, delivers };
        check(&large);
        let (seen, error) = read(&world(&large).log(), 90, 7);
        let expected = if false_bit == 0 { (30, false) } else { (10, true) };
        assert_eq!((seen.len(), error.is_some()), expected);
    }
}

/// A single batch cannot show a broken chain of offsets. Readers and `verify` check the chain, and name the
/// batch.
#[test]
fn offsets_inside_the_batch_before_are_damage() {
    for base in [BASE - 1, BASE + 1] {
        let moved = BatchHeader { base_offset: base, ..header(10, 9) };
        let moved = Lie { end: BASE + 10, ..lie("moved", &moved, &records(&TEN), None) };
        let world = world(&moved);
        assert_eq!(world.finding().2, Some((BASE, BASE + 9)));
        let (seen, error) = read(&world.log(), 90, 3);
        assert_eq!(seen.len(), 10);
        let Some(Error::Corrupt(found)) = error else { panic!("{error:?}") };
        assert_eq!(found.offsets, Some((BASE, BASE + 9)));
        assert_eq!(read(&world.log(), BASE + 10, 3).0.len(), 10);
    }
}
