//! The partitions of the topics that a member reads, and how it sleeps until there may be a record.

use std::sync::Arc;
use std::time::Duration;

use super::member::Member;
use crate::engine::{EngineHandle, Event, ShareGroup, ShareLimits, SharePart, TakenRecords};
use crate::error::{Error, Result};
use crate::log::{Cursor, Wake};
use crate::types::check_topic_name;

/// The partitions of the topics that a member reads. One thread at a time sleeps here.
#[derive(Debug)]
pub(super) struct Sources {
    engine: EngineHandle,
    group: Arc<ShareGroup>,
    topics: Vec<String>,
    parts: Vec<Source>,
    /// The index in `parts` where the next fetch begins.
    next: usize,
    event: Arc<Event>,
}

#[derive(Debug)]
struct Source {
    part: Arc<SharePart>,
    /// Where the last fetch has ended.
    cursor: Cursor,
    /// The log end beyond which there may be more to read, if all was read.
    waits_at: Option<i64>,
    /// Whether the log knows the event.
    sleeps: bool,
}

/// Checks names of topics, sorts them, and removes repeated ones.
///
/// # Errors
/// `InvalidName`.
pub(super) fn check_topics<T: AsRef<str>>(
    topics: impl IntoIterator<Item = T>,
) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for topic in topics {
        let name = topic.as_ref();
        check_topic_name(name)
            .map_err(|reason| Error::InvalidName { name: name.to_owned(), reason })?;
        names.push(name.to_owned());
    }
    names.sort();
    names.dedup();
    Ok(names)
}

impl Sources {
    /// Returns the sources of a member that reads nothing yet.
    pub(super) fn new(engine: &EngineHandle, group: &Arc<ShareGroup>) -> Self {
        Self {
            engine: engine.clone(),
            group: Arc::clone(group),
            topics: Vec::new(),
            parts: Vec::new(),
            next: 0,
            event: Arc::default(),
        }
    }

    /// Returns what ends a sleep.
    pub(super) fn event(&self) -> &Arc<Event> {
        &self.event
    }

    /// Reads these topics, in place of any others.
    pub(super) fn read(&mut self, topics: Vec<String>) -> Result<()> {
        self.topics = topics;
        self.forget_parts(|_| false);
        self.follow_topics()
    }

    /// Looks for work once. Before the first look of a wait, this makes known that the member may be about to sleep:
    /// what happens after the look wakes it.
    ///
    /// `take` gets what was reserved in a partition, and returns how many records it keeps. Reads from all partitions
    /// in turn, until `limits` are reached. Returns how many records were kept, and whether there may be more at once.
    ///
    /// # Errors
    /// `Closed`. The first error of a partition or of `take`, if nothing was kept before.
    pub(super) fn look(
        &mut self,
        member: &Member,
        limits: ShareLimits,
        mut take: impl FnMut(&Arc<SharePart>, TakenRecords) -> Result<usize>,
    ) -> Result<(usize, bool)> {
        self.engine.check_open()?;
        self.follow_topics()?;
        self.group.signals().add(&self.event);
        let (mut kept, mut again, mut bytes) = (0_usize, false, limits.bytes);
        let (count, first) = (self.parts.len(), self.next);
        for step in 0..count {
            let at = first.saturating_add(step).checked_rem(count).unwrap_or(0);
            let left = limits.records.saturating_sub(kept as u32);
            if left == 0 || bytes == 0 {
                break;
            }
            let limits = ShareLimits { records: left, bytes };
            match self.look_at(at, member, limits, &mut take) {
                Ok((0, used)) => again |= used > 0,
                Ok((more, used)) => {
                    bytes = bytes.saturating_sub(used);
                    if kept == 0 {
                        self.next = at.saturating_add(1);
                    }
                    kept = kept.saturating_add(more);
                }
                // The topic was deleted. The next look finds that out.
                Err(Error::UnknownTopic { .. }) => {}
                Err(_) if kept > 0 => break,
                Err(error) => {
                    self.next = at.saturating_add(1);
                    return Err(error);
                }
            }
        }
        Ok((kept, again))
    }

    /// Looks at one partition. Also returns how many bytes were read.
    fn look_at(
        &mut self,
        at: usize,
        member: &Member,
        limits: ShareLimits,
        take: &mut impl FnMut(&Arc<SharePart>, TakenRecords) -> Result<usize>,
    ) -> Result<(usize, usize)> {
        let Some(held) = self.parts.get_mut(at) else { return Ok((0, 0)) };
        let from = (&held.part, &mut held.cursor);
        let taken =
            self.engine.share_fetch(&self.group, from, member.number, limits, &self.event)?;
        held.waits_at = taken.waits_at;
        let read = if taken.has_read { taken.fetched.bytes.max(1) } else { 0 };
        Ok((take(&held.part, taken)?, read))
    }

    /// Sleeps until there may be a record. Returns true if all of `left` has passed.
    pub(super) fn sleep(&mut self, left: Duration) -> bool {
        let sleeper: Arc<dyn Wake> = Arc::clone(&self.event) as Arc<dyn Wake>;
        let mut wait = left;
        for part in &mut self.parts {
            if let Some(position) = part.waits_at {
                if !part.part.log().sleep_on(position, &sleeper) {
                    return false;
                }
                part.sleeps = true;
            }
            if let Some(deadline) = self.engine.share_deadline(&part.part) {
                wait = wait.min(deadline.max(Duration::from_millis(1)));
            }
        }
        let woken = self.event.wait(wait);
        !woken && wait == left
    }

    /// Ends a wait: nobody wakes the member until its next look.
    pub(super) fn end_wait(&self) {
        self.group.signals().remove(&self.event);
    }

    /// Looks for the partitions of the topics.
    fn follow_topics(&mut self) -> Result<()> {
        let mut logs = Vec::new();
        for name in &self.topics {
            if let Ok(topic) = self.engine.registry.topic(name) {
                logs.extend(topic.logs.iter().cloned());
            }
        }
        let same = logs.len() == self.parts.len()
            && logs.iter().zip(&self.parts).all(|(log, part)| Arc::ptr_eq(log, part.part.log()));
        if same {
            return Ok(());
        }
        self.forget_parts(|part| logs.iter().any(|log| Arc::ptr_eq(log, part.part.log())));
        let mut parts = Vec::with_capacity(logs.len());
        for log in &logs {
            let known = self.parts.iter().position(|part| Arc::ptr_eq(log, part.part.log()));
            let part = match known {
                Some(at) => self.parts.swap_remove(at),
                None => match self.engine.share_part(&self.group, log) {
                    Ok(part) => {
                        Source { part, cursor: Cursor::new(0), waits_at: None, sleeps: false }
                    }
                    // It was deleted just now.
                    Err(Error::UnknownTopic { .. } | Error::InconsistentTopicId { .. }) => continue,
                    Err(error) => return Err(error),
                },
            };
            parts.push(part);
        }
        self.parts = parts;
        Ok(())
    }

    /// Forgets partitions, except those that `keep` says. Their logs would keep the event.
    fn forget_parts(&mut self, keep: impl Fn(&Source) -> bool) {
        let sleeper: Arc<dyn Wake> = Arc::clone(&self.event) as Arc<dyn Wake>;
        self.parts.retain(|part| {
            let keeps = keep(part);
            if !keeps && part.sleeps {
                part.part.log().wake_no_more(&sleeper);
            }
            keeps
        });
    }
}

impl Drop for Sources {
    fn drop(&mut self) {
        // In a forked child, the locks may be held for ever.
        if self.engine.is_forked() {
            return;
        }
        self.end_wait();
        self.forget_parts(|_| false);
    }
}
