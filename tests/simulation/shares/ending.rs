//! How a life ends, and the last life, in which all jobs come to an end.

use std::time::Duration;

use grouplog::Acks;
use grouplog::storage::Crash;

use super::member::Session;
use super::world::World;
use super::{GROUPS, TOPICS};
use crate::world::{Step, violation};

impl World {
    /// Closes the folder, or kills the process.
    pub(super) fn end_life(&mut self, session: &mut Session) -> Step {
        if self.below(4) > 0 {
            return Err(self.kill());
        }
        if self.one_in(2) {
            for member in std::mem::take(&mut session.members) {
                self.leave(session, member)?;
            }
        }
        self.close(session)
    }

    fn close(&mut self, session: &Session) -> Step {
        self.note("close");
        let closed = session.broker.clone().close();
        self.alive()?;
        closed.or_else(|error| violation(format!("the folder cannot be closed: {error:?}")))?;
        self.history.synced();
        self.fault = None;
        self.memory.heal();
        self.memory.crash_at(u64::MAX);
        Ok(())
    }

    /// Without faults and crashes, all jobs come to an end, each of them once.
    pub(super) fn last_life(&mut self) -> Step {
        let mut session = self.open(false)?;
        for group in 0..GROUPS.len() {
            self.finish(&mut session, group)?;
        }
        self.look(&mut session)?;
        if self.one_in(2) {
            self.flush(&mut session)?;
        } else {
            self.close(&session)?;
        }
        drop(session);
        self.memory = self.memory.crash(Crash::LoseAll, &self.random);
        let session = self.open(false)?;
        let open = |group: usize| {
            self.history.now().values().filter(|fate| fate.groups[group].open.is_some()).count()
        };
        if let Some(group) = (0..GROUPS.len()).find(|group| open(*group) > 0) {
            return violation(format!("{} jobs of {} are left", open(group), GROUPS[group]));
        }
        self.close(&session)
    }

    /// An honest member accepts all that comes, and time passes.
    fn finish(&mut self, session: &mut Session, group: usize) -> Step {
        if self.is_paused[group] {
            let resumed = session.broker.admin().pause_share_group(GROUPS[group], false);
            resumed.or_else(|error| violation(format!("no end of a pause: {error:?}")))?;
            self.is_paused[group] = false;
        }
        let member = self.member_of(session, group, TOPICS.to_vec(), Acks::Written)?;
        session.members = vec![member];
        let most = 10 + 2 * self.jobs.len();
        for _ in 0..most {
            let fates = self.history.now().values();
            if fates.filter(|fate| fate.groups[group].open.is_some()).count() == 0 {
                let lag = session.broker.admin().describe_share_group(GROUPS[group]);
                return match lag.map(|summary| summary.lag()) {
                    Ok(0) => Ok(()),
                    other => violation(format!("{} is done and says {other:?}", GROUPS[group])),
                };
            }
            self.latest = self.latest.max(self.wall());
            self.clock.advance(Duration::from_mins(1));
            self.poll(session, 0)?;
            while let Some(last) = session.members[0].held.len().checked_sub(1) {
                self.accept_or_drop(session, 0, last, true)?;
            }
        }
        violation(format!("the jobs of {} never come to an end", GROUPS[group]))
    }
}
