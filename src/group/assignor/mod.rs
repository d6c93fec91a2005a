//! The built-in assignors: pure functions from subscriptions to assignments, with Kafka's results.
//!
//! Each assignor walks members in the order of their ids and topics in the order of their names,
//! where Kafka walks hash maps. So the same group always gets the same assignment. There are no
//! racks.

mod layout;
mod range;
mod round_robin;
// For share groups, which do not exist yet. Until then only Kafka's examples use it.
#[cfg(test)]
mod simple;
mod sticky;
mod uniform;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod vectors;

pub(crate) use range::RangeAssignor;
pub(crate) use round_robin::RoundRobinAssignor;
pub(crate) use sticky::{CooperativeStickyAssignor, StickyAssignor};
pub(crate) use uniform::UniformAssignor;
