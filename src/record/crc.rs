//! CRC-32C (Castagnoli, "CRC-32/ISCSI"), the checksum of Kafka's batches and producer snapshots.
//!
//! Polynomial 0x1EDC6F41, reflected, initial value and final xor all ones. Large input is processed
//! at memory speed, so a checksum per batch costs next to nothing.

use crc_fast::{CrcAlgorithm, Digest};

/// Returns the checksum of contiguous bytes.
#[inline]
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// The checksum of bytes in several places, such as a header and its records, without copying them.
#[derive(Debug, Clone)]
pub(crate) struct Crc32c(Digest);

impl Crc32c {
    pub(crate) fn new() -> Self {
        Self(Digest::new(CrcAlgorithm::Crc32Iscsi))
    }

    /// Adds `bytes` to the checksum.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Returns the checksum of all bytes added so far.
    pub(crate) fn value(&self) -> u32 {
        self.0.finalize() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kafkas_vectors_hold_at_once_and_in_parts() {
        let text = include_str!("../../tests/vectors/crc32c.json");
        let json: serde_json::Value = serde_json::from_str(text).unwrap();
        let vectors = json["vectors"].as_array().unwrap();
        assert!(vectors.len() >= 20);
        for vector in vectors {
            let hex = vector["dataHex"].as_str().unwrap();
            let data: Vec<u8> = (0..hex.len())
                .step_by(2)
                .map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap())
                .collect();
            let expected = u32::try_from(vector["crc32c"].as_u64().unwrap()).unwrap();
            assert_eq!(crc32c(&data), expected);
            for cut in [0, data.len() / 3, data.len()] {
                let mut crc = Crc32c::new();
                crc.update(&data[..cut]);
                crc.update(&data[cut..]);
                assert_eq!(crc.value(), expected);
            }
        }
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
        assert_eq!(crc32c(b""), 0);
    }
}
