//! The seam through which the crate reaches all files: [`Disk`] for real ones, [`Memory`] for tests
//! and for `open_in_memory`, [`ReadOnly`] as a wrapper around either.
//!
//! Paths are relative to the root of the storage (`journal/0.journal`) and never leave it. Recovery
//! relies on this contract of what is durable after which call:
//!
//! | after | survives a killed process | survives power loss |
//! |---|---|---|
//! | `write_at`, `WriteMap::write` | yes | not before a sync, and then in any order and in part |
//! | `sync_data` returned `Ok` | yes | all bytes written before the call began, and the length; not the name |
//! | `write_at_durable` returned `Ok` | yes | these bytes; says nothing of other bytes of the file |
//! | `create`, `rename`, `remove`, `create_dir` | yes | not before `sync_dir` of the folder that holds the name |
//! | `sync_whole` returned `Ok` | yes | everything that was changed before the call began, names too |
//!
//! A failed sync is final for that file: earlier bytes may be lost, whatever a later sync reports.
//!
//! Imported by `config`, `journal`, `log`, `dedup`, `engine`, `consumer`, `broker` and `internal`.

mod budget;
#[cfg(unix)]
mod disk;
pub(crate) mod map;
mod memory;
mod path;
mod read_only;
mod seam;
mod sparing;
#[cfg(test)]
mod tests;

pub(crate) use budget::{Account, Charge, Ledger, Metered};
#[cfg(unix)]
pub use disk::{Access, Disk};
pub(crate) use map::ForkMark;
pub use map::{ReadMap, WriteMap};
pub use memory::{Crash, Memory};
pub use read_only::ReadOnly;
pub use seam::{DirEntry, FileKind, OpenMode, Storage, StorageFile, StorageLock};
pub(crate) use sparing::Sparing;
