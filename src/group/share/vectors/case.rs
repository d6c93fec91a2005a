//! Reading a case: every key is used, or the case fails.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value};

use super::super::{AckType, ShareSettings};
use crate::types::AcquireMode;

/// The keys of an object that nobody has read yet.
#[derive(Debug)]
pub(super) struct Keys<'a>(BTreeMap<&'a str, &'a Value>);

impl<'a> Keys<'a> {
    pub(super) fn of(value: &'a Value) -> Self {
        let object: &Map<String, Value> = value.as_object().unwrap();
        Self(object.iter().map(|(key, value)| (key.as_str(), value)).collect())
    }

    pub(super) fn take(&mut self, key: &str) -> Option<&'a Value> {
        self.0.remove(key)
    }

    pub(super) fn finish(&self) {
        assert!(self.0.is_empty(), "unknown keys: {:?}", self.0.keys());
    }
}

pub(super) fn int(value: &Value) -> i64 {
    value.as_i64().unwrap_or_else(|| panic!("not a number: {value}"))
}

pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}"))
}

/// What a config says besides settings.
#[derive(Debug, Default)]
pub(super) struct Config {
    pub(super) committed: bool,
    pub(super) dlq: bool,
    pub(super) log_start: i64,
    pub(super) spso: Option<i64>,
    pub(super) explicit: bool,
}

/// The defaults that the format names: Kafka's.
pub(super) fn kafka_settings() -> ShareSettings {
    ShareSettings {
        max_record_locks: 2000,
        acquire_mode: AcquireMode::BatchOptimized,
        ..ShareSettings::default()
    }
}

/// Reads a `config`, or the `set` of a step.
pub(super) fn configure(value: &Value, settings: &mut ShareSettings, config: &mut Config) {
    for (key, value) in value.as_object().unwrap() {
        match key.as_str() {
            "limit" => settings.delivery_count_limit = int(value) as u16,
            "lockMs" => settings.lock_duration = Duration::from_millis(int(value) as u64),
            "maxLocks" => settings.max_record_locks = int(value) as u32,
            "mode" => {
                settings.acquire_mode = match text(value) {
                    "record_limit" => AcquireMode::RecordLimit,
                    "batch_optimized" => AcquireMode::BatchOptimized,
                    other => panic!("mode {other}"),
                };
            }
            "isolation" => {
                config.committed = match text(value) {
                    "read_uncommitted" => false,
                    "read_committed" => true,
                    other => panic!("isolation {other}"),
                };
            }
            "renew" => settings.renew_enabled = value.as_bool().unwrap(),
            "dlq" => config.dlq = value.as_bool().unwrap(),
            "logStart" => config.log_start = int(value),
            "spso" => config.spso = Some(int(value)),
            "acknowledgement" => {
                config.explicit = match text(value) {
                    "implicit" => false,
                    "explicit" => true,
                    other => panic!("acknowledgement {other}"),
                };
            }
            other => panic!("unknown config {other}"),
        }
    }
}

/// Reads a type of acknowledgement; `None` if there is no such type.
pub(super) fn ack_type(value: &Value) -> Option<AckType<'static>> {
    const NAMES: [&str; 5] = ["gap", "accept", "release", "reject", "renew"];
    let name = match value.as_u64() {
        Some(id) => NAMES.get(id as usize)?,
        None => text(value),
    };
    Some(match name {
        "gap" => AckType::Gap,
        "accept" => AckType::Accept,
        "release" => AckType::Release { delay: None, reason: None },
        "reject" => AckType::Reject,
        "renew" => AckType::Renew,
        _ => return None,
    })
}

/// Joins runs that touch and agree.
pub(super) fn join<T: PartialEq>(
    runs: impl IntoIterator<Item = (i64, i64, T)>,
) -> Vec<(i64, i64, T)> {
    let mut joined: Vec<(i64, i64, T)> = Vec::new();
    for (first, last, content) in runs {
        match joined.last_mut() {
            Some(before) if before.1 + 1 == first && before.2 == content => before.1 = last,
            _ => joined.push((first, last, content)),
        }
    }
    joined
}
