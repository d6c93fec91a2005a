//! Sends dead letters back to where they came from.
//!
//! A share group with the name of the group and `.redrive` behind it reads the topic of dead letters. A letter is accepted
//! in the transaction that has its record. So a crash leaves both or neither, and no letter is sent back twice. Letters of
//! other groups are accepted without a record. What cannot be sent back now stays unfinished, and is tried again by the
//! next redrive.
//!
//! Committed offsets would not do: they expire, and a redrive after that would send everything again.
//!
//! Imported by `broker`.

mod folder;
mod letter;
mod plan;
mod report;
mod run;

pub(crate) use plan::plan;
pub use report::{NotRedriven, Redriven, SkippedLetter};
pub(crate) use run::redrive;
