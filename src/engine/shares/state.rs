//! What a folder knows of share groups: settings, and the state of each share-partition. Pure, and only applying journaled
//! changes modifies it.
//!
//! * **S1** A group exists from the section that sets its settings to the one that removes it. A share-partition exists
//!   from its first section, which says where it begins.
//! * **S2** Sections of a partition whose topic was deleted are of no account, wherever they stand: numbers of
//!   partitions are not used again.
//!
//! A section of the journal has this form, with big-endian numbers and texts of a length (u32) and UTF-8:
//!
//! | size | type | field |
//! |---|---|---|
//! | 1 | u8 | kind: 1 = settings, 2 = a share-partition changes, 3 = the group is deleted |
//! | 4 + n | text | the name of the group |
//! | 1 | u8 | kind 1: 1 if the group is paused, else 0 |
//! | 4 | u32 | kind 1: how many settings follow, each as key and value (text); what is missing has its default |
//! | 4 | u32 | kind 2: the number of the partition |
//! | .. | | kind 2: the change, see `group::share::Section` |

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::ShareGroupConfig;
use crate::engine::codec::{Decoder, Encoder};
use crate::error::{CorruptReason, Unreadable};
use crate::group::share::{Section, SharePartition, ShareSettings};
use crate::types::PartitionNumber;

/// The share groups of a folder.
#[derive(Debug, Clone, Default)]
pub(crate) struct ShareStates(BTreeMap<Arc<str>, ShareState>);

/// A share group.
#[derive(Debug, Clone)]
pub(crate) struct ShareState {
    pub(crate) settings: GroupSettings,
    pub(crate) partitions: BTreeMap<PartitionNumber, Arc<SharePartition>>,
}

/// What an operator decides for a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GroupSettings {
    pub(crate) config: Arc<ShareGroupConfig>,
    /// The same for the state machine.
    pub(crate) share: Arc<ShareSettings>,
    /// Whether nothing is handed out.
    pub(crate) paused: bool,
}

impl GroupSettings {
    pub(crate) fn new(config: ShareGroupConfig, paused: bool) -> Self {
        let share = ShareSettings {
            lock_duration: config.lock_duration,
            delivery_count_limit: config.delivery_count_limit,
            max_record_locks: config.max_record_locks,
            renew_enabled: config.renew_enabled,
            acquire_mode: config.acquire_mode,
            ordering: config.ordering,
            backoff: config.backoff,
        };
        Self { config: Arc::new(config), share: Arc::new(share), paused }
    }
}

/// A journaled change of a share group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ShareChange {
    pub(crate) group: Arc<str>,
    pub(crate) kind: ShareChangeKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ShareChangeKind {
    Settings(GroupSettings),
    Partition(PartitionNumber, Section),
    Delete,
}

const SETTINGS: u8 = 1;
const PARTITION: u8 = 2;
const DELETE: u8 = 3;
/// The smallest size of a setting, and of a share-partition or a group in an image, in bytes.
const LEAST_BYTES: usize = 8;

impl ShareStates {
    /// Returns the groups by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &ShareState)> {
        self.0.iter()
    }

    pub(super) fn into_iter(self) -> impl Iterator<Item = (Arc<str>, ShareState)> {
        self.0.into_iter()
    }

    pub(crate) fn get(&self, group: &str) -> Option<&ShareState> {
        self.0.get(group)
    }

    /// Applies a change that was journaled.
    ///
    /// # Errors
    /// `Corrupt` if it is about a group that does not exist (S1).
    pub(crate) fn apply(&mut self, change: ShareChange) -> Result<(), CorruptReason> {
        if let ShareChangeKind::Settings(settings) = change.kind {
            if let Some(state) = self.0.get_mut(&change.group) {
                for partition in state.partitions.values_mut() {
                    Arc::make_mut(partition).configure(Arc::clone(&settings.share));
                }
                state.settings = settings;
            } else {
                let state = ShareState { settings, partitions: BTreeMap::new() };
                self.0.insert(change.group, state);
            }
            return Ok(());
        }
        let state = self.0.get_mut(&change.group).ok_or(CorruptReason::Field)?;
        match change.kind {
            ShareChangeKind::Settings(_) => {}
            ShareChangeKind::Partition(number, section) => {
                let share = &state.settings.share;
                let new = || Arc::new(SharePartition::new(Arc::clone(share), 0));
                let partition = state.partitions.entry(number).or_insert_with(new);
                Arc::make_mut(partition).apply(&section, std::time::Duration::ZERO);
            }
            ShareChangeKind::Delete => {
                self.0.remove(&change.group);
            }
        }
        Ok(())
    }

    /// Forgets the partitions of a deleted topic.
    pub(crate) fn remove_partitions(&mut self, numbers: &[PartitionNumber]) {
        for state in self.0.values_mut() {
            state.partitions.retain(|number, _| !numbers.contains(number));
        }
    }

    /// Reads what [`encode_group`] and [`encode_partition`] have written.
    pub(super) fn decode(input: &mut Decoder<'_>) -> Result<Self, Unreadable> {
        let mut states = BTreeMap::new();
        for _ in 0..input.count(LEAST_BYTES)? {
            let group = input.group_name()?;
            let settings = decode_settings(input)?;
            let mut partitions = BTreeMap::new();
            for _ in 0..input.count(LEAST_BYTES)? {
                let number = PartitionNumber(input.u32()?);
                let bytes = input.slice()?;
                let partition = SharePartition::decode(bytes, Arc::clone(&settings.share))?;
                if partitions.insert(number, Arc::new(partition)).is_some() {
                    return Err(CorruptReason::Field.into());
                }
            }
            if states.insert(group, ShareState { settings, partitions }).is_some() {
                return Err(CorruptReason::Field.into());
            }
        }
        Ok(Self(states))
    }
}

/// Appends a group to an image, before its `partitions` partitions.
pub(super) fn encode_group(
    group: &str,
    settings: &GroupSettings,
    partitions: usize,
    out: &mut Encoder,
) {
    out.text(group);
    encode_settings(settings, out);
    out.count(partitions);
}

/// Appends a share-partition to an image.
pub(super) fn encode_partition(
    number: PartitionNumber,
    partition: &SharePartition,
    out: &mut Encoder,
) {
    out.u32(number.0);
    let at = out.out.len();
    out.u32(0);
    partition.encode(&mut out.out);
    let len = out.out.len().saturating_sub(at).saturating_sub(4) as u32;
    if let Some(place) = out.out.get_mut(at..at.saturating_add(4)) {
        place.copy_from_slice(&len.to_be_bytes());
    }
}

impl ShareChange {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::default();
        out.u8(match &self.kind {
            ShareChangeKind::Settings(_) => SETTINGS,
            ShareChangeKind::Partition(..) => PARTITION,
            ShareChangeKind::Delete => DELETE,
        });
        out.text(&self.group);
        match &self.kind {
            ShareChangeKind::Settings(settings) => encode_settings(settings, &mut out),
            ShareChangeKind::Partition(number, section) => {
                out.u32(number.0);
                section.encode(&mut out.out);
            }
            ShareChangeKind::Delete => {}
        }
        out.out
    }

    /// Decodes a section that fills `body`. The frame's checksum is right, so an unknown kind comes from a newer
    /// version of grouplog.
    pub(crate) fn decode(body: &[u8]) -> Result<Self, Unreadable> {
        let mut input = Decoder::new(body);
        let kind = input.kind("share section kind", DELETE)?;
        let group = input.group_name()?;
        let kind = match kind {
            SETTINGS => ShareChangeKind::Settings(decode_settings(&mut input)?),
            PARTITION => {
                let number = PartitionNumber(input.u32()?);
                ShareChangeKind::Partition(number, Section::decode(input.take_rest())?)
            }
            _ => ShareChangeKind::Delete,
        };
        input.finish()?;
        Ok(Self { group, kind })
    }
}

/// Writes the section of a share-partition's change without a copy of the change.
pub(super) fn encode_partition_change(
    group: &str,
    number: PartitionNumber,
    section: &Section,
    out: &mut Vec<u8>,
) {
    let mut encoder = Encoder { out: std::mem::take(out) };
    encoder.u8(PARTITION);
    encoder.text(group);
    encoder.u32(number.0);
    section.encode(&mut encoder.out);
    *out = encoder.out;
}

fn encode_settings(settings: &GroupSettings, out: &mut Encoder) {
    out.u8(u8::from(settings.paused));
    let entries = settings.config.entries();
    out.count(entries.len());
    for (key, value) in entries {
        out.text(key);
        out.text(&value);
    }
}

/// Reads settings. A setting that this build does not know, or a value that it refuses, comes from a newer version.
fn decode_settings(input: &mut Decoder<'_>) -> Result<GroupSettings, Unreadable> {
    let paused = match input.u8()? {
        0 => false,
        1 => true,
        _ => return Err(CorruptReason::Field.into()),
    };
    let mut config = ShareGroupConfig::new();
    for _ in 0..input.count(LEAST_BYTES)? {
        let (key, value) = (input.text()?, input.text()?);
        config = config.set(key, value).map_err(|_| {
            let known = ShareGroupConfig::KEYS;
            let found = known.iter().position(|known| *known == key).unwrap_or(known.len());
            Unreadable::unsupported("share group setting", found as u32, known.len() as u32)
        })?;
    }
    config.validate([]).map_err(|_| CorruptReason::Field)?;
    Ok(GroupSettings::new(config, paused))
}

#[cfg(test)]
pub(in crate::engine::shares) mod tests;
