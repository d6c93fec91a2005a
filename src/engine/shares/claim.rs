//! Changes of share-partitions that are part of a frame with other changes.

use std::cell::Cell;
use std::sync::Arc;

use super::group::SharePart;
use super::look::gone;
use super::state::encode_partition_change;
use super::work::ShareWork;
use crate::engine::state::Engine;
use crate::error::{Error, Result};
use crate::group::share::{DeadLetter, Decision, Now, Section, SharePartition};
use crate::journal::{SECTION_HEADER, SectionKind, section_header};
use crate::sync::MutexGuard;
use crate::sync::atomic::Ordering;

/// Work on a share-partition that goes into a frame with other changes. It was decided once, to know its size and its
/// dead letters. Under the locks of the frame it is decided again, and must come to the same.
#[derive(Debug)]
pub(crate) struct ShareClaim {
    part: Arc<SharePart>,
    work: ShareWork<'static>,
    letters: Vec<DeadLetter>,
    /// The most bytes that its section may take.
    bytes: usize,
    most_letters: u64,
    stale: Cell<bool>,
    more: Cell<bool>,
}

/// Returns bytes with a margin: under the locks of the frame, the section may be larger than it was when it was claimed.
const fn margin(bytes: usize) -> usize {
    bytes.saturating_add(bytes.div_ceil(4))
}

/// Further bytes of each claim.
const SPARE: usize = 256;

/// The error of a frame whose claim is stale. Whoever wrote the frame prepares it again.
const STALE: Error = Error::Misuse("a share group changed while a frame was prepared");

impl ShareClaim {
    /// The most bytes that a run of accepted records adds to a claim: its item has 24 at most.
    pub(crate) const RUN_BOUND: usize = margin(24);

    /// Returns the most bytes that a claim takes without its records. A log start that moves meanwhile cuts one run in two.
    pub(crate) fn bound(group: &str) -> usize {
        let header = group.len().saturating_add(40);
        margin(header).saturating_add(SPARE).saturating_add(Self::RUN_BOUND)
    }

    pub(super) fn new(
        part: Arc<SharePart>,
        work: ShareWork<'static>,
        letters: Vec<DeadLetter>,
        bytes: usize,
    ) -> Self {
        let bytes = margin(bytes).saturating_add(SPARE);
        let (stale, more) = (Cell::new(false), Cell::new(false));
        Self { part, work, letters, bytes, most_letters: u64::MAX, stale, more }
    }

    /// Sets the most dead letters with which it was decided.
    pub(super) fn with_most_letters(self, most_letters: u64) -> Self {
        Self { most_letters, ..self }
    }

    /// Returns whether the frame was refused because the share-partition has changed since.
    pub(crate) fn is_stale(&self) -> bool {
        self.stale.get()
    }

    pub(super) fn has_more(&self) -> bool {
        self.more.get()
    }

    /// Returns the most bytes that the section of the frame takes.
    pub(in crate::engine) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// The held lock of a share-partition, and what a frame changes there.
#[derive(Debug)]
pub(in crate::engine) struct ShareLock<'f> {
    claim: &'f ShareClaim,
    state: MutexGuard<'f, Option<SharePartition>>,
    now: Now,
    section: Section,
    header: [u8; SECTION_HEADER],
    body: Vec<u8>,
}

impl ShareLock<'_> {
    pub(in crate::engine) fn parts(&self) -> [&[u8]; 2] {
        [&self.header, &self.body]
    }

    /// Applies the change of a frame that is in the journal.
    pub(in crate::engine) fn apply(&mut self, engine: &Engine) {
        if let Some(state) = self.state.as_mut() {
            state.apply(&self.section, self.now.monotonic);
            engine.shares.version.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Wakes the members of the group, once the lock is released.
    pub(in crate::engine) fn release(self) {
        let part = &self.claim.part;
        drop(self.state);
        part.signals.wake();
    }
}

impl Engine {
    /// Prepares work for a frame with other changes.
    pub(crate) fn claim_share(
        &self,
        part: &Arc<SharePart>,
        work: ShareWork<'static>,
    ) -> Result<ShareClaim> {
        let mut decision = Decision::default();
        let mut guard = part.lock()?;
        let Some(state) = guard.as_mut() else { return Err(gone(part)) };
        self.follow_log_start(part, state);
        let now = self.share_now();
        work.decide(part, state, now, &mut || self.random().next_u64(), &mut decision)?;
        drop(guard);
        let mut body = Vec::new();
        encode_partition_change(part.group(), part.log().number(), &decision.section, &mut body);
        Ok(ShareClaim::new(
            Arc::clone(part),
            work,
            Vec::new(),
            SECTION_HEADER.saturating_add(body.len()),
        ))
    }

    /// Takes the locks of the share-partitions of a frame, and decides under them.
    pub(in crate::engine) fn lock_shares<'f>(
        &self,
        claims: &'f [ShareClaim],
    ) -> Result<Vec<ShareLock<'f>>> {
        debug_assert!(claims.is_sorted_by(|a, b| a.part.order() < b.part.order()));
        claims.iter().map(|claim| self.lock_share(claim)).collect()
    }

    fn lock_share<'f>(&self, claim: &'f ShareClaim) -> Result<ShareLock<'f>> {
        let part = &claim.part;
        let mut state = part.lock()?;
        let most_letters = part.signals.most_letters(claim.most_letters);
        let mut decision = Decision { most_letters, ..Decision::default() };
        let now = self.share_now();
        if let Some(state) = state.as_mut() {
            self.follow_log_start(part, state);
            let random = &mut || self.random().next_u64();
            let more = claim.work.decide(part, state, now, random, &mut decision)?;
            claim.more.set(more);
        }
        let mut body = Vec::new();
        encode_partition_change(part.group(), part.log().number(), &decision.section, &mut body);
        let same = decision.letters == claim.letters;
        if SECTION_HEADER.saturating_add(body.len()) > claim.bytes || !same {
            claim.stale.set(true);
            return Err(STALE);
        }
        let header = section_header(SectionKind::SHARE, body.len() as u32);
        Ok(ShareLock { claim, state, now, section: decision.section, header, body })
    }
}
