//! Chapters that are longer than a type's own documentation.

#[doc = include_str!("failure_modes.md")]
pub mod failure_modes {}

#[doc = include_str!("groups.md")]
pub mod groups {}
