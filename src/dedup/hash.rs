//! Hashes of idempotency ids.

use siphasher::sip128::SipHasher13;

use crate::error::{Error, Result};

/// The longest id, in bytes.
pub(crate) const ID_MAX_BYTES: usize = 128;

/// The size of a stored hash in bytes.
pub(super) const HASH_BYTES: usize = 16;

/// The keyed hash of an id. Two ids that differ have, for all practical purposes, different hashes: among a
/// million ids two collide by chance with a probability of about 10^-27.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct IdHash {
    pub(super) high: u64,
    pub(super) low: u64,
}

impl IdHash {
    pub(super) fn to_bytes(self) -> [u8; HASH_BYTES] {
        (u128::from(self.high) << 64 | u128::from(self.low)).to_be_bytes()
    }

    pub(super) fn from_bytes(bytes: [u8; HASH_BYTES]) -> Self {
        let both = u128::from_be_bytes(bytes);
        Self { high: (both >> 64) as u64, low: both as u64 }
    }
}

/// Hashes ids with a key (SipHash-1-3), so that no sender of records can make two ids collide.
#[derive(Debug, Clone)]
pub(crate) struct IdHasher(SipHasher13);

impl IdHasher {
    /// Creates a hasher. Hashes are stored, so the key must stay the same as long as the folder exists.
    pub(crate) fn new(key: &[u8; 16]) -> Self {
        Self(SipHasher13::new_with_key(key))
    }

    /// Returns the hash of an id of 1 to [`ID_MAX_BYTES`] bytes.
    ///
    /// # Errors
    /// `Misuse` for an empty id, `LimitExceeded` for one that is too long.
    pub(crate) fn hash(&self, id: &[u8]) -> Result<IdHash> {
        check_id(id)?;
        let (high, low) = self.0.hash(id).as_u64();
        Ok(IdHash { high, low })
    }
}

/// Checks the length of an id.
///
/// # Errors
/// `Misuse` for an empty id, `LimitExceeded` for one that is too long.
pub(crate) fn check_id(id: &[u8]) -> Result<()> {
    match id.len() {
        0 => Err(Error::Misuse("an idempotency id has at least one byte")),
        1..=ID_MAX_BYTES => Ok(()),
        found => Err(Error::LimitExceeded {
            what: "bytes of an idempotency id",
            found: found as u64,
            max: ID_MAX_BYTES as u64,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_bounds() {
        let hasher = IdHasher::new(&[7; 16]);
        assert!(matches!(hasher.hash(&[]), Err(Error::Misuse(_))));
        assert!(hasher.hash(&[1]).is_ok());
        assert!(hasher.hash(&[1; 128]).is_ok());
        let refused = hasher.hash(&[1; 129]);
        assert!(matches!(refused, Err(Error::LimitExceeded { found: 129, max: 128, .. })));
    }

    /// Hashes are stored, so another value would make a folder forget all its ids.
    #[test]
    fn a_hash_never_changes() {
        let hash = IdHasher::new(&[7; 16]).hash(b"order-4711").unwrap();
        assert_eq!(IdHash::from_bytes(hash.to_bytes()), hash);
        let expected = IdHash { high: 15_525_407_840_767_707_647, low: 11_078_540_478_624_062_482 };
        assert_eq!(hash, expected);
        assert_ne!(IdHasher::new(&[8; 16]).hash(b"order-4711").unwrap(), hash);
    }
}
