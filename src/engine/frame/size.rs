//! The size of a frame that is being gathered.

use crate::engine::ids::section_bound;
use crate::engine::state::Engine;
use crate::error::{Error, Result};
use crate::journal::frame_bytes;
use crate::log::frame_bound;
use crate::types::planted;

/// What takes bytes of a frame.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct FrameContents {
    /// The most bytes of the encoded records.
    pub(crate) records: usize,
    /// The partitions that get records, or are expected to end somewhere.
    pub(crate) partitions: usize,
    /// The records with an idempotency id.
    pub(crate) ids: usize,
    /// The most bytes of all other sections.
    pub(crate) sections: usize,
}

impl FrameContents {
    /// Returns a record of at most `bound` bytes. Its partition is not counted.
    pub(crate) fn of_record(bound: usize) -> Self {
        Self { records: bound, ..Self::default() }
    }

    fn plus(self, more: Self) -> Self {
        Self {
            records: self.records.saturating_add(more.records),
            partitions: self.partitions.saturating_add(more.partitions),
            ids: self.ids.saturating_add(more.ids),
            sections: self.sections.saturating_add(more.sections),
        }
    }

    /// Returns the most bytes of the payload.
    fn payload(self, batch_size: usize) -> usize {
        let records = frame_bound(self.records, self.partitions.max(1), batch_size);
        let ids = if self.ids == 0 { 0 } else { section_bound(self.ids, self.partitions) };
        records.saturating_add(ids).saturating_add(self.sections)
    }
}

/// More than the headers that a partition, or an id, adds to a frame.
const HEADERS_BYTES: usize = 128;

/// The size of a frame that is being gathered, as a bound. What it has taken fits into one frame, if all of it was
/// counted.
#[derive(Debug)]
pub(crate) struct FrameSize {
    /// Names the bytes of the records in an error.
    what: &'static str,
    batch_size: usize,
    contents: FrameContents,
    /// The most bytes of the records with their headers.
    records_max: u64,
    /// The most bytes of the frame: a quarter of the journal.
    frame_max: u64,
    /// The bytes that several records leave for other sections.
    room: usize,
}

impl FrameSize {
    /// Creates the size of an empty frame. `what` names the bytes of its records in an error. They may have `max` bytes,
    /// and the whole frame not more than a quarter of the journal.
    pub(crate) fn new(engine: &Engine, what: &'static str, max: u64) -> Self {
        let frame_max = engine.config.journal_max_bytes / 4;
        let batch_size = engine.logs.batch_size;
        let contents = FrameContents::default();
        Self { what, batch_size, contents, records_max: max.min(frame_max), frame_max, room: 0 }
    }

    /// Keeps a sixteenth of the largest frame free of records, unless there is one alone. So a frame that is full of
    /// records takes the offsets of what they were made of.
    pub(crate) fn with_room(self) -> Self {
        Self { room: usize::try_from(self.frame_max / 16).unwrap_or(usize::MAX), ..self }
    }

    /// Takes more in.
    ///
    /// # Errors
    /// `LimitExceeded` if one frame cannot hold it together with what is there. It was not taken in.
    #[inline]
    pub(crate) fn add(&mut self, more: FrameContents) -> Result<()> {
        let grown = self.contents.plus(more);
        let FrameContents { records, partitions, ids, sections } = grown;
        // A cheap bound is enough until a limit is near.
        let headers = partitions.saturating_add(ids).saturating_mul(HEADERS_BYTES);
        let about = records.saturating_add(sections).saturating_add(headers);
        if about as u64 > self.records_max / 2 {
            if more.records > 0 {
                self.check_records(records)?;
            }
            let leaves_room = more.records > 0 && records > more.records;
            let room = if leaves_room { self.room } else { 0 };
            self.check_frame(FrameContents { sections: sections.max(room), ..grown })?;
        }
        self.contents = grown;
        Ok(())
    }

    /// Sets the bytes of all sections that do not carry records.
    ///
    /// # Errors
    /// `LimitExceeded` if one frame cannot hold them together with what is there. They are as before then.
    pub(crate) fn set_sections(&mut self, sections: usize) -> Result<()> {
        let changed = FrameContents { sections, ..self.contents };
        self.check_frame(changed)?;
        self.contents = changed;
        Ok(())
    }

    /// Returns the most bytes of the payload of the frame.
    pub(crate) fn payload(&self) -> usize {
        self.contents.payload(self.batch_size)
    }

    /// Checks the bytes of the records with the headers that they need in one partition.
    fn check_records(&self, bytes: usize) -> Result<()> {
        let (what, max) = (self.what, self.records_max);
        match frame_bound(bytes, 1, self.batch_size) as u64 {
            found if found > max => Err(Error::LimitExceeded { what, found, max }),
            _ => Ok(()),
        }
    }

    fn check_frame(&self, contents: FrameContents) -> Result<()> {
        let payload = contents.payload(self.batch_size) as u64;
        let found = frame_bytes(payload).unwrap_or(u64::MAX);
        if found <= self.frame_max || planted("frame_size_forgets_sections") {
            return Ok(());
        }
        let what = "bytes of a journal frame (a quarter of journal.max.bytes)";
        Err(Error::LimitExceeded { what, found, max: self.frame_max })
    }
}
