//! The worked cases of `tests/vectors/transactions.json`, and properties.

mod kafka;
mod vectors;
