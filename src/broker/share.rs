//! Share groups: members, and what an operator does.

use std::ops::RangeInclusive;

use super::{Admin, Broker, ReadOnlyBroker};
use crate::config::{ShareConsumerConfig, ShareGroupConfig};
use crate::engine::{OffsetScope, ResetOffset, ResetTo, ShareGroupSummary};
use crate::error::Result;
use crate::group::share::ByHand;
use crate::redrive::{Redriven, plan, redrive};
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

    /// Accepts unfinished records for whoever has them. Records that the group has not read yet are finished, too, if they
    /// follow what it has read: so a group gets past damaged bytes, which no member can read. A group with an order of
    /// keys gets past them once the records before them have ended.
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

    /// As [`Admin::finish_share_records`], but the records become dead letters. Records that the group has not read yet are
    /// left alone.
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

    /// As [`Admin::reject_share_records`], but the records may be handed out at once, whoever has them and whatever they wait
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

/// Dead letters.
impl Admin {
    /// Sends dead letters of a share group back to the topics and partitions that they came from: with the key, value and
    /// headers that the records had, and the time of now. Their deliveries begin anew. `max` is the most records to send;
    /// [`u64::MAX`] for all. It is durable when this returns.
    ///
    /// It reads the group's present [topic of dead letters](crate::ShareGroupConfig::dead_letter_topic). The letters stay
    /// there. The share group `GROUP.redrive` keeps which of them were sent back; a letter and its record are in one
    /// transaction, so a crash neither loses nor doubles one. Resetting that group lets letters be sent back again.
    ///
    /// A letter without a whole copy, for example of a group that does not
    /// [copy](crate::ShareGroupConfig::dead_letter_copy), needs its record in the source. What cannot be sent back is
    /// skipped, and the next redrive tries it again; [`Redriven::first_skipped`] says why. A record that has a
    /// [time of delivery](crate::Record::deliver_at) in the future waits for it again.
    ///
    /// # Errors
    /// * `UnknownGroup` if there is no share group of this name. `NoDeadLetterTopic` if it has no topic for dead letters.
    /// * `InvalidName` or `GroupKind` if no share group can have the name `GROUP.redrive`.
    /// * `InvalidConfig` if that group has dead letters in the same topic.
    /// * Those of [`Transaction::commit`](crate::Transaction::commit), and `Corrupt` or `Io` if letters cannot be read.
    ///   What was sent back before the error stays, and a further call goes on behind it.
    ///
    /// ```
    /// use grouplog::{Broker, Record, ShareGroupConfig, TopicConfig};
    /// use std::time::Duration;
    ///
    /// let broker = Broker::open_in_memory()?;
    /// broker.create_topic("emails", TopicConfig::new())?;
    /// let config = ShareGroupConfig::new().dead_letter_topic("emails.dead");
    /// broker.admin().alter_share_group("mailers", config)?;
    /// broker.producer()?.send(Record::to("emails").key("bob").value("hello"))?;
    /// let mut member = broker.share_consumer("mailers")?;
    /// member.subscribe(["emails"])?;
    /// for job in member.poll(Duration::ZERO)? {
    ///     job.reject("the server was down")?;
    /// }
    /// let redriven = broker.admin().redrive("mailers", u64::MAX)?;
    /// assert_eq!((redriven.records(), redriven.skipped), (1, 0));
    /// let again = member.poll(Duration::ZERO)?.next().unwrap();
    /// assert_eq!((again.offset(), again.key(), again.delivery_count()), (1, Some(&b"bob"[..]), 1));
    /// assert_eq!(broker.admin().redrive("mailers", u64::MAX)?.records(), 0);
    /// # again.accept()?;
    /// # Ok::<(), grouplog::Error>(())
    /// ```
    pub fn redrive(&self, group: &str, max: u64) -> Result<Redriven> {
        redrive(&self.engine, group, max)
    }

    /// Returns what [`Admin::redrive`] would do. Changes nothing. Whether the topics take the records is not checked: a
    /// redrive may skip some that are too large by now. It takes partitions in their order, a redrive takes from all.
    ///
    /// # Errors
    /// `UnknownGroup`, `NoDeadLetterTopic`. `Corrupt` or `Io` if letters cannot be read.
    pub fn plan_redrive(&self, group: &str, max: u64) -> Result<Redriven> {
        plan(&**self.engine, group, max)
    }
}

impl ReadOnlyBroker {
    /// Returns what a redrive would do. See [`Admin::plan_redrive`].
    ///
    /// # Errors
    /// As [`Admin::plan_redrive`], and `Stale` where the writer has replaced files by compaction.
    pub fn plan_redrive(&self, group: &str, max: u64) -> Result<Redriven> {
        plan(&*self.snapshot, group, max)
    }

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
