//! Tests of handles over folders with segments that a Kafka broker wrote.

mod committed;
mod kafka;
mod vectors;
