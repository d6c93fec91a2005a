//! The groups of a broker: each coordinator in its lock, and the members that can be woken.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use super::event::Event;
use super::registry::Registry;
use crate::error::{Error, Result};
use crate::group::{
    Group, GroupDescription, Heartbeat, MemberConfig, MemberEpoch, MemberId, RangeAssignor, Refusal,
};
use crate::log::Wake as _;
use crate::types::{TopicPartition, check_group_name};

/// All groups that have or had members since the broker was opened.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    groups: Mutex<BTreeMap<Arc<str>, Arc<GroupHandle>>>,
    next_member: AtomicU64,
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

impl Groups {
    /// The group of this name, made if it is not there.
    pub(crate) fn get(&self, name: &str) -> Result<Arc<GroupHandle>> {
        if let Some(handle) = self.groups.lock().get(name) {
            return Ok(Arc::clone(handle));
        }
        check_group_name(name)
            .map_err(|reason| Error::InvalidName { name: name.to_owned(), reason })?;
        let name: Arc<str> = name.into();
        let group = Group::new(Arc::clone(&name), Arc::new(RangeAssignor));
        let state = Mutex::new(GroupState { group, members: HashMap::new() });
        let handle = Arc::new(GroupHandle { name: Arc::clone(&name), state });
        Ok(Arc::clone(self.groups.lock().entry(name).or_insert(handle)))
    }

    /// The group of this name, if it has or had members.
    pub(crate) fn find(&self, name: &str) -> Option<Arc<GroupHandle>> {
        self.groups.lock().get(name).cloned()
    }

    /// All groups, by name.
    pub(crate) fn all(&self) -> Vec<Arc<GroupHandle>> {
        self.groups.lock().values().cloned().collect()
    }

    /// A member id that was not given before.
    pub(crate) fn next_member(&self, client_id: &str) -> MemberId {
        MemberId::new(client_id, self.next_member.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Topics came or went.
    pub(crate) fn metadata_changed(&self, registry: &Registry) {
        for handle in self.all() {
            handle.change(|group| group.metadata_changed(registry));
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

    /// Changes the group and tells the members concerned.
    fn change<T>(&self, change: impl FnOnce(&mut Group) -> T) -> T {
        let mut state = self.state.lock();
        let result = change(&mut state.group);
        state.tell();
        result
    }

    /// Adds a member that is woken through `signal`.
    pub(crate) fn join(
        &self,
        id: &MemberId,
        config: MemberConfig,
        subscription: BTreeSet<Arc<str>>,
        registry: &Registry,
        now: Duration,
        signal: &Arc<MemberSignal>,
    ) {
        let mut state = self.state.lock();
        state.members.insert(id.clone(), Arc::clone(signal));
        state.group.join(id.clone(), config, subscription, registry, now);
        state.tell();
    }

    /// Replaces what a member subscribes to.
    pub(crate) fn subscribe(
        &self,
        id: &MemberId,
        subscription: BTreeSet<Arc<str>>,
        registry: &Registry,
    ) -> Result<(), Refusal> {
        self.change(|group| group.subscribe(id, subscription, registry))
    }

    /// Removes a member; that it is none any more is no error.
    pub(crate) fn leave(&self, id: &MemberId) {
        let mut state = self.state.lock();
        state.members.remove(id);
        match state.group.leave(id) {
            Ok(()) | Err(_) => state.tell(),
        }
    }

    /// The member's `poll` begins: evicts who was silent for too long, this member too if it was.
    pub(crate) fn enter_poll(&self, id: &MemberId, now: Duration) -> Result<(), Refusal> {
        let mut state = self.state.lock();
        state.expire(now);
        state.group.enter_poll(id, now)
    }

    /// The member's `poll` returns to the program.
    pub(crate) fn exit_poll(&self, id: &MemberId, now: Duration) {
        // That the member is gone is told by its next call.
        let _told_later = self.state.lock().group.exit(id, now);
    }

    /// Whether somebody is a member, as far as the group knows now.
    pub(crate) fn is_member(&self, id: &MemberId) -> bool {
        self.state.lock().members.contains_key(id)
    }

    pub(crate) fn heartbeat(&self, id: &MemberId, now: Duration) -> Result<Heartbeat, Refusal> {
        let mut state = self.state.lock();
        let answer = state.group.heartbeat(id, now);
        state.tell();
        answer
    }

    pub(crate) fn revoked(
        &self,
        id: &MemberId,
        partitions: &[TopicPartition],
    ) -> Result<(), Refusal> {
        self.change(|group| group.revoked(id, partitions))
    }

    /// Evicts who was silent for too long; the monotonic time at which somebody else may have been.
    pub(crate) fn expire(&self, now: Duration) -> Option<Duration> {
        let mut state = self.state.lock();
        state.expire(now);
        state.group.next_deadline()
    }

    /// Whether the group would accept a commit of nothing.
    pub(crate) fn check_commit(&self, member: Option<(&MemberId, MemberEpoch)>) -> Result<()> {
        let state = self.state.lock();
        match member {
            Some((id, epoch)) => state.group.check_commit(id, epoch, []),
            None => state.group.check_simple_commit(),
        }
        .map_err(|refusal| refusal.into_error(&self.name))
    }

    pub(crate) fn describe(&self, now: Duration) -> GroupDescription {
        let mut state = self.state.lock();
        state.expire(now);
        state.group.describe()
    }
}

impl GroupState {
    fn expire(&mut self, now: Duration) {
        for id in self.group.expire(now) {
            if let Some(signal) = self.members.remove(&id) {
                signal.version.store(u64::MAX, Ordering::Release);
                signal.event.wake();
            }
        }
        self.tell();
    }

    /// Passes on what the group has to tell. Waking takes no further lock of the engine.
    fn tell(&mut self) {
        for news in self.group.take_news() {
            if let Some(signal) = self.members.get(&news.member) {
                signal.version.store(news.version, Ordering::Release);
                if news.wake {
                    signal.event.wake();
                }
            }
        }
    }
}
