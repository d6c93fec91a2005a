//! The fixtures of `tests/vectors`. The README there names their writers.

use std::path::{Path, PathBuf};

use base64::Engine;
use serde::Deserialize;

/// The description `X.json` of `X.log`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Description {
    pub(crate) size: usize,
    pub(crate) valid_bytes: usize,
    pub(crate) batches: Vec<Batch>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Batch {
    pub(crate) position: usize,
    pub(crate) size: usize,
    pub(crate) base_offset: i64,
    pub(crate) last_offset: i64,
    pub(crate) leader_epoch: i32,
    pub(crate) crc: u32,
    pub(crate) crc_ok: bool,
    pub(crate) compression: String,
    pub(crate) timestamp_type: String,
    pub(crate) is_transactional: bool,
    pub(crate) is_control: bool,
    pub(crate) delete_horizon_ms: Option<i64>,
    pub(crate) base_timestamp: i64,
    pub(crate) max_timestamp: i64,
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i16,
    pub(crate) base_sequence: i32,
    pub(crate) last_sequence: i32,
    pub(crate) count: i32,
    pub(crate) records: Vec<Record>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    pub(crate) offset: i64,
    pub(crate) timestamp: i64,
    pub(crate) sequence: i32,
    pub(crate) key: Option<String>,
    pub(crate) value: Option<String>,
    pub(crate) headers: Vec<(String, Option<String>)>,
}

/// Decodes the bytes of a key, value or header value.
pub(crate) fn bytes(base64: Option<&String>) -> Option<Vec<u8>> {
    base64.map(|text| base64::engine::general_purpose::STANDARD.decode(text).unwrap())
}

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

pub(crate) fn read(name: &str) -> Vec<u8> {
    let path = folder().join(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Returns the names of all described segment files, without extension.
pub(crate) fn names() -> Vec<String> {
    let mut names: Vec<String> = folder()
        .read_dir()
        .unwrap()
        .filter_map(|entry| {
            let name = entry.unwrap().file_name().into_string().unwrap();
            name.strip_suffix(".log").map(str::to_owned)
        })
        .collect();
    names.sort();
    names
}

pub(crate) fn description(name: &str) -> Description {
    serde_json::from_slice(&read(&format!("{name}.json"))).unwrap()
}
