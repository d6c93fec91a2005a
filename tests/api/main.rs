//! Tests of the contract of the public API.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod admin;
mod alter;
mod compaction;
mod compaction_budget;
mod compaction_damage;
mod compaction_property;
mod consume;
mod damage;
mod delete_records;
mod deletion;
mod descriptors;
mod disk_budget;
mod disk_budget_real;
mod errors;
mod expiry;
mod extremes;
mod faulty;
mod filesystems;
mod first_use;
mod follow;
mod fork;
mod groups;
mod health;
mod hostile;
mod lag;
mod last_handle;
mod later_or_never;
mod listener;
mod membership;
mod mounted;
mod offsets;
mod polls;
mod produce;
mod read_only;
mod recreated;
mod retention;
mod retention_hostile;
mod retention_points;
mod stored;
mod stored_races;
mod topics;
mod typed;

mod weight;
mod world;
