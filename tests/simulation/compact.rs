//! Compaction, and what may be missing after it.

use std::collections::BTreeSet;
use std::time::Duration;

use grouplog::{CleanupPolicy, Error, TopicConfig};

use crate::observe::observe;
use crate::oracle::{COMPACTED, Change, Place, gone};
use crate::produce::READER;
use crate::session::Session;
use crate::world::{Step, World, violation};

impl World {
    /// Returns the configuration of a compacted topic.
    pub(crate) fn compacted(&self, config: TopicConfig) -> TopicConfig {
        let policy =
            if self.one_in(2) { CleanupPolicy::Compact } else { CleanupPolicy::CompactDelete };
        let config = config
            .cleanup_policy(policy)
            .delete_retention(self.options.delete_retention)
            .min_cleanable_dirty_ratio(self.options.min_dirty_ratio);
        let lag = Duration::from_secs(1);
        if self.options.compaction_lag { config.max_compaction_lag(lag) } else { config }
    }

    /// Returns whether compaction may have removed the record at an offset. A record without a value counts as
    /// missing even if older ones of its key may still be there: `Look` finds that out.
    pub(crate) fn may_be_missing(&self, place: &Place, offset: i64) -> bool {
        self.history.state().may_be_compacted(place, offset as usize, |_| true)
    }

    pub(crate) fn compact(&mut self, session: &mut Session) -> Step {
        if self.is_uncertain() {
            return Ok(());
        }
        if self.one_in(8) {
            return self.compact_what_is_not(session);
        }
        if !self.history.state().topics.contains_key(COMPACTED) {
            return Ok(());
        }
        self.history.attempt(Change::MayCompact { topic: COMPACTED.to_owned() });
        self.history.written();
        if self.one_in(2) && self.keeps_positions(session) {
            self.note("maintain");
            return self.run_retention(session, None, grouplog::Broker::maintain);
        }
        self.compact_now(session)
    }

    fn compact_now(&mut self, session: &mut Session) -> Step {
        self.note("compact");
        let (mark, troubled, had_failed) = (self.mark(), self.is_troubled(), session.has_failed());
        let compacted = session.broker.admin().compact(COMPACTED);
        self.alive()?;
        match compacted {
            Ok(_) if had_failed => violation("a compaction succeeds although a write had failed"),
            Ok(done) => {
                self.trace.tally.compacted += done.records_in - done.records_out;
                self.history.synced_up_to(self.history.promised(false));
                if troubled { Ok(()) } else { check_compacted(session) }
            }
            Err(error) => {
                self.note(format!("  {error}"));
                self.judge(&error, mark)
            }
        }
    }

    fn compact_what_is_not(&mut self, session: &mut Session) -> Step {
        let Some((topic, _)) = self.any_place().filter(|(topic, _)| topic != COMPACTED) else {
            return Ok(());
        };
        match session.broker.admin().compact(&topic) {
            Err(Error::PolicyViolation { .. }) => self.alive(),
            other => violation(format!("{topic} is compacted: {other:?}")),
        }
    }

    /// Returns whether retention, as it is, deletes nothing behind which a consumer or a group is.
    pub(crate) fn keeps_positions(&self, session: &Session) -> bool {
        let state = self.history.state();
        let holds = |place: &Place, before: i64| {
            let mut others = state.offsets.iter().filter(|((group, _), _)| group != READER);
            others.all(|((_, at), offset)| at != place || *offset >= before)
        };
        let read = self.read_by_reader(None);
        let mut deletes = read.iter().filter(|(place, before)| *before > state.start(place));
        deletes.all(|(place, before)| session.members.is_empty() && holds(place, *before))
    }
}

/// Checks that each key is left once.
fn check_compacted(session: &Session) -> Step {
    let seen = observe(&session.broker).or_else(violation)?;
    for log in seen.topics.get(COMPACTED).into_iter().flatten() {
        let mut keys = BTreeSet::new();
        let records = log.iter().filter(|record| ***record != *gone());
        if let Some(twice) = records.map(|record| &record.key).find(|key| !keys.insert(*key)) {
            return violation(format!("a compaction leaves more than one record of {twice:?}"));
        }
    }
    Ok(())
}
