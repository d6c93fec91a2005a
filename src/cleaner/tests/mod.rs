#![expect(clippy::arithmetic_side_effects, reason = "tests may panic")]

mod properties;
mod vectors;
mod world;
