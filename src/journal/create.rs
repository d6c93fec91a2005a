//! Opens a journal: surveys the existing files and begins a new one after them.

use std::collections::{BTreeSet, VecDeque};
use std::path::Path;
use std::sync::Arc;

use crate::error::{CorruptReason, Error, Result};
use crate::storage::{OpenMode, Storage};
use crate::sync::atomic::{AtomicBool, AtomicU64};
use crate::sync::{Condvar, Mutex, OnceLock};
use crate::time::{Clock, Random};
use crate::types::{Lsn, planted};

use super::header::{Decoded, FIRST_FRAME, FileHeader, sequence_after};
use super::prepare::Preparing;
use super::scan::unsupported;
use super::slot::{
    FOLDER, Slot, erase_header, free_number, list, read_header, remove_unfinished, slot_path,
};
use super::state::{Life, SPARES_AT_FIRST, State};
use super::sync::SyncState;
use super::trouble::Trouble;
use super::worker::Signal;
use super::{JournalConfig, Shared, Start};

pub(super) fn create(
    storage: Arc<dyn Storage>,
    config: JournalConfig,
    random: Arc<dyn Random>,
    clock: Arc<dyn Clock>,
    start: &Start,
    on_half_full: Box<dyn Fn() + Send + Sync>,
) -> Result<Shared> {
    check(&config)?;
    storage.create_dir(Path::new(FOLDER))?;
    storage.sync_dir(Path::new(""))?;
    remove_unfinished(&*storage)?;
    let mut found = survey(&*storage, &config, start)?;
    let first = first_sequence(&found, start)?;

    let slot = first_slot(&*storage, &config, &mut found)?;
    let header = FileHeader {
        size: slot.size,
        directory_id: config.directory_id,
        salt: random.next_u64(),
        sequence: first,
        epoch: config.epoch,
        continues_from: start.continues_from,
        known_synced: start.known_synced,
    };
    slot.begin(&header)?;
    let current = Life::new(slot, &header);
    let end = Lsn::new(first, FIRST_FRAME);

    let slack = current.sure_bytes(config.frame_max());
    let state = State {
        current,
        sealed: VecDeque::new(),
        spares: VecDeque::new(),
        free: Vec::new(),
        unopened: found.free,
        aside: VecDeque::new(),
        kept: found.kept,
        kept_bytes: found.kept_bytes,
        total_bytes: found.total_bytes,
        first_sequence: first,
        next_sequence: sequence_after(first)?,
        spare_target: SPARES_AT_FIRST,
        data_end: end,
        last_witness: Lsn::ZERO,
        slack,
        waiters: 0,
        scratch: Vec::new(),
        parked: false,
        exclusive: false,
        half_full_told: false,
        trouble: Trouble::default(),
    };
    let shared = Shared {
        state: Mutex::new(state),
        space_freed: Condvar::new(),
        prepare: Mutex::new(Preparing { numbers: found.numbers }),
        end: AtomicU64::new(end.to_u64()),
        sync: Mutex::new(SyncState::default()),
        sync_done: Condvar::new(),
        synced: AtomicU64::new(0),
        covered: AtomicU64::new(0),
        requested: AtomicU64::new(0),
        signal: Signal::default(),
        closed: AtomicBool::new(false),
        failure: OnceLock::new(),
        space_stopped: OnceLock::new(),
        storage,
        config,
        random,
        clock,
        on_half_full,
    };
    // A full disk must not stop the opening. The journal keeps the failure for `health`.
    let _kept = shared.prepare_one();
    Ok(shared)
}

/// Returns the sequence number of the first file. It is higher than all used before, because positions are
/// never reused (J1).
fn first_sequence(found: &Survey, start: &Start) -> Result<u32> {
    let before = start.continues_from.sequence();
    if planted("reuse_sequences") {
        return sequence_after(before);
    }
    Ok(sequence_after(found.last_sequence.max(before))?.max(start.min_sequence))
}

/// Opens a free slot, or creates a new one.
fn first_slot(storage: &dyn Storage, config: &JournalConfig, found: &mut Survey) -> Result<Slot> {
    if let Some((number, bytes)) = found.free.pop_front() {
        let slot = Slot::open(storage, number, config.file_bytes, config.mode)?;
        found.total_bytes += u64::from(slot.size).saturating_sub(bytes);
        return Ok(slot);
    }
    let number = free_number(&found.numbers);
    found.numbers.insert(number);
    found.total_bytes += u64::from(config.file_bytes);
    Slot::create(storage, number, config.file_bytes, config.mode)
}

fn check(config: &JournalConfig) -> Result<()> {
    if !config.file_bytes.is_multiple_of(4096) || config.file_bytes < FILE_BYTES_MIN {
        return Err(Error::InvalidConfig {
            key: "journal.file.bytes",
            value: config.file_bytes.to_string(),
            expected: "a multiple of 4096, at least 16384",
        });
    }
    let least = u64::from(config.file_bytes) * 4;
    if config.max_bytes < least || config.max_bytes > MAX_BYTES_MAX {
        return Err(Error::InvalidConfig {
            key: "journal.max.bytes",
            value: config.max_bytes.to_string(),
            expected: "at least four times journal.file.bytes, at most 8 GiB",
        });
    }
    Ok(())
}

/// The content of the folder.
struct Survey {
    numbers: BTreeSet<u32>,
    free: VecDeque<(u32, u64)>,
    kept: Vec<(u32, u64)>,
    last_sequence: u32,
    total_bytes: u64,
    kept_bytes: u64,
}

/// Reads all headers. Slots that are not kept are free. Free slots without a life come first, then those
/// with a life, oldest first.
fn survey(storage: &dyn Storage, config: &JournalConfig, start: &Start) -> Result<Survey> {
    let mut survey = Survey {
        numbers: BTreeSet::new(),
        free: VecDeque::new(),
        kept: Vec::new(),
        last_sequence: 0,
        total_bytes: 0,
        kept_bytes: 0,
    };
    // Makes removals durable. Otherwise a removed file could return with a sequence that was used again.
    storage.sync_dir(Path::new(FOLDER))?;
    let mut free = Vec::new();
    for (number, bytes) in list(storage)? {
        survey.numbers.insert(number);
        survey.total_bytes = survey.total_bytes.saturating_add(bytes);
        let kept = start.keep.contains(&number) && !planted("recycle_replayed_files");
        let file = storage.open(&slot_path(number), OpenMode::Read)?;
        let sequence = match read_header(&*file)? {
            Decoded::Valid(header) if header.directory_id == config.directory_id => header.sequence,
            // A file of another folder: an earlier creation of this folder stopped early and left it.
            // Where replay needs such a file, it refuses it. An invalid header: a header was half written.
            // The disk may still hold the header before it, with a sequence that no valid header shows. If
            // that sequence were used again, power loss could leave two files with it.
            Decoded::Valid(_) | Decoded::Invalid if !kept => {
                drop(file);
                erase_header(storage, number)?;
                0
            }
            Decoded::Unsupported(found) => return Err(unsupported(found).at(file.path(), 8)),
            _ => return Err(Error::corrupt(file.path(), 0, CorruptReason::Missing)),
        };
        survey.last_sequence = survey.last_sequence.max(sequence);
        if kept {
            survey.kept.push((number, bytes));
            survey.kept_bytes = survey.kept_bytes.saturating_add(bytes);
        } else {
            free.push((sequence, number, bytes));
        }
    }
    free.sort_unstable();
    survey.free = free.into_iter().map(|(_, number, bytes)| (number, bytes)).collect();
    Ok(survey)
}

const FILE_BYTES_MIN: u32 = 16 << 10;
/// A frame takes at most a quarter of it, and positions are `u32`.
const MAX_BYTES_MAX: u64 = 8 << 30;
