/// How many records a fetch of a share group takes: Kafka's `share.acquire.mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum AcquireMode {
    /// Exactly as many as were asked for, if there are as many.
    #[default]
    RecordLimit,
    /// Whole batches of the log, until there are as many as were asked for.
    BatchOptimized,
}

/// What is promised about the order of the records of a share group: `share.ordering`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum ShareOrdering {
    /// Nothing.
    #[default]
    None,
    /// The records of a key are worked on one after the other, in the order of the log.
    Key,
}
