//! The state of an open folder, which all handles share.
//!
//! Lock order, outermost first. A thread that holds one may only take locks below it:
//!
//! 0. `cleaner`: compacts, one partition at a time
//! 1. `admin`: creates, changes and deletes topics, one at a time
//!    (and `dropping`, which deletes for the disk budget; neither is taken under the other)
//! 2. `checkpoint`: writes checkpoints, one at a time
//! 3. a partition's write-out lock
//! 4. `shares`: the list of share groups, their settings, their lists of partitions, share-partitions by group and
//!    number
//! 5. `ids`: tables of idempotency ids, by topic
//! 6. `owners`
//! 7. partitions' append locks, by partition number
//! 8. groups' locks, by name
//! 9. `offsets`
//! 10. `catalogue`
//! 11. the dirty list
//! 12. the journal's lock, then views, registry, events, the clock of ages and the account of the disk budget,
//!     which take no further lock
//!
//! The journal's lock for syncs outside of it comes after the checkpoint lock, and is held over a sync. No other
//! lock is taken under it but the journal's.
//!
//! Nothing waits for journal space under locks 2 to 12, because a checkpoint makes that space (hazard H6).
//! Nothing waits for a sync or a thread under locks 3 to 12. No user code runs under a lock.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::config::BrokerConfig;
use crate::engine::age_clock::{AgeClock, LastSeen};
use crate::engine::background::Background;
use crate::engine::catalogue::Catalogue;
use crate::engine::checkpoint::CheckpointState;
use crate::engine::cleaner::Cleaner;
use crate::engine::dropper::Dropper;
use crate::engine::groups::Groups;
use crate::engine::ids::Ids;
use crate::engine::owners::Owners;
use crate::engine::registry::Registry;
use crate::engine::reserve::Reserve;
use crate::engine::shares::Shares;
use crate::engine::troubles::Troubles;
use crate::engine::writer::Writer;
use crate::error::{Error, Result};
use crate::group::OffsetStore;
use crate::journal::Journal;
use crate::log::LogShared;
use crate::storage::{Storage, StorageLock};
use crate::sync::Mutex;
use crate::time::{Clock, Random};
use crate::types::{Epoch, Lsn, Timestamp, planted};

/// The committed offsets, with a version that rises with every change.
#[derive(Debug)]
pub(crate) struct Offsets {
    pub(crate) store: OffsetStore,
    pub(crate) version: u64,
}

/// An open folder.
pub(crate) struct Engine {
    pub(super) storage: Arc<dyn Storage>,
    pub(crate) config: BrokerConfig,
    pub(super) directory_id: [u8; 16],
    pub(super) epoch: Epoch,
    pub(crate) journal: Arc<Journal>,
    pub(crate) logs: Arc<LogShared>,
    pub(crate) registry: Arc<Registry>,
    pub(super) admin: Mutex<()>,
    /// Held while the oldest segments are deleted for the disk budget.
    pub(super) dropping: Mutex<()>,
    pub(super) checkpoint: Mutex<CheckpointState>,
    pub(crate) shares: Shares,
    pub(super) ids: Ids,
    pub(super) owners: Mutex<Arc<Owners>>,
    pub(crate) offsets: Mutex<Offsets>,
    pub(super) catalogue: Mutex<Catalogue>,
    pub(crate) groups: Groups,
    pub(super) reserve: Reserve,
    pub(super) troubles: Troubles,
    pub(super) background: Background,
    pub(super) cleaner: Cleaner,
    pub(super) dropper: Dropper,
    pub(super) writer: Writer,
    pub(super) ages: Mutex<AgeClock>,
    pub(super) lock: Mutex<Option<Box<dyn StorageLock>>>,
    pub(super) closed: AtomicBool,
    /// How many handles the program holds.
    pub(super) handles: AtomicUsize,
}

// Short, because it is part of every handle, and programs print those.
impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("path", &self.path())
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}

impl Engine {
    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.config.clock
    }

    pub(crate) fn random(&self) -> &dyn Random {
        &*self.config.random
    }

    /// Returns the time at which ages end. Everything that exceeds its age limit at this time expires.
    pub(crate) fn now_for_ages(&self) -> Timestamp {
        self.ages.lock().now(self.clock().now(), self.clock().monotonic())
    }

    /// Returns the time to record for something that is used now.
    pub(crate) fn stamp(&self) -> Timestamp {
        self.ages.lock().stamp(self.clock().now(), self.clock().monotonic())
    }

    /// Returns the readings of the clocks for the next opening.
    pub(super) fn last_seen(&self) -> LastSeen {
        self.ages.lock().last_seen(self.clock().now(), self.clock().monotonic())
    }

    /// Rejects calls after `close`, and calls of a forked child.
    #[inline]
    pub(crate) fn check_open(&self) -> Result<()> {
        self.check_fork()?;
        if self.closed.load(Ordering::Acquire) { Err(Error::Closed) } else { Ok(()) }
    }

    /// Rejects calls of a forked child, including those that a closed engine would answer.
    #[inline]
    pub(crate) fn check_fork(&self) -> Result<()> {
        if self.is_forked() { Err(Error::ForkedChild) } else { Ok(()) }
    }

    /// Returns whether this process is a forked child of the one that opened the folder. A child has none of
    /// the threads, and their locks may be held for ever.
    #[inline]
    pub(crate) fn is_forked(&self) -> bool {
        self.logs.fork.is_child() && !planted("fork_not_noticed")
    }

    /// Waits until every frame up to `lsn` survives power loss.
    pub(crate) fn wait_synced(&self, lsn: Lsn) -> Result<()> {
        self.logs.wait_synced(lsn, None)
    }

    /// As `wait_synced`, but fails with `Timeout` after `timeout`.
    pub(crate) fn wait_synced_for(&self, lsn: Lsn, timeout: Duration) -> Result<()> {
        self.logs.wait_synced(lsn, Some(timeout))
    }

    /// Returns the path of the folder, for messages.
    pub(crate) fn path(&self) -> PathBuf {
        self.storage.display_path(Path::new(""))
    }
}

/// Converts a failure for a caller whose frame is in the journal already.
pub(super) fn indeterminate(error: Error) -> Error {
    match error {
        Error::Indeterminate { .. } => error,
        error => Error::Indeterminate { cause: Arc::new(error) },
    }
}
