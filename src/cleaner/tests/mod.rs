#![expect(clippy::arithmetic_side_effects, reason = "tests may panic")]

mod batches;
mod failures;
mod parts;
mod properties;
mod vectors;
mod world;
