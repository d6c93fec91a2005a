//! What a fetch has read.

use super::run::Span;

/// A record in a batch that has to be told from its neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReadRecord {
    /// Its offset.
    pub(crate) offset: i64,
    /// The hash of its key; `None` if it has none, or if the group does not order by keys. The same key has the same
    /// hash for as long as the folder exists.
    pub(crate) key: Option<u64>,
    /// When it shall be delivered, in milliseconds since 1970.
    pub(crate) deliver_at: Option<i64>,
}

/// What is in a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contents<'a> {
    /// A record at each offset, none with anything special. The usual case.
    Dense,
    /// Nothing to deliver: a control batch, or data of an aborted transaction.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "the engine reads past such batches: they are holes")
    )]
    Nothing,
    /// These records, in rising order. Needed if offsets are missing, if the group orders by keys, or if a record has
    /// a time of delivery.
    Records(&'a [ReadRecord]),
}

/// A batch of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReadBatch<'a> {
    /// Its first offset.
    pub(crate) base: i64,
    /// Its last offset.
    pub(crate) last: i64,
    /// What is in it.
    pub(crate) contents: Contents<'a>,
}

impl ReadBatch<'_> {
    /// Returns the first record in a span, which lies within the batch.
    pub(super) fn first_in(&self, span: Span) -> Option<i64> {
        match self.contents {
            Contents::Dense => Some(span.first),
            Contents::Nothing => None,
            Contents::Records(records) => {
                let next = records.partition_point(|record| record.offset < span.first);
                records.get(next).map(|record| record.offset).filter(|at| *at <= span.last)
            }
        }
    }
}

/// What a fetch has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Read<'a> {
    /// The batches in rising order. The first one contains the offset from which was read, or follows it.
    pub(crate) batches: &'a [ReadBatch<'a>],
    /// The offset behind all that was read. Offsets before it that no batch has are holes.
    pub(crate) end: i64,
}
