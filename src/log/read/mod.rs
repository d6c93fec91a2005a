//! Reading by offset: a cursor walks segments through maps, then batches in memory.
//!
//! Records are decoded once, into plain ranges over bytes that the result holds on to: a segment map,
//! a batch in memory, or a decompressed buffer. Nothing is copied.

mod cursor;
mod decode;
mod enter;
mod fetch;
mod fetched;

pub(crate) use cursor::Cursor;
pub(crate) use fetched::{Chunk, FetchLimits, Fetched, FetchedRecord};
