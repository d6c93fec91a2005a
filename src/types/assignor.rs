use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use super::TopicPartition;

/// Decides which member of a group reads which partition.
///
/// [`AssignmentStrategy`](crate::AssignmentStrategy) names the built-in assignors. A program can
/// supply its own through
/// [`ConsumerConfig::assignment_strategies`](crate::ConsumerConfig::assignment_strategies).
///
/// The engine calls `assign` whenever members, subscriptions or topics have changed, in the thread
/// that made the change, and holds no lock of its own meanwhile. `assign` should be a pure function
/// of its argument. The engine drops invalid parts of the result: partitions that do not exist or
/// that the member does not subscribe to. If a partition is assigned twice, the first assignment
/// counts. No member reads a partition that is not assigned. A panic propagates to the caller, and
/// the group keeps its previous assignment.
///
/// The engine hands partitions over one by one with every assignor: a partition moves to its next
/// owner only after the old owner has given it up. There are no racks, which Kafka's assignors
/// consider, because all members live in one process.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
/// use grouplog::{AssignmentStrategy, Assignment, Assignor, Broker, ConsumerConfig, GroupSubscription, TopicConfig};
///
/// /// Gives everything to the first member. The others stand by.
/// #[derive(Debug)]
/// struct OneWorks;
///
/// impl Assignor for OneWorks {
///     fn name(&self) -> &str {
///         "one-works"
///     }
///
///     fn assign(&self, group: &GroupSubscription) -> Assignment {
///         vec![group.partitions().collect()]
///     }
/// }
///
/// let broker = Broker::open_in_memory()?;
/// broker.create_topic("orders", TopicConfig::new().partitions(2))?;
/// let config = ConsumerConfig::new()
///     .group("billing")
///     .assignment_strategies([AssignmentStrategy::Own(Arc::new(OneWorks))]);
/// let mut first = broker.consumer_with(config.clone())?;
/// let mut second = broker.consumer_with(config)?;
/// first.subscribe(["orders"])?;
/// second.subscribe(["orders"])?;
/// first.poll(Duration::ZERO)?;
/// second.poll(Duration::ZERO)?;
/// assert_eq!((first.assignment().len(), second.assignment().len()), (2, 0));
/// # Ok::<(), grouplog::Error>(())
/// ```
pub trait Assignor: Send + Sync + fmt::Debug {
    /// Returns the name by which members agree on an assignor, such as `range`. Two assignors with
    /// the same name count as the same.
    fn name(&self) -> &str;

    /// Returns the target assignment: the partitions of each member, in the order of
    /// [`GroupSubscription::members`]. Members beyond the end of the list get nothing. Lists beyond
    /// the last member are ignored.
    fn assign(&self, group: &GroupSubscription) -> Assignment;
}

/// The partitions of each member, in the order of [`GroupSubscription::members`].
pub type Assignment = Vec<Vec<TopicPartition>>;

/// A group, as an [`Assignor`] sees it.
///
/// ```
/// use grouplog::{GroupSubscription, MemberSubscription};
///
/// let members = ["b", "a"].map(|id| MemberSubscription::new(id, ["orders"]));
/// let group = GroupSubscription::new([("orders", 2)], members);
/// assert_eq!(group.members()[0].id(), "a");
/// assert_eq!(group.partitions().count(), 2);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSubscription {
    members: Vec<MemberSubscription>,
    topics: Vec<(Arc<str>, u32)>,
}

impl GroupSubscription {
    /// Creates a group of these members over topics with these numbers of partitions, each in any
    /// order.
    pub fn new<T: Into<Arc<str>>>(
        topics: impl IntoIterator<Item = (T, u32)>,
        members: impl IntoIterator<Item = MemberSubscription>,
    ) -> Self {
        let mut topics: Vec<_> =
            topics.into_iter().map(|(topic, partitions)| (topic.into(), partitions)).collect();
        let mut members: Vec<_> = members.into_iter().collect();
        topics.sort();
        members.sort_by(|a, b| a.id.cmp(&b.id));
        Self { members, topics }
    }

    /// Returns the members in the order of their ids.
    pub fn members(&self) -> &[MemberSubscription] {
        &self.members
    }

    /// Returns the existing topics that at least one member subscribes to, ordered by name, with
    /// their numbers of partitions.
    pub fn topics(&self) -> &[(Arc<str>, u32)] {
        &self.topics
    }

    /// Returns all partitions of all topics, ordered by name and number.
    pub fn partitions(&self) -> impl Iterator<Item = TopicPartition> {
        self.topics.iter().flat_map(|(topic, partitions)| {
            (0..*partitions).map(move |number| TopicPartition::new(Arc::clone(topic), number))
        })
    }
}

/// A member, as an [`Assignor`] sees it.
///
/// ```
/// use grouplog::{MemberSubscription, TopicPartition};
///
/// let member = MemberSubscription::new("consumer-1", ["orders"])
///     .with_instance_id("billing-a")
///     .with_owned([TopicPartition::new("orders", 0)]);
/// assert_eq!(member.instance_id(), Some("billing-a"));
/// assert!(member.topics().contains("orders"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberSubscription {
    id: Arc<str>,
    instance_id: Option<Arc<str>>,
    topics: Arc<BTreeSet<Arc<str>>>,
    owned: Vec<TopicPartition>,
    generation: Option<i32>,
}

impl MemberSubscription {
    /// Creates a member that owns no partition yet.
    pub fn new<T: Into<Arc<str>>>(
        id: impl Into<Arc<str>>,
        topics: impl IntoIterator<Item = T>,
    ) -> Self {
        Self::shared(id.into(), Arc::new(topics.into_iter().map(Into::into).collect()))
    }

    /// Creates a member as [`MemberSubscription::new`] does, with a topic set that other members
    /// may share.
    pub(crate) fn shared(id: Arc<str>, topics: Arc<BTreeSet<Arc<str>>>) -> Self {
        Self { id, instance_id: None, topics, owned: Vec::new(), generation: None }
    }

    /// Sets `group.instance.id`.
    #[must_use]
    pub fn with_instance_id(mut self, instance_id: impl Into<Arc<str>>) -> Self {
        self.instance_id = Some(instance_id.into());
        self
    }

    /// Sets the partitions that it was assigned so far.
    #[must_use]
    pub fn with_owned(mut self, owned: impl IntoIterator<Item = TopicPartition>) -> Self {
        self.owned = owned.into_iter().collect();
        self
    }

    /// Sets the generation in which it owned them.
    #[must_use]
    pub fn with_generation(mut self, generation: i32) -> Self {
        self.generation = Some(generation);
        self
    }

    /// Returns the member id: `<client.id>-<number>`, or `<group.instance.id>-<number>` of a static
    /// member.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns `group.instance.id` if this is a static member.
    pub fn instance_id(&self) -> Option<&str> {
        self.instance_id.as_deref()
    }

    /// Returns the topics it subscribes to, whether they exist or not.
    pub fn topics(&self) -> &BTreeSet<Arc<str>> {
        &self.topics
    }

    /// Returns whether both subscribe to the same topics. Cheap if both share one topic set.
    pub(crate) fn same_topics(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.topics, &other.topics) || self.topics == other.topics
    }

    /// Returns the partitions that it reads or was assigned. A sticky assignor lets it keep them.
    /// Inside a group no two members own the same partition.
    pub fn owned(&self) -> &[TopicPartition] {
        &self.owned
    }

    /// Returns the generation in which it owned those partitions. If two members claim one
    /// partition, the newer claim counts. Inside a group claims never conflict, and all members
    /// have the same generation.
    pub fn generation(&self) -> Option<i32> {
        self.generation
    }
}
