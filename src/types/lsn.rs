use std::fmt;

/// A position in the journal: the sequence number of a journal file and a byte position in it.
///
/// Positions compare in the order of the frames and are never reused. A file gets a new sequence
/// number each time it is recycled, and recovery always continues in a new file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Lsn(u64);

impl Lsn {
    /// The position before every frame.
    pub(crate) const ZERO: Self = Self(0);

    /// Returns the position `position` in the journal file with sequence number `sequence`.
    pub(crate) const fn new(sequence: u32, position: u32) -> Self {
        Self(((sequence as u64) << 32) | position as u64)
    }

    /// Returns the sequence number of the journal file.
    pub(crate) const fn sequence(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Returns the byte position in that file.
    pub(crate) const fn position(self) -> u32 {
        self.0 as u32
    }

    /// Returns the value as it is stored and kept in atomics.
    pub(crate) const fn to_u64(self) -> u64 {
        self.0
    }

    /// Returns the position of a stored value. The inverse of [`Lsn::to_u64`], defined for every
    /// value.
    pub(crate) const fn from_u64(value: u64) -> Self {
        Self(value)
    }
}

impl fmt::Debug for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.sequence(), self.position())
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_by_sequence_then_position() {
        assert!(Lsn::new(1, u32::MAX) < Lsn::new(2, 0));
        assert!(Lsn::new(2, 0) < Lsn::new(2, 1));
        let lsn = Lsn::new(7, 4096);
        assert_eq!((lsn.sequence(), lsn.position()), (7, 4096));
        assert_eq!(Lsn::from_u64(lsn.to_u64()), lsn);
        assert_eq!(lsn.to_string(), "7:4096");
    }
}
