/// What becomes of the place of a member that leaves its group: Kafka's operation of the same name (KIP-1092).
///
/// ```
/// use grouplog::{Broker, ConsumerConfig, GroupMembershipOperation, TopicConfig};
///
/// let broker = Broker::open_in_memory()?;
/// broker.create_topic("orders", TopicConfig::new())?;
/// let config = ConsumerConfig::new().group("billing").group_instance_id("a");
/// let mut consumer = broker.consumer_with(config)?;
/// consumer.subscribe(["orders"])?;
/// consumer.close_with(GroupMembershipOperation::LeaveGroup)?; // it will not come back
/// assert!(broker.list_groups().is_empty());
/// # Ok::<(), grouplog::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum GroupMembershipOperation {
    /// That of a static member is kept for `session.timeout.ms`, another's is given up.
    #[default]
    Default,
    /// It is given up: others get the partitions at once.
    LeaveGroup,
    /// It is kept for `session.timeout.ms`. Only a static member can come back to it.
    RemainInGroup,
}
