use super::input::Input;
use crate::record::{
    Batch, BatchHeader, Compression, Header, Records, compress, encode_record, seal,
};

const LIMIT: usize = 1 << 20;
const BASE_OFFSET: i64 = 5000;

/// A record as it was sealed or read: offset, timestamp, key, value, headers.
type Plain = (i64, i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<(Vec<u8>, Option<Vec<u8>>)>);

/// Makes a batch and damages it, as the input says: up to three bits, a burst of up to 32, or its end.
/// Checksum, header and chain refuse it, or the records are the same. A CRC-32C always finds such damage, but
/// it does not cover base offset, length, epoch and magic.
pub fn fuzz_batch_mutate(data: &[u8]) {
    let mut input = Input::new(data);
    let (sealed, records) = batch(&mut input);
    assert_eq!(read(&sealed).as_ref(), Some(&records), "as it was sealed");
    let damaged = damage(&mut input, sealed.clone());
    if damaged == sealed {
        return;
    }
    if let Some(found) = read(&damaged) {
        assert_eq!(found, records);
    }
}

fn batch(input: &mut Input<'_>) -> (Vec<u8>, Vec<Plain>) {
    let codec = Compression::ALL[usize::from(input.u8()) % Compression::ALL.len()];
    let base_timestamp = i64::from(input.u16());
    let count = i32::from(input.u8() % 6) + 1;
    let (mut bytes, mut records) = (Vec::new(), Vec::new());
    let mut max_timestamp = -1;
    for delta in 0..count {
        let shape = input.u8();
        let timestamp = base_timestamp + i64::from(input.u8());
        let mut field = |on: bool, max: u8| {
            let len = usize::from(input.u8() % max);
            on.then(|| input.bytes(len))
        };
        let (key, value) = (field(shape & 1 != 0, 16), field(shape & 2 != 0, 64));
        let named = field(shape & 4 != 0, 8);
        let headers: Vec<Header<'_>> =
            named.map(|value| Header { name: "h", value: Some(value) }).into_iter().collect();
        let mut room = [0; 256];
        let time = timestamp - base_timestamp;
        let len = encode_record(&mut room, time, delta, key, value, &headers).expect("room");
        bytes.extend_from_slice(&room[..len]);
        max_timestamp = max_timestamp.max(timestamp);
        let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
        let headers = headers.iter().map(|h| (h.name.into(), owned(h.value))).collect();
        let offset = BASE_OFFSET + i64::from(delta);
        records.push((offset, timestamp, owned(key), owned(value), headers));
    }
    let mut payload = Vec::new();
    compress(codec, None, &bytes, &mut payload).expect("every codec is built in");
    let mut header = BatchHeader {
        base_offset: BASE_OFFSET,
        last_offset_delta: count - 1,
        base_timestamp,
        max_timestamp,
        count,
        ..BatchHeader::default()
    };
    header.attributes = header.attributes.with_compression(codec);
    let front = seal(&header, &payload).expect("small");
    ([&front[..], &payload].concat(), records)
}

fn damage(input: &mut Input<'_>, mut batch: Vec<u8>) -> Vec<u8> {
    let place = |input: &mut Input<'_>, len: usize| usize::from(input.u16()) % len.max(1);
    match input.u8() % 4 {
        0 => {
            for _ in 0..=input.u8() % 3 {
                let at = place(input, batch.len());
                batch[at] ^= 1 << (input.u8() % 8);
            }
        }
        1 => {
            let at = place(input, batch.len());
            let changes = input.bytes(4);
            batch[at..].iter_mut().zip(changes).for_each(|(byte, change)| *byte ^= change);
        }
        2 => batch.truncate(place(input, batch.len())),
        _ => batch.extend_from_slice(input.rest),
    }
    batch
}

/// Returns the records that a reader gets which expects `BASE_OFFSET`.
fn read(bytes: &[u8]) -> Option<Vec<Plain>> {
    let batch = Batch::parse(bytes).ok()?;
    if batch.verify_crc().is_err() || batch.header().base_offset != BASE_OFFSET {
        return None;
    }
    let records: Records<'_> = batch.records(LIMIT).ok()?;
    let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
    let plain = records.iter().map(|record| {
        let headers =
            record.headers().map(|h| (h.name_bytes().to_vec(), owned(h.value()))).collect();
        let timestamp = record.timestamp().as_millis();
        (record.offset(), timestamp, owned(record.key()), owned(record.value()), headers)
    });
    Some(plain.collect())
}
