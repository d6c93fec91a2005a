/// What happens to a member's place when it leaves its group. Kafka's operation of the same name
/// (KIP-1092).
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
    /// Keeps the place of a static member for `session.timeout.ms`. Removes any other member at
    /// once.
    #[default]
    Default,
    /// Removes the member. Others get its partitions at once.
    LeaveGroup,
    /// Keeps the place for `session.timeout.ms`. Only a static member can return to it.
    RemainInGroup,
}
