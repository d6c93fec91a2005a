//! What the share-partitions of a group share: the members that sleep until there may be a record for them, and the settings
//! that are looked at under their locks.

use std::sync::Arc;

use crate::engine::event::Event;
use crate::log::Wake as _;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::state::GroupSettings;

/// The sleeping members of a group, and some of its settings.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    paused: AtomicBool,
    dead_letters: AtomicBool,
    /// How many sleep, so that who wakes nobody takes no lock.
    count: AtomicUsize,
    events: Mutex<Vec<Arc<Event>>>,
}

impl Signals {
    /// Takes over the settings of the group.
    pub(super) fn follow(&self, settings: &GroupSettings) {
        self.paused.store(settings.paused, Ordering::Release);
        let dead_letters = !settings.config.dead_letter_topic.is_empty();
        self.dead_letters.store(dead_letters, Ordering::Release);
    }

    /// Returns whether nothing is handed out.
    pub(super) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Acquire)
    }

    /// Returns the most records that one decision may give up: `most` where each becomes a dead letter.
    pub(super) fn most_letters(&self, most: u64) -> u64 {
        if self.has_dead_letters() { most } else { u64::MAX }
    }

    /// Returns whether there is a topic for dead letters.
    pub(super) fn has_dead_letters(&self) -> bool {
        self.dead_letters.load(Ordering::Acquire)
    }

    /// Adds a sleeper. It looks for work once more before it sleeps.
    pub(crate) fn add(&self, event: &Arc<Event>) {
        let mut events = self.events.lock();
        if !events.iter().any(|known| Arc::ptr_eq(known, event)) {
            events.push(Arc::clone(event));
            // A thread that makes a record available either sees the sleeper, or is seen by it: it looks again.
            self.count.store(events.len(), Ordering::SeqCst);
        }
    }

    /// Removes a sleeper.
    pub(crate) fn remove(&self, event: &Arc<Event>) {
        let mut events = self.events.lock();
        events.retain(|known| !Arc::ptr_eq(known, event));
        self.count.store(events.len(), Ordering::SeqCst);
    }

    /// Wakes all sleepers.
    pub(crate) fn wake(&self) {
        self.wake_except(None);
    }

    /// Wakes all sleepers but one.
    pub(super) fn wake_except(&self, one: Option<&Arc<Event>>) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let events = self.events.lock().clone();
        let others = |event: &&Arc<Event>| one.is_none_or(|one| !Arc::ptr_eq(event, one));
        events.iter().filter(others).for_each(|event| event.wake());
    }
}
