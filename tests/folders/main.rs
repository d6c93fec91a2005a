//! Folders of earlier builds, which every later build opens, and folders of a newer build, which it refuses
//! without changing anything. `tests/README.md` says how to add folders.

#![expect(clippy::disallowed_methods, reason = "fixtures are read from the source tree")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod container;
mod craft;
mod listing;
mod make;
mod newer;
mod old;
