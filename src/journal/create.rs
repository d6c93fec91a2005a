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

use super::credits::Credits;
use super::header::{Decoded, FIRST_FRAME, FileHeader, sequence_after};
use super::outside::Relied;
use super::prepare::Preparing;
use super::scan::unsupported;
use super::slot::{
    FOLDER, Slot, erase_header, free_number, list, read_header, remove_unfinished, slot_path,
};
use super::state::{Frames, Life, SPARES_AT_FIRST, State};
use super::sync::SyncState;
use super::trouble::Trouble;
use super::worker::Signal;
use super::{FILE_BYTES_MIN, JournalConfig, JournalMode, Shared, Start};

pub(super) fn create(
    storage: Arc<dyn Storage>,
    config: JournalConfig,
    random: Arc<dyn Random>,
    clock: Arc<dyn Clock>,
    start: &Start,
    on_checkpoint_due: Box<dyn Fn() + Send + Sync>,
) -> Result<Shared> {
    check(&config)?;
    storage.create_dir(Path::new(FOLDER))?;
    storage.sync_dir(Path::new(""))?;
    remove_unfinished(&*storage)?;
    let mut found = survey(&*storage, &config, start)?;
    let first = first_sequence(&found, start)?;

    let mut slot = first_slot(&*storage, &config, &mut found)?;
    let header = FileHeader {
        size: slot.size,
        directory_id: config.directory_id,
        salt: random.next_u64(),
        sequence: first,
        epoch: config.epoch,
        continues_from: start.continues_from,
        known_synced: start.known_synced,
        slot: Some(slot.number),
    };
    begin_first(&*storage, &config, &mut slot, &header)?;
    let current = Life::new(slot, header, true);
    let end = Lsn::new(first, FIRST_FRAME);

    let state = State {
        current,
        free_until: 0,
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
        credits: Credits::default(),
        relied: Relied::default(),
        frames: Frames::default(),
        note_in_spare: false,
        scratch: Vec::new(),
        parked: false,
        checkpoint_due_told: false,
        trouble: Trouble::default(),
    };
    let shared = Shared {
        state: Mutex::new(state),
        space_freed: Condvar::new(),
        prepare: Mutex::new(Preparing { numbers: found.numbers }),
        end: AtomicU64::new(end.to_u64()),
        // From the beginning: the thread may sync at any time.
        sync: Mutex::new(SyncState::new(start.held)),
        sync_done: Condvar::new(),
        synced: AtomicU64::new(0),
        covered: AtomicU64::new(0),
        requested: AtomicU64::new(0),
        waited: AtomicBool::new(false),
        requested_lately: AtomicBool::new(false),
        signal: Signal::default(),
        closed: AtomicBool::new(false),
        failure: OnceLock::new(),
        space_stopped: OnceLock::new(),
        outside_syncs: Mutex::new(()),
        storage,
        config,
        random,
        clock,
        on_checkpoint_due,
    };
    // A full disk must not stop the opening. The journal keeps the failure for `health`.
    let _kept = shared.prepare_one();
    Ok(shared)
}

/// Returns the sequence number of the first file. It is higher than all used before, because positions are
/// never reused (J1).
///
/// Power loss may have taken headers of files that were never synced, and with them the highest sequence
/// numbers. Each of those files had a slot, and few numbers are skipped otherwise. So this skips two numbers
/// for each slot. If that is not enough, the salts still differ.
fn first_sequence(found: &Survey, start: &Start) -> Result<u32> {
    let before = start.continues_from.sequence();
    if planted("reuse_sequences") {
        return sequence_after(before);
    }
    let seen = found.last_sequence.max(before);
    let slots = u32::try_from(found.numbers.len()).unwrap_or(u32::MAX);
    let skipped = if planted("reuse_lost_sequences") { 0 } else { slots.saturating_mul(2) };
    Ok(sequence_after(seen.saturating_add(skipped))?.max(start.min_sequence))
}

/// Returns the slot of the first file: a small free one or a new one. So opening a folder takes little time,
/// however large the journal was. On a full disk any free slot will do.
fn first_slot(storage: &dyn Storage, config: &JournalConfig, found: &mut Survey) -> Result<Slot> {
    let size = config.first_bytes();
    let small = found.free.iter().position(|(_, bytes)| *bytes <= u64::from(size) * 4);
    if let Some(small) = small.and_then(|at| found.free.remove(at)) {
        return reopen(storage, size, found, small);
    }
    let number = free_number(&found.numbers);
    match Slot::create(storage, number, size) {
        Ok(slot) => {
            found.numbers.insert(number);
            found.total_bytes += u64::from(size);
            Ok(slot)
        }
        Err(error) => match found.free.pop_front() {
            Some(any) => reopen(storage, size, found, any),
            None => Err(error),
        },
    }
}

fn reopen(
    storage: &dyn Storage,
    size: u32,
    found: &mut Survey,
    (number, bytes): (u32, u64),
) -> Result<Slot> {
    let slot = Slot::open(storage, number, size)?;
    found.total_bytes = (found.total_bytes + u64::from(slot.size)).saturating_sub(bytes);
    Ok(slot)
}

/// Begins the life of the first file, durably. The checkpoint of this opening will point into it.
fn begin_first(
    storage: &dyn Storage,
    config: &JournalConfig,
    slot: &mut Slot,
    header: &FileHeader,
) -> Result<()> {
    let stores = config.mode == JournalMode::Map;
    if stores {
        slot.fill(false, &|| ())?;
    }
    if planted("header_not_durable") {
        slot.file.write_at(&header.encode(), 0)?;
    } else {
        slot.file.write_at_durable(&header.encode(), 0)?;
    }
    if !slot.named {
        storage.sync_dir(Path::new(FOLDER))?;
        slot.named = true;
    }
    if stores { slot.map(&|| ()) } else { Ok(()) }
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
        let sequence = match read_header(&*file, number)? {
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

/// A frame takes at most a quarter of it, and positions are `u32`.
const MAX_BYTES_MAX: u64 = 8 << 30;
