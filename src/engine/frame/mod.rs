//! One journal frame that changes many things at once: records of any partitions, offsets of any groups, the
//! state of a named owner. `send_all` and transactions end here.
//!
//! What always holds:
//!
//! * **F1: all or nothing.** The frame is the commit point. An error before it leaves no trace, and a crash
//!   leaves all of the frame or nothing of it.
//! * **F2: locks.** All locks are taken in the order of `engine::state`, and held until everything is applied. So
//!   a checkpoint sees all of a frame or nothing of it.
//! * **F3: what was checked still holds when the frame is written.** Expected ends are compared under the append
//!   locks, ids under the locks of their tables, memberships under the groups' locks, committed offsets under the
//!   lock of the offsets, owners and share-partitions under theirs. Another thread is either earlier, and the check sees it, or later.
//! * **F4: records before offsets.** Records are published before the offsets that were committed with them.
//!   Whoever sees the offset finds the records.
//! * **F5: no waits under locks.** Space in the journal is reserved before the first lock. Room in the disk
//!   budget is made after the last one was released.
//!
//! Imported by `engine`.

mod offsets;
mod records;
mod size;

use std::sync::Arc;
use std::time::Duration;

pub(crate) use offsets::{Committer, ExpectedOffset, FrameOffsets};
pub(crate) use records::{FrameRecord, FrameRecords};
pub(crate) use size::{FrameContents, FrameSize};

use crate::config::Acks;
use crate::engine::ids::{Fate, IdLocks, section_bound};
use crate::engine::owners::{OwnerClaim, OwnerLock};
use crate::engine::shares::{ShareClaim, ShareLock};
use crate::engine::state::Engine;
use crate::error::{Error, Result};
use crate::journal::{Credit, Outside};
use crate::log::{Afterwards, AppendGuard, Log, Placed};
use crate::types::{Lsn, PartitionNumber, Timestamp, planted};

/// What one frame changes, and under which conditions.
#[derive(Debug)]
pub(crate) struct Frame<'f, R> {
    /// The records, sorted by partition.
    pub(crate) records: &'f FrameRecords<R>,
    /// Expected log ends, each with the index of its partition among those of `records`.
    pub(crate) expected_ends: &'f [(usize, i64)],
    /// The offsets to commit, sorted by the names of the groups.
    pub(crate) offsets: &'f [FrameOffsets],
    pub(crate) expected_offsets: &'f [ExpectedOffset],
    pub(crate) owner: Option<&'f OwnerClaim>,
    /// What changes in share groups, sorted by [`SharePart::order`](crate::engine::SharePart::order).
    pub(crate) shares: &'f [ShareClaim],
}

/// A frame that was written and applied.
#[derive(Debug)]
pub(crate) struct Appended {
    /// Where each record went: the index of its partition, and the place there.
    pub(crate) placed: Vec<(usize, Placed)>,
    /// Further partitions, behind those of the records, where earlier records with the same ids are.
    pub(crate) others: Vec<Arc<Log>>,
    pub(crate) lsn: Lsn,
}

impl<'f, R: FrameRecord> Frame<'f, R> {
    /// Creates a frame of records alone.
    pub(crate) fn of_records(records: &'f FrameRecords<R>) -> Self {
        Self {
            records,
            expected_ends: &[],
            offsets: &[],
            expected_offsets: &[],
            owner: None,
            shares: &[],
        }
    }

    /// Returns whether the frame has records alone, under no condition.
    fn is_plain(&self) -> bool {
        self.records.ids == 0
            && self.expected_ends.is_empty()
            && self.offsets.is_empty()
            && self.expected_offsets.is_empty()
            && self.owner.is_none()
            && self.shares.is_empty()
    }

    /// Returns an upper bound for the payload of the frame, if all records go into the journal.
    pub(crate) fn payload(&self, engine: &Engine) -> usize {
        self.bound(engine, &vec![false; self.records.logs.len()])
    }

    /// Returns an upper bound for the payload of the frame.
    fn bound(&self, engine: &Engine, large: &[bool]) -> usize {
        let records = self.records.frame_bound(engine, large);
        let offsets = self.offsets.iter().map(FrameOffsets::bytes);
        let owner = self.owner.map_or(0, OwnerClaim::bytes);
        let ids = match self.records.ids {
            0 => 0,
            ids => section_bound(ids, self.records.logs.len()),
        };
        let shares = self.shares.iter().map(ShareClaim::bytes);
        let fixed = records.saturating_add(owner).saturating_add(ids);
        offsets.chain(shares).fold(fixed, usize::saturating_add)
    }

    /// Calls a function that may wait. The members whose offsets the frame commits are not silent meanwhile.
    fn busy<T>(&self, engine: &Engine, wait: impl FnOnce() -> Result<T>) -> Result<T> {
        if planted("waiting_commit_is_silent") {
            return wait();
        }
        self.offsets.iter().for_each(|part| part.tell_presence(engine, true));
        let waited = wait();
        self.offsets.iter().for_each(|part| part.tell_presence(engine, false));
        waited
    }

    /// Checks the expected log ends under the append locks.
    fn check_ends(&self, guards: &[AppendGuard<'_>]) -> Result<()> {
        for &(at, expected) in self.expected_ends {
            let (Some(guard), Some(log)) = (guards.get(at), self.records.logs.get(at)) else {
                continue;
            };
            let end = guard.end_offset();
            if end != expected && !planted("expected_end_not_checked") {
                let partition = log.partition().clone();
                return Err(Error::UnexpectedEnd { partition, expected, end });
            }
        }
        Ok(())
    }
}

impl Engine {
    /// Writes a frame and applies it. If the disk budget has no room for its records, does what the policies of
    /// their topics say. Requests a sync for `acks`.
    pub(crate) fn append_frame<R: FrameRecord>(
        &self,
        frame: &Frame<'_, R>,
        acks: Acks,
        max_block: Duration,
    ) -> Result<Appended> {
        let appended = match self.try_frame(frame, acks, max_block) {
            Err(failure @ Error::DiskBudget { .. }) => {
                self.append_in_room(frame, acks, max_block, failure)
            }
            done => done,
        }?;
        if acks == Acks::Synced {
            self.journal.request_sync(appended.lsn);
        }
        Ok(appended)
    }

    /// As `try_frame`, after that has found no room in the disk budget.
    #[cold]
    fn append_in_room<R: FrameRecord>(
        &self,
        frame: &Frame<'_, R>,
        acks: Acks,
        max_block: Duration,
        mut failure: Error,
    ) -> Result<Appended> {
        let mut patience = self.patience(max_block);
        let logs = frame.records.appended();
        loop {
            frame.busy(self, || self.make_room(&logs, failure, &mut patience))?;
            failure = match self.try_frame(frame, acks, max_block) {
                Err(failure @ Error::DiskBudget { .. }) => failure,
                done => return done,
            };
        }
    }

    /// Writes a frame and applies it. Large appends go to the segments if possible, else to the journal.
    fn try_frame<R: FrameRecord>(
        &self,
        frame: &Frame<'_, R>,
        acks: Acks,
        max_block: Duration,
    ) -> Result<Appended> {
        let logs = &frame.records.logs;
        let stores = |(log, bytes): (&Arc<Log>, &usize)| {
            frame.is_plain() && self.stores(*bytes, acks) && log.takes_stored_appends()
        };
        let large: Vec<bool> = logs.iter().zip(&frame.records.sizes).map(stores).collect();
        let mut done = None;
        if large.contains(&true) {
            let mut credit = self.reserve(frame.bound(self, &large), max_block)?;
            done = self.write_frame(frame, &large, &mut credit)?;
        }
        if done.is_none() {
            let none = vec![false; large.len()];
            let bytes = frame.bound(self, &none);
            let mut credit = self.reserve_frame(frame, bytes, max_block)?;
            done = self.write_frame(frame, &none, &mut credit)?;
        }
        let (appended, afterwards) =
            done.ok_or(Error::Misuse("an append to the journal that has no place"))?;
        for (log, afterwards) in logs.iter().zip(afterwards) {
            self.after_append(log, afterwards);
        }
        Ok(appended)
    }

    /// Reserves space in the journal for a frame.
    fn reserve_frame<R: FrameRecord>(
        &self,
        frame: &Frame<'_, R>,
        bytes: usize,
        max_block: Duration,
    ) -> Result<Credit<'_>> {
        // Commits work even when records have filled the journal or the disk.
        let urgent = frame.records.records.is_empty();
        if urgent {
            self.check_open()?;
        } else {
            self.check_appends()?;
        }
        match self.journal.try_reserve(bytes, urgent) {
            Some(credit) => Ok(credit),
            None if urgent => frame.busy(self, || self.reserve_urgent(bytes)),
            None => frame.busy(self, || self.reserve(bytes, max_block)),
        }
    }

    /// Takes all locks, checks all conditions, stages the records, journals the frame and applies it.
    ///
    /// The `large` appends go to the segments first. Returns `None` if a segment cannot take records now. Nothing
    /// has happened then.
    fn write_frame<R: FrameRecord>(
        &self,
        frame: &Frame<'_, R>,
        large: &[bool],
        credit: &mut Credit<'_>,
    ) -> Result<Option<(Appended, Vec<Afterwards>)>> {
        let logs = &frame.records.logs;
        // Before the first lock is taken, because it may read files.
        logs.iter().try_for_each(|log| log.settle())?;
        let now = self.clock().now();
        let mut shares = self.lock_shares(frame.shares)?;
        let mut ids = (frame.records.ids > 0).then(|| self.ids.lock(logs, now));
        let mut owner = frame.owner.map(|claim| self.lock_owner(claim)).transpose()?;
        let Some(mut guards) = begin_all(logs, large)? else { return Ok(None) };
        frame.check_ends(&guards)?;
        let (placed, others) = self.stage(frame.records, &mut guards, ids.as_mut(), now)?;
        let mut offsets = frame.lock_offsets(self)?;
        if !guards.iter_mut().all(AppendGuard::store) {
            return Ok(None);
        }
        let panics = (!frame.is_plain()).then(|| self.journal.fail_on_panic("a transaction"));
        let joined = (ids.as_mut(), owner.as_ref(), shares.as_slice());
        let lsn = self.journal_frame(frame, &mut guards, joined, credit)?;
        if planted("offsets_before_records")
            && let Some(mut early) = offsets.take()
        {
            early.apply(frame.offsets);
        }
        let published = guards.iter_mut().map(AppendGuard::publish);
        let afterwards: Vec<Afterwards> = published.collect();
        if let Some(offsets) = &mut offsets {
            offsets.apply(frame.offsets);
        }
        if let Some(owner) = &mut owner {
            owner.apply();
        }
        if let Some(ids) = ids {
            ids.apply();
        }
        for share in &mut shares {
            share.apply(self);
        }
        drop(panics);
        drop(guards);
        shares.into_iter().for_each(ShareLock::release);
        Ok(Some((Appended { placed, others, lsn }, afterwards)))
    }

    /// Stages the records. Those whose id is registered are left out, and get the place of the earlier record.
    #[expect(clippy::type_complexity, reason = "taken apart at once by the only caller")]
    fn stage<R: FrameRecord>(
        &self,
        records: &FrameRecords<R>,
        guards: &mut [AppendGuard<'_>],
        mut ids: Option<&mut IdLocks>,
        now: Timestamp,
    ) -> Result<(Vec<(usize, Placed)>, Vec<Arc<Log>>)> {
        let (mut placed, mut others) = (Vec::with_capacity(records.records.len()), Vec::new());
        for (at, record) in &records.records {
            let (Some(guard), Some(log)) = (guards.get_mut(*at), records.logs.get(*at)) else {
                continue;
            };
            let data = record.data();
            let fate = match (ids.as_deref_mut(), data.id) {
                (Some(ids), Some(id)) => ids.decide(log, id)?,
                _ => Fate::Store(None),
            };
            match fate {
                Fate::Store(claim) => {
                    let place = guard.stage(&data, now);
                    let place = place.map_err(|error| for_all(error, guards))?;
                    if let (Some(ids), Some(claim)) = (ids.as_deref_mut(), claim) {
                        ids.place(claim, log, place);
                    }
                    placed.push((*at, place));
                }
                Fate::Duplicate(place) => {
                    let at = self.index_of(place.partition, &records.logs, &mut others)?;
                    placed.push((at, Placed::of_duplicate(place.offset)));
                }
            }
        }
        Ok((placed, others))
    }

    /// Returns the index of a partition among `logs` and, behind them, `others`. Adds it to the others.
    fn index_of(
        &self,
        number: PartitionNumber,
        logs: &[Arc<Log>],
        others: &mut Vec<Arc<Log>>,
    ) -> Result<usize> {
        let known = logs.iter().chain(&*others).position(|log| log.number() == number);
        if let Some(at) = known {
            return Ok(at);
        }
        let gone = Error::Misuse("an idempotency id names a partition that does not exist");
        others.push(self.registry.by_number(number).ok_or(gone)?);
        Ok(logs.len().saturating_add(others.len()).saturating_sub(1))
    }

    /// Journals the sections of a frame. A frame that changes nothing is not written.
    fn journal_frame<R>(
        &self,
        frame: &Frame<'_, R>,
        guards: &mut [AppendGuard<'_>],
        (ids, owner, shares): (Option<&mut IdLocks>, Option<&OwnerLock<'_>>, &[ShareLock<'_>]),
        credit: &mut Credit<'_>,
    ) -> Result<Lsn> {
        let outside: Vec<Outside> =
            guards.iter().filter_map(AppendGuard::outside).cloned().collect();
        let mut parts = Vec::new();
        for guard in guards.iter_mut().filter(|guard| guard.has_staged()) {
            guard.sections(&mut parts);
        }
        if planted("two_frames") && !parts.is_empty() {
            self.journal.append_relying_on(credit, &parts, &outside)?;
            parts.clear();
        }
        for part in frame.offsets {
            parts.extend(part.section());
        }
        if let Some(section) = owner.and_then(|owner| owner.section())
            && !planted("owner_not_journaled")
        {
            parts.extend(section);
        }
        if let Some(ids) = ids {
            ids.sections(&mut parts);
        }
        for share in shares {
            parts.extend(share.parts());
        }
        if parts.is_empty() {
            return Ok(self.journal.end());
        }
        self.journal.append_relying_on(credit, &parts, &outside)
    }
}

/// Returns the error of the whole append. What its first records were charged is given back with it, and they will
/// need it again. Without them, there would seem to be room.
fn for_all(error: Error, guards: &[AppendGuard<'_>]) -> Error {
    match error {
        Error::DiskBudget { budget, taken, needed } if !planted("budget_forgets_staged") => {
            let staged = guards.iter().map(AppendGuard::charged).fold(0, u64::saturating_add);
            let (taken, needed) = (taken.saturating_sub(staged), needed.saturating_add(staged));
            Error::DiskBudget { budget, taken, needed }
        }
        error => error,
    }
}

/// Takes the locks for an append to several partitions: write-out locks, then append locks, each in the order of
/// the partition numbers. Returns `None` if a segment cannot take records now.
fn begin_all<'a>(logs: &'a [Arc<Log>], large: &[bool]) -> Result<Option<Vec<AppendGuard<'a>>>> {
    let mut prepared = Vec::with_capacity(large.len());
    for (log, large) in logs.iter().zip(large) {
        let append = if *large { log.prepare_stored_append()? } else { None };
        if *large && append.is_none() {
            return Ok(None);
        }
        prepared.push(append);
    }
    let mut guards = Vec::with_capacity(large.len());
    for (log, prepared) in logs.iter().zip(prepared) {
        let guard = match prepared {
            None => Some(log.begin_append()?),
            Some(prepared) => prepared.begin()?,
        };
        let Some(guard) = guard else { return Ok(None) };
        guards.push(guard);
    }
    Ok(Some(guards))
}
