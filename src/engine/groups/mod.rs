//! The groups of a broker: each coordinator in its lock, and the members that can be woken.

mod admin;
mod commit;
pub(crate) mod progress;
pub(crate) mod reset;
pub(crate) mod summary;

use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use crate::config::AssignmentStrategy;
use crate::engine::event::Event;
use crate::engine::registry::Registry;
use crate::error::{Error, Result};
use crate::group::{
    CooperativeStickyAssignor, Group, GroupDescription, Heartbeat, MemberConfig, MemberEpoch,
    MemberId, RangeAssignor, Refusal, RoundRobinAssignor, StickyAssignor, Subscription,
    UniformAssignor,
};
use crate::log::Wake as _;
use crate::types::{Assignor, GroupMembershipOperation, TopicPartition, check_group_name};

/// All groups that have or had members since the broker was opened.
#[derive(Debug)]
pub(crate) struct Groups {
    by_name: Mutex<BTreeMap<Arc<str>, Arc<GroupHandle>>>,
    next_member: AtomicU64,
    /// `group.max.size`.
    max_size: u32,
}

/// One group.
#[derive(Debug)]
pub(crate) struct GroupHandle {
    name: Arc<str>,
    state: Mutex<GroupState>,
}

/// What a group's lock protects.
#[derive(Debug)]
pub(crate) struct GroupState {
    pub(crate) group: Group,
    members: HashMap<MemberId, Arc<MemberSignal>>,
    /// Some thread computes targets, and goes on until there is nothing left to compute.
    assigning: bool,
    /// Whether there was a member since [`GroupHandle::take_active`] was asked last.
    active: bool,
}

/// How a member learns without a lock that its group has something to tell it.
#[derive(Debug)]
pub(crate) struct MemberSignal {
    version: AtomicU64,
    pub(crate) event: Arc<Event>,
}

impl MemberSignal {
    pub(crate) fn new(event: Arc<Event>) -> Self {
        Self { version: AtomicU64::new(0), event }
    }

    /// Changes whenever a heartbeat would tell the member something.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }
}

/// The assignor behind a setting.
pub(crate) fn assignor(strategy: &AssignmentStrategy) -> Arc<dyn Assignor> {
    match strategy {
        AssignmentStrategy::Range => Arc::new(RangeAssignor),
        AssignmentStrategy::RoundRobin => Arc::new(RoundRobinAssignor),
        AssignmentStrategy::Sticky => Arc::new(StickyAssignor),
        AssignmentStrategy::CooperativeSticky => Arc::new(CooperativeStickyAssignor),
        AssignmentStrategy::Uniform => Arc::new(UniformAssignor),
        AssignmentStrategy::Own(assignor) => Arc::clone(assignor),
    }
}

impl Groups {
    /// No groups yet; each may have as many members as `group.max.size` says.
    pub(crate) fn new(max_size: u32) -> Self {
        Self { by_name: Mutex::default(), next_member: AtomicU64::new(0), max_size }
    }

    /// The group of this name, made if it is not there.
    pub(crate) fn get(&self, name: &str) -> Result<Arc<GroupHandle>> {
        if let Some(handle) = self.by_name.lock().get(name) {
            return Ok(Arc::clone(handle));
        }
        check_group_name(name)
            .map_err(|reason| Error::InvalidName { name: name.to_owned(), reason })?;
        let name: Arc<str> = name.into();
        let group = Group::new(Arc::clone(&name), self.max_size);
        let state = GroupState { group, members: HashMap::new(), assigning: false, active: false };
        let state = Mutex::new(state);
        let handle = Arc::new(GroupHandle { name: Arc::clone(&name), state });
        Ok(Arc::clone(self.by_name.lock().entry(name).or_insert(handle)))
    }

    /// The group of this name, if it has or had members.
    pub(crate) fn find(&self, name: &str) -> Option<Arc<GroupHandle>> {
        self.by_name.lock().get(name).cloned()
    }

    /// All groups, by name.
    pub(crate) fn all(&self) -> Vec<Arc<GroupHandle>> {
        self.by_name.lock().values().cloned().collect()
    }

    /// A member id that was not given before; of a static member if it has an instance id.
    pub(crate) fn next_member(&self, client_id: &str, instance_id: Option<&str>) -> MemberId {
        let number = self.next_member.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        match instance_id {
            Some(instance_id) => MemberId::of_instance(instance_id, number),
            None => MemberId::new(client_id, number),
        }
    }

    /// Lets go of groups that have no members and that no consumer holds.
    pub(crate) fn forget_idle(&self, now: Duration) {
        // Who wants a group takes this lock, so nobody comes by while it is looked at.
        self.by_name.lock().retain(|_, handle| {
            if Arc::strong_count(handle) > 1 {
                return true;
            }
            // Without a consumer all members are away, and nobody else notices when that is for too
            // long. Who remains is assigned anew, if that takes it, when somebody comes back.
            let mut state = handle.lock();
            state.group.expire(now);
            state.group.check_simple_commit().is_err()
        });
    }

    /// Topics came or went.
    pub(crate) fn metadata_changed(&self, registry: &Registry) {
        for handle in self.all() {
            handle.change(|state| state.group.metadata_changed(registry));
        }
    }

    /// Wakes every member, so that it finds the broker closed.
    pub(crate) fn close(&self) {
        for handle in self.all() {
            let members: Vec<_> = handle.lock().members.values().cloned().collect();
            for member in members {
                member.event.wake();
            }
        }
    }
}

impl GroupHandle {
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, GroupState> {
        self.state.lock()
    }

    /// Changes the group, has it assigned anew if that takes it, and tells the members concerned.
    fn change<T>(&self, change: impl FnOnce(&mut GroupState) -> T) -> T {
        let mut state = self.state.lock();
        let result = change(&mut state);
        state.tell();
        if !state.assigning {
            Self::assign(&mut state);
        }
        result
    }

    /// Computes targets until there is nothing left to compute, also for what other threads change in
    /// the meantime. An assignor may be the program's own code, which runs under no lock of the engine;
    /// a panic in it goes on in this thread, and the next change of the group tries again.
    fn assign(state: &mut MutexGuard<'_, GroupState>) {
        while let Some(task) = state.group.next_assignment() {
            state.assigning = true;
            let run = || catch_unwind(AssertUnwindSafe(|| task.run()));
            let outcome = MutexGuard::unlocked(state, run);
            state.assigning = false;
            match outcome {
                Ok(target) => state.group.publish(target),
                // Two panics at once would end the process.
                Err(_) if std::thread::panicking() => return,
                Err(panic) => resume_unwind(panic),
            }
            state.tell();
        }
    }

    /// Adds a member that is woken through `signal`.
    pub(crate) fn join(
        &self,
        id: &MemberId,
        config: MemberConfig,
        subscription: Subscription,
        registry: &Registry,
        now: Duration,
        signal: &Arc<MemberSignal>,
    ) -> Result<(), Refusal> {
        self.change(|state| {
            // Who is gone takes no place, in a group that is full as well as of an instance id.
            state.group.expire(now);
            state.group.join(id, config, subscription, registry, now)?;
            state.members.insert(id.clone(), Arc::clone(signal));
            state.active = true;
            Ok(())
        })
    }

    /// Replaces what a member subscribes to.
    pub(crate) fn subscribe(
        &self,
        id: &MemberId,
        subscription: Subscription,
        registry: &Registry,
    ) -> Result<(), Refusal> {
        self.change(|state| state.group.subscribe(id, subscription, registry))
    }

    /// Has the group assigned anew though nothing changed.
    pub(crate) fn enforce_rebalance(&self, id: &MemberId) -> Result<(), Refusal> {
        self.change(|state| state.group.enforce_rebalance(id))
    }

    /// Removes a member, or keeps its place; that it is none any more is no error.
    pub(crate) fn leave(&self, id: &MemberId, operation: GroupMembershipOperation, now: Duration) {
        self.change(|state| {
            state.members.remove(id);
            let _already_gone = state.group.leave(id, operation, now);
        });
    }

    /// The member's `poll` begins: evicts who was silent for too long, this member too if it was.
    pub(crate) fn enter_poll(&self, id: &MemberId, now: Duration) -> Result<(), Refusal> {
        self.change(|state| {
            state.group.expire(now);
            state.group.enter_poll(id, now)
        })
    }

    /// A call of the member other than `poll` begins.
    pub(crate) fn enter(&self, id: &MemberId, now: Duration) {
        // That the member is gone is told by the call itself.
        let _told_later = self.state.lock().group.enter(id, now);
    }

    /// A call of the member returns to the program.
    pub(crate) fn exit(&self, id: &MemberId, now: Duration) {
        // That the member is gone is told by its next call.
        let _told_later = self.state.lock().group.exit(id, now);
    }

    /// Whether somebody is a member, as far as the group knows now.
    pub(crate) fn is_member(&self, id: &MemberId) -> bool {
        self.state.lock().members.contains_key(id)
    }

    pub(crate) fn heartbeat(&self, id: &MemberId, now: Duration) -> Result<Heartbeat, Refusal> {
        self.change(|state| state.group.heartbeat(id, now))
    }

    pub(crate) fn revoked(
        &self,
        id: &MemberId,
        partitions: &[TopicPartition],
    ) -> Result<(), Refusal> {
        self.change(|state| state.group.revoked(id, partitions))
    }

    /// Evicts who was silent for too long; the monotonic time at which somebody else may have been.
    pub(crate) fn expire(&self, now: Duration) -> Option<Duration> {
        self.change(|state| {
            state.group.expire(now);
            state.group.next_expiry(now)
        })
    }

    /// Whether the group had a member since this was asked last.
    pub(crate) fn take_active(&self) -> bool {
        let mut state = self.state.lock();
        let has_members = state.group.check_simple_commit().is_err();
        std::mem::replace(&mut state.active, has_members) || has_members
    }

    /// Whether the group would accept a commit of nothing.
    pub(crate) fn check_commit(&self, member: Option<(&MemberId, MemberEpoch)>) -> Result<()> {
        let state = self.state.lock();
        match member {
            Some((id, epoch)) => state.group.check_commit(id, epoch, []),
            None => state.group.check_simple_commit(),
        }
        .map_err(|refusal| refusal.into_error(&self.name, member.map(|(id, _)| id)))
    }

    pub(crate) fn describe(&self, now: Duration) -> GroupDescription {
        self.change(|state| state.group.expire(now));
        self.state.lock().group.describe()
    }
}

impl GroupState {
    /// Passes on what the group has to tell. Waking takes no further lock of the engine.
    fn tell(&mut self) {
        for news in self.group.take_news() {
            let signal = match news.version {
                Some(_) => self.members.get(&news.member).cloned(),
                None => self.members.remove(&news.member),
            };
            if let Some(signal) = signal {
                signal.version.store(news.version.unwrap_or(u64::MAX), Ordering::Release);
                if news.wake {
                    signal.event.wake();
                }
            }
        }
    }
}
