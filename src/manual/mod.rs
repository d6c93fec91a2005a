//! Chapters that are longer than a type's own documentation.
//!
//! Imported by no other module.

#[doc = include_str!("exactly_once.md")]
pub mod exactly_once {}

#[doc = include_str!("failure_modes.md")]
pub mod failure_modes {}

#[doc = include_str!("groups.md")]
pub mod groups {}

#[doc = include_str!("job_queues.md")]
pub mod job_queues {}

#[doc = include_str!("kafka.md")]
pub mod kafka {}

#[doc = include_str!("limits.md")]
pub mod limits {}

#[doc = include_str!("measurements.md")]
pub mod measurements {}

#[doc = include_str!("retention.md")]
pub mod retention {}
