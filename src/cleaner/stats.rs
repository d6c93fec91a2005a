/// What a pass, or a part of it, has done (`CleanerStats`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Stats {
    /// Batches that were read.
    pub(crate) batches_in: u64,
    /// Records that were read, control records included.
    pub(crate) records_in: u64,
    /// Bytes that were read.
    pub(crate) bytes_in: u64,
    /// Batches that were copied unchanged.
    pub(crate) batches_unchanged: u64,
    /// Batches that were rebuilt with fewer records or a delete horizon.
    pub(crate) batches_rebuilt: u64,
    /// Batches of which only the header stays.
    pub(crate) batches_emptied: u64,
    /// Batches that were removed.
    pub(crate) batches_removed: u64,
    /// Records that stay.
    pub(crate) records_out: u64,
    /// Bytes that were written.
    pub(crate) bytes_out: u64,
    /// Tombstones that left because their delete horizon has passed.
    pub(crate) tombstones_removed: u64,
}

impl Stats {
    /// Returns whether the output has the same bytes as the input.
    pub(crate) const fn is_unchanged(&self) -> bool {
        self.batches_unchanged == self.batches_in
    }

    /// Adds what another part has done.
    pub(crate) fn add(&mut self, other: &Self) {
        let parts = [
            (&mut self.batches_in, other.batches_in),
            (&mut self.records_in, other.records_in),
            (&mut self.bytes_in, other.bytes_in),
            (&mut self.batches_unchanged, other.batches_unchanged),
            (&mut self.batches_rebuilt, other.batches_rebuilt),
            (&mut self.batches_emptied, other.batches_emptied),
            (&mut self.batches_removed, other.batches_removed),
            (&mut self.records_out, other.records_out),
            (&mut self.bytes_out, other.bytes_out),
            (&mut self.tombstones_removed, other.tombstones_removed),
        ];
        for (sum, part) in parts {
            *sum = sum.saturating_add(part);
        }
    }
}
