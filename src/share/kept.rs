//! Records that a member keeps for a while, without their bytes.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use super::record::ShareRecord;
use crate::engine::{EngineHandle, Said, SharePart, ShareWork, Word};
use crate::group::share::{MemberNumber, Span};

/// Records that stay with their member until this is dropped. They then come again at once, and their deliveries do not
/// count. The member must not leave before.
#[derive(Debug)]
pub(crate) struct KeptRecords {
    engine: EngineHandle,
    records: Vec<Kept>,
}

#[derive(Debug)]
struct Kept {
    part: Arc<SharePart>,
    member: MemberNumber,
    span: Span,
    delivery: u16,
}

/// The most records of one frame.
const FRAME: usize = 500;

impl KeptRecords {
    pub(crate) fn new(engine: &EngineHandle) -> Self {
        Self { engine: engine.clone(), records: Vec::new() }
    }

    pub(crate) fn keep(&mut self, record: ShareRecord) {
        let (part, member, span, delivery) = record.place();
        self.records.push(Kept { part: Arc::clone(part), member, span, delivery });
        record.leave();
    }
}

impl Drop for KeptRecords {
    fn drop(&mut self) {
        let same = |a: &Kept, b: &Kept| Arc::ptr_eq(&a.part, &b.part) && a.member == b.member;
        for kept in self.records.chunk_by(same).flat_map(|all| all.chunks(FRAME)) {
            let Some(Kept { part, member, .. }) = kept.first() else { continue };
            let said = || Said::Snooze { delay: Duration::ZERO };
            let word =
                |kept: &Kept| Word { span: kept.span, delivery: kept.delivery, said: said() };
            let words = kept.iter().map(word).collect();
            let work = ShareWork::Words { member: *member, words, starts: Cow::default() };
            // If it cannot be journaled, they come again when their member leaves, and count.
            let _come_again_later = self.engine.share_work(part, &work);
        }
    }
}
