//! Reading by offset: a cursor walks the segments through maps, then the batches in memory.
//!
//! A fetch decodes each record once, into ranges over bytes that the result keeps alive: a segment map, a
//! batch in memory, or a decompressed buffer. It copies no record.

mod cursor;
mod decode;
mod enter;
mod fetch;
mod fetched;
mod following;

pub(crate) use cursor::Cursor;
pub(crate) use fetched::{Chunk, FetchLimits, Fetched, FetchedRecord};
