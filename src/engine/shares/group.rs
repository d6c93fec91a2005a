//! The share groups of an open folder, with their locks.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use siphasher::sip::SipHasher13;

use super::signals::Signals;
use super::state::{GroupSettings, ShareState, ShareStates};
use crate::engine::registry::Registry;
use crate::error::{Error, Result};
use crate::group::share::{MemberNumber, SharePartition};
use crate::log::Log;
use crate::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use crate::sync::{Gate, Mutex, MutexGuard};
use crate::types::PartitionNumber;

/// The share groups of an open folder.
pub(crate) struct Shares {
    pub(super) groups: Mutex<BTreeMap<Arc<str>, Arc<ShareGroup>>>,
    next_member: AtomicU32,
    /// Rises with each journaled change, under a lock of what changes.
    pub(super) version: AtomicU64,
    /// Keyed by the folder, so that a key has the same hash for as long as the folder exists.
    hasher: SipHasher13,
}

// Without the key of the hashes.
impl fmt::Debug for Shares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shares").finish_non_exhaustive()
    }
}

/// A share group.
#[derive(Debug)]
pub(crate) struct ShareGroup {
    name: Arc<str>,
    /// `None` once the group is deleted, and until its first settings are in the journal.
    pub(super) settings: Mutex<Option<GroupSettings>>,
    pub(super) partitions: Mutex<BTreeMap<PartitionNumber, Arc<SharePart>>>,
    pub(super) members: Mutex<BTreeMap<MemberNumber, Vec<String>>>,
    pub(super) signals: Arc<Signals>,
}

/// A share-partition: one group and one partition.
#[derive(Debug)]
pub(crate) struct SharePart {
    group: Arc<str>,
    log: Arc<Log>,
    pub(super) signals: Arc<Signals>,
    /// Whether a member found that another one was reading.
    pub(super) waited_for: AtomicBool,
    /// When the end of locks may be tried again after a failure, in milliseconds of the monotonic clock. 0 if none failed.
    pub(super) retry_at: AtomicU64,
    /// Why attempts could not end, until they do.
    pub(super) failure: Mutex<Option<Error>>,
    /// `None` once the topic or the group is deleted, and until its start is in the journal.
    pub(super) state: Mutex<Option<SharePartition>>,
    /// Entered before the lock by the threads of a member that say what became of records: they are many.
    pub(super) gate: Gate,
}

impl Shares {
    /// Creates the groups of a folder from what was stored. Each lock has ended (H8).
    pub(in crate::engine) fn new(
        states: ShareStates,
        registry: &Registry,
        directory_id: &[u8; 16],
        changed: bool,
    ) -> Self {
        let groups = states.into_iter().map(|(name, state)| {
            let group = Arc::new(ShareGroup::loaded(Arc::clone(&name), state, registry));
            (name, group)
        });
        Self {
            groups: Mutex::new(groups.collect()),
            next_member: AtomicU32::new(0),
            version: AtomicU64::new(u64::from(changed)),
            hasher: SipHasher13::new_with_key(directory_id),
        }
    }

    /// Returns the group of this name, if there is one.
    pub(crate) fn find(&self, name: &str) -> Option<Arc<ShareGroup>> {
        let group = self.groups.lock().get(name).cloned()?;
        let exists = group.settings.lock().is_some();
        exists.then_some(group)
    }

    /// Returns the groups by name.
    pub(crate) fn all(&self) -> Vec<Arc<ShareGroup>> {
        let all: Vec<_> = self.groups.lock().values().cloned().collect();
        all.into_iter().filter(|group| group.settings.lock().is_some()).collect()
    }

    /// Returns the number of a new member. No other member of this process has it.
    pub(super) fn next_member(&self) -> MemberNumber {
        MemberNumber(self.next_member.fetch_add(1, Ordering::Relaxed).saturating_add(1))
    }

    /// Returns the hash of a key.
    pub(super) fn hash(&self, key: &[u8]) -> u64 {
        self.hasher.hash(key)
    }

    /// Forgets the partitions of a deleted topic. Its deletion is in the journal.
    pub(in crate::engine) fn remove_partitions(&self, numbers: &[PartitionNumber]) {
        let groups: Vec<_> = self.groups.lock().values().cloned().collect();
        for group in groups {
            let mut partitions = group.partitions.lock();
            let gone: Vec<_> =
                numbers.iter().filter_map(|number| partitions.remove(number)).collect();
            for part in gone {
                *part.state.lock() = None;
                self.version.fetch_add(1, Ordering::Relaxed);
            }
            drop(partitions);
            group.signals.wake();
        }
    }

    /// Returns the first group that cannot end attempts, and why.
    pub(in crate::engine) fn first_failure(&self) -> Option<(String, Error)> {
        self.all().iter().find_map(|group| {
            let partitions = group.partitions.lock();
            let failure = partitions.values().find_map(|part| part.failure.lock().clone())?;
            Some((group.name.to_string(), failure))
        })
    }

    /// Wakes every member that sleeps, so that it finds a topic or partition that has come, or the engine closed.
    pub(in crate::engine) fn wake_all(&self) {
        self.all().iter().for_each(|group| group.signals.wake());
    }
}

impl ShareGroup {
    fn loaded(name: Arc<str>, state: ShareState, registry: &Registry) -> Self {
        let signals = Arc::new(Signals::default());
        signals.follow(&state.settings);
        let mut partitions = BTreeMap::new();
        for (number, partition) in state.partitions {
            // The topic of others was deleted (S2).
            let Some(log) = registry.by_number(number) else { continue };
            let mut partition = Arc::unwrap_or_clone(partition);
            partition.opened();
            let part = SharePart {
                group: Arc::clone(&name),
                log,
                signals: Arc::clone(&signals),
                waited_for: AtomicBool::new(false),
                retry_at: AtomicU64::new(0),
                failure: Mutex::new(None),
                state: Mutex::new(Some(partition)),
                gate: Gate::new(),
            };
            partitions.insert(number, Arc::new(part));
        }
        Self {
            name,
            settings: Mutex::new(Some(state.settings)),
            partitions: Mutex::new(partitions),
            members: Mutex::default(),
            signals,
        }
    }

    /// Returns the first record of a partition that the group has not finished. `None` if it has begun nothing there.
    pub(crate) fn oldest_unfinished(&self, partition: PartitionNumber) -> Option<i64> {
        let part = self.partitions.lock().get(&partition).cloned()?;
        let state = part.state.lock();
        state.as_ref().map(SharePartition::oldest_unfinished)
    }

    /// Creates a group without settings, which does not exist yet.
    pub(super) fn unborn(name: Arc<str>) -> Self {
        Self {
            name,
            settings: Mutex::new(None),
            partitions: Mutex::default(),
            members: Mutex::default(),
            signals: Arc::default(),
        }
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Returns the settings.
    ///
    /// # Errors
    /// `UnknownGroup` if the group was deleted.
    pub(crate) fn settings(&self) -> Result<GroupSettings> {
        self.settings.lock().clone().ok_or_else(|| self.unknown())
    }

    /// # Errors
    /// `GroupNotEmpty` if it has members.
    pub(super) fn check_no_members(&self) -> Result<()> {
        if self.members.lock().is_empty() {
            Ok(())
        } else {
            Err(Error::GroupNotEmpty { group: self.name.to_string() })
        }
    }

    pub(super) fn unknown(&self) -> Error {
        Error::UnknownGroup { group: self.name.to_string() }
    }

    /// Returns what wakes its members.
    pub(crate) fn signals(&self) -> &Signals {
        &self.signals
    }

    /// Returns a share-partition without a state, which does not exist yet.
    pub(super) fn unborn_part(&self, log: &Arc<Log>) -> SharePart {
        SharePart {
            group: Arc::clone(&self.name),
            log: Arc::clone(log),
            signals: Arc::clone(&self.signals),
            waited_for: AtomicBool::new(false),
            retry_at: AtomicU64::new(0),
            failure: Mutex::new(None),
            state: Mutex::new(None),
            gate: Gate::new(),
        }
    }
}

impl SharePart {
    pub(crate) fn group(&self) -> &Arc<str> {
        &self.group
    }

    pub(crate) fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// Returns whether the group is paused.
    pub(crate) fn is_paused(&self) -> bool {
        self.signals.is_paused()
    }

    /// Forgets that attempts could not end, if they could not.
    pub(super) fn attempts_end(&self) {
        if self.retry_at.load(Ordering::Relaxed) != 0 {
            self.retry_at.store(0, Ordering::Relaxed);
            *self.failure.lock() = None;
        }
    }

    /// Returns how long the end of locks is not tried again, after a failure.
    pub(super) fn rests(&self, monotonic: Duration) -> Duration {
        let until = Duration::from_millis(self.retry_at.load(Ordering::Relaxed));
        until.saturating_sub(monotonic)
    }

    /// The order in which share-partitions are locked.
    pub(crate) fn order(&self) -> (&str, PartitionNumber) {
        (&self.group, self.log.number())
    }

    /// Takes the lock.
    ///
    /// # Errors
    /// `UnknownTopic` if the topic or the group was deleted.
    pub(super) fn lock(&self) -> Result<MutexGuard<'_, Option<SharePartition>>> {
        let state = self.state.lock();
        if state.is_none() || self.log.is_deleted() {
            let topic = self.log.partition().topic().to_owned();
            return Err(Error::UnknownTopic { topic });
        }
        Ok(state)
    }
}
