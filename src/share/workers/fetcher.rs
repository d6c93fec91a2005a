//! Reserves records for the threads of one `Workers`.

use std::sync::Arc;
use std::time::Duration;

use crate::config::Acks;
use crate::engine::{EngineHandle, Event, ShareGroup, ShareLimits};
use crate::error::{Error, Result};
use crate::share::batch::ShareBatch;
use crate::share::member::Member;
use crate::share::sources::Sources;

/// Reserves records. One thread at a time uses it.
#[derive(Debug)]
pub(super) struct Fetcher {
    engine: EngineHandle,
    group: Arc<ShareGroup>,
    member: Arc<Member>,
    sources: Sources,
    acks: Acks,
    /// How many records the next fetch reserves: `least` to [`FACTOR`] times that.
    records: u32,
    least: u32,
    /// When the last fetch returned.
    fetched_at: Duration,
}

/// How many times as many records as there are threads a fetch reserves at most.
const FACTOR: u32 = 128;
/// How long reserved records are to wait for a thread. More of them would keep other members idle.
const QUEUED: Duration = Duration::from_millis(20);
/// The most bytes of one fetch.
const BYTES: usize = 16 << 20;
/// How long a fetch waits after an error that may pass.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a fetch sleeps without being woken.
const SLEEP: Duration = Duration::from_hours(1);

impl Fetcher {
    pub(super) fn new(
        engine: &EngineHandle,
        group: &Arc<ShareGroup>,
        member: &Arc<Member>,
        sources: Sources,
        (acks, threads): (Acks, usize),
    ) -> Self {
        let least = (threads as u32).max(1);
        Self {
            engine: engine.clone(),
            group: Arc::clone(group),
            member: Arc::clone(member),
            sources,
            acks,
            records: least,
            least,
            fetched_at: Duration::ZERO,
        }
    }

    /// Returns what ends a sleep of the thread that fetches.
    pub(super) fn event(&self) -> &Arc<Event> {
        self.sources.event()
    }

    /// Waits until there are records, and reserves some. Returns none once `is_closed` says true.
    ///
    /// # Errors
    /// Those that end the workers. `passed` gets those that may pass.
    pub(super) fn fetch(
        &mut self,
        is_closed: impl Fn() -> bool,
        passed: impl Fn(Error),
    ) -> Result<Vec<Arc<ShareBatch>>> {
        self.adapt()?;
        let limits = ShareLimits { records: self.records, bytes: BYTES };
        let mut batches = Vec::new();
        loop {
            if is_closed() {
                break;
            }
            let Self { member, sources, acks, .. } = self;
            let looked = sources.look(member, limits, |part, taken| {
                let batch = ShareBatch::of(member, part, taken, *acks, false);
                let kept = batch.as_ref().map_or(0, ShareBatch::len);
                batches.extend(batch.map(Arc::new));
                Ok(kept)
            });
            match looked {
                Ok((0, false)) => {
                    self.sources.sleep(SLEEP);
                }
                Ok((0, true)) => {}
                Ok(_) => break,
                Err(error) if ends(&error) => return Err(error),
                Err(error) => {
                    passed(error);
                    self.sources.event().wait(PAUSE);
                }
            }
        }
        self.sources.end_wait();
        self.fetched_at = self.engine.clock().monotonic();
        Ok(batches)
    }

    /// Chooses how much to reserve: more if the last records were taken fast.
    fn adapt(&mut self) -> Result<()> {
        // Their locks run while they wait.
        let lock = self.group.settings()?.share.lock_duration;
        let most = QUEUED.min(lock.checked_div(10).unwrap_or(lock));
        let took = self.engine.clock().monotonic().saturating_sub(self.fetched_at);
        if took > most {
            self.records = (self.records / 2).max(self.least);
        } else if took <= most.checked_div(2).unwrap_or(most) {
            self.records = self.records.saturating_mul(2).min(self.least.saturating_mul(FACTOR));
        }
        Ok(())
    }
}

/// Returns whether an error ends the workers: nothing can be handed out or noted until the folder is opened again.
pub(super) fn ends(error: &Error) -> bool {
    error.is_fatal()
        || matches!(error, Error::Closed | Error::ForkedChild | Error::UnknownGroup { .. })
}
