use std::collections::BTreeSet;
use std::sync::Arc;

use super::Consumer;
use super::held::Held;
use crate::broker::{GroupHandle, MemberSignal};
use crate::error::{Error, Result};
use crate::group::{Heartbeat, MemberConfig, MemberEpoch, MemberId, Reconcile, Refusal};
use crate::types::TopicPartition;

/// What makes a consumer a member of its group.
#[derive(Debug)]
pub(super) struct Membership {
    pub(super) group: Arc<GroupHandle>,
    pub(super) id: MemberId,
    pub(super) epoch: MemberEpoch,
    signal: Arc<MemberSignal>,
    /// The version of the signal that this member has acted on.
    seen: u64,
    subscription: BTreeSet<Arc<str>>,
}

impl Consumer {
    pub(super) fn join(&mut self, subscription: BTreeSet<Arc<str>>) -> Result<()> {
        let engine = Arc::clone(self.source.engine()?);
        if let Some(member) = &mut self.membership {
            member.subscription.clone_from(&subscription);
            match member.group.subscribe(&member.id, subscription, &engine.registry) {
                // Unknown because evicted: the next poll joins again, with the new subscription.
                Ok(()) | Err(Refusal::UnknownMember) => return Ok(()),
                Err(refusal) => return Err(refusal.into_error(member.group.name())),
            }
        }
        let Some(group) = &self.config.group else {
            return Err(Error::Misuse("subscribe needs a group: set group.id, or use assign"));
        };
        let group = engine.groups.get(group)?;
        let id = engine.groups.next_member(&self.config.client_id);
        let signal = Arc::new(MemberSignal::new(Arc::clone(&self.event)));
        let member =
            Membership { group, id, epoch: MemberEpoch::default(), signal, seen: 0, subscription };
        self.enter_group(&member)?;
        self.membership = Some(member);
        Ok(())
    }

    fn enter_group(&self, member: &Membership) -> Result<()> {
        let engine = self.source.engine()?;
        let config = MemberConfig {
            client_id: self.config.client_id.as_str().into(),
            instance_id: None,
            max_poll_interval: self.config.max_poll_interval,
        };
        member.group.join(
            &member.id,
            config,
            member.subscription.clone(),
            &engine.registry,
            engine.clock().monotonic(),
            &member.signal,
        );
        Ok(())
    }

    pub(super) fn leave(&mut self) {
        if let Some(member) = self.membership.take() {
            member.group.leave(&member.id);
        }
    }

    /// The group is told that `poll` has begun. A member that was evicted lost everything it held,
    /// uncommitted positions too, and joins from scratch, as in Kafka.
    pub(super) fn enter_poll(&mut self) -> Result<()> {
        let now = self.source.clock().monotonic();
        let Some(member) = &self.membership else { return Ok(()) };
        match member.group.enter_poll(&member.id, now) {
            Ok(()) => Ok(()),
            Err(Refusal::UnknownMember) => self.rejoin(),
            Err(refusal) => Err(refusal.into_error(member.group.name())),
        }
    }

    pub(super) fn exit_poll(&self) {
        if let Some(member) = &self.membership {
            member.group.exit_poll(&member.id, self.source.clock().monotonic());
        }
    }

    fn rejoin(&mut self) -> Result<()> {
        self.held.clear();
        let Some(mut member) = self.membership.take() else { return Ok(()) };
        // A signal of its own: the old one says for ever that the member is gone.
        member.signal = Arc::new(MemberSignal::new(Arc::clone(&self.event)));
        member.seen = 0;
        member.epoch = MemberEpoch::default();
        let entered = self.enter_group(&member);
        let now = self.source.clock().monotonic();
        let polled = entered.and_then(|()| {
            let begun = member.group.enter_poll(&member.id, now);
            begun.map_err(|refusal| refusal.into_error(member.group.name()))
        });
        self.membership = Some(member);
        polled
    }

    /// Whether the group has something to tell. One atomic: this is what every poll pays.
    pub(super) fn has_news(&self) -> bool {
        self.membership.as_ref().is_some_and(|member| member.signal.version() != member.seen)
    }

    /// Moves towards the assignment that the group wants.
    pub(super) fn reconcile(&mut self) -> Result<()> {
        while self.has_news() {
            let Some(member) = &mut self.membership else { return Ok(()) };
            let version = member.signal.version();
            match member.group.heartbeat(&member.id, self.source.clock().monotonic()) {
                Ok(Heartbeat::Unchanged) => member.seen = version,
                Ok(Heartbeat::Reconcile(step)) => self.follow(step)?,
                Err(Refusal::UnknownMember) => self.rejoin()?,
                Err(refusal) => return Err(refusal.into_error(member.group.name())),
            }
        }
        Ok(())
    }

    fn follow(&mut self, step: Reconcile) -> Result<()> {
        let Reconcile { epoch, revoke, assign, .. } = step;
        if let Some(member) = &mut self.membership {
            member.epoch = epoch;
        }
        if !revoke.is_empty() {
            self.give_up(&revoke)?;
        }
        for partition in assign {
            match self.source.registry().log(&partition) {
                Ok(log) => self.held.push(Held::new(log)),
                // Deleted a moment ago; the group learns of it and takes it back.
                Err(Error::UnknownTopic { .. } | Error::UnknownPartition { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        self.held.sort_by(|a, b| a.partition().cmp(b.partition()));
        Ok(())
    }

    /// Gives partitions up: their positions are committed first if `enable.auto.commit` is on, as Kafka
    /// does it. Whether that succeeds or not, the partitions go to their next owners.
    fn give_up(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        if self.config.enable_auto_commit {
            // A commit that is refused means records are read again by the next owner: at least once.
            let _read_again = self.commit_positions();
        }
        self.held.retain(|held| !partitions.contains(held.partition()));
        let Some(member) = &self.membership else { return Ok(()) };
        match member.group.revoked(&member.id, partitions) {
            Ok(()) => Ok(()),
            Err(Refusal::UnknownMember) => self.rejoin(),
            Err(refusal) => Err(refusal.into_error(member.group.name())),
        }
    }
}
