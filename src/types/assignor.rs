use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use super::TopicPartition;

/// Decides which member of a group is to read which partition.
///
/// The built-in ones are [`AssignmentStrategy`](crate::AssignmentStrategy)'s; a program may bring its own
/// through [`ConsumerConfig::assignment_strategies`](crate::ConsumerConfig::assignment_strategies).
///
/// `assign` is called whenever members, subscriptions or topics changed, by whichever thread made the
/// change, and under no lock of the engine. It should be a pure function of its argument. What makes no
/// sense in its result is left out: partitions that do not exist or that the member does not subscribe to;
/// of a partition that is given twice the first one counts. Partitions that are given to nobody are read
/// by nobody. A panic goes through to the caller, and the group stays as it was assigned before.
///
/// Partitions are handed over one by one, whatever the assignor: one that moves is given to its next
/// owner when the old one has given it up. Racks, which Kafka's assignors look at, are left out: all
/// members live in one process.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
/// use grouplog::{AssignmentStrategy, Assignment, Assignor, Broker, ConsumerConfig, GroupSubscription, TopicConfig};
///
/// /// The first member gets everything, the others stand by.
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
    /// The name by which members agree on it, as `range`: two assignors of one name count as the same.
    fn name(&self) -> &str;

    /// The target: for each member, in the order of [`GroupSubscription::members`], what it is to
    /// read. Members behind the end of the list get nothing; lists behind the last member are left out.
    fn assign(&self, group: &GroupSubscription) -> Assignment;
}

/// What each member is to read, in the order of [`GroupSubscription::members`].
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
    /// A group of these members, over topics with these numbers of partitions; in any order.
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

    /// The members in the order of their ids.
    pub fn members(&self) -> &[MemberSubscription] {
        &self.members
    }

    /// The topics that exist and that somebody subscribes to, by name, and how many partitions each has.
    pub fn topics(&self) -> &[(Arc<str>, u32)] {
        &self.topics
    }

    /// All partitions of all topics, by name and number.
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
    /// A member that owns nothing yet.
    pub fn new<T: Into<Arc<str>>>(
        id: impl Into<Arc<str>>,
        topics: impl IntoIterator<Item = T>,
    ) -> Self {
        Self::shared(id.into(), Arc::new(topics.into_iter().map(Into::into).collect()))
    }

    /// As [`MemberSubscription::new`], with topics that others may subscribe to as well.
    pub(crate) fn shared(id: Arc<str>, topics: Arc<BTreeSet<Arc<str>>>) -> Self {
        Self { id, instance_id: None, topics, owned: Vec::new(), generation: None }
    }

    /// With `group.instance.id`.
    #[must_use]
    pub fn with_instance_id(mut self, instance_id: impl Into<Arc<str>>) -> Self {
        self.instance_id = Some(instance_id.into());
        self
    }

    /// With what it was to read so far.
    #[must_use]
    pub fn with_owned(mut self, owned: impl IntoIterator<Item = TopicPartition>) -> Self {
        self.owned = owned.into_iter().collect();
        self
    }

    /// With the generation in which it owned that.
    #[must_use]
    pub fn with_generation(mut self, generation: i32) -> Self {
        self.generation = Some(generation);
        self
    }

    /// Its member id; `<client.id>-<number>`, or `<group.instance.id>-<number>` of a static member.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// `group.instance.id`, if it is a static member.
    pub fn instance_id(&self) -> Option<&str> {
        self.instance_id.as_deref()
    }

    /// The topics it subscribes to, whether they exist or not.
    pub fn topics(&self) -> &BTreeSet<Arc<str>> {
        &self.topics
    }

    /// Whether both subscribe to the same topics; cheap where the coordinator knows it.
    pub(crate) fn same_topics(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.topics, &other.topics) || self.topics == other.topics
    }

    /// What it reads, or was to read: what a sticky assignor lets it keep. Inside a group no partition is
    /// owned by two members.
    pub fn owned(&self) -> &[TopicPartition] {
        &self.owned
    }

    /// The generation in which it owned that: of two claims of one partition the newer one counts. Inside
    /// a group the claims never meet, and all members have the same one.
    pub fn generation(&self) -> Option<i32> {
        self.generation
    }
}
