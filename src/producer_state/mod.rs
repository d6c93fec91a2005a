//! What one partition knows of Kafka's producers and their transactions (`ProducerStateManager`). No files, no
//! clock, no threads.
//!
//! grouplog's own batches carry no producer ids, so only batches that a Kafka broker wrote enter here. They do so
//! in the order of their offsets, in one of two ways:
//!
//! * [`ProducerStates::follow`] takes what a log holds and judges nothing, as a follower does, or a broker that
//!   loads a log. The scan that rebuilds the transaction index works like this.
//! * `ProducerStates::append` and `ProducerStates::end` judge what a client or a coordinator sends, as the leader
//!   of the partition does. Nothing in the engine appends with sequences yet, so only tests are built with them.
//!
//! ```text
//! 0:P1  1:P2  2:ABORT P1  3:P2  4:COMMIT P2  5:P1       Pn: records of a transaction of producer n
//!
//! aborted      P1, offsets 0 to 2; when its marker came, 1 was the last stable offset
//! completed    P1 0 to 2, P2 1 to 4
//! open         P1, from 5 on, so the last stable offset is 5
//! ```
//!
//! Invariants:
//! - P1: a transaction of a producer begins with its first transactional batch behind the last marker, and ends
//!   with the next marker. A marker without such a batch completes nothing.
//! - P2: the last stable offset is the first offset of the earliest open transaction, or the log end.
//! - P3: a batch belongs to one transaction as a whole. Batches without the transactional bit belong to none.
//! - P4: each change of a producer's epoch forgets its batches. Open transactions survive it.
//! - P5: a producer with an open transaction never expires.
//!
//! Imported by `cleaner`, `log` and `internal`.

mod aborted;
mod control;
mod entry;
#[cfg(test)]
mod judge;
mod states;
#[cfg(test)]
mod tests;

pub(crate) use aborted::{AbortedIndex, AbortedTransaction};
pub(crate) use control::{ControlBatch, Marker};
#[cfg(test)]
pub(crate) use judge::{Append, End, Judged, Refusal};
#[cfg(test)]
pub(crate) use states::Completed;
pub(crate) use states::ProducerStates;
