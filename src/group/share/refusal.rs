//! Why a member's word is refused.

use std::fmt;

/// Why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// The record was acknowledged before, or given up.
    Finished,
    /// The lock ended, so the record was or will be handed out again.
    TooLate,
    /// Another member has the record.
    Anothers,
    /// The record was never handed out, or not with this delivery count.
    NeverDelivered,
    /// The offset lies behind all that was handed out.
    BeyondEnd,
    /// There are neither one type nor as many as offsets, or the offsets fall.
    Malformed,
    /// `share.renew.acknowledge.enable` is false.
    RenewDisabled,
}

/// A member's word is refused, and nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The first record at fault.
    pub(crate) offset: i64,
    /// Why.
    pub(crate) why: Why,
}

impl Refusal {
    /// Returns Kafka's name for it.
    #[cfg(test)]
    pub(crate) const fn kafka_name(&self) -> &'static str {
        match self.why {
            Why::BeyondEnd | Why::Malformed => "InvalidRequest",
            _ => "InvalidRecordState",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let offset = self.offset;
        match self.why {
            Why::Finished => {
                write!(f, "the record at offset {offset} was acknowledged or given up before")
            }
            Why::TooLate => write!(
                f,
                "the lock of the record at offset {offset} has ended: it is delivered again"
            ),
            Why::Anothers => write!(f, "another member has the record at offset {offset}"),
            Why::NeverDelivered => {
                write!(f, "the record at offset {offset} was not delivered like this")
            }
            Why::BeyondEnd => write!(f, "offset {offset} lies behind all that was delivered"),
            Why::Malformed => write!(f, "the acknowledgement from offset {offset} on is malformed"),
            Why::RenewDisabled => {
                write!(f, "the lock of offset {offset} is not renewed: the group forbids it")
            }
        }
    }
}
