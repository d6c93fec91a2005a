#![expect(clippy::arithmetic_side_effects, reason = "tests may panic")]

mod vectors;
mod world;
