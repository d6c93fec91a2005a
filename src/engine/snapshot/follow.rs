//! Follows a writer: reads only the frames that the journal got since the last snapshot.
//!
//! A snapshot never changes, because consumers read through it. The next snapshot shares everything that did
//! not change, and has branches of the partitions that got records. Following works while the checkpoint is
//! the same and the journal continues from where the last snapshot ended (`journal::mark`). A change of the
//! catalogue ends it. Such changes are rare, and the caller then loads the whole folder.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::{Seen, Snapshot};
use crate::dedup::IdSection;
use crate::engine::apply::{Target, apply};
use crate::engine::catalogue::CatalogueChange;
use crate::engine::files;
use crate::engine::owners::Owners;
use crate::engine::shares::ShareStates;
use crate::error::{CorruptReason, Error, Result};
use crate::group::OffsetStore;
use crate::journal;
use crate::log::Log;
use crate::storage::Storage;
use crate::types::{PartitionNumber, planted};

/// Returns the folder as it is now, based on an earlier snapshot, or `None` if nothing was written since.
///
/// # Errors
/// The failure that prevents following. The caller then loads the whole folder.
pub(super) fn follow(storage: &Arc<dyn Storage>, before: &Snapshot) -> Result<Option<Snapshot>> {
    let Seen { heads, directory_id, mark } = &before.seen;
    let same = files::checkpoint_heads(&**storage)? == *heads;
    if !same && !planted("follow_past_checkpoint") {
        return Err(Error::Busy { path: storage.display_path(Path::new("")) });
    }
    let (offsets, owners) = (before.offsets.snapshot(), Arc::clone(&before.owners));
    let shares = Arc::clone(&before.shares);
    let mut news = Changes { before, logs: BTreeMap::new(), offsets, owners, shares };
    let replayed = journal::replay_on(&**storage, *directory_id, mark, &mut |frame| {
        apply(&mut news, &frame).map(|_| ())
    })?;
    if let Some(replayed) = &replayed {
        for log in news.logs.values().filter(|log| log.has_claims()) {
            let dir = Path::new(&log.partition().to_string()).to_owned();
            if log.first_unproven(&dir, replayed.known_synced)?.is_some() {
                return Err(Error::Busy { path: storage.display_path(&dir) });
            }
            log.adopt(replayed.known_synced)?;
        }
        news.logs.values().try_for_each(|log| log.drop_removed())?;
    }
    Ok(replayed.map(|replayed| Snapshot {
        storage: Arc::clone(storage),
        registry: Arc::new(before.registry.with_logs(&news.logs)),
        offsets: news.offsets,
        owners: news.owners,
        shares: news.shares,
        clock: Arc::clone(&before.clock),
        seen: Seen::new(*heads, *directory_id, replayed.mark),
    }))
}

/// The changes of new frames on top of a snapshot.
struct Changes<'a> {
    before: &'a Snapshot,
    /// Branches of the changed partitions.
    logs: BTreeMap<u32, Arc<Log>>,
    offsets: OffsetStore,
    owners: Arc<Owners>,
    shares: Arc<ShareStates>,
}

impl Target for Changes<'_> {
    fn log(&mut self, number: PartitionNumber) -> Option<Arc<Log>> {
        if let Some(log) = self.logs.get(&number.0) {
            return Some(Arc::clone(log));
        }
        let log = Arc::new(self.before.registry.by_number(number)?.branch());
        self.logs.insert(number.0, Arc::clone(&log));
        Some(log)
    }

    fn offsets(&mut self) -> &mut OffsetStore {
        &mut self.offsets
    }

    fn owners(&mut self) -> &mut Owners {
        Arc::make_mut(&mut self.owners)
    }

    fn shares(&mut self) -> &mut ShareStates {
        Arc::make_mut(&mut self.shares)
    }

    /// Only a writer needs them.
    fn ids(&mut self, _: IdSection) {}

    /// Ends following, with an error.
    fn catalogue(&mut self, _: &CatalogueChange) -> Result<(), CorruptReason> {
        Err(CorruptReason::Field)
    }
}
