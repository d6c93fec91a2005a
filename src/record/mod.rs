//! Kafka's record batches, magic 2: the bytes of a segment, and of an open batch before it is sealed.
//!
//! Pure functions over slices: no files, no clock. Everything is big-endian two's complement.
//!
//! ```text
//! batch                                              record, one after the other from byte 61
//! 0   8  i64  base offset                            varint   length: bytes that follow it
//! 8   4  i32  length: bytes after it, 49 or more     i8       attributes, unused, 0
//! 12  4  i32  leader epoch, -1 unknown               varlong  timestamp delta, may be negative
//! 16  1  i8   magic, 2                               varint   offset delta, 0 or more, rising
//! 17  4  u32  CRC-32C of byte 21 to the end          varint   key length, -1 null; key
//! 21  2  i16  attributes                             varint   value length, -1 null; value
//! 23  4  i32  last offset delta                      varint   header count, 0 or more
//! 27  8  i64  base timestamp                         per header:
//! 35  8  i64  max timestamp                            varint   name length, 0 or more; name
//! 43  8  i64  producer id, -1 none                     varint   value length, -1 null; value
//! 51  2  i16  producer epoch, -1 none
//! 53  4  i32  base sequence, -1 none                 attributes of a batch
//! 57  4  i32  count of records                       0x07 codec   0x08 LogAppendTime   0x10 transactional
//! 61     records, or one compressed stream of them   0x20 control   0x40 delete horizon
//! ```
//!
//! The checksum does not cover base offset, length, leader epoch and magic. So the engine can
//! assign offsets without computing it again. Damage in these fields shows in the chain of offsets,
//! or not at all. A truncated batch has fewer bytes than its length says.
//!
//! Reading has three steps, and callers can stop after each: [`Batch::parse`] checks the header,
//! [`Batch::verify_crc`] the checksum, [`Batch::records`] each record. [`Batch::verify`] combines the
//! last two: it alone decides whether a batch is intact. The code trusts no input: it believes
//! lengths and counts only as far as there are bytes for them.
//!
//! Imported by `config`, `producer_state`, `segment`, `cleaner`, `log`, `engine`, `producer`, `consumer`,
//! `share`, `transaction`, `broker` and `internal`.

mod batch;
mod bounded;
mod codec;
mod compression;
mod control;
pub(crate) mod crc;
mod decode_error;
pub(crate) mod header;
#[cfg(feature = "lz4")]
mod lz4;
mod murmur2;
#[expect(clippy::module_inception, reason = "a batch holds records; each has its file")]
mod record;
#[cfg(feature = "snappy")]
mod snappy;
pub(crate) mod varint;

pub use batch::{Batch, DEFAULT_MAX_DECOMPRESSED_BYTES, RecordView, Records, decode_records};
pub(crate) use batch::{check_records, each_record};
pub use codec::{compress, decompress};
pub use compression::Compression;
pub use control::{ControlType, EndTransactionMarker};
pub use decode_error::DecodeError;
pub use header::{Attributes, BatchHeader, HEADER_BYTES, MAGIC, seal};
pub use murmur2::{murmur2, partition_for_key};
pub use record::{
    Header, Headers, RawRecord, RecordHeader, Span, encode_record, encoded_record_bytes,
    read_record,
};
pub(crate) use record::{read_any, read_plain};

/// The header that says from when on share groups deliver a record: milliseconds since 1970, as decimal text.
pub(crate) const DELIVER_AT_HEADER: &str = "__deliver.at";
