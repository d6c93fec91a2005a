//! Appends frames under the state lock. The only I/O is the stores or the write of the frame itself.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::sync::atomic::Ordering;
use crate::types::{Lsn, planted};

use super::frame::{FRAME_HEADER, FrameHeader, Kind, NEXT_BYTES, next_payload, payload_crc};
use super::header::FIRST_FRAME;
use super::outside::Outside;
use super::space::Credit;
use super::state::State;
use super::{PanicGuard, Shared};

/// The largest payload whose checksum is computed under the lock, in bytes.
const SMALL_PAYLOAD: usize = 256;

/// The work left after an append, to be done without the lock.
#[derive(Default)]
struct After {
    wake: bool,
    checkpoint_due: bool,
}

/// Where the space for a frame comes from.
enum Space<'a, 'c> {
    Credit(&'a mut Credit<'c>),
    /// Space that no credit covers, if enough of it is left.
    Free,
}

/// A frame's payload.
struct Payload<'a> {
    kind: Kind,
    bytes: usize,
    /// `None` if it is not computed yet.
    crc: Option<u32>,
    parts: &'a [&'a [u8]],
    /// What the frame relies on besides its own bytes.
    outside: &'a [Outside],
}

impl Shared {
    #[inline]
    pub(super) fn append(&self, credit: &mut Credit<'_>, parts: &[&[u8]]) -> Result<Lsn> {
        self.append_relying_on(credit, parts, &[])
    }

    #[inline]
    pub(super) fn append_relying_on(
        &self,
        credit: &mut Credit<'_>,
        parts: &[&[u8]],
        outside: &[Outside],
    ) -> Result<Lsn> {
        let end = self.append_data(Space::Credit(credit), parts, outside)?;
        end.ok_or(Error::Misuse("a journal frame larger than the space reserved for it"))
    }

    #[inline]
    pub(super) fn try_append(&self, parts: &[&[u8]]) -> Result<Option<Lsn>> {
        self.append_data(Space::Free, parts, &[])
    }

    #[inline]
    fn append_data(
        &self,
        space: Space<'_, '_>,
        parts: &[&[u8]],
        outside: &[Outside],
    ) -> Result<Option<Lsn>> {
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        // The checksum of a long payload takes long, so it is computed before the lock is taken. For a
        // short payload the place is under the lock: taking the lock waits for the stores that made the
        // payload, and before that its bytes are slow to load.
        let crc = (bytes > SMALL_PAYLOAD).then(|| payload_crc(parts));
        self.append_frame(space, &Payload { kind: Kind::Data, bytes, crc, parts, outside })
    }

    /// Appends a SyncMark frame. Returns `None` if there is no space for it.
    pub(super) fn append_mark(&self) -> Result<Option<Lsn>> {
        let payload =
            Payload { kind: Kind::SyncMark, bytes: 0, crc: None, parts: &[], outside: &[] };
        self.append_frame(Space::Free, &payload)
    }

    /// Appends a frame. Returns `None`, with nothing changed, if there is not enough space.
    #[inline]
    fn append_frame(&self, space: Space<'_, '_>, payload: &Payload<'_>) -> Result<Option<Lsn>> {
        let frame = (payload.bytes + FRAME_HEADER).next_multiple_of(8);
        let guard = PanicGuard::new(self, "the journal");
        let mut state = self.state.lock();
        self.check_writable()?;
        if !payload.outside.is_empty() {
            self.check_outside()?;
        }
        let Ok(frame) = u32::try_from(frame) else { return Ok(None) };
        let enough = match &space {
            Space::Credit(credit) => frame as usize <= credit.bytes(),
            Space::Free => {
                state.current.position.saturating_add(frame) <= state.free_until
                    || self.may_append_freely(&state, frame)
            }
        };
        if !enough {
            return Ok(None);
        }
        let mut after = After::default();
        if frame > state.current.room() {
            after.wake = true;
            self.switch_file(&mut state, frame)?;
        }
        let header = FrameHeader {
            payload_bytes: payload.bytes as u32,
            kind: payload.kind,
            lsn: state.current.end(),
            known_synced: self.synced(),
            payload_crc: payload.crc.unwrap_or_else(|| payload_crc(payload.parts)),
        };
        if planted("end_before_frame") {
            let end = Lsn::new(state.current.sequence, state.current.position + frame);
            self.end.store(end.to_u64(), Ordering::Release);
        }
        // After a failure any part of the frame may be in the file, even all of it.
        self.put(&mut state, &header, payload.parts)
            .map_err(|cause| Error::Indeterminate { cause })?;
        state.current.position += frame;
        state.frames.count += 1;
        let end = state.current.end();
        if payload.kind == Kind::Data {
            state.data_end = end;
        }
        state.last_witness = header.known_synced;
        if !payload.outside.is_empty() && !planted("stored_bytes_not_synced") {
            state.relied.add(payload.outside, end);
        }
        self.end.store(end.to_u64(), Ordering::Release);

        if let Space::Credit(credit) = space {
            credit.spend(&mut state, frame as usize);
        }
        if after.wake || state.parked || state.credits.waiters > 0 {
            self.follow_up(&mut state, &mut after);
        }
        drop(state);
        drop(guard);
        if after.wake {
            self.signal.wake();
        }
        if after.checkpoint_due {
            (self.on_checkpoint_due)();
        }
        Ok(Some(end))
    }

    /// Rejects frames that rely on bytes outside the journal after a sync of such bytes failed: theirs may be
    /// among the lost ones.
    fn check_outside(&self) -> Result<()> {
        match self.space_stopped.get() {
            Some(cause) if !planted("rely_on_lost_bytes") => {
                Err(Error::Failed { cause: Arc::clone(cause) })
            }
            _ => Ok(()),
        }
    }

    #[cold]
    fn follow_up(&self, state: &mut State, after: &mut After) {
        after.wake |= std::mem::take(&mut state.parked);
        self.count_free(state);
        if !state.checkpoint_due_told && state.is_checkpoint_due(&self.config, self.covered()) {
            state.checkpoint_due_told = true;
            after.checkpoint_due = true;
        }
        if state.credits.waiters > 0 {
            self.space_freed.notify_all();
        }
    }

    /// Continues in the first spare that has room for `frame` bytes. Seals the files before it.
    #[cold]
    fn switch_file(&self, state: &mut State, frame: u32) -> Result<()> {
        state.frames.fill_file(state.current.position - FIRST_FRAME);
        while state.current.room() < frame {
            self.seal(state)?;
        }
        Ok(())
    }

    /// Seals the current file with a Next frame and continues in the first spare.
    pub(super) fn seal(&self, state: &mut State) -> Result<()> {
        let Some(next) = state.spares.pop_front() else {
            let cause =
                Arc::new(Error::Poisoned { what: "the accounting of journal space".into() });
            self.fail_locked(Arc::clone(&cause));
            return Err(Error::Failed { cause });
        };
        let payload = next_payload(next.sequence, next.salt);
        let header = FrameHeader {
            payload_bytes: payload.len() as u32,
            kind: Kind::Next,
            lsn: state.current.end(),
            known_synced: self.synced(),
            payload_crc: payload_crc(&[&payload]),
        };
        // `Failed`, not `Indeterminate`: nothing of the caller's frame was written.
        self.put(state, &header, &[&payload]).map_err(|cause| Error::Failed { cause })?;
        state.current.position += NEXT_BYTES;
        let sealed = std::mem::replace(&mut state.current, next);
        state.sealed.push_back(sealed);
        Ok(())
    }

    /// Writes a frame. If that fails, fails the journal and returns the cause.
    #[inline]
    fn put(
        &self,
        state: &mut State,
        header: &FrameHeader,
        parts: &[&[u8]],
    ) -> Result<(), Arc<Error>> {
        let current = &state.current;
        let (position, salt) = (current.position, current.salt);
        current.slot.write_frame(position, header, salt, parts, &mut state.scratch).map_err(
            |error| {
                let cause = Arc::new(error);
                self.fail_locked(Arc::clone(&cause));
                cause
            },
        )
    }
}
