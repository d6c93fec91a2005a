//! What readers of committed records go by: the last stable offset, and the aborted transactions.
//!
//! grouplog's own batches belong to no transaction in this sense: a record is committed when it becomes visible. Only
//! segments that a Kafka broker wrote hold transactions. Then the rules are Kafka's: batches of aborted
//! transactions are passed, and reading ends at the first batch of the earliest open transaction. Nobody will end
//! that transaction, but retention may delete it.
//!
//! * **T1** Opening a folder scans nothing, and reading at `read_uncommitted` neither. What this process has appended
//!   is never scanned.
//! * **T2** A reader of committed records that has read everything from the log start on knows that nothing before
//!   its position belongs to a transaction. All such readers share this knowledge. The first transactional batch
//!   that one of them meets starts a scan. So does a reader that begins behind the known part, because an open
//!   transaction there would hold it back.
//! * **T3** A scan reads the batches of all segments, and the records of markers. It verifies the checksum of each
//!   batch, since a changed bit of a header could change an outcome. It finds which transactions were aborted,
//!   which are open, and what producers have written last.
//! * **T4** Offsets and outcomes never change. What a scan found stays true of the offsets that are left. The
//!   outcome is forgotten when segments are removed or replaced, because an open transaction may go with them, and
//!   because compaction needs to know what is left.
//! * **T5** Behind damage no outcome is certain: a marker may be lost. So readers of committed records of a log with
//!   transactions end there, with the error that `read_uncommitted` meets at the damage. In a log without
//!   transactions damage hides none, and such readers continue behind it.
//! * **T6** A scan remembers at most [`index::MAX_ABORTED`] transactions and [`index::MAX_PRODUCERS`] producers.

mod index;
mod judge;
mod scan;

use std::sync::Arc;

use super::view::View;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicI64, Ordering};

pub(super) use index::TransactionIndex;

/// What is known of a partition's transactions.
#[derive(Debug)]
pub(super) struct Stable {
    /// No batch below this offset belongs to a transaction.
    plain_below: AtomicI64,
    known: Mutex<Known>,
    /// Held during a scan, so that others wait for its result.
    scanning: Mutex<()>,
}

#[derive(Debug, Default)]
struct Known {
    /// Counts the changes of segments.
    changes: u64,
    index: Option<Arc<TransactionIndex>>,
}

impl Stable {
    fn new(view: &View) -> Self {
        let foreign = view.segments.iter().find(|segment| !segment.holds_own_appends_alone());
        let plain_below = foreign.map_or(i64::MAX, |segment| segment.base_offset());
        Self {
            plain_below: AtomicI64::new(plain_below),
            known: Mutex::default(),
            scanning: Mutex::default(),
        }
    }

    fn plain_below(&self) -> i64 {
        self.plain_below.load(Ordering::Acquire)
    }

    fn index(&self) -> Option<Arc<TransactionIndex>> {
        self.known.lock().index.clone()
    }

    /// Keeps the result of a scan, unless segments have changed since it began.
    fn keep(&self, changes: u64, index: &Arc<TransactionIndex>) {
        let mut known = self.known.lock();
        if known.changes == changes {
            known.index = Some(Arc::clone(index));
        }
        if index.is_plain() {
            // Nothing of a transaction is ever appended.
            self.plain_below.store(i64::MAX, Ordering::Release);
        }
    }

    fn forget(&self) {
        let mut known = self.known.lock();
        known.changes = known.changes.wrapping_add(1);
        known.index = None;
    }
}
