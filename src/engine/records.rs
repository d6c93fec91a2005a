//! Deletes records.

use crate::engine::state::Engine;
use crate::error::{Error, Result};
use crate::journal::{SECTION_HEADER, SectionKind, section_header};
use crate::log::LOG_START_SECTION_BYTES;
use crate::types::TopicPartition;

/// Stands for the log end offset, as in Kafka's `DeleteRecordsRequest`.
const ALL: i64 = -1;

impl Engine {
    /// Deletes the records of a partition below an offset, or all of them if it is -1. The deletion is durable when
    /// this returns. Returns the log start offset.
    pub(crate) fn delete_records(&self, partition: &TopicPartition, before: i64) -> Result<i64> {
        self.check_open()?;
        let log = self.registry.log(partition)?;
        let policy = log.config().cleanup_policy;
        if policy.compacts() && !policy.deletes() {
            return Err(Error::PolicyViolation {
                topic: partition.topic().to_owned(),
                reason: "records of a compacted topic end only by newer ones of their key; \
                         add delete to the policy to delete from the front",
            });
        }
        log.check_deletable()?;
        let before = if before == ALL { log.end_offset() } else { before };
        let mut credit = self.reserve_urgent(SECTION_HEADER + LOG_START_SECTION_BYTES)?;
        let journaled = log.delete_records(before, |section| {
            let body = section.encode();
            let header = section_header(SectionKind::LOG_START, body.len() as u32);
            self.journal.append(&mut credit, &[&header, &body])
        })?;
        drop(credit);
        // An earlier deletion of the same records may not be synced yet.
        self.wait_synced(journaled.unwrap_or_else(|| self.journal.end()))?;
        if !log.remove_below(before) && self.config.background {
            // The next checkpoint removes the segments. Request one, because the caller wants the space.
            self.background.request_checkpoint();
        }
        Ok(log.start_offset())
    }
}
