//! The command line, run as a user runs it: one process after another, several at once, and some killed.
#![cfg(feature = "cli")]
#![expect(
    clippy::disallowed_methods,
    reason = "files outside of the engine, and damage to its own"
)]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod beside;
mod budget;
mod dump;
mod errors;
mod group;
mod kill;
mod lines;
mod records;
mod run;
mod salvage;
mod share;
mod stdout;
mod verify;
