//! The share groups at a checkpoint.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::group::{ShareGroup, SharePart, Shares};
use super::state::{GroupSettings, encode_group, encode_partition};
use crate::engine::codec::Encoder;
use crate::group::share::SharePartition;
use crate::sync::MutexGuard;
use crate::sync::atomic::Ordering;
use crate::types::PartitionNumber;

/// The held lock of the list of groups.
pub(in crate::engine) struct FreezeShares<'s> {
    shares: &'s Shares,
    groups: MutexGuard<'s, BTreeMap<Arc<str>, Arc<ShareGroup>>>,
}

type Held<'g> = MutexGuard<'g, Option<SharePartition>>;

impl Shares {
    /// Takes the outermost lock, for a checkpoint.
    pub(in crate::engine) fn lock_groups(&self) -> FreezeShares<'_> {
        FreezeShares { shares: self, groups: self.groups.lock() }
    }
}

impl FreezeShares<'_> {
    /// Takes all locks (G2), and calls `then` under them: with the body of the image and its version, unless that is the
    /// `known` one.
    pub(in crate::engine) fn with_all<T>(
        &self,
        known: u64,
        then: impl FnOnce(Option<(Vec<u8>, u64)>) -> T,
    ) -> T {
        let settings: Vec<_> = self.groups.values().map(|group| group.settings.lock()).collect();
        let partitions: Vec<_> =
            self.groups.values().map(|group| group.partitions.lock()).collect();
        let parts: Vec<Vec<(PartitionNumber, Held<'_>)>> = partitions
            .iter()
            .map(|list| list.iter().map(|(number, part)| (*number, lock(part))).collect())
            .collect();
        let version = self.shares.version.load(Ordering::Relaxed);
        then((version != known).then(|| (self.encode(&settings, &parts), version)))
    }

    fn encode(
        &self,
        settings: &[MutexGuard<'_, Option<GroupSettings>>],
        parts: &[Vec<(PartitionNumber, Held<'_>)>],
    ) -> Vec<u8> {
        let mut out = Encoder::default();
        out.count(settings.iter().filter(|settings| settings.is_some()).count());
        for ((name, settings), parts) in self.groups.keys().zip(settings).zip(parts) {
            let Some(settings) = &**settings else { continue };
            let live = || parts.iter().filter_map(|(number, held)| Some((number, held.as_ref()?)));
            encode_group(name, settings, live().count(), &mut out);
            for (number, partition) in live() {
                encode_partition(*number, partition, &mut out);
            }
        }
        out.out
    }
}

fn lock(part: &Arc<SharePart>) -> Held<'_> {
    part.state.lock()
}
