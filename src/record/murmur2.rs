//! The hash by which Kafka's default partitioner distributes keys (`Utils.murmur2`, seed
//! 0x9747b28c). With it a key gets the same partition here as with Kafka's own clients.

const SEED: u32 = 0x9747_b28c;
const M: u32 = 0x5bd1_e995;

/// Returns Kafka's 32-bit murmur2 of `bytes`.
pub fn murmur2(bytes: &[u8]) -> i32 {
    let mut hash = SEED ^ bytes.len() as u32;
    let (words, tail) = bytes.as_chunks::<4>();
    for word in words {
        // Little-endian, unlike the rest of Kafka: these are an input of the hash, not stored.
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !tail.is_empty() {
        let rest = tail.iter().rev().fold(0, |rest, &byte| (rest << 8) | u32::from(byte));
        hash = (hash ^ rest).wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    (hash ^ (hash >> 15)) as i32
}

/// Returns the partition, of `partitions` many, that Kafka's default partitioner chooses for `key`.
/// Returns 0 if there are none.
///
/// ```
/// assert_eq!(grouplog::record::partition_for_key(b"", 10), 1);
/// ```
pub fn partition_for_key(key: &[u8], partitions: u32) -> u32 {
    let positive = (murmur2(key) & i32::MAX) as u32;
    positive.checked_rem(partitions).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kafkas_vectors_hold() {
        let text = include_str!("../../tests/vectors/murmur2.json");
        let json: serde_json::Value = serde_json::from_str(text).unwrap();
        let vectors = json["vectors"].as_array().unwrap();
        assert!(vectors.len() >= 60);
        for vector in vectors {
            let hex = vector["keyHex"].as_str().unwrap();
            let key: Vec<u8> = (0..hex.len())
                .step_by(2)
                .map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap())
                .collect();
            assert_eq!(i64::from(murmur2(&key)), vector["hash"].as_i64().unwrap(), "{hex}");
            for (count, partition) in vector["partition"].as_object().unwrap() {
                let chosen = partition_for_key(&key, count.parse().unwrap());
                assert_eq!(u64::from(chosen), partition.as_u64().unwrap(), "{hex} of {count}");
            }
        }
        assert_eq!(partition_for_key(b"key", 0), 0);
    }
}
