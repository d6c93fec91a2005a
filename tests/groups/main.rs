//! Groups with real threads and the real clock: eight members on 64 partitions join and leave all
//! the time, while records are sent.
//!
//! * [`gentle`]: members join and leave properly, and a listener commits. Every record is processed
//!   exactly once and in order, and no partition has two owners between the calls of their
//!   listeners.
//! * [`rough`]: members are dropped, panic, are forgotten, fall silent and are fenced by others
//!   with their instance id. Topics are created and deleted. Every record is processed at least
//!   once.
//! * [`silence`]: a sleeping member takes over from one that is forgotten.
//!
//! Members sleep in `poll` for far longer than the test takes, so a lost wake-up makes the test
//! fail.
//!
//! ```text
//! GROUPLOG_CHURN_SECONDS=60 cargo test --release --test groups     # each; a second by default
//! RUSTFLAGS=-Zsanitizer=thread cargo +nightly test -Zbuild-std --target x86_64-unknown-linux-gnu --test groups
//! ```

#![allow(clippy::unwrap_used, clippy::panic, reason = "this is a test")]
#![allow(clippy::print_stdout, reason = "with --nocapture, how much was done")]
#![allow(clippy::disallowed_methods, reason = "the clock that says when to end")]

mod gentle;
mod ledger;
mod rough;
mod silence;
mod stage;
