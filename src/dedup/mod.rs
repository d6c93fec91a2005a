//! Idempotency ids of records: what a topic remembers of them, in memory, in the journal and in files.
//!
//! A program may give a record an id. If the same id is sent again within `dedup.window.ms`, to whatever partition of
//! the topic, nothing is stored, and the sender gets the place of the first record. A [`DedupTable`] holds the ids of
//! one topic. The frame that holds the records also holds an [`IdSection`] with their ids. A checkpoint writes the
//! ids that are new since the one before to the end of files, the buckets.
//!
//! Code and tests cite these invariants by number. A *listed* bucket is one in the image of a checkpoint that may
//! count: the newest durable one, or one whose writing has failed or was interrupted and that may be durable all the
//! same. The *hard length* is the length that the checkpoint lists.
//!
//! * **D1** An id counts if it was registered less than a window ago, and is among the newest `dedup.max.ids`. The window
//!   runs from its registration; nothing makes it longer. Registering and storing the record are one frame: both or
//!   none.
//! * **D2** Time never goes back: a table takes the largest time that it has seen. So times do not fall from entry to
//!   entry, and the ids that count are the last ones.
//! * **D3** Entries are numbered in the order of the frames. No entry changes, and no number is given twice. So what a
//!   checkpoint has written stays as it is, and the next one writes what follows.
//! * **D4** The bytes of a listed bucket below its hard length never change. Entries are appended behind the hard length
//!   of the last durable checkpoint, but only if no checkpoint has failed since: a failed one may be durable with a larger
//!   hard length, and the next one may have other entries to write. It begins a new bucket.
//! * **D5** No bucket number is given twice, as far as any checkpoint may list it. A topic stays listed with its next
//!   number until it is deleted, and a failed checkpoint uses its numbers up. So the file of a new bucket is not
//!   there, or it is the rest of a checkpoint that a crash interrupted, and may be overwritten. Topic ids are never used
//!   again, so neither are those of a deleted topic.
//! * **D6** Files and names are synced before [`write_out`] returns, so before a checkpoint that lists them is written.
//! * **D7** A bucket is removed only when the durable checkpoint does not list it: [`remove_unlisted`] follows the
//!   sync of the checkpoint, also when a folder is opened. Until then an older checkpoint may count after a power loss.
//! * **D8** A checkpoint lists the entries that counted when it was frozen, and no later one. With the frames above its
//!   position, it makes the same table.
//!
//! What a crash leaves:
//!
//! | crash | state |
//! |---|---|
//! | before the checkpoint is durable | The older checkpoint counts. Bytes behind its hard lengths mean nothing; new buckets are not listed, and are overwritten or removed. |
//! | after it is durable, before removal | The new checkpoint counts. Buckets that it does not list are removed after the next one. |
//! | in the middle of overwriting | Only bytes behind hard lengths and unlisted buckets are torn. |
//!
//! A checkpoint calls, in this order: [`DedupTable::freeze`] for each table under its lock, together with the freeze of
//! everything else; [`write_out`] without locks; then it writes the images with [`encode_topics`] and is synced;
//! [`DedupTable::committed`] for each table; [`remove_unlisted`]. If it fails, what was frozen is dropped.
//!
//! A send calls, with the table locked: [`DedupTable::time`] once; [`Claims::decide`] for each record; [`Claims::place`]
//! for the new ones; [`Claims::encode`] into the frame; and once the frame is complete [`Claims::register`].
//!
//! Imported by `engine`, `producer` and `internal`.

mod bucket;
mod bytes;
mod claims;
mod entry;
mod files;
mod freeze;
#[cfg(feature = "__internal")]
#[allow(clippy::arithmetic_side_effects, reason = "the sizes are those of bytes in memory")]
mod fuzzing;
mod hash;
mod image;
mod index;
mod load;
mod remove;
mod ring;
mod section;
mod table;
#[cfg(test)]
mod tests;
mod write_out;

pub(crate) use bucket::DEDUP_DIR;
pub(crate) use claims::{ClaimNumber, Claims, Decision};
pub(crate) use entry::Place;
pub(crate) use files::TopicImage;
pub(crate) use freeze::Frozen;
#[cfg(feature = "__internal")]
pub(crate) use fuzzing::fuzz_bucket;
#[cfg(test)]
pub(crate) use hash::IdHash;
pub(crate) use hash::{IdHasher, check_id};
pub(crate) use image::{decode_topics, encode_topics};
pub(crate) use load::{load, load_without_ids};
pub(crate) use remove::remove_unlisted;
pub(crate) use section::{IdSection, id_section_bytes};
pub(crate) use table::{DedupSettings, DedupTable};
pub(crate) use write_out::write_out;
