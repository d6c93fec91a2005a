//! Replay: visits the frames from a position on and finds the end of the journal.
//!
//! The files form a chain. The successor of file N is
//! - the file with the highest sequence whose header continues from a position in N, if there is one. A
//!   recovery stopped at that position. Everything after it in N is dead, even if it looks valid.
//! - otherwise the file that N's Next frame names.
//!
//! Without a successor the journal ends in N, at the first bytes that are no valid frame, or before the first
//! frame of a file that is named but not there. Replay judges that place:
//! - **R1** The bytes there were durable once if any frame after them, or any frame or header of a later file, reachable
//!   or not, knows a synced position beyond them. Replay returns `Corrupt` and discards nothing.
//! - **R2** Otherwise they are a torn tail, or nothing was there. Power loss took only frames that were never
//!   acknowledged as `Synced`.
//! - **R3** The same judgement holds before a position that a later file continues from. A killed process
//!   leaves frames in the cache of the system. The next recovery replays them and names their end. Then
//!   power loss may take them. By then nothing in the later file was acknowledged as `Synced`, because that
//!   waits for the recovery checkpoint. So there is no witness, and the tail is torn.
//!   A file that is named but not there lost its header the same way, or its name: they are durable when
//!   anything in it is (J2). Its frames are searched for witnesses too: the Next frame tells their salt. The
//!   same holds for a file that is shorter than its header says.
//! - **R4** The end is the end of the last *Data* frame. SyncMark and Next frames after it may be in the
//!   cache only, so the next file's header must not rely on them.
//!
//! Replay copies files piece by piece with plain reads, so a reader beside a live writer is safe. If a header changed
//! during the copy, or an invalid frame is valid when read again, replay returns `Busy`.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{CorruptReason, Error, Result, Unreadable};
use crate::storage::{OpenMode, Storage, StorageFile};
use crate::types::{Epoch, Lsn, planted};

use super::frame::{FRAME_HEADER, FrameHeader, Kind, claims, frame_bytes, named_by, payload_crc};
use super::header::{Decoded, FIRST_FRAME, FileHeader};
use super::mark::Mark;
use super::scan::{Found, Life, scan};
use super::slot::{FOLDER, list, read_header, slot_path};

/// A Data frame.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    /// The file that holds the frame.
    pub(crate) path: &'a Path,
    /// The position where the frame begins.
    pub(crate) lsn: Lsn,
    /// The position where the frame ends. The state after the frame is the state at this position.
    #[cfg(any(test, feature = "__internal"))]
    pub(crate) end: Lsn,
    /// The broker epoch of the writer of the frame.
    pub(crate) epoch: Epoch,
    /// The payload, a list of sections.
    pub(crate) payload: &'a [u8],
}

/// The result of a replay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Replayed {
    /// The end of the last Data frame, or the position where replay began. The next journal file continues
    /// from here.
    pub(crate) end: Lsn,
    /// The highest sequence number in all valid headers. Later sequence numbers must be higher.
    pub(crate) last_sequence_seen: u32,
    /// The highest broker epoch in all valid headers. The epoch of a later writer must be higher.
    pub(crate) last_epoch_seen: Epoch,
    /// The slots that a repeated replay needs, until a checkpoint lies beyond their files.
    pub(crate) needed: Vec<u32>,
    /// The bytes after the end that were recognisable as frames. None of them was promised to survive power
    /// loss.
    pub(crate) discarded_bytes: u64,
    /// Whether anything like a frame was found after the end.
    pub(crate) torn: bool,
    /// The number of Data frames visited.
    pub(crate) frames: u64,
    /// The highest position that any frame or header knows as durable.
    pub(crate) known_synced: Lsn,
    /// The mark that a reader resumes from later.
    pub(crate) mark: Mark,
}

/// Visits the Data frames from `from` on, in order.
///
/// Changes nothing. The same files give the same frames and the same result.
///
/// # Errors
/// - `Corrupt` if a frame that was durable is damaged (R1). The reason is `Missing` if the file of `from`, or
///   a file that must follow, does not exist, has an invalid header or belongs to another folder. It is
///   `Short` if a file has lost bytes, and `Field` if two files have the same sequence.
/// - `UnsupportedFormat` if a newer version wrote a file or a frame.
/// - `Busy` if a live writer overtook the reader. Read the checkpoint again and start over.
/// - The errors that `visit` returns.
#[cfg(any(test, feature = "__internal"))]
pub(crate) fn replay(
    storage: &dyn Storage,
    directory_id: [u8; 16],
    from: Lsn,
    visit: &mut dyn FnMut(Frame<'_>) -> Result<()>,
) -> Result<Replayed> {
    replay_until(storage, directory_id, from, None, visit)
}

/// As [`replay`], but takes the frame at `until` for a torn one. The caller has found that the bytes outside
/// the journal that this frame relies on are not there.
pub(crate) fn replay_until(
    storage: &dyn Storage,
    directory_id: [u8; 16],
    from: Lsn,
    until: Option<Lsn>,
    visit: &mut dyn FnMut(Frame<'_>) -> Result<()>,
) -> Result<Replayed> {
    let files = scan(storage, directory_id)?;
    walk(storage, directory_id, files, (from, until), Vec::new(), visit)
}

/// Visits the Data frames after a mark, as [`replay`] would after the frames before it. Returns `None`,
/// without reading any frame, if there is nothing new.
///
/// # Errors
/// - The errors of `replay`.
/// - `Busy` if the journal no longer leads on from the mark. The caller then starts over from the checkpoint.
///   That replay reports what is wrong, if anything is.
pub(crate) fn replay_on(
    storage: &dyn Storage,
    directory_id: [u8; 16],
    mark: &Mark,
    visit: &mut dyn FnMut(Frame<'_>) -> Result<()>,
) -> Result<Option<Replayed>> {
    let files = scan(storage, directory_id)?;
    if mark.is_the_end_of(&files)? {
        return Ok(None);
    }
    if !mark.leads_on_in(&files) {
        return Err(Error::Busy { path: storage.display_path(Path::new(FOLDER)) });
    }
    walk(storage, directory_id, files, (mark.end, None), mark.blank.clone(), visit).map(Some)
}

/// As [`replay`], for the given files. The files in `blank` are known to have held no frame.
fn walk(
    storage: &dyn Storage,
    directory_id: [u8; 16],
    files: Vec<Found>,
    (from, until): (Lsn, Option<Lsn>),
    blank: Vec<Life>,
    visit: &mut dyn FnMut(Frame<'_>) -> Result<()>,
) -> Result<Replayed> {
    let mut walk = Walk {
        storage,
        directory_id,
        until,
        blank,
        copy: Copy::default(),
        visit,
        result: Replayed {
            end: from,
            last_sequence_seen: files.last().map_or(0, |file| file.header.sequence),
            last_epoch_seen: files.iter().map(|file| file.header.epoch).max().unwrap_or(0),
            needed: Vec::new(),
            discarded_bytes: 0,
            torn: false,
            frames: 0,
            known_synced: Lsn::ZERO,
            mark: Mark::new(files.iter().map(Found::life)),
        },
        files,
    };
    walk.chain(from)?;
    walk.result.mark.end = walk.result.end;
    Ok(walk.result)
}

/// The reason why the walk through one file ended.
enum Stop {
    /// The walk reached the position that the successor continues from.
    Dead,
    /// The walk reached a Next frame.
    Next { sequence: u32, salt: Option<u32>, position: u32 },
    /// The walk reached bytes that are no valid frame.
    Invalid { position: u32 },
}

struct Walk<'a> {
    storage: &'a dyn Storage,
    directory_id: [u8; 16],
    files: Vec<Found>,
    until: Option<Lsn>,
    blank: Vec<Life>,
    copy: Copy,
    visit: &'a mut dyn FnMut(Frame<'_>) -> Result<()>,
    result: Replayed,
}

impl Walk<'_> {
    fn chain(&mut self, from: Lsn) -> Result<()> {
        let mut at = from;
        let mut file =
            self.find(from.sequence()).ok_or_else(|| self.missing(Path::new(FOLDER), 0))?;
        if from.position() < FIRST_FRAME || !from.position().is_multiple_of(8) {
            return Err(file.corrupt(from.position(), CorruptReason::Field));
        }
        if file.is_short()? {
            return Err(file.corrupt(12, CorruptReason::Short));
        }
        // Sequence numbers rise from file to file, so the loop ends.
        loop {
            self.result.known_synced = self.result.known_synced.max(file.header.known_synced);
            let successor = self.continued_by(at.sequence());
            let stop = successor.as_ref().map(|next| next.header.continues_from.position());
            let next = match self.file(&file, at.position(), stop)? {
                Stop::Invalid { position } => {
                    let stop = Lsn::new(file.header.sequence, position);
                    self.result.mark.stop_at(stop, self.copy.from(position));
                    return self.judge(&file, position);
                }
                Stop::Dead => successor.ok_or_else(|| self.missing(file.file.path(), 0))?,
                Stop::Next { sequence, salt, position } => {
                    match self.named(&file, sequence, salt.is_some(), position)? {
                        Some(next) => next,
                        None => return self.judge_lost(&file, sequence, salt, position),
                    }
                }
            };
            at = Lsn::new(next.header.sequence, FIRST_FRAME);
            file = next;
        }
    }

    /// Walks one file from `position` to `stop`, to its Next frame, or to bytes that are no valid frame.
    fn file(&mut self, file: &Found, mut position: u32, stop: Option<u32>) -> Result<Stop> {
        if !self.result.needed.contains(&file.slot) {
            self.result.needed.push(file.slot);
        }
        if stop == Some(position) {
            return Ok(Stop::Dead);
        }
        self.copy.load(file, position)?;
        loop {
            match stop {
                Some(stop) if stop == position => return Ok(Stop::Dead),
                Some(stop) if stop < position => {
                    return Err(file.corrupt(stop, CorruptReason::Field));
                }
                _ => {}
            }
            let frame = self.copy.frame(position)?;
            let frame = frame.filter(|header| Some(header.lsn) != self.until);
            let Some(header) = frame else { return Ok(Stop::Invalid { position }) };
            let payload = self.copy.payload(&header, position).unwrap_or_default();
            let end = self.copy.end_of(&header, position);
            self.result.known_synced = self.result.known_synced.max(header.known_synced);
            match header.kind {
                Kind::SyncMark if planted("rely_on_marks") => {
                    self.result.end = Lsn::new(file.header.sequence, end);
                }
                Kind::SyncMark => {}
                Kind::Next => {
                    let (sequence, salt) = named_by(payload)
                        .filter(|(next, _)| *next > file.header.sequence && stop.is_none())
                        .ok_or_else(|| file.corrupt(position, CorruptReason::Field))?;
                    self.result.last_sequence_seen = self.result.last_sequence_seen.max(sequence);
                    return Ok(Stop::Next { sequence, salt, position });
                }
                Kind::Data => {
                    let end = Lsn::new(file.header.sequence, end);
                    let epoch = file.header.epoch;
                    (self.visit)(Frame {
                        path: &self.copy.path,
                        lsn: header.lsn,
                        #[cfg(any(test, feature = "__internal"))]
                        end,
                        epoch,
                        payload,
                    })?;
                    self.result.end = end;
                    self.result.frames = self.result.frames.saturating_add(1);
                }
            }
            position = end;
        }
    }

    /// Judges the bytes at `position`, where the journal ends: a torn tail or damage (R1, R2).
    fn judge(&mut self, file: &Found, position: u32) -> Result<()> {
        let invalid = Lsn::new(file.header.sequence, position);
        let mut discarded = u64::from(self.copy.torn_header(position));
        let found = self.copy.look_on(position, &mut discarded)?;
        if !self.knows_beyond(invalid, file.header.sequence, found, discarded)? {
            return Ok(());
        }
        // A live writer may have completed the frame after it was copied and before its witness was.
        self.copy.load(file, position)?;
        if self.copy.frame(position)?.is_some() && Some(invalid) != self.until {
            return Err(self.busy(file));
        }
        let short = file.is_short()?;
        let reason = if short { CorruptReason::Short } else { CorruptReason::BelowSynced };
        Err(file.corrupt(position, reason))
    }

    /// Judges the file `sequence`, which the Next frame at `position` of `file` names, and which is not
    /// there.
    fn judge_lost(
        &mut self,
        file: &Found,
        sequence: u32,
        salt: Option<u32>,
        position: u32,
    ) -> Result<()> {
        let mut discarded = 0;
        let mut found = Lsn::ZERO;
        if let Some(salt) = salt.filter(|_| !planted("lost_files_are_no_witness")) {
            for (slot, _) in list(self.storage)? {
                self.copy.load_as(self.storage, slot, sequence, salt)?;
                found = found.max(self.copy.look_on(FIRST_FRAME, &mut discarded)?);
            }
        }
        let first = Lsn::new(sequence, FIRST_FRAME);
        self.copy.load(file, position)?;
        let stop = Lsn::new(file.header.sequence, position);
        self.result.mark.stop_at(stop, self.copy.from(position));
        if self.knows_beyond(first, file.header.sequence, found, discarded)? {
            return Err(self.missing(file.file.path(), position));
        }
        Ok(())
    }

    /// Returns whether anything knows a synced position beyond `invalid`: what was found before, or the files
    /// after `sequence`.
    fn knows_beyond(
        &mut self,
        invalid: Lsn,
        sequence: u32,
        mut witness: Lsn,
        mut discarded: u64,
    ) -> Result<bool> {
        let later = |other: &&Found| other.header.sequence > sequence;
        let later: Vec<Found> = self.files.iter().filter(later).cloned().collect();
        for other in later.into_iter().filter(|_| !planted("later_files_are_no_witness")) {
            witness = witness.max(other.header.known_synced);
            if !self.is_still_blank(&other)? {
                self.copy.load(&other, FIRST_FRAME)?;
                let before = discarded;
                witness = witness.max(self.copy.look_on(FIRST_FRAME, &mut discarded)?);
                if discarded > before {
                    continue;
                }
            }
            self.result.mark.blank.push(other.life());
        }
        self.result.known_synced = self.result.known_synced.max(witness);
        self.result.discarded_bytes = discarded;
        self.result.torn = discarded > 0;
        Ok(self.result.known_synced > invalid && !planted("damage_is_torn_tail"))
    }

    /// Returns whether a file that was blank still holds no first frame (M4).
    fn is_still_blank(&self, file: &Found) -> Result<bool> {
        if !self.blank.contains(&file.life()) {
            return Ok(false);
        }
        let mut bytes = [0; FRAME_HEADER];
        let read = file.file.read_at(&mut bytes, u64::from(FIRST_FRAME))?;
        let bytes = bytes.get(..read).unwrap_or_default();
        Ok(!claims(bytes, Lsn::new(file.header.sequence, FIRST_FRAME)))
    }

    fn find(&self, sequence: u32) -> Option<Found> {
        self.files.iter().find(|file| file.header.sequence == sequence).cloned()
    }

    /// Returns the file of the last recovery that stopped in the file `sequence`.
    fn continued_by(&self, sequence: u32) -> Option<Found> {
        let continues = |file: &&Found| {
            sequence > 0
                && file.header.continues_from.sequence() == sequence
                && !planted("dead_frames_live")
        };
        self.files.iter().rev().find(continues).cloned()
    }

    /// Returns the file that a Next frame names. Returns `None` if it is not there, which may be all right if
    /// the frame is `salted`: the header of an early build was durable before the frame was written.
    fn named(
        &self,
        file: &Found,
        sequence: u32,
        salted: bool,
        position: u32,
    ) -> Result<Option<Found>> {
        if let Some(next) = self.find(sequence) {
            if next.header.continues_from != Lsn::ZERO {
                return Err(next.corrupt(0, CorruptReason::Field));
            }
            return Ok(Some(next));
        }
        // A live writer may have prepared the file after the folder was read, or recycled both files since.
        let rescan = scan(self.storage, self.directory_id)?;
        let still = |sequence| rescan.iter().any(|other| other.header.sequence == sequence);
        if still(sequence) || !still(file.header.sequence) {
            return Err(self.busy(file));
        }
        if salted { Ok(None) } else { Err(self.missing(file.file.path(), position)) }
    }

    fn missing(&self, path: &Path, position: u32) -> Error {
        let path: PathBuf =
            if path.is_relative() { self.storage.display_path(path) } else { path.to_owned() };
        Error::corrupt(path, u64::from(position), CorruptReason::Missing)
    }

    #[expect(clippy::unused_self, reason = "a method like the other constructors of errors")]
    fn busy(&self, file: &Found) -> Error {
        Error::Busy { path: file.file.path().to_owned() }
    }
}

/// How many bytes of a file are copied at once. They stay in the processor's cache until their frames are applied.
/// Few in unit tests, so that frames and headers lie across the edges.
const WINDOW: u32 = if cfg!(all(test, not(loom))) { 88 } else { 256 << 10 };

/// A copy of some bytes of one file, which moves through it.
#[derive(Debug, Default)]
struct Copy {
    bytes: Vec<u8>,
    /// The position of the first of the bytes.
    start: u32,
    /// The end of the file, and of the life that is read.
    end: u32,
    sequence: u32,
    salt: u32,
    path: PathBuf,
    file: Option<Arc<dyn StorageFile>>,
    /// The header that the file must keep while it is read, and its slot.
    life: Option<(FileHeader, u32)>,
}

impl Copy {
    /// Begins to copy the frames of a file, at `start`.
    fn load(&mut self, found: &Found, start: u32) -> Result<()> {
        let header = found.header;
        self.life = Some((header, found.slot));
        self.begin(&found.file, header.sequence, header.frame_salt(), header.size)?;
        self.fill(start, WINDOW)
    }

    /// Begins to copy the frames of a slot as those of a life whose header is lost.
    fn load_as(
        &mut self,
        storage: &dyn Storage,
        slot: u32,
        sequence: u32,
        salt: u32,
    ) -> Result<()> {
        let file = storage.open(&slot_path(slot), OpenMode::Read)?;
        self.life = None;
        self.begin(&file, sequence, salt, u32::MAX)?;
        self.fill(FIRST_FRAME, WINDOW)
    }

    fn begin(
        &mut self,
        file: &Arc<dyn StorageFile>,
        sequence: u32,
        salt: u32,
        size: u32,
    ) -> Result<()> {
        (self.sequence, self.salt) = (sequence, salt);
        file.path().clone_into(&mut self.path);
        // The file is shorter if power loss took its length. And a wrong size in the header must not allocate too
        // much memory.
        self.end = size.min(u32::try_from(file.len()?).unwrap_or(u32::MAX));
        self.file = Some(Arc::clone(file));
        Ok(())
    }

    /// Copies `count` bytes from `start` on, or those up to the end of the file.
    fn fill(&mut self, start: u32, count: u32) -> Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        self.start = start;
        let count = count.min(self.end.saturating_sub(start));
        // `resize` zeroes only the bytes that it adds. Zeroing costs as much as reading.
        self.bytes.resize(count as usize, 0);
        let read = file.read_at(&mut self.bytes, u64::from(start))?;
        self.bytes.truncate(read);
        if self.bytes.len() < count as usize {
            self.end = self.copied();
        }
        match self.life {
            Some((header, slot)) if !planted("lapped_reader_goes_on") => {
                match read_header(&**file, slot)? {
                    Decoded::Valid(now) if now.is_same_life(&header) => Ok(()),
                    _ => Err(Error::Busy { path: self.path.clone() }),
                }
            }
            _ => Ok(()),
        }
    }

    /// Returns the position where the copied bytes end.
    fn copied(&self) -> u32 {
        self.start.saturating_add(u32::try_from(self.bytes.len()).unwrap_or(u32::MAX))
    }

    /// Copies `count` bytes at `position`, unless they are copied already.
    fn reach(&mut self, position: u32, count: u32) -> Result<()> {
        let end = position.saturating_add(count).min(self.end);
        if position < self.start || end > self.copied() {
            self.fill(position, count.max(WINDOW))?;
        }
        Ok(())
    }

    /// Returns the header of the frame at `position`, or `None` if there is no valid frame.
    fn frame(&mut self, position: u32) -> Result<Option<FrameHeader>> {
        self.reach(position, FRAME_HEADER as u32)?;
        let header = self.header(position).map_err(|cause| self.unreadable(cause, position))?;
        let Some(header) = header else { return Ok(None) };
        self.reach(position, header.payload_bytes.saturating_add(FRAME_HEADER as u32))?;
        let valid = self.payload(&header, position).is_some_and(|payload| {
            payload_crc(&[payload]) == header.payload_crc || planted("believe_payload")
        });
        Ok(valid.then_some(header))
    }

    /// Returns the payload of a frame, or `None` if the file ends within it.
    fn payload(&self, header: &FrameHeader, position: u32) -> Option<&[u8]> {
        self.from(position).get(FRAME_HEADER..)?.get(..header.payload_bytes as usize)
    }

    fn unreadable(&self, cause: Unreadable, position: u32) -> Error {
        cause.at(&self.path, u64::from(position))
    }

    fn header(&self, position: u32) -> Result<Option<FrameHeader>, Unreadable> {
        FrameHeader::decode(self.from(position), Lsn::new(self.sequence, position), self.salt)
    }

    /// Returns the end of a frame, limited to the end of the file.
    fn end_of(&self, header: &FrameHeader, position: u32) -> u32 {
        let bytes = frame_bytes(u64::from(header.payload_bytes)).unwrap_or(u64::MAX);
        let end = u64::from(position).saturating_add(bytes).min(u64::from(self.end));
        u32::try_from(end).unwrap_or(u32::MAX)
    }

    /// Returns the size of the header at `position` if its position is right but it is invalid, else 0.
    fn torn_header(&self, position: u32) -> u32 {
        let lsn = Lsn::new(self.sequence, position);
        let torn =
            claims(self.from(position), lsn) && !matches!(self.header(position), Ok(Some(_)));
        if torn { FRAME_HEADER as u32 } else { 0 }
    }

    /// Returns the highest synced position that a valid frame header from `position` on carries. Adds the
    /// sizes of the frames found to `discarded`.
    ///
    /// # Errors
    /// `UnsupportedFormat` if a newer version wrote a frame. It may know a position that this version cannot
    /// read.
    fn look_on(&mut self, position: u32, discarded: &mut u64) -> Result<Lsn> {
        let mut known = Lsn::ZERO;
        let mut counted = position;
        let mut at = position;
        loop {
            self.reach(at, FRAME_HEADER as u32)?;
            let last = self.copied() >= self.end;
            let whole = self.copied().saturating_sub(at).saturating_sub(FRAME_HEADER as u32) / 8;
            let places = if last { u32::MAX } else { whole.saturating_add(1) };
            for (place, header) in self.headers_from(at, places) {
                let header = header.map_err(|newer| self.unreadable(newer, place))?;
                known = known.max(header.known_synced);
                // Search payloads too, because a length alone is not trusted. But count their bytes once.
                let frame_end = self.end_of(&header, place);
                let fresh = frame_end.saturating_sub(place.max(counted));
                *discarded = discarded.saturating_add(u64::from(fresh));
                counted = counted.max(frame_end);
            }
            if last {
                return Ok(known);
            }
            at = at.saturating_add(places.saturating_mul(8));
        }
    }

    /// Returns the valid headers, and those of newer versions, at `places` multiples of eight from `position` on.
    fn headers_from(
        &self,
        position: u32,
        places: u32,
    ) -> impl Iterator<Item = (u32, Result<FrameHeader, Unreadable>)> {
        let (words, _) = self.from(position).as_chunks::<8>();
        // The second word of a header is its position. Comparing it rejects nearly all places.
        let seconds = (position..u32::MAX).step_by(8).zip(words.iter().skip(1));
        let begun = seconds.take(places as usize).filter(|(at, word)| {
            u64::from_be_bytes(**word) == Lsn::new(self.sequence, *at).to_u64()
        });
        begun.filter_map(|(at, _)| match self.header(at) {
            Ok(header) => Some((at, Ok(header?))),
            Err(newer @ Unreadable::Unsupported(_)) => Some((at, Err(newer))),
            Err(Unreadable::Corrupt(_)) => None,
        })
    }

    fn from(&self, position: u32) -> &[u8] {
        let at = position.checked_sub(self.start);
        at.and_then(|at| self.bytes.get(at as usize..)).unwrap_or_default()
    }
}
