//! Share groups: members, and what an operator does.

use std::ops::RangeInclusive;

use super::{Admin, Broker, ReadOnlyBroker};
use crate::config::{ShareConsumerConfig, ShareGroupConfig};
use crate::engine::{OffsetScope, ResetOffset, ResetTo, ShareGroupSummary};
use crate::error::Result;
use crate::group::share::ByHand;
use crate::share::{ShareConsumer, Workers};
use crate::types::TopicPartition;

impl Broker {
    /// Creates a member of a share group with the default settings. Creates the group if it does not exist.
    ///
    /// # Errors
    /// `InvalidName` if `group` is not a legal group name. `GroupKind` if a consumer group has the name.
    pub fn share_consumer(&self, group: &str) -> Result<ShareConsumer> {
        self.share_consumer_with(group, ShareConsumerConfig::new())
    }

    /// Creates a member of a share group with these settings. Creates the group if it does not exist.
    ///
    /// # Errors
    /// As [`Broker::share_consumer`], and `InvalidConfig` if a setting is out of its range.
    pub fn share_consumer_with(
        &self,
        group: &str,
        config: ShareConsumerConfig,
    ) -> Result<ShareConsumer> {
        ShareConsumer::new(self.engine.clone(), group, config)
    }

    /// Returns workers that run a function for each record of a share group, to be configured and run. By default they
    /// read the topic with the name of the group.
    pub fn workers(&self, group: &str) -> Workers {
        Workers::new(self.engine.clone(), group)
    }
}

/// Share groups.
impl Admin {
    /// Returns the names of the share groups in order. The list is empty in a forked child.
    pub fn list_share_groups(&self) -> Vec<String> {
        self.engine.list_share_groups()
    }

    /// Describes a share group: its lag, and the records under way.
    ///
    /// # Errors
    /// `UnknownGroup`.
    pub fn describe_share_group(&self, group: &str) -> Result<ShareGroupSummary> {
        self.engine.describe_share_group(group)
    }

    /// Sets the settings of a share group, in place of all earlier ones. Creates the group if it does not exist. Its members
    /// follow them from the next record on; a lower delivery limit counts when an attempt ends.
    ///
    /// # Errors
    /// `InvalidConfig` if a setting is out of its range, or if the topic for dead letters is one that a member reads. `GroupKind`
    /// if a consumer group has the name. Nothing has changed then.
    ///
    /// ```
    /// use grouplog::{Broker, ShareGroupConfig};
    ///
    /// let broker = Broker::open_in_memory()?;
    /// let config = ShareGroupConfig::new().delivery_count_limit(3);
    /// broker.admin().alter_share_group("mailers", config)?;
    /// let group = broker.admin().describe_share_group("mailers")?;
    /// assert_eq!(group.config, [("share.delivery.count.limit", "3".to_owned())]);
    /// # Ok::<(), grouplog::Error>(())
    /// ```
    #[expect(clippy::needless_pass_by_value, reason = "settings are made for one call")]
    pub fn alter_share_group(&self, group: &str, config: ShareGroupConfig) -> Result<()> {
        self.engine.alter_share_group(group, &config)
    }

    /// Pauses a share group, or ends the pause: a paused group hands no record out. Records under way may be acknowledged.
    /// The folder keeps it.
    ///
    /// # Errors
    /// `UnknownGroup`.
    pub fn pause_share_group(&self, group: &str, paused: bool) -> Result<()> {
        self.engine.pause_share_group(group, paused)
    }

    /// Lets a share group begin elsewhere. All that it knows of the records is dropped, and delivery counts begin anew. It is
    /// durable when this returns. Returns where it began before and begins now.
    ///
    /// # Errors
    /// `UnknownGroup`. `GroupNotEmpty` if it has members. Those of [`Admin::reset_offsets`].
    ///
    /// ```
    /// use grouplog::{Broker, OffsetScope, Record, ResetTo, TopicConfig};
    /// use std::time::Duration;
    ///
    /// let broker = Broker::open_in_memory()?;
    /// broker.create_topic("emails", TopicConfig::new())?;
    /// broker.producer()?.send(Record::to("emails").value("hello"))?;
    /// let mut member = broker.share_consumer("mailers")?;
    /// member.subscribe(["emails"])?;
    /// member.poll(Duration::ZERO)?.accept_all()?;
    /// member.close()?;
    /// let admin = broker.admin();
    /// admin.reset_share_group("mailers", &OffsetScope::Committed, ResetTo::Earliest)?;
    /// assert_eq!(admin.describe_share_group("mailers")?.lag(), 1);
    /// # Ok::<(), grouplog::Error>(())
    /// ```
    pub fn reset_share_group(
        &self,
        group: &str,
        scope: &OffsetScope,
        to: ResetTo,
    ) -> Result<Vec<ResetOffset>> {
        self.engine.reset_share_group(group, scope, to)
    }

    /// Deletes a share group with all that it knows. It is durable when this returns.
    ///
    /// # Errors
    /// `UnknownGroup`. `GroupNotEmpty` if it has members.
    pub fn delete_share_group(&self, group: &str) -> Result<()> {
        self.engine.delete_share_group(group)
    }

    /// Accepts unfinished records for whoever has them. Records that the group has not read yet are left alone.
    ///
    /// # Errors
    /// `UnknownGroup`, `UnknownTopic`, `UnknownPartition`.
    pub fn finish_share_records(
        &self,
        group: &str,
        partition: &TopicPartition,
        offsets: RangeInclusive<i64>,
    ) -> Result<()> {
        self.engine.end_by_hand(group, partition, offsets, ByHand::Finish)
    }

    /// As [`Admin::finish_share_records`], but the records become dead letters.
    ///
    /// # Errors
    /// As [`Admin::finish_share_records`], and those of an append of the dead letters.
    pub fn reject_share_records(
        &self,
        group: &str,
        partition: &TopicPartition,
        offsets: RangeInclusive<i64>,
    ) -> Result<()> {
        self.engine.end_by_hand(group, partition, offsets, ByHand::Reject)
    }

    /// As [`Admin::finish_share_records`], but the records may be handed out at once, whoever has them and whatever they wait
    /// for.
    ///
    /// # Errors
    /// As [`Admin::finish_share_records`].
    pub fn release_share_records(
        &self,
        group: &str,
        partition: &TopicPartition,
        offsets: RangeInclusive<i64>,
    ) -> Result<()> {
        self.engine.end_by_hand(group, partition, offsets, ByHand::Release)
    }
}

impl ReadOnlyBroker {
    /// Returns the names of the share groups in order.
    pub fn list_share_groups(&self) -> Vec<String> {
        self.snapshot.list_share_groups()
    }

    /// Describes a share group. Its members live in the memory of their own process and are not visible here.
    ///
    /// # Errors
    /// `UnknownGroup`.
    pub fn describe_share_group(&self, group: &str) -> Result<ShareGroupSummary> {
        self.snapshot.describe_share_group(group)
    }
}
