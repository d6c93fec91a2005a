use std::fmt;

/// Why the word of a handler about a record is refused.
///
/// ```
/// use grouplog::{Broker, Error, Record, RecordStateReason, TopicConfig};
///
/// let broker = Broker::open_in_memory()?;
/// broker.create_topic("emails", TopicConfig::new())?;
/// broker.producer()?.send(Record::to("emails").value("hello"))?;
/// let mut member = broker.share_consumer("mailers")?;
/// member.subscribe(["emails"])?;
/// let job = member.poll(std::time::Duration::ZERO)?.into_iter().next().unwrap();
/// // An operator was faster.
/// broker.admin().finish_share_records("mailers", &job.topic_partition(), 0..=0)?;
/// let late = job.accept();
/// let reason = RecordStateReason::Finished;
/// assert!(matches!(late, Err(Error::InvalidRecordState { offset: 0, reason: r, .. }) if r == reason));
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RecordStateReason {
    /// The record was acknowledged before, or given up.
    Finished,
    /// The lock has ended. The record was or will be delivered again.
    LockEnded,
    /// Another member has the record.
    HeldByAnother,
    /// The record was not delivered, or not with this delivery count.
    NotDelivered,
    /// The group does not let handlers renew locks (`share.renew.acknowledge.enable`).
    RenewDisabled,
}

impl fmt::Display for RecordStateReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Finished => "it was acknowledged or given up before",
            Self::LockEnded => "its lock has ended, so it is delivered again",
            Self::HeldByAnother => "another member has it",
            Self::NotDelivered => "it was not delivered like this",
            Self::RenewDisabled => "the group does not let locks be renewed",
        })
    }
}
