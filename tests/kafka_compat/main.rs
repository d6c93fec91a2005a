//! Files written by Kafka and two independent clients, read and written again.
#![expect(clippy::disallowed_methods, reason = "fixtures are read from the source tree")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod batches;
mod vectors;
