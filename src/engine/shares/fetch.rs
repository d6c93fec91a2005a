//! Reads records and reserves them for a member.

use std::sync::Arc;
use std::time::Duration;

use super::batches::Batches;
use super::group::{ShareGroup, SharePart};
use super::look::gone;
use super::state::encode_partition_change;
use super::work::{ShareWork, refused};
use crate::engine::event::Event;
use crate::engine::state::Engine;
use crate::error::{Error, Result};
use crate::group::share::{
    Decision, Delivery, Fetch, MemberNumber, Read, Reservation, Section, Span, Take,
};
use crate::journal::{Credit, SECTION_HEADER, SectionKind, section_header};
use crate::log::{Cursor, FetchLimits, Fetched};
use crate::sync::atomic::Ordering;
use crate::types::planted;

/// Records that a member has reserved.
#[derive(Debug, Default)]
pub(crate) struct TakenRecords {
    /// What was read; more than was reserved.
    pub(crate) fetched: Fetched,
    /// What was reserved of it, in order.
    pub(crate) deliveries: Vec<Delivery>,
    /// How the attempt before ended, for each delivery, if there was one.
    pub(crate) reasons: Vec<Option<Arc<str>>>,
    /// The log end beyond which there may be more to read, if nothing was left to read.
    pub(crate) waits_at: Option<i64>,
    /// Whether something was read. Then there may be more, even if nothing of it was reserved.
    pub(crate) has_read: bool,
}

/// What one fetch reads at most.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ShareLimits {
    pub(crate) records: u32,
    pub(crate) bytes: usize,
}

/// How long the end of locks is not tried again after a failure.
const RETRY: Duration = Duration::from_secs(1);

/// The most bytes that the section takes which notes one record that is not handed out.
const NOTICED_BYTES: usize = 48;

impl Engine {
    /// Reserves records of a share-partition for a member, which sleeps on `event`. Returns none if there is nothing to
    /// hand out now, or if another member is reading. `cursor` is where the last fetch of the member has ended: the next
    /// one goes on there, if no other member has read meanwhile.
    ///
    /// # Errors
    /// Those of reading a log. `UnknownTopic` if the topic or the group was deleted.
    pub(crate) fn share_fetch(
        &self,
        group: &ShareGroup,
        (part, cursor): (&Arc<SharePart>, &mut Cursor),
        member: MemberNumber,
        limits: ShareLimits,
        event: &Arc<Event>,
    ) -> Result<TakenRecords> {
        let mut taken = TakenRecords::default();
        self.end_locks(part)?;
        if part.signals.is_paused() {
            return Ok(taken);
        }
        let Some((fetch, token)) = self.begin_share_fetch(part, event)? else { return Ok(taken) };
        let level = group.settings()?.config.isolation_level;
        cursor.go_to(fetch.from, level);
        let until = fetch.to.saturating_add(1);
        let wanted = FetchLimits { records: limits.records as usize, bytes: limits.bytes, until };
        match part.log().fetch(cursor, 0, wanted, &mut taken.fetched) {
            Ok(()) => {}
            // Retention was faster. The next look begins behind what it has taken.
            Err(Error::OffsetOutOfRange { requested, start, .. }) if requested < start => {
                return Ok(TakenRecords { has_read: true, ..TakenRecords::default() });
            }
            Err(error) => return Err(error),
        }
        let end = cursor.position();
        if end <= fetch.from {
            taken.waits_at = Some(cursor.waits_at());
            return Ok(taken);
        }
        taken.has_read = true;
        let ordered = token.ordered;
        let batches = Batches::of(&taken.fetched, (fetch.from, end), |key| {
            ordered.then(|| self.shares.hash(key))
        });
        self.reserve_read(part, fetch, &batches, end, (member, limits.records), &mut taken)?;
        drop(token);
        Ok(taken)
    }

    fn begin_share_fetch<'p>(
        &self,
        part: &'p Arc<SharePart>,
        event: &'p Arc<Event>,
    ) -> Result<Option<(Fetch, FetchToken<'p>)>> {
        let mut guard = part.lock()?;
        let Some(state) = guard.as_mut() else { return Ok(None) };
        self.follow_log_start(part, state);
        let ordered = state.is_ordered();
        let fetch = state.begin_fetch(self.share_now());
        if fetch.is_none() && state.is_fetching() {
            part.waited_for.store(true, Ordering::Release);
        }
        Ok(fetch.map(|fetch| (fetch, FetchToken { part, fetch, ordered, event })))
    }

    /// Reserves what was read. What is not to be handed out is journaled.
    fn reserve_read(
        &self,
        part: &SharePart,
        fetch: Fetch,
        batches: &Batches,
        end: i64,
        (member, max): (MemberNumber, u32),
        taken: &mut TakenRecords,
    ) -> Result<()> {
        // The frame must fit into the journal, and be one that is read again. A later fetch notes the rest.
        let most = (self.config.journal_max_bytes / 8) as usize / NOTICED_BYTES;
        let most = if planted("share_reserves_any_size") { usize::MAX } else { most };
        let changes = batches.changes(most.min(Section::DELAYED_MAX as usize));
        let items = changes.saturating_mul(NOTICED_BYTES);
        let around = SECTION_HEADER.saturating_add(part.group().len()).saturating_add(128);
        let mut credit = self.reserve_urgent(items.saturating_add(around))?;
        let mut guard = part.lock()?;
        let Some(state) = guard.as_mut() else { return Err(gone(part)) };
        let take = Take { member, max, changes, now: self.share_now() };
        let mut reservation = Reservation::default();
        let views = batches.views();
        let read = Read { batches: &views, end };
        if !state.reserve(fetch, &read, &take, &mut reservation) {
            return Ok(());
        }
        if !reservation.noticed.is_empty() {
            let noted = self.journal_noticed(part, &reservation, &mut credit);
            if let Err(error) = noted {
                for delivery in &reservation.deliveries {
                    state.unreserve(member, delivery.span);
                }
                return Err(error);
            }
            state.apply(&reservation.noticed, take.now.monotonic);
            self.shares.version.fetch_add(1, Ordering::Relaxed);
        }
        let reasons = state.reasons();
        let reason = |delivery: &Delivery| reasons.describe(delivery.reason);
        taken.reasons = reservation.deliveries.iter().map(reason).collect();
        taken.deliveries = reservation.deliveries;
        Ok(())
    }

    fn journal_noticed(
        &self,
        part: &SharePart,
        reservation: &Reservation,
        credit: &mut Credit<'_>,
    ) -> Result<()> {
        let mut body = Vec::new();
        encode_partition_change(part.group(), part.log().number(), &reservation.noticed, &mut body);
        let header = section_header(SectionKind::SHARE, body.len() as u32);
        let _guard = self.journal.fail_on_panic("a change of a share group");
        self.journal.append(credit, &[&header, &body]).map(|_| ())
    }

    /// Ends the attempts whose locks have run out.
    pub(super) fn end_locks(&self, part: &Arc<SharePart>) -> Result<()> {
        if !part.rests(self.clock().monotonic()).is_zero() {
            return Ok(());
        }
        loop {
            let due = {
                let mut guard = part.lock()?;
                let deadline = guard.as_mut().and_then(|state| state.next_deadline().0);
                deadline.is_some_and(|end| end <= self.clock().monotonic())
            };
            if !due {
                // What could not end has ended otherwise.
                part.attempts_end();
                return Ok(());
            }
            match self.share_work(part, &ShareWork::LockEnds) {
                Ok(done) => {
                    part.attempts_end();
                    if !done.more {
                        return Ok(());
                    }
                }
                Err(error @ (Error::Closed | Error::UnknownTopic { .. })) => return Err(error),
                // Records become available again without the journal (H8). What is final waits for it.
                Err(error) => {
                    *part.failure.lock() = Some(error);
                    let again = self.clock().monotonic().saturating_add(RETRY);
                    let millis = u64::try_from(again.as_millis()).unwrap_or(u64::MAX);
                    part.retry_at.store(millis, Ordering::Relaxed);
                    return self.end_locks_unstored(part);
                }
            }
        }
    }

    fn end_locks_unstored(&self, part: &SharePart) -> Result<()> {
        let mut guard = part.lock()?;
        let Some(state) = guard.as_mut() else { return Ok(()) };
        let now = self.share_now();
        let mut decision = Decision::default();
        state.decide_lock_ends(now, &mut || self.random().next_u64(), &mut decision);
        decision.keep_unstored();
        state.apply(&decision.section, now.monotonic);
        Ok(())
    }

    /// Lets the lock of a record begin anew. Memory only. Returns how long it lasts.
    pub(crate) fn renew_share(
        &self,
        group: &ShareGroup,
        part: &SharePart,
        member: MemberNumber,
        span: Span,
        delivery: u16,
    ) -> Result<Duration> {
        self.check_open()?;
        let duration = group.settings()?.share.lock_duration;
        let mut guard = part.lock()?;
        let Some(state) = guard.as_mut() else { return Err(gone(part)) };
        state
            .renew(member, span, delivery, self.share_now())
            .map_err(|refusal| refused(part, refusal))?;
        Ok(duration)
    }

    /// Returns how long there is nothing to do, unless something else happens: until the next lock ends, or the next
    /// record is due.
    pub(crate) fn share_deadline(&self, part: &SharePart) -> Option<Duration> {
        let mut guard = part.lock().ok()?;
        let (lock, due) = guard.as_mut()?.next_deadline();
        let now = self.share_now();
        let rests = part.rests(now.monotonic);
        let lock = lock.map(|end| end.saturating_sub(now.monotonic).max(rests));
        let due = due.map(|due| {
            Duration::from_millis(u64::try_from(due.saturating_sub(now.wall)).unwrap_or(0))
        });
        // Nothing is handed out in a pause, due or not.
        let due = due.filter(|_| !part.signals.is_paused());
        lock.into_iter().chain(due).min()
    }

    /// Gives back what a member has reserved and will not begin.
    pub(crate) fn share_unreserve(
        part: &SharePart,
        member: MemberNumber,
        spans: impl IntoIterator<Item = Span>,
    ) {
        if let Ok(mut guard) = part.lock()
            && let Some(state) = guard.as_mut()
        {
            spans.into_iter().for_each(|span| state.unreserve(member, span));
        }
        part.signals.wake();
    }
}

/// The right to read. Given back when it is dropped, so that an error or a panic keeps nobody from reading.
struct FetchToken<'p> {
    part: &'p Arc<SharePart>,
    fetch: Fetch,
    ordered: bool,
    event: &'p Arc<Event>,
}

impl Drop for FetchToken<'_> {
    fn drop(&mut self) {
        if let Some(state) = self.part.state.lock().as_mut() {
            state.cancel_fetch(self.fetch);
        }
        // Other members may have gone to sleep because this one was reading.
        if self.part.waited_for.swap(false, Ordering::AcqRel) {
            self.part.signals.wake_except(Some(self.event));
        }
    }
}
