//! Share groups: many workers on one topic, and each record is acknowledged alone (KIP-932).
//!
//! `engine::shares` keeps the state; here are the handles of programs. A [`ShareConsumer`] polls and hands out
//! [`ShareRecord`]s; [`Workers`] run a function for each record.
//!
//! Imported by `transaction`, `redrive`, `broker` and `internal`.

mod batch;
mod consumer;
mod kept;
mod member;
mod record;
mod sources;
mod workers;

pub use consumer::ShareConsumer;
pub(crate) use kept::KeptRecords;
pub use record::{ShareRecord, ShareRecords};
pub use workers::{Job, JobError, Workers, WorkersHandle, WorkersStats};
