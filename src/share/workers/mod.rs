//! Threads that run a function for each record of a share group.
//!
//! All threads of one [`Workers`] are one member. They take from one queue of reserved records; a thread that finds it
//! empty fetches, while the others that find it empty wait. A record is begun when it reaches the handler: a thread that
//! is done with one and has the next one of the same share-partition at hand notes both in one frame.

mod builder;
mod error;
mod fetcher;
mod handle;
mod job;
mod queue;
mod renewal;
mod shared;
mod stats;

pub use builder::Workers;
pub use error::JobError;
pub use handle::WorkersHandle;
pub use job::Job;
pub use stats::WorkersStats;
