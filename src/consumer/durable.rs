//! `read.durability`: a consumer that returns only what survives power loss.
//!
//! A record is visible once its frame is in the journal. So if the log end is read first and the end of the journal
//! after it, a sync up to that end of the journal covers all records below that log end.

use crate::engine::Engine;
use crate::log::Log;
use crate::types::Lsn;
use crate::types::planted;

/// How much of a log is durable, as far as one consumer knows.
#[derive(Debug, Default)]
pub(super) struct Durable {
    /// The offset below which all records are durable.
    end: i64,
    /// A log end, and how far the journal has to be synced for everything below it. While a sync is awaited, later
    /// records wait for the next one: otherwise an end that moves on is never reached.
    asked: Option<(i64, Lsn)>,
}

impl Durable {
    /// Returns the offset below which all records are durable. If there are records from there on, a sync of them is
    /// under way after the call.
    pub(super) fn look(&mut self, log: &Log, engine: &Engine) -> i64 {
        self.settle(engine);
        let end = log.end_offset();
        if planted("read_before_sync") {
            return end;
        }
        if self.end < end && self.asked.is_none() {
            let lsn = engine.journal.end();
            self.asked = Some((end, lsn));
            self.settle(engine);
            if self.asked.is_some() {
                engine.journal.request_sync(lsn);
            }
        }
        self.end
    }

    fn settle(&mut self, engine: &Engine) {
        if let Some((end, lsn)) = self.asked
            && lsn <= engine.journal.synced()
        {
            *self = Self { end, asked: None };
        }
    }

    /// Returns how far the journal has to be synced before there is more to return, if a sync is awaited.
    pub(super) fn awaited(&self) -> Option<Lsn> {
        self.asked.map(|(_, lsn)| lsn)
    }
}
