//! Reading by offset: a cursor walks the segments through maps, then the batches in memory.
//!
//! A fetch decodes each record once, into ranges over bytes that the result keeps alive: a segment map, a
//! batch in memory, or a decompressed buffer. It copies no record.
//!
//! Every byte of a delivered record has been covered by two checksums since it was mapped: by the sum of its block
//! if the segment has one for it ([`super::segment`]), and by the CRC of its batch. Neither makes up for the other.
//! The sums tell bytes of another file, and cover what the CRC leaves out. The CRC tells what changed after the
//! block was compared, and what its writer's memory changed before the sums were made.
//!
//! What reading 100 bytes a record costs, in time of a plain map read that computes the CRC-32C: 1 for loading the
//! bytes, the page faults and one checksum, 0.45 for decoding, 0.15 for the second checksum, 0.15 for the list of
//! records, 0.1 for the caller's loop. Decoding cannot be much faster: to go from length to length alone takes 3 ns
//! a record, since each load waits for the one before, and decoding takes 5. So larger records read faster.

mod cursor;
mod decode;
mod enter;
mod fetch;
mod fetched;
mod following;

pub(in crate::log) use cursor::At;
pub(crate) use cursor::Cursor;
pub(in crate::log) use enter::{Met, Verdict};
pub(crate) use fetched::{Chunk, FetchLimits, Fetched, FetchedRecord};
