//! Consumer groups of the engine: a lock around each coordinator, and signals that wake members. The pure
//! coordinator is `crate::group`.
//!
//! Imported by `state`, `describe`, `snapshot`, `recovery` and `engine`.

mod admin;
mod commit;
pub(crate) mod progress;
pub(crate) mod reset;
pub(crate) mod summary;

use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

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
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, MutexGuard};
use crate::types::{Assignor, GroupMembershipOperation, TopicPartition, check_group_name};

/// The groups that have or had members since the folder was opened, until they are forgotten.
#[derive(Debug)]
pub(crate) struct Groups {
    by_name: Mutex<BTreeMap<Arc<str>, Arc<GroupHandle>>>,
    next_member: AtomicU64,
    /// `group.max.size`.
    max_size: u32,
}

/// A group.
#[derive(Debug)]
pub(crate) struct GroupHandle {
    name: Arc<str>,
    state: Mutex<GroupState>,
}

/// The state that a group's lock protects.
#[derive(Debug)]
pub(crate) struct GroupState {
    pub(crate) group: Group,
    members: HashMap<MemberId, Arc<MemberSignal>>,
    /// Whether a thread is computing target assignments. That thread continues until none is left to compute.
    assigning: bool,
    /// Whether the group had a member since the last call of [`GroupHandle::take_active`].
    active: bool,
}

/// Tells a member, without a lock, that its next heartbeat returns news.
#[derive(Debug)]
pub(crate) struct MemberSignal {
    version: AtomicU64,
    pub(crate) event: Arc<Event>,
}

impl MemberSignal {
    pub(crate) fn new(event: Arc<Event>) -> Self {
        Self { version: AtomicU64::new(0), event }
    }

    /// Returns a number that changes whenever a heartbeat would return news.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }
}

/// Returns the assignor that a setting names.
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
    /// Creates an empty set of groups. Each group takes up to `max_size` members (`group.max.size`).
    pub(crate) fn new(max_size: u32) -> Self {
        Self { by_name: Mutex::default(), next_member: AtomicU64::new(0), max_size }
    }

    /// Returns the group of this name. Creates it if it does not exist.
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

    /// Returns the group of this name, if it has or had members.
    pub(crate) fn find(&self, name: &str) -> Option<Arc<GroupHandle>> {
        self.by_name.lock().get(name).cloned()
    }

    /// Returns all groups, ordered by name.
    pub(crate) fn all(&self) -> Vec<Arc<GroupHandle>> {
        self.by_name.lock().values().cloned().collect()
    }

    /// Returns a new member id. With an instance id, it is the id of a static member.
    pub(crate) fn next_member(&self, client_id: &str, instance_id: Option<&str>) -> MemberId {
        let number = self.next_member.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        match instance_id {
            Some(instance_id) => MemberId::of_instance(instance_id, number),
            None => MemberId::new(client_id, number),
        }
    }

    /// Forgets the groups that have no members and that no consumer holds.
    pub(crate) fn forget_idle(&self, now: Duration) {
        // Every lookup of a group takes this lock, so none can happen during the check.
        self.by_name.lock().retain(|_, handle| {
            if Arc::strong_count(handle) > 1 {
                return true;
            }
            // Without a consumer, all members are static members that are away. Only this call notices that
            // they are away for too long. When a member returns, the group is assigned again if necessary.
            let mut state = handle.lock();
            state.group.expire(now);
            state.group.check_simple_commit().is_err()
        });
    }

    /// Tells all groups that topics were created, changed or deleted.
    pub(crate) fn metadata_changed(&self, registry: &Registry) {
        for handle in self.all() {
            handle.change(|state| state.group.metadata_changed(registry));
        }
    }

    /// Wakes every member, so that its call finds the engine closed.
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

    /// Changes the group, notifies the members concerned, and computes a new assignment if necessary.
    fn change<T>(&self, change: impl FnOnce(&mut GroupState) -> T) -> T {
        let mut state = self.state.lock();
        let result = change(&mut state);
        state.tell();
        if !state.assigning {
            Self::assign(&mut state);
        }
        result
    }

    /// Computes target assignments until none is left, including those for changes that other threads make
    /// meanwhile. An assignor may be the program's own code, so it runs under no lock of the engine. A panic
    /// of the assignor continues in this thread, and the next change of the group tries again.
    fn assign(state: &mut MutexGuard<'_, GroupState>) {
        while let Some(task) = state.group.next_assignment() {
            state.assigning = true;
            let run = || catch_unwind(AssertUnwindSafe(|| task.run()));
            let outcome = MutexGuard::unlocked(state, run);
            state.assigning = false;
            match outcome {
                Ok(target) => state.group.publish(target),
                // A second panic would abort the process.
                Err(_) if std::thread::panicking() => return,
                Err(panic) => resume_unwind(panic),
            }
            state.tell();
        }
    }

    /// Adds a member. `signal` wakes it.
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
            // An expired member must not fill up the group or occupy the instance id.
            state.group.expire(now);
            state.group.join(id, config, subscription, registry, now)?;
            state.members.insert(id.clone(), Arc::clone(signal));
            state.active = true;
            Ok(())
        })
    }

    /// Replaces the subscription of a member.
    pub(crate) fn subscribe(
        &self,
        id: &MemberId,
        subscription: Subscription,
        registry: &Registry,
    ) -> Result<(), Refusal> {
        self.change(|state| state.group.subscribe(id, subscription, registry))
    }

    /// Makes the group compute a new assignment, even if nothing changed.
    pub(crate) fn enforce_rebalance(&self, id: &MemberId) -> Result<(), Refusal> {
        self.change(|state| state.group.enforce_rebalance(id))
    }

    /// Removes a member. A static member that stays in the group keeps its place. An unknown member is not an
    /// error.
    pub(crate) fn leave(&self, id: &MemberId, operation: GroupMembershipOperation, now: Duration) {
        self.change(|state| {
            state.members.remove(id);
            let _already_gone = state.group.leave(id, operation, now);
        });
    }

    /// Notes that a `poll` of the member begins. First evicts the members that were silent for too long,
    /// including this one.
    pub(crate) fn enter_poll(&self, id: &MemberId, now: Duration) -> Result<(), Refusal> {
        self.change(|state| {
            state.group.expire(now);
            state.group.enter_poll(id, now)
        })
    }

    /// Notes that a call of the member other than `poll` begins.
    pub(crate) fn enter(&self, id: &MemberId, now: Duration) {
        // If the member is gone, the call itself reports it.
        let _told_later = self.state.lock().group.enter(id, now);
    }

    /// Notes that a call of the member returns to the program.
    pub(crate) fn exit(&self, id: &MemberId, now: Duration) {
        // If the member is gone, its next call reports it.
        let _told_later = self.state.lock().group.exit(id, now);
    }

    /// Returns whether `id` is a member of the group, without evicting silent members first.
    pub(crate) fn is_member(&self, id: &MemberId) -> bool {
        self.state.lock().members.contains_key(id)
    }

    /// Handles a heartbeat of a member and returns the news for it.
    pub(crate) fn heartbeat(&self, id: &MemberId, now: Duration) -> Result<Heartbeat, Refusal> {
        self.change(|state| state.group.heartbeat(id, now))
    }

    /// Notes that a member has given up partitions.
    pub(crate) fn revoked(
        &self,
        id: &MemberId,
        partitions: &[TopicPartition],
    ) -> Result<(), Refusal> {
        self.change(|state| state.group.revoked(id, partitions))
    }

    /// Evicts the members that were silent for too long. Returns the monotonic time of the next possible
    /// eviction.
    pub(crate) fn expire(&self, now: Duration) -> Option<Duration> {
        self.change(|state| {
            state.group.expire(now);
            state.group.next_expiry(now)
        })
    }

    /// Returns whether the group had a member since the last call of this function.
    pub(crate) fn take_active(&self) -> bool {
        let mut state = self.state.lock();
        let has_members = state.group.check_simple_commit().is_err();
        std::mem::replace(&mut state.active, has_members) || has_members
    }

    /// Checks whether the group would accept an empty commit.
    pub(crate) fn check_commit(&self, member: Option<(&MemberId, MemberEpoch)>) -> Result<()> {
        let state = self.state.lock();
        match member {
            Some((id, epoch)) => state.group.check_commit(id, epoch, []),
            None => state.group.check_simple_commit(),
        }
        .map_err(|refusal| refusal.into_error(&self.name, member.map(|(id, _)| id)))
    }

    /// Evicts silent members and describes the group.
    pub(crate) fn describe(&self, now: Duration) -> GroupDescription {
        self.change(|state| state.group.expire(now));
        self.state.lock().group.describe()
    }
}

impl GroupState {
    /// Passes the news of the group on to its members. Waking takes no further lock of the engine.
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
