//! Chapters that are longer than a type's own documentation.

#[doc = include_str!("groups.md")]
pub mod groups {}
