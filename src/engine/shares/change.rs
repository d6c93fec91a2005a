//! Decide, journal, apply (G1).

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use super::claim::ShareClaim;
use super::group::SharePart;
use super::letters::Letters;
use super::look::gone;
use super::state::encode_partition_change;
use super::work::{ShareWork, frees};
use crate::config::Acks;
use crate::engine::frame::{Frame, FrameRecords};
use crate::engine::state::Engine;
use crate::error::{Error, Result};
use crate::group::share::{DeadLetter, Decision};
use crate::journal::{Credit, SECTION_HEADER, SectionKind, section_header};
use crate::log::RecordData;
use crate::sync::atomic::Ordering;
use crate::types::{Lsn, planted};

/// Memory that a thread uses again.
#[derive(Debug, Default)]
struct Scratch {
    decision: Decision,
    body: Vec<u8>,
}

thread_local! {
    static SCRATCH: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
}

/// The most bytes of a section whose memory a thread keeps.
const SCRATCH_BYTES: usize = 64 << 10;

/// What became of a piece of work.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ShareDone {
    /// The end of its frame, or the end of the journal if nothing changed.
    pub(crate) lsn: Lsn,
    /// Whether there is more of the same kind.
    pub(crate) more: bool,
}

enum Tried {
    Done(ShareDone),
    /// The frame takes this many bytes, more than were reserved. Without a reserve there was no room.
    Larger(usize),
    /// Records become dead letters, which are records of the same frame.
    Letters(Vec<DeadLetter>, usize),
}

/// What became of a frame with dead letters.
enum Written {
    Done(ShareDone),
    /// The share-partition has changed meanwhile: the work has to be decided again.
    Again,
    /// No more than this many fit into one frame.
    Fewer(u64),
}

/// The most dead letters of one frame, unless they belong to one request of a member.
const LETTERS_AT_ONCE: u64 = 128;

/// How often work is decided again because the state changed while its dead letters were written.
const ATTEMPTS: usize = 100;

impl Engine {
    /// Decides work on a share-partition, journals it with its dead letters, and applies it.
    ///
    /// # Errors
    /// `InvalidRecordState` if a word is refused. Then nothing has changed. `UnknownTopic` if the topic or the group was
    /// deleted. Those of an append, if there are dead letters.
    pub(crate) fn share_work(
        &self,
        part: &Arc<SharePart>,
        work: &ShareWork<'_>,
    ) -> Result<ShareDone> {
        self.check_open()?;
        // Nearly always there is room without a reserve.
        let (mut bytes, mut most_letters) = (None, LETTERS_AT_ONCE);
        for _ in 0..ATTEMPTS {
            match self.try_share_work(part, work, bytes, most_letters)? {
                Tried::Done(done) => return Ok(done),
                Tried::Larger(needed) => bytes = Some(needed.saturating_add(needed / 4)),
                Tried::Letters(letters, section) => {
                    match self.write_letters(part, work, letters, (section, most_letters))? {
                        Written::Done(done) => return Ok(done),
                        Written::Again => {}
                        Written::Fewer(fit) => most_letters = fit,
                    }
                }
            }
        }
        Err(Error::Busy { path: self.path() })
    }

    fn try_share_work(
        &self,
        part: &SharePart,
        work: &ShareWork<'_>,
        bytes: Option<usize>,
        most_letters: u64,
    ) -> Result<Tried> {
        let credit = match bytes {
            Some(bytes) => Some((self.reserve_urgent(bytes)?, bytes)),
            None => None,
        };
        // A thread that ends has none any more.
        let mut scratch = SCRATCH.try_with(Cell::take).ok().flatten().unwrap_or_default();
        scratch.decision.most_letters = part.signals.most_letters(most_letters);
        let tried = self.decide_and_apply(part, work, credit, &mut scratch);
        if scratch.body.capacity() <= SCRATCH_BYTES {
            let _ended = SCRATCH.try_with(|kept| kept.set(Some(scratch)));
        }
        tried
    }

    fn decide_and_apply(
        &self,
        part: &SharePart,
        work: &ShareWork<'_>,
        credit: Option<(Credit<'_>, usize)>,
        Scratch { decision, body }: &mut Scratch,
    ) -> Result<Tried> {
        decision.clear();
        body.clear();
        let pass = part.gate.enter();
        let mut guard = part.lock()?;
        let Some(state) = guard.as_mut() else { return Err(gone(part)) };
        self.follow_log_start(part, state);
        let now = self.share_now();
        let more = work.decide(part, state, now, &mut || self.random().next_u64(), decision)?;
        if decision.section.is_empty() {
            return Ok(Tried::Done(ShareDone { lsn: self.journal.end(), more }));
        }
        encode_partition_change(part.group(), part.log().number(), &decision.section, body);
        let needed = SECTION_HEADER.saturating_add(body.len());
        if !decision.letters.is_empty() && part.signals.has_dead_letters() {
            return Ok(Tried::Letters(decision.letters.clone(), needed));
        }
        if credit.as_ref().is_some_and(|(_, bytes)| needed > *bytes) {
            return Ok(Tried::Larger(needed));
        }
        let _guard = self.journal.fail_on_panic("a change of a share group");
        let header = section_header(SectionKind::SHARE, body.len() as u32);
        let appended = match credit {
            _ if planted("share_not_journaled") => Some(self.journal.end()),
            Some((mut credit, _)) => Some(self.journal.append(&mut credit, &[&header, body])?),
            None => self.journal.try_append(&[&header, body])?,
        };
        let Some(lsn) = appended else { return Ok(Tried::Larger(needed)) };
        let was_full = state.is_full();
        state.apply(&decision.section, now.monotonic);
        self.shares.version.fetch_add(1, Ordering::Relaxed);
        let wakes = frees(decision) || state.is_ordered() || was_full;
        drop(guard);
        drop(pass);
        if wakes {
            part.signals.wake();
        }
        Ok(Tried::Done(ShareDone { lsn, more }))
    }

    /// Writes the frame of work that makes dead letters. If they do not fit into one frame, and the work is
    /// divisible, nothing is written.
    fn write_letters(
        &self,
        part: &Arc<SharePart>,
        work: &ShareWork<'_>,
        letters: Vec<DeadLetter>,
        (section, most_letters): (usize, u64),
    ) -> Result<Written> {
        let group = self.shares.find(part.group()).ok_or_else(|| gone(part))?;
        let config = group.settings()?.config;
        if config.dead_letter_topic.is_empty() {
            return Ok(Written::Again);
        }
        let written = Letters::read(self, part, work, &letters, &config)?;
        if let Some(fit) = written.fit {
            return Ok(Written::Fewer(fit));
        }
        let headers = written.headers();
        let records: FrameRecords<RecordData<'_>> = written.records(&headers);
        let claims = [ShareClaim::new(Arc::clone(part), work.to_static(), letters, section)
            .with_most_letters(most_letters)];
        let frame = Frame { shares: &claims, ..Frame::of_records(&records) };
        // Nobody waits for what ends by itself: it can end later.
        let max_block = if work.is_divisible() { Duration::ZERO } else { LETTERS_MAX_BLOCK };
        let appended = self.append_frame(&frame, Acks::Written, max_block);
        let [claim] = &claims;
        if claim.is_stale() {
            return Ok(Written::Again);
        }
        Ok(Written::Done(ShareDone { lsn: appended?.lsn, more: claim.has_more() }))
    }
}

/// How long a dead letter waits for room in the journal.
const LETTERS_MAX_BLOCK: Duration = Duration::from_mins(1);
